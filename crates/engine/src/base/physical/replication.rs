//! The replication connection: whether the source grants one, and how programs of PostgreSQL are told of it.
//!
//! Owns the connection string for `pg_basebackup` and a standby's `primary_conninfo`, and the question who answers. Nobody but a program of PostgreSQL speaks this protocol here; `psql` asks. Leaves what is
//! done with the connection to `seed` and `standby`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use model::{PgMajor, PgUrl};
use tokio::process::Command;

use super::Upstream;
use crate::base::lsn::Lsn;
use crate::postgres::account::ServerAccount;
use crate::postgres::binaries::{Installation, Installations};
use crate::postgres::connect::{ConnInfo, ConnectError, Peer, Session, conninfo};
use crate::postgres::passfile::{self, PassfileError};
use crate::postgres::said;

/// How long the question may take: it is answered in milliseconds, behind a connection that has its own time-out.
const ASK_TIME_MAX: Duration = Duration::from_secs(60);

/// Lines of what a program said that an error keeps.
const LINES_MAX: usize = 4;

/// Why there is no replication connection.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    /// The URL cannot be followed.
    #[error("cannot read the URL for replication")]
    Url(#[from] ConnectError),
    /// The program could not be run.
    #[error("cannot run {program}")]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error("no answer over the replication connection within {} s", ASK_TIME_MAX.as_secs())]
    TimedOut,
    /// The source refuses it.
    #[error("the source refuses a replication connection: {answer}")]
    Refused {
        /// What it said.
        answer: String,
    },
    /// It answered something else than it was asked.
    #[error("the source's answer over the replication connection makes no sense: {answer:?}")]
    Answer {
        /// What it said.
        answer: String,
    },
    /// Its password is not where the program reads it.
    #[error(transparent)]
    Passfile(#[from] PassfileError),
}

/// Who answers a replication connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Tells clusters apart.
    pub system_identifier: u64,
    /// The timeline that it is on.
    pub timeline: u32,
    /// How far its WAL is flushed.
    pub lsn: Lsn,
}

/// One way to the source, in libpq's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach(ConnInfo);

impl Reach {
    /// The ways to try, in order: the server that answered `session` where the same URL serves for both, else the
    /// addresses of the URL for replication.
    ///
    /// # Errors
    /// [`ConnectError`] when the URL cannot be followed.
    pub fn ways(upstream: &Upstream, session: &Session) -> Result<Vec<Self>, ConnectError> {
        let peers = match &upstream.replication_url {
            None => session.peer().cloned().into_iter().collect(),
            Some(url) => url
                .addresses()
                .into_iter()
                .map(unresolved)
                .collect::<Vec<_>>(),
        };
        let url = upstream.replication_url();
        let way = |peer: &Peer| Ok(Self(conninfo(url, &database(url), [], peer)?));
        peers.iter().map(way).collect()
    }

    /// The ways to try where the source cannot be asked at the moment: the addresses of the URL for replication.
    ///
    /// # Errors
    /// [`ConnectError`] when the URL cannot be followed.
    pub fn unasked(upstream: &Upstream) -> Result<Vec<Self>, ConnectError> {
        let url = upstream.replication_url();
        let peers = url.addresses().into_iter().map(unresolved);
        let way = |peer| Ok(Self(conninfo(url, &database(url), [], &peer)?));
        peers.map(way).collect()
    }

    /// Who answers.
    ///
    /// # Errors
    /// [`ReplicationError`].
    pub async fn identify(
        &self,
        installation: &Installation,
    ) -> Result<Identity, ReplicationError> {
        let program = installation.program("psql");
        let mut command = Command::new(&program);
        command
            .args(["-X", "-q", "-A", "-t", "-w", "-d"])
            .arg(format!("{} replication='true'", self.0.text))
            .args(["-c", "IDENTIFY_SYSTEM"])
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/bin:/bin")
            // No account's own files (.pgpass, .postgresql/) change what the URL says.
            .env("HOME", "/nonexistent")
            .env("PGOPTIONS", &self.0.options)
            .current_dir("/")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if let Some(password) = &self.0.password {
            command.env("PGPASSWORD", password.reveal());
        }
        let ended = tokio::time::timeout(ASK_TIME_MAX, command.output()).await;
        let ended = ended.map_err(|_| ReplicationError::TimedOut)?;
        let output = ended.map_err(|source| ReplicationError::Run { program, source })?;
        read_identity(&output)
    }

