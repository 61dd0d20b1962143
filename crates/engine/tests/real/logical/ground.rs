//! A source whose owner publishes everything, and a place for what follows it.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use engine::base::copy::{Burden, CopiedBase, DiskBudget};
use engine::base::logical::fitness::{Fit, Fitness, Reason, fitness};
use engine::base::logical::seed::{SeedError, SeedRequest, seed};
use engine::base::logical::slot;
use engine::base::logical::snapshot::{SnapshotError, SnapshotRequest, snapshot};
use engine::base::logical::subscriber::Subscriber;
use engine::base::logical::tending::{Cause, Keeper, Tended};
use engine::base::logical::{Host, Place, Upstream};
use engine::base::moment::Held;
use engine::base::physical::snapshot::Snapshot;
use engine::clock::Clock;
use engine::postgres::account::ServerAccount;
use engine::postgres::connect::{Session, connect_unnoticed};
use engine::postgres::server::{Launch, Server, StopMode, start};
use engine::postgres::settings::{HAS_EVENT_TRIGGERS, Purpose, ServerSettings};
use engine::volume::VolumeError;
use fixtures::{Options, TempDir, TestPostgres};
use model::engine_api::CopyProgress;
use model::{ByteSize, Secret};
use tokio::sync::watch;

use crate::stage::{access, chain, installations};

/// Above any wait of these tests: they share two cores with others.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(120);

/// What the source's owner does for a copy that follows.
const PUBLISH: &str = "CREATE PUBLICATION everything FOR ALL TABLES";

/// A server that replicates logically, with a database `shop`; nothing is published yet.
pub(super) fn unpublished(major: u16) -> TestPostgres {
    let source = Options::new(major)
        .setting("wal_level", "logical")
        .setting("max_slot_wal_keep_size", "1GB")
        .setting("wal_sender_timeout", "10s")
        .start()
        .expect("the source starts");
    source
        .execute("postgres", "CREATE DATABASE shop")
        .expect("a database can be made");
    source
        .execute(
            "shop",
            "CREATE TABLE item (id bigserial PRIMARY KEY, name text); \
             INSERT INTO item (name) SELECT 'item ' || n FROM generate_series(1, 1000) n",
        )
        .expect("a table can be made");
    source
}

/// The same, published.
pub(super) fn source(major: u16) -> TestPostgres {
    let source = unpublished(major);
    source
        .execute("shop", PUBLISH)
        .expect("it can be published");
    source
}

/// A source, what follows it, and what is made of that.
pub(super) struct Ground {
    pub(super) home: TempDir,
    pub(super) host: Host,
    pub(super) upstream: Upstream,
    pub(super) prepare: Option<Secret>,
    progress: watch::Sender<Option<CopyProgress>>,
}

impl Ground {
    pub(super) async fn of(source: &TestPostgres) -> Self {
        let host = Host {
            installations: Arc::new(installations().await),
            account: ServerAccount::choose(None).expect("an account"),
            clock: Clock::start(),
            clone_live: Arc::new(|from, to, _| {
                let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
                match copied {
                    Ok(status) if status.success() => Ok(()),
                    other => Err(VolumeError::File {
                        what: "clone",
                        path: to.to_owned(),
                        source: std::io::Error::other(format!("{other:?}")),
                    }),
                }
            }),
            prepare_time_max: Duration::from_secs(60),
            stillnesses: Arc::default(),
        };
        Self {
            home: TempDir::new().expect("a directory"),
            host,
            upstream: Upstream {
                access: access(&source.superuser_url("shop")),
                replication_url: None,
            },
            prepare: None,
            progress: watch::channel(None).0,
        }
    }

    pub(super) fn place(&self, name: &str) -> Place {
        Place {
            directory: self.home.create_dir(name).expect("a directory"),
            socket_dir: self.home.path().join(format!("{name}.s")),
        }
    }

    pub(super) async fn reasons(&self) -> Vec<Reason> {
        match self.fitness(false).await {
            Fitness::Fit(_) => Vec::new(),
            Fitness::Unfit { reasons } => reasons,
        }
    }

