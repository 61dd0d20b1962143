//! What most tests here stand on: a source, a place for bases, and the programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use engine::base::copy::{Burden, CopiedBase, CopyError, CopyRequest, DiskBudget, copy};
use engine::clock::Clock;
use engine::postgres::account::ServerAccount;
use engine::postgres::binaries::{Installations, Lookup};
use engine::postgres::connect::{Session, connect_local};
use engine::postgres::initdb::ADMIN_ROLE;
use engine::postgres::server::{Launch, Server, StopMode, start};
use engine::postgres::settings::{Purpose, ServerSettings};
use engine::source::SourceAccess;
use engine::source::contact::Contact;
use engine::source::movement::Position;
use fixtures::{TempDir, TestPostgres};
use model::engine_api::CopyProgress;
use model::{ByteSize, CopySpec, PgMajor, PgUrl, Secret};
use tokio::sync::watch;

/// Above any copy of these tests: they share two cores with others.
const COPY_TIME_MAX: Duration = Duration::from_secs(300);

/// As an engine has it.
const READERS_MAX: u32 = 4;

/// The bound of every wait for a condition.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// The programs of this machine, where the fixtures find theirs.
pub(crate) async fn installations() -> Installations {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let share = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let share = share.or_else(|| Some(home?.join(".local/share")));
    let is_root = ServerAccount::choose(None).is_ok_and(|account| account.is_switched());
    let data_dir = if is_root {
        Some(PathBuf::from("/var/lib/bough"))
    } else {
        share.map(|share| share.join("bough"))
    };
    let set = std::env::var_os("BOUGH_POSTGRES_PATH").unwrap_or_default();
    let roots = std::env::split_paths(&set)
        .filter(|root| root.is_absolute())
        .collect();
    let path = std::env::var_os("PATH");
    Installations::discover(&Lookup {
        roots,
        data_dir,
        path,
    })
    .await
}

/// How a source is reached by a URL.
pub(crate) fn access(url: &str) -> SourceAccess {
    SourceAccess {
        url: PgUrl::parse(url).expect("the fixtures write URLs"),
        database: None,
        settings: BTreeMap::new(),
        gateway: None,
    }
}

/// A source of which every program is at hand.
pub(crate) fn source(major: u16) -> TestPostgres {
    TestPostgres::start(major).expect("the source starts")
}

/// A place for one base.
pub(crate) struct Stage {
    pub(crate) directory: TempDir,
    pub(crate) installations: Installations,
    pub(crate) account: ServerAccount,
    pub(crate) disk: DiskBudget,
    pub(crate) progress: watch::Sender<Option<CopyProgress>>,
    pub(crate) burden: Burden,
    pub(crate) readers_max: u32,
    pub(crate) prepare: Option<Secret>,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let disk = DiskBudget {
            free: ByteSize(1 << 40),
            floor: ByteSize(1 << 20),
        };
        Self {
            directory: TempDir::new().expect("a directory"),
            installations: installations().await,
            account: ServerAccount::choose(None).expect("an account"),
            disk,
            progress: watch::channel(None).0,
            burden: Burden {
                held_max: COPY_TIME_MAX,
                waited_max: COPY_TIME_MAX,
            },
            readers_max: READERS_MAX,
            prepare: None,
        }
    }

    pub(crate) fn base(&self) -> PathBuf {
        self.directory.path().join("base")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.base().join("data")
    }

    fn socket_dir(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Copies a source into the stage's base.
    pub(crate) async fn copy(
        &self,
        access: &SourceAccess,
        spec: &CopySpec,
    ) -> Result<CopiedBase, CopyError> {
        self.copy_as(access, spec, None).await
    }

    /// The same into a server of a version.
    pub(crate) async fn copy_as(
        &self,
        access: &SourceAccess,
        spec: &CopySpec,
        version: Option<PgMajor>,
    ) -> Result<CopiedBase, CopyError> {
        if self.base().exists() {
            std::fs::remove_dir_all(self.base()).expect("the last base can go");
        }
        std::fs::create_dir(self.base()).expect("the directory takes another");
        let request = CopyRequest {
            access,
            copy: spec,
            version,
            within: None,
            directory: &self.base(),
            socket_dir: &self.socket_dir(),
            installations: &self.installations,
            account: &self.account,
            disk: self.disk,
            burden: self.burden,
            prepare: self.prepare.as_ref(),
            rate_max: None,
            readers_max: self.readers_max,
            size_max: None,
            clock: Clock::start(),
        };
        copy(&request, &self.progress).await
    }

    /// Waits until nothing works in the stage any more: a copy that ends early ends its server within moments.
    pub(crate) async fn nothing_runs(&self) {
        let waited = tokio::time::timeout(WAIT_MAX, async {
            while !working_in(self.directory.path()).is_empty() {
                tokio::task::yield_now().await;
            }
        });
        let left = working_in(self.directory.path());
        waited
            .await
            .unwrap_or_else(|_| panic!("processes are left: {left:?}"));
    }

    /// Starts a branch's server on the base itself.
    pub(crate) async fn serve(&self, copied: &CopiedBase) -> Branch {
        let settings = ServerSettings {
            purpose: Purpose::Branch,
            socket_dir: self.socket_dir(),
            identity: "bough-test".to_owned(),
            semantic: copied.settings.clone(),
        };
        let installation = self
            .installations
            .server(copied.major)
            .expect("it was copied with one");
        let launch = Launch {
            installation,
            account: &self.account,
            data: &self.data(),
            log: &self.base().join("branch.log"),
            settings: &settings,
        };
        Branch {
            server: start(&launch).await.expect("the branch starts"),
            socket_dir: self.socket_dir(),
            copied: copied.clone(),
        }
    }
}