    /// The connection string for a command line or a configuration file: the password is in `passfile`.
    pub fn text(&self, passfile: &Path) -> String {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
        let mut text = format!(
            "{} passfile='{}'",
            self.0.text,
            escaped(&passfile.display().to_string())
        );
        if !self.0.options.is_empty() {
            text.push_str(&format!(" options='{}'", escaped(&self.0.options)));
        }
        text
    }

    /// Writes the file that [`Reach::text`] names, for `account` alone; it may exist.
    ///
    /// # Errors
    /// [`ReplicationError::Passfile`].
    pub fn write_passfile(
        &self,
        path: &Path,
        account: &ServerAccount,
    ) -> Result<(), ReplicationError> {
        Ok(passfile::write(path, self.0.password.as_ref(), account)?)
    }
}

/// Programs for a source of a version: `pg_basebackup` serves its own major version and older ones, and `psql` is
/// packaged with it.
pub fn programs(installations: &Installations, source: PgMajor) -> Option<&Installation> {
    let fits = |found: &&Installation| {
        let has = |name: &str| found.program(name).is_file();
        found.major >= source && has("pg_basebackup") && has("psql")
    };
    let found = installations.found.iter().filter(fits);
    found.min_by_key(|found| found.major)
}

fn unresolved(address: model::pg_url::Address) -> Peer {
    Peer {
        address,
        ip: None,
        local: None,
        is_tls: false,
        gateway: None,
    }
}

/// Physical replication is of no database, but a URL may need one to be well-formed.
fn database(url: &PgUrl) -> String {
    url.database().unwrap_or_else(|| "postgres".to_owned())
}

fn read_identity(output: &Output) -> Result<Identity, ReplicationError> {
    if !output.status.success() {
        return Err(ReplicationError::Refused {
            answer: last_lines(&output.stderr),
        });
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let senseless = || ReplicationError::Answer {
        answer: text.trim().to_owned(),
    };
    let mut columns = text.trim().split('|');
    let mut next = || columns.next().ok_or_else(senseless);
    let [identifier, timeline, lsn] = [next()?, next()?, next()?];
    Ok(Identity {
        system_identifier: identifier.parse().map_err(|_| senseless())?,
        timeline: timeline.parse().map_err(|_| senseless())?,
        lsn: lsn.parse().map_err(|_| senseless())?,
    })
}

/// The last lines of what a program of PostgreSQL said, without its name.
pub(super) fn last_lines(said: &[u8]) -> String {
    said::last_lines(said, LINES_MAX, |line| {
        line.split_once("error: ").map_or(line, |(_, after)| after)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn the_text_has_no_password_and_cannot_leave_its_quotes() {
        let url = PgUrl::parse("postgres://rep:s3cr%27t@db.example/shop").unwrap();
        let peer = unresolved(url.address());
        let reach = Reach(conninfo(&url, "shop", [], &peer).unwrap());
        let text = reach.text(Path::new("/it's/pass"));
        assert!(text.ends_with("passfile='/it\\'s/pass'"), "{text}");
        assert!(!text.contains("s3cr"), "{text}");
    }

    #[test]
    fn an_answer_is_read_or_refused() {
        let output = |status: i32, stdout: &str, stderr: &str| Output {
            status: ExitStatus::from_raw(status),
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        let read = read_identity(&output(0, "7412345678901234567|2|0/3000148|\n", "")).unwrap();
        assert_eq!(read.timeline, 2);
        assert_eq!(read.lsn.to_string(), "0/3000148");
        assert!(read_identity(&output(0, "hello\n", "")).is_err());
        let said = "psql: error: connection to server failed: FATAL:  no pg_hba.conf entry\n";
        let refused = read_identity(&output(2 << 8, "", said)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the source refuses a replication connection: connection to server failed: FATAL:  no pg_hba.conf entry"
        );
    }
}
