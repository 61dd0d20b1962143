//! A source that grants replication, and a place for what follows it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine::base::copy::{CopiedBase, DiskBudget};
use engine::base::moment::Moment;
use engine::base::physical::fitness::{Fit, Fitness, fitness};
use engine::base::physical::seed::{SeedError, SeedRequest, seed};
use engine::base::physical::snapshot::{Snapshot, SnapshotRequest, snapshot};
use engine::base::physical::standby::Standby;
use engine::base::physical::{Host, Place, Upstream};
use engine::clock::Clock;
use engine::postgres::account::ServerAccount;
use engine::postgres::connect::{Session, connect_local};
use engine::postgres::initdb::ADMIN_ROLE;
use engine::postgres::server::{Launch, Server, StopMode, start};
use engine::postgres::settings::{Purpose, ServerSettings};
use engine::volume::VolumeError;
use fixtures::{Options, TempDir, TestPostgres};
use model::engine_api::CopyProgress;
use model::{ByteSize, PgUrl, Secret};
use tokio::sync::watch;

use crate::stage::{access, chain, installations};

/// Above any wait of these tests for a position: they share two cores with others.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(60);

/// A role that may replicate and read everything, as `source add` is given one.
pub(super) const REPLICATOR: &str =
    "CREATE ROLE rep LOGIN REPLICATION IN ROLE pg_checkpoint PASSWORD 'rep''s: secret\\';";

/// A source of this version with a database `shop`.
pub(super) fn source(major: u16) -> TestPostgres {
    source_with(Options::new(major))
}

pub(super) fn source_with(options: Options) -> TestPostgres {
    let source = options.start().expect("the source starts");
    let made = source.execute("postgres", "CREATE DATABASE shop");
    made.expect("a database can be made");
    source
        .execute(
            "shop",
            "CREATE TABLE item (id bigserial PRIMARY KEY, name text); \
             INSERT INTO item (name) SELECT 'item ' || n FROM generate_series(1, 1000) n",
        )
        .expect("a table can be made");
    source
}

/// A source, what follows it, and what is made of that.
pub(super) struct Ground {
    pub(super) home: TempDir,
    pub(super) host: Host,
    pub(super) upstream: Upstream,
    pub(super) progress: watch::Sender<Option<CopyProgress>>,
    pub(super) disk: DiskBudget,
}

impl Ground {
    pub(super) async fn of(source: &TestPostgres) -> Self {
        Self::with(&source.superuser_url("shop"), None).await
    }

    pub(super) async fn with(url: &str, replication_url: Option<&str>) -> Self {
        let host = Host {
            installations: Arc::new(installations().await),
            account: ServerAccount::choose(None).expect("an account"),
            clock: Clock::start(),
            clone_live: Arc::new(|from, to, _| copy_live(from, to).map_err(failed)),
            prepare_time_max: Duration::from_secs(60),
            stillnesses: Arc::default(),
        };
        Self {
            home: TempDir::new().expect("a directory"),
            host,
            upstream: Upstream {
                access: access(url),
                replication_url: replication_url.map(|url| PgUrl::parse(url).expect("a URL")),
            },
            progress: watch::channel(None).0,
            disk: DiskBudget {
                free: ByteSize(1 << 40),
                floor: ByteSize(0),
            },
        }
    }

    /// A new place for a server.
    pub(super) fn place(&self, name: &str) -> Place {
        let directory = self.home.create_dir(name).expect("a directory");
        Place {
            directory,
            socket_dir: self.home.path().join(format!("{name}.s")),
        }
    }