/// A running branch.
pub(crate) struct Branch {
    pub(crate) server: Server,
    socket_dir: PathBuf,
    copied: CopiedBase,
}

impl Branch {
    pub(crate) async fn admin(&self, database: &str) -> Session {
        let password = &self.copied.admin_password;
        let connected = connect_local(&self.socket_dir, database, ADMIN_ROLE, password).await;
        connected.expect("the administrator gets in")
    }

    /// The first column of the first row, as text.
    pub(crate) async fn value(&self, statement: &str) -> String {
        let admin = self.admin(&self.copied.database).await;
        let found = admin
            .simple_query(statement)
            .await
            .expect("the statement works");
        let row = found.iter().find_map(|message| {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                Some(row.get(0).unwrap_or("NULL").to_owned())
            } else {
                None
            }
        });
        row.expect("there is a row")
    }

    /// What a program of PostgreSQL prints about the branch.
    pub(crate) fn client(
        &self,
        program: &str,
        database: &str,
        arguments: &[&str],
    ) -> Result<String> {
        let tool = fixtures::tool(self.copied.major.0, program)?;
        run(
            &tool,
            &self.socket_dir,
            database,
            self.copied.admin_password.reveal(),
            arguments,
        )
    }

    pub(crate) fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    pub(crate) fn admin_password(&self) -> &Secret {
        &self.copied.admin_password
    }

    pub(crate) async fn stop(self) {
        self.server
            .stop(StopMode::Immediate)
            .await
            .expect("the branch stops");
    }
}

fn run(
    tool: &Path,
    socket_dir: &Path,
    database: &str,
    password: &str,
    arguments: &[&str],
) -> Result<String> {
    let output = std::process::Command::new(tool)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("PGHOST", socket_dir)
        .env("PGUSER", ADMIN_ROLE)
        .env("PGDATABASE", database)
        .env("PGPASSWORD", password)
        .output()
        .with_context(|| format!("run {}", tool.display()))?;
    ensure!(
        output.status.success(),
        "{} failed: {}",
        tool.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Every process that works in a directory, by what the kernel says.
pub(crate) fn working_in(directory: &Path) -> Vec<u32> {
    let Ok(directory) = directory.canonicalize() else {
        return Vec::new();
    };
    let entries = std::fs::read_dir("/proc").expect("/proc is there");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let works = |pid: &u32| {
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
        cwd.is_ok_and(|cwd| cwd.starts_with(&directory))
    };
    pids.filter(works).collect()
}

/// An error with all its causes, as a user sees it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Where a source stands, asked through a connection of its own.
pub(crate) async fn position(access: &SourceAccess) -> Position {
    let asked = Contact::default().position(access, Clock::start()).await;
    asked.unwrap_or_else(|error| panic!("{}", chain(&error)))
}
