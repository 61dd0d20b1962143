//! Followers: clones of a standby that stay in recovery until somebody needs a branch of this very moment.
//!
//! ```text
//!   clone alive ─▶ start in recovery, streaming from the standby ─▶ ready
//!                                                                    │ a request, with the source's Moment
//!                            wait until replayed ◀───────────────────┘
//!                                  │
//!                            promote ─▶ writable ─▶ neutral ─▶ a branch's logins only ─▶ handed out
//! ```
//!
//! Made off the request path; what a request waits for is a round trip, a promotion and one transaction. A follower has
//! its identity and its socket from the beginning: a branch takes them over. It streams from the standby through its
//! socket, in a directory that only the servers' account may enter, so that no password is needed; the source knows
//! nothing of it. Owns making and promoting. Leaves how many there are to `store`.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::FutureExt as _;
use model::{ByteSize, Secret};

use super::backup::{self, BackupError};
use super::collations::Otherwise;
use super::contents::{self, ContentsError};
use super::neutral::{self, NeutralError, Wanted};
use super::prepare::{self, PrepareError};
use super::seed::Seeded;
use super::snapshot::{branch_settings, describe, make_neutral};
use super::standby::{self, Progress, Standby, StandbyError, WaitError, limit_settings};
use super::{Host, Place, Upstream, control};
use crate::base::copy::CopiedBase;
use crate::base::moment::{Held, Moment, SequencesBy};
use crate::postgres::binaries::BinariesError;
use crate::postgres::connect::{ConnectError, Session};
use crate::postgres::initdb::ADMIN_ROLE;
use crate::postgres::server::{Launch, Server, ServerError, StartError, StopMode, Unready, start};
use crate::postgres::settings::{
    Purpose, SOCKET_PORT, SemanticSettings, ServerSettings, SettingsError,
};
use crate::volume::measure;

/// How long a promotion may take: some dozens of milliseconds are usual, with a disk that is busy some hundreds.
const PROMOTE_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a server may take to read its configuration again: it does before it takes the next connection.
const RELOAD_TIME_MAX: Duration = Duration::from_secs(10);

