//! Making a new cluster with `initdb`.
//!
//! Owns the arguments and the first password. The cluster has the locale C and UTF-8; databases with another locale
//! are made from `template0` later. Leaves its settings to `settings`.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use model::{PgMajor, Secret};
use tokio::process::Command;

use super::account::{AccountError, ServerAccount};
use super::binaries::Installation;
use super::{password, said};

/// The role that we administer every cluster of ours as, beside the first superuser, who is the source's. Where a
/// source has a role of this name (it is a branch itself), the two are one here.
pub const ADMIN_ROLE: &str = "bough_admin";

/// How long `initdb` may take: 1 to 3 s are usual, and more means that its disk does not answer.
const INITDB_TIME_MAX: Duration = Duration::from_secs(120);

/// Megabytes of a WAL segment. Small ones keep what a branch copies and fills at its start small.
const WAL_SEGMENT_MB: u32 = 1;

/// The first version whose `initdb` turns checksums on unless told otherwise.
const CHECKSUMS_BY_DEFAULT: PgMajor = PgMajor(18);

/// Lines of what `initdb` said that an error keeps: the reason is in the last ones.
const ANSWER_LINES_MAX: usize = 6;

/// The C library's text of ENOSPC in the locale C. It may stand anywhere: the servers that `initdb` runs crash by it.
const NO_SPACE: &str = "No space left on device";

/// Why there is no new cluster.
#[derive(Debug, thiserror::Error)]
pub enum InitdbError {
    /// The data directory could not be made for the account.
    #[error("cannot make the data directory {path}")]
    Directory {
        /// The data directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: AccountError,
    },
    /// The file with the first password could not be written.
    #[error("cannot write {path}")]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `initdb` could not be run.
    #[error("cannot run {program} as the account {account}")]
    Run {
        /// The program.
        program: PathBuf,
        /// The account.
        account: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("{program} did not end within {} s", INITDB_TIME_MAX.as_secs())]
    TimedOut {
        /// The program.
        program: PathBuf,
    },
    /// The disk is full.
    #[error("{program} found no space left on the disk")]
    DiskFull {
        /// The program.
        program: PathBuf,
    },
    /// It failed.
    #[error("{program} failed: {answer}")]
    Failed {
        /// The program.
        program: PathBuf,
        /// The last lines that it printed; it never prints the password.
        answer: String,
    },
}

/// Makes a cluster in `data`, which is new or empty, whose first superuser has a name, and returns that one's password.
///
/// Data checksums are off: a base is copied again rather than repaired, and hint bits then need no WAL.
///
/// # Errors
/// [`InitdbError`]. The caller removes what was made.
pub async fn create_cluster(
    installation: &Installation,
    account: &ServerAccount,
    data: &Path,
    superuser: &str,
) -> Result<Secret, InitdbError> {
    let made = account.make_dir(data);
    made.map_err(|source| InitdbError::Directory {
        path: data.to_owned(),
        source,
    })?;
    let password = password::generate();
    let file = PasswordFile::write(data, account, &password)?;
    let program = installation.program("initdb");
    let mut command = Command::new(&program);
    let segment = format!("--wal-segsize={WAL_SEGMENT_MB}");
    command
        .arg("-D")
        .arg(data)
        .arg(format!("--username={superuser}"))
        .arg(format!("--pwfile={}", file.path.display()))
        .args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"])
        .args(["--no-sync", "--no-instructions", &segment])
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if installation.major >= CHECKSUMS_BY_DEFAULT {
        command.arg("--no-data-checksums");
    }
    account.apply(&mut command);
    let ended = tokio::time::timeout(INITDB_TIME_MAX, command.output()).await;
    drop(file);
    let output = match ended {
        Ok(Ok(output)) => output,
        Ok(Err(source)) => {
            return Err(InitdbError::Run {
                program,
                account: account.name.clone(),
                source,
            });
        }
        Err(_) => return Err(InitdbError::TimedOut { program }),
    };
    if output.status.success() {
        return Ok(password);
    }
    let said = [&output.stderr, &output.stdout].map(|said| String::from_utf8_lossy(said));
    if said.iter().any(|said| said.contains(NO_SPACE)) {
        return Err(InitdbError::DiskFull { program });
    }
    let answer = last_lines(&output.stderr, &output.stdout);
    Err(InitdbError::Failed { program, answer })
}

/// The first password in a file beside the data directory that only the account can read; gone when dropped.
struct PasswordFile {
    path: PathBuf,
}

impl PasswordFile {
    fn write(data: &Path, account: &ServerAccount, password: &Secret) -> Result<Self, InitdbError> {
        let path = data.with_extension("password");
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let opened = options.open(&path);
        let written = opened.and_then(|mut file| {
            let given = Self { path: path.clone() };
            file.write_all(password.reveal().as_bytes())?;
            account.own(&path).map_err(io::Error::other)?;
            Ok(given)
        });
        written.map_err(|source| InitdbError::PasswordFile { path, source })
    }
}

impl Drop for PasswordFile {
    fn drop(&mut self) {
        // Removal fails only when the directory is gone, and the file with it.
        drop(fs::remove_file(&self.path));
    }
}

fn last_lines(stderr: &[u8], stdout: &[u8]) -> String {
    let said = if stderr.is_empty() { stdout } else { stderr };
    said::last_lines(said, ANSWER_LINES_MAX, |line| line)
}