    pub(super) async fn fitness(&self, unbounded_slot: bool) -> Fitness {
        let found = fitness(&self.upstream, &self.host, unbounded_slot).await;
        found.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    async fn fit(&self) -> Fit {
        match self.fitness(false).await {
            Fitness::Fit(fit) => *fit,
            Fitness::Unfit { reasons } => panic!("{reasons:?}"),
        }
    }

    pub(super) async fn try_seed(&self, place: &Place) -> Result<Subscriber, SeedError> {
        let fit = self.fit().await;
        let request = SeedRequest {
            fit: &fit,
            upstream: &self.upstream,
            host: &self.host,
            place,
            slot: &slot::new_name(),
            rate_max: None,
            readers_max: 2,
            disk: DiskBudget {
                free: ByteSize(1 << 40),
                floor: ByteSize(0),
            },
            burden: Burden {
                held_max: Duration::from_secs(300),
                waited_max: Duration::from_secs(300),
            },
        };
        seed(&request, &self.progress).await
    }

    pub(super) async fn seed(&self) -> Subscriber {
        let seeded = self.try_seed(&self.place("base")).await;
        seeded.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    pub(super) async fn try_snapshot(
        &self,
        subscriber: &Subscriber,
        place: &Place,
    ) -> Result<Snapshot, SnapshotError> {
        snapshot(&SnapshotRequest {
            subscriber,
            upstream: &self.upstream,
            place,
            prepare: self.prepare.as_ref(),
            wait_max: WAIT_MAX,
        })
        .await
    }

    /// A branch's server on a new snapshot itself.
    pub(super) async fn branch(&self, subscriber: &Subscriber, name: &str) -> Branch {
        let place = self.place(name);
        let made = self.try_snapshot(subscriber, &place).await;
        let made = made.unwrap_or_else(|error| panic!("{}", chain(&error)));
        let (copied, held) = (made.copied, made.held);
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
            place,
            copied,
            held,
        }
    }

    /// Looks after a subscriber until `wanted` is seen.
    pub(super) async fn tend_until(
        &self,
        subscriber: &Subscriber,
        wanted: impl Fn(&Tended) -> bool,
    ) -> Tended {
        let mut keeper = Keeper::default();
        let mut last = None;
        let seen = tokio::time::timeout(WAIT_MAX, async {
            loop {
                let tended = keeper.tend(subscriber, &self.upstream).await;
                let tended = tended.unwrap_or_else(|error| panic!("{}", chain(&error)));
                if wanted(&tended) {
                    return tended;
                }
                last = Some(tended);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        seen.await.unwrap_or_else(|_| panic!("it stays {last:?}"))
    }

    /// Why it has to be copied again.
    pub(super) async fn cause(&self, subscriber: &Subscriber) -> Cause {
        let ends = |tended: &Tended| matches!(tended, Tended::SeedAgain(_));
        match self.tend_until(subscriber, ends).await {
            Tended::SeedAgain(cause) => cause,
            Tended::Following(_) | Tended::Waiting { .. } => unreachable!(),
        }
    }
}

pub(super) fn follows(tended: &Tended) -> bool {
    matches!(tended, Tended::Following(_))
}

/// A running branch.
pub(super) struct Branch {
    server: Server,
    place: Place,
    copied: CopiedBase,
    pub(super) held: Held,
}

impl Branch {
    /// A session that no trigger at a login keeps out.
    async fn admin(&self) -> Session {
        let copied = &self.copied;
        let (password, socket_dir) = (&copied.admin_password, &self.place.socket_dir);
        let connected = connect_unnoticed(socket_dir, &copied.database, password, copied.major);
        let connected = connected.await;
        connected.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    /// Runs statements as the application would: their triggers are set off.
    pub(super) async fn try_execute(&self, statements: &str) -> Result<(), tokio_postgres::Error> {
        let session = self.admin().await;
        if self.copied.major >= HAS_EVENT_TRIGGERS {
            session.batch_execute("SET event_triggers = on").await?;
        }
        session
            .batch_execute("SET session_replication_role = origin")
            .await?;
        session.batch_execute(statements).await
    }

    /// The first column of the first row.
    pub(super) async fn value(&self, statement: &str) -> String {
        let found = self.admin().await.simple_query(statement).await;
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

    pub(super) async fn stop(self) {
        self.server
            .stop(StopMode::Immediate)
            .await
            .expect("it stops");
    }
}

/// Ends a base and takes its slot away, as a store does.
pub(super) async fn retire(ground: &Ground, subscriber: Subscriber) {
    subscriber.stop(StopMode::Fast).await.expect("it stops");
    let session = ground.upstream.access.connect().await.expect("it answers");
    let name = &subscriber.seeded().slot;
    let dropped = slot::drop_slot(&session, name).await;
    dropped.unwrap_or_else(|error| panic!("{}", chain(&error)));
}

/// Slots on a source.
pub(super) fn slots(source: &TestPostgres) -> String {
    let asked = source.query_value("shop", "SELECT count(*) FROM pg_replication_slots");
    asked.expect("it answers")
}