/// The pause between two looks at what nothing tells of.
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// Why there is no follower, or why it did not become a branch. Nothing is left running; the directory is the caller's
/// to remove.
#[derive(Debug, thiserror::Error)]
pub enum FollowerError {
    /// The standby could not be cloned.
    #[error("cannot clone the base")]
    Backup(#[from] BackupError),
    /// The clone could not be prepared.
    #[error("cannot prepare the follower's files")]
    Contents(#[from] ContentsError),
    /// The standby could not be asked.
    #[error("cannot ask the base")]
    Standby(#[from] StandbyError),
    /// No server of the version.
    #[error("cannot run a follower with what is installed")]
    Binaries(#[from] BinariesError),
    /// It did not start.
    #[error("cannot start the follower")]
    Start(#[from] StartError),
    /// It refuses our connection.
    #[error("cannot connect to the follower")]
    Connect(#[from] ConnectError),
    /// It refused something.
    #[error("cannot {what} the follower")]
    Ask {
        /// What was tried.
        what: &'static str,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// It did not become writable.
    #[error("the follower in {data} was not promoted within {} s", PROMOTE_TIME_MAX.as_secs())]
    NotPromoted {
        /// Its data directory.
        data: PathBuf,
    },
    /// It went on letting everybody in.
    #[error("the branch in {data} did not take its own logins within {} s", RELOAD_TIME_MAX.as_secs())]
    NotClosed {
        /// Its data directory.
        data: PathBuf,
    },
    /// It could not be made neutral.
    #[error("cannot make the branch neutral")]
    Neutral(#[from] NeutralError),
    /// The administrator's SQL could not be run.
    #[error("cannot prepare the branch")]
    Prepare(#[from] PrepareError),
    /// A branch's configuration could not be written.
    #[error("cannot configure the branch")]
    Settings(#[from] SettingsError),
    /// It could not be signalled or ended.
    #[error("cannot handle the follower's server")]
    Server(#[from] ServerError),
}

impl FollowerError {
    /// One thing to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        if let Self::Prepare(error) = self {
            error.hint()
        } else {
            None
        }
    }

    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Backup(error) => error.is_full(),
            Self::Contents(error) => error.is_full(),
            Self::Standby(_)
            | Self::Binaries(_)
            | Self::Start(_)
            | Self::Connect(_)
            | Self::Ask { .. }
            | Self::NotPromoted { .. }
            | Self::NotClosed { .. }
            | Self::Neutral(_)
            | Self::Prepare(_)
            | Self::Settings(_)
            | Self::Server(_) => false,
        }
    }
}

/// A follower to make.
#[derive(Debug, Clone, Copy)]
pub struct FollowerRequest<'a> {
    /// The base.
    pub standby: &'a Standby,
    /// Its source.
    pub upstream: &'a Upstream,
    /// Where it comes to lie: an existing empty directory, which is then the branch's.
    pub place: &'a Place,
    /// What it answers to `SHOW cluster_name`: the branch's identity.
    pub identity: &'a str,
}

/// A clone in recovery. Dropping it ends its server.
#[derive(Debug)]
pub struct Follower {
    host: Host,
    place: Place,
    seeded: Seeded,
    identity: String,
    wanted: Wanted,
    admin_password: Secret,
    /// What a branch's server is given, and what it lacks.
    settings: (SemanticSettings, Vec<String>),
    /// What it took of the disk when it was made.
    size_bytes: ByteSize,
    server: Unready,
    session: Session,
}

/// A follower that became a branch.
#[derive(Debug)]
pub struct Promoted {
    /// Its running server.
    pub server: Server,
    /// Its identity.
    pub identity: String,
    /// What is known of it.
    pub copied: CopiedBase,
    /// What it holds for certain.
    pub held: Held,
}

/// Makes a follower.
///
/// # Errors
/// [`FollowerError`].
pub async fn make_follower(request: &FollowerRequest<'_>) -> Result<Follower, FollowerError> {
    let FollowerRequest { standby, place, .. } = *request;
    let (seeded, host) = (standby.seeded().clone(), standby.host().clone());
    backup::clone_standby(standby, &place.data()).await?;
    let (data, account) = (place.data(), host.account.clone());
    let kept = tokio::task::spawn_blocking(move || contents::keep_in_recovery(&data, &account));
    kept.await.expect("work on files does not panic")?;
    let installation = host.installations.server(seeded.major)?;
    let mut settings = branch_settings(&seeded, installation);
    let mut given = settings.0.clone();
    given.extend(limit_settings(standby.limits()?));
    given.insert("primary_conninfo".to_owned(), reach(standby));
    let server = start(&Launch {
        installation,
        account: &host.account,
        data: &place.data(),
        log: &place.log(),
        settings: &ServerSettings {
            purpose: Purpose::Follower,
            socket_dir: place.socket_dir.clone(),
            identity: request.identity.to_owned(),
            semantic: given,
        },
    })
    .await?;
    let server = Unready::new(server);
    let session = connect(place, &seeded, &seeded.database).await?;
    let otherwise = Otherwise::read(&session).await;
    let otherwise = otherwise.map_err(asking("compare how text sorts on"))?;
    settings.1.extend(otherwise.note());
    let user_password = request.upstream.access.url.password();
    let user = &seeded.source_user;
    let (wanted, admin_password) = Wanted::new(&seeded.database, user, user_password.as_ref());
    Ok(Follower {
        size_bytes: measure(place.data()).await,
        host,
        place: place.clone(),
        identity: request.identity.to_owned(),
        seeded,
        wanted,
        admin_password,
        settings,
        server,
        session,
    })
}

/// How a follower reaches the standby: through its socket, as a superuser, who may replicate.
fn reach(standby: &Standby) -> String {
    let quote = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    format!(
        "host='{}' port='{SOCKET_PORT}' user='{}' application_name='bough-follower'",
        quote(&standby.place().socket_dir.display().to_string()),
        quote(&standby.seeded().superuser),
    )
}

async fn connect(place: &Place, seeded: &Seeded, database: &str) -> Result<Session, ConnectError> {
    control::connect(&place.socket_dir, database, &seeded.superuser, seeded.major).await
}

fn asking(what: &'static str) -> impl Fn(tokio_postgres::Error) -> FollowerError {
    move |source| FollowerError::Ask { what, source }
}

impl Follower {
    /// Where it lies.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its identity.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Whether its server has ended: it is of no more use then.
    pub fn has_ended(&self) -> bool {
        self.server.server().exited().now_or_never().is_some()
    }

    /// How far it is.
    ///
    /// # Errors
    /// [`StandbyError`] when it does not answer: it is of no more use then.
    pub async fn progress(&self) -> Result<Progress, StandbyError> {
        standby::progress(&self.session, &self.place).await
    }

    /// Waits until it holds everything that was committed on the source before `moment`. Given up, it is what it was.
    ///
    /// # Errors
    /// [`WaitError`].
    pub async fn wait_replayed(
        &self,
        moment: &Moment,
        time_max: Duration,
    ) -> Result<Progress, WaitError> {
        standby::wait_replayed(&self.session, &self.place, moment, time_max).await
    }

    /// Makes it a branch that holds `moment`, for which it was waited: `reached` is what that wait answered. `prepare`
    /// is SQL that runs before anybody else gets in; where it fails there is no branch.
    ///
    /// # Errors
    /// [`FollowerError`]; it is of no more use then.
    pub async fn promote(
        self,
        moment: &Moment,
        reached: Progress,
        prepare: Option<&Secret>,
    ) -> Result<Promoted, FollowerError> {
        let survey = neutral::survey(&self.session, &self.wanted).await?;
        let promote = "SELECT pg_promote(wait => false)";
        let asked = control::rows(&self.session, promote).await;
        asked.map_err(asking("promote"))?;
        // What it follows it needs no more; nobody but us is in it yet.
        self.server.server().seal().await;
        // While it is being promoted: the configuration of a branch, which it reads when it is told to.
        self.write_settings()?;
        self.wait_writable().await?;
        let enter = async |database: String| connect(&self.place, &self.seeded, &database).await;
        let done = make_neutral(&self.session, &self.wanted, survey, &enter).await?;
        if let Some(sql) = prepare {
            prepare::run(&self.host, &self.place, &self.seeded, sql).await?;
        }
        contents::allow_tablespaces(&self.place.data())?;
        self.server.server().reload()?;
        self.wait_closed().await?;
        let held = Held {
            lsn: reached.replayed,
            timeline: reached.streams_on.unwrap_or_default(),
            sequences: SequencesBy::Wal,
            quiet_to: reached.replayed,
            anchor: moment.clone(),
        };
        let copied = describe(
            self.size_bytes,
            &self.seeded,
            &held,
            done,
            self.settings,
            self.admin_password,
        );
        Ok(Promoted {
            server: self.server.ready(),
            identity: self.identity,
            copied,
            held,
        })
    }

    fn write_settings(&self) -> Result<(), SettingsError> {
        let settings = ServerSettings {
            purpose: Purpose::Branch,
            socket_dir: self.place.socket_dir.clone(),
            identity: self.identity.clone(),
            semantic: self.settings.0.clone(),
        };
        settings.write(&self.place.data(), self.seeded.major, &self.host.account)
    }

    async fn wait_writable(&self) -> Result<(), FollowerError> {
        let writable = async {
            loop {
                let asked = control::rows(&self.session, "SELECT pg_is_in_recovery()").await;
                let rows = asked.map_err(asking("promote"))?;
                if rows.first().is_some_and(|row| control::text(row, 0) == "f") {
                    return Ok(());
                }
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        };
        let promoted = tokio::time::timeout(PROMOTE_TIME_MAX, writable).await;
        promoted.unwrap_or_else(|_| {
            Err(FollowerError::NotPromoted {
                data: self.place.data(),
            })
        })
    }

    /// Waits until logins need passwords: our role is refused until then, and asked for its own from then on.
    async fn wait_closed(&self) -> Result<(), FollowerError> {
        let (database, socket_dir) = (&self.seeded.database, &self.place.socket_dir);
        let closed = async {
            while !control::asks_for_password(socket_dir, database, ADMIN_ROLE).await? {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
            Ok(())
        };
        let closed = tokio::time::timeout(RELOAD_TIME_MAX, closed).await;
        closed.unwrap_or_else(|_| {
            Err(FollowerError::NotClosed {
                data: self.place.data(),
            })
        })
    }

    /// Ends it.
    ///
    /// # Errors
    /// [`FollowerError::Server`] when processes are left.
    pub async fn stop(self) -> Result<(), FollowerError> {
        drop(self.session);
        Ok(self.server.stop(StopMode::Immediate).await?)
    }
}