    pub(super) async fn fitness(&self) -> Fitness {
        let found = fitness(&self.upstream, &self.host, None).await;
        found.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    pub(super) async fn fit(&self) -> Fit {
        match self.fitness().await {
            Fitness::Fit(fit) => *fit,
            Fitness::Unfit { reasons } => panic!("{reasons:?}"),
        }
    }

    pub(super) async fn try_seed(&self, fit: &Fit, place: &Place) -> Result<Standby, SeedError> {
        let request = SeedRequest {
            fit,
            host: &self.host,
            place,
            rate_max: None,
            disk: self.disk,
            duration_max: Duration::from_secs(300),
        };
        seed(&request, &self.progress).await
    }

    pub(super) async fn seed(&self) -> Standby {
        let fit = self.fit().await;
        let seeded = self.try_seed(&fit, &self.place("base")).await;
        seeded.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    /// Where the source stands.
    pub(super) async fn moment(&self, standby: &Standby) -> Moment {
        let session = self.upstream.access.connect().await.expect("it answers");
        let moment = Moment::read(&session, standby.seeded().shape, self.host.clock).await;
        moment.expect("it says where it stands")
    }

    /// Waits until everything on the source is on the standby.
    pub(super) async fn catch_up(&self, standby: &Standby) {
        let moment = self.moment(standby).await;
        let waited = standby.wait_replayed(&moment, WAIT_MAX).await;
        waited.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }

    pub(super) async fn snapshot(&self, standby: &Standby, name: &str) -> (Place, Snapshot) {
        let place = self.place(name);
        let request = SnapshotRequest {
            standby,
            upstream: &self.upstream,
            place: &place,
            prepare: None,
            wait_max: WAIT_MAX,
        };
        let made = snapshot(&request).await;
        let made = made.unwrap_or_else(|error| panic!("{}", chain(&error)));
        (place, made)
    }

    /// Starts a branch's server on a snapshot itself.
    pub(super) async fn serve(&self, place: &Place, copied: &CopiedBase) -> Branch {
        let settings = ServerSettings {
            purpose: Purpose::Branch,
            socket_dir: place.socket_dir.clone(),
            identity: "bough-test".to_owned(),
            semantic: copied.settings.clone(),
        };
        let installation = self.host.installations.server(copied.major);
        let launch = Launch {
            installation: installation.expect("it was copied with one"),
            account: &self.host.account,
            data: &place.data(),
            log: &place.directory.join("branch.log"),
            settings: &settings,
        };
        let server = start(&launch).await;
        Branch {
            server: server.unwrap_or_else(|error| panic!("{}", chain(&error))),
            place: place.clone(),
            copied: copied.clone(),
        }
    }
}

/// A running branch.
pub(super) struct Branch {
    pub(super) server: Server,
    pub(super) place: Place,
    pub(super) copied: CopiedBase,
}

impl Branch {
    pub(super) async fn admin(&self) -> Session {
        let password = &self.copied.admin_password;
        let socket_dir = &self.place.socket_dir;
        let connected =
            connect_local(socket_dir, &self.copied.database, ADMIN_ROLE, password).await;
        connected.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    /// Whether a role gets in with a password.
    pub(super) async fn lets_in(&self, database: &str, role: &str, password: &str) -> bool {
        let secret = Secret::new(password);
        connect_local(&self.place.socket_dir, database, role, &secret)
            .await
            .is_ok()
    }

    /// The first column of the first row.
    pub(super) async fn value(&self, statement: &str) -> String {
        value(&self.admin().await, statement).await
    }

    pub(super) async fn execute(&self, statements: &str) {
        let done = self.admin().await.batch_execute(statements).await;
        done.unwrap_or_else(|error| panic!("{statements}: {}", chain(&error)));
    }

    pub(super) async fn stop(self) {
        self.server
            .stop(StopMode::Immediate)
            .await
            .expect("it stops");
    }
}

/// How a standby of ours is reached as a source, for want of another server.
pub(super) fn url_of(server: &Standby) -> String {
    let socket_dir = server.place().socket_dir.display().to_string();
    let host = socket_dir.replace('/', "%2F");
    format!("postgres://postgres@/shop?host={host}")
}

/// A session of a cluster that only we connect to.
pub(super) async fn enter(socket_dir: &Path, database: &str, user: &str) -> Session {
    let password = Secret::new("none is asked for");
    let connected = connect_local(socket_dir, database, user, &password).await;
    connected.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// The first column of the first row.
pub(super) async fn value(session: &Session, statement: &str) -> String {
    let found = session.simple_query(statement).await;
    let found = found.unwrap_or_else(|error| panic!("{statement}: {}", chain(&error)));
    let row = found.iter().find_map(|message| {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            Some(row)
        } else {
            None
        }
    });
    let row = row.unwrap_or_else(|| panic!("{statement} gives no row"));
    row.get(0).unwrap_or("NULL").to_owned()
}

fn failed(source: io::Error) -> VolumeError {
    VolumeError::File {
        what: "clone",
        path: "the base".into(),
        source,
    }
}

/// Copies a directory in which a server works: what vanishes meanwhile is left out.
fn copy_live(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let copied = if entry.file_type()?.is_dir() {
            copy_live(&from, &to)
        } else {
            copy_file(&from, &to)
        };
        match copied {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !from.exists() => {}
            other => other?,
        }
    }
    keep_owner_and_mode(from, to)
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    keep_owner_and_mode(from, to)
}

fn keep_owner_and_mode(from: &Path, to: &Path) -> io::Result<()> {
    let found = fs::metadata(from)?;
    chown(to, Some(found.uid()), Some(found.gid()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(found.permissions().mode()))
}
