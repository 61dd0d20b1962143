//! Our server that follows a source: a physical base.
//!
//! Owns its start with what it must match, its adoption after an engine's end, how far it has replayed, and pointing it
//! at the source anew. It listens on its socket alone, and only we connect. Leaves judging what is seen to `tending`.

mod replay;
mod trouble;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::PgMajor;
use tokio::sync::Mutex;

pub use replay::{Progress, WaitError};
pub(super) use replay::{progress, wait_replayed};
use trouble::Log;
pub use trouble::Trouble;

use super::control;
use super::fitness::SlotUse;
use super::replication::{Reach, ReplicationError};
use super::seed::Seeded;
use super::{Host, Place, Upstream};
use crate::base::followed::patience::{AWAY_MAX, AWAY_PAUSE};
use crate::base::lsn::LsnError;
use crate::base::moment::Moment;
use crate::postgres::binaries::BinariesError;
use crate::postgres::connect::{ConnectError, Session};
use crate::postgres::control_data::{self, ControlDataError, RecoveryLimits};
use crate::postgres::passfile;
use crate::postgres::server::{self, Launch, Server, ServerError, StartError, StopMode, Unready};
use crate::postgres::settings::{Purpose, SemanticSettings, ServerSettings, SettingsError};
use crate::volume::has_start_room;

/// What a standby answers to `SHOW cluster_name`.
const IDENTITY: &str = "bough-standby";

/// Connections for WAL that a standby has at least: its followers'.
const FOLLOWERS_MAX: u32 = 64;

/// Why a standby does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum StandbyError {
    /// No server of the version.
    #[error("cannot run a standby with what is installed")]
    Binaries(#[from] BinariesError),
    /// Its limits are not known.
    #[error("cannot read what the standby must match")]
    Limits(#[from] ControlDataError),
    /// The password of its connection could not be left for it.
    #[error("cannot tell the standby how its source is reached")]
    Reach(#[from] ReplicationError),
    /// The URL names no address.
    #[error("the source's URL names no address")]
    NoWay,
    /// It did not start.
    #[error("cannot start the standby")]
    Start(#[from] StartError),
    /// It could not be looked at or ended.
    #[error("cannot handle the standby's server")]
    Server(#[from] ServerError),
    /// Its configuration could not be written.
    #[error("cannot configure the standby")]
    Settings(#[from] SettingsError),
    /// It refuses our connection.
    #[error("cannot connect to the standby")]
    Connect(#[from] ConnectError),
    /// It did not answer.
    #[error("cannot ask the standby for {what}")]
    Ask {
        /// What was asked for.
        what: &'static str,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// It answered something that is no position.
    #[error("the standby's answer makes no sense")]
    Answer(#[from] LsnError),
    /// It is no standby any more.
    #[error("the standby in {data} is not in recovery")]
    Promoted {
        /// Its data directory.
        data: PathBuf,
    },
}

impl StandbyError {
    /// Whether its server does not answer just now.
    fn is_away(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Ask { .. } => true,
            Self::Binaries(_)
            | Self::Limits(_)
            | Self::Reach(_)
            | Self::NoWay
            | Self::Start(_)
            | Self::Server(_)
            | Self::Settings(_)
            | Self::Answer(_)
            | Self::Promoted { .. } => false,
        }
    }

    /// Whether its files seem to be at fault, and not this machine as it is just now.
    pub fn is_of_files(&self) -> bool {
        match self {
            Self::Limits(_) | Self::Promoted { .. } | Self::Answer(_) => true,
            Self::Start(error) => matches!(error, StartError::Ended { .. }),
            Self::Binaries(_)
            | Self::Reach(_)
            | Self::NoWay
            | Self::Server(_)
            | Self::Settings(_)
            | Self::Connect(_)
            | Self::Ask { .. } => false,
        }
    }
}

/// A standby; dropping it leaves its server running.
#[derive(Debug)]
pub struct Standby {
    host: Host,
    place: Place,
    seeded: Seeded,
    running: Mutex<Running>,
}

#[derive(Debug)]
struct Running {
    server: Arc<Server>,
    /// What it was started with.
    limits: RecoveryLimits,
    session: Option<Arc<Session>>,
    reach: Reach,
    log: Log,
}

/// What a standby is found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Whether its server runs.
    pub is_running: bool,
    /// How far it is; none when it does not answer.
    pub progress: Option<Progress>,
    /// Whether its limits suffice for the WAL that it replays.
    pub suffices: bool,
    /// Whether its server has room to work; not asked as long as changes arrive.
    pub has_room: bool,
    /// What its log has complained of since the last look.
    pub trouble: Option<Trouble>,
}

impl Standby {
    /// Starts the server of a seeded directory.
    ///
    /// # Errors
    /// [`StandbyError`]; nothing of it is left running.
    pub async fn start(
        host: Host,
        place: Place,
        seeded: Seeded,
        reach: Reach,
    ) -> Result<Self, StandbyError> {
        let started = Started::begin(host, place, seeded, reach).await?;
        Ok(started.standby())
    }

    /// The living standby of a directory, after an engine's end. It is pointed at the source anew.
    ///
    /// # Errors
    /// [`StandbyError`] when the machine does not let us look.
    pub async fn adopt(
        host: Host,
        place: Place,
        seeded: Seeded,
        reach: Reach,
    ) -> Result<Option<Self>, StandbyError> {
        let log = Log::at_end_of(place.log());
        let Some(server) = server::adopt(&place.data()).await? else {
            return Ok(None);
        };
        let session = connect(&place, &seeded).await?;
        let running = Running {
            server: Arc::new(server),
            limits: ask_limits(&session).await?,
            session: Some(Arc::new(session)),
            reach: reach.clone(),
            log,
        };
        let adopted = Self {
            host,
            place,
            seeded,
            running: Mutex::new(running),
        };
        adopted.point_at(reach).await?;
        Ok(Some(adopted))
    }

    /// The standby of a directory again: its living server adopted, or one started. A source that does not answer is no
    /// hindrance: what is here stays as good as it was.
    ///
    /// # Errors
    /// [`StandbyError`]; nothing of it is left running.
    pub async fn resume(
        host: Host,
        place: Place,
        seeded: Seeded,
        upstream: &Upstream,
    ) -> Result<Self, StandbyError> {
        let reach = first_way(upstream).await?;
        let parts = (host.clone(), place.clone(), seeded.clone(), reach.clone());
        match Self::adopt(parts.0, parts.1, parts.2, parts.3).await {
            Ok(Some(standby)) => return Ok(standby),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a living base is of no use as it is"),
        }
        server::sweep(&place.data()).await?;
        Self::start(host, place, seeded, reach).await
    }

    /// What was seeded.
    pub fn seeded(&self) -> &Seeded {
        &self.seeded
    }

    /// Where it lies.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What a server must match that replays the same WAL.
    ///
    /// # Errors
    /// [`StandbyError::Limits`] when the control file cannot be read.
    pub(super) fn limits(&self) -> Result<RecoveryLimits, StandbyError> {
        needed(&self.place, &self.seeded)
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    fn major(&self) -> PgMajor {
        self.seeded.major
    }

    /// A session of its own as a superuser, in the seeded database.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub(super) async fn connect(&self) -> Result<Session, ConnectError> {
        connect(&self.place, &self.seeded).await
    }

    /// The session that is kept for questions.
    async fn session(&self) -> Result<Arc<Session>, StandbyError> {
        let mut running = self.running.lock().await;
        if let Some(session) = running
            .session
            .as_ref()
            .filter(|session| !session.is_closed())
        {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(self.connect().await?);
        running.session = Some(Arc::clone(&session));
        Ok(session)
    }

    /// How far it is.
    ///
    /// # Errors
    /// [`StandbyError`] when it does not answer.
    pub async fn progress(&self) -> Result<Progress, StandbyError> {
        let session = self.session().await?;
        progress(&session, &self.place).await
    }

    /// Waits until everything is here that was committed on the source before `moment`. A server that is away is waited
    /// for as well, a few seconds long: whoever tends it starts it again.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] after `time_max`: behind a dead connection the wait would never end. [`WaitError::Ask`] where
    /// the server stays away.
    pub async fn wait_replayed(
        &self,
        moment: &Moment,
        time_max: Duration,
    ) -> Result<Progress, WaitError> {
        let begun = tokio::time::Instant::now();
        loop {
            let left = time_max.saturating_sub(begun.elapsed());
            let waited = match self.session().await {
                Ok(session) => wait_replayed(&session, &self.place, moment, left).await,
                Err(error) => Err(Box::new(error).into()),
            };
            match waited {
                Err(WaitError::Ask(error))
                    if error.is_away() && begun.elapsed() < AWAY_MAX.min(time_max) =>
                {
                    tokio::time::sleep(AWAY_PAUSE).await;
                }
                waited => return waited,
            }
        }
    }

    /// Looks at it.
    pub async fn look(&self) -> Sight {
        let server = Arc::clone(&self.running.lock().await.server);
        let ended = tokio::time::timeout(Duration::ZERO, server.exited()).await;
        let is_running = ended.is_err();
        let progress = if is_running {
            self.progress().await.ok()
        } else {
            None
        };
        let mut running = self.running.lock().await;
        // What cannot be read shows as replay that pauses.
        let found = control_data::read(&self.place.data());
        let suffices = found.map_or(true, |found| running.limits.suffice_for(&found.limits));
        Sight {
            is_running,
            progress,
            suffices,
            has_room: progress.is_some_and(|progress| progress.streams_on.is_some())
                || has_start_room(&self.place.directory),
            trouble: running.log.read_on(),
        }
    }

    /// Points it at the source, without a restart: by another way, or the same one again.
    ///
    /// # Errors
    /// [`StandbyError`].
    pub async fn point_at(&self, reach: Reach) -> Result<(), StandbyError> {
        let mut running = self.running.lock().await;
        reach.write_passfile(&self.place.passfile(), &self.host.account)?;
        let limits = needed(&self.place, &self.seeded)?;
        let settings = settings(&self.place, &self.seeded, &reach, limits);
        settings.write(&self.place.data(), self.major(), &self.host.account)?;
        running.server.reload()?;
        running.reach = reach;
        Ok(())
    }

    /// Leaves the password of its connection where it reads it, or takes it away: it is read at each connection and needed
    /// at no other time, and a superuser in a branch may read what the servers' account may.
    ///
    /// # Errors
    /// [`StandbyError::Reach`].
    pub(super) async fn show_password(&self, is_needed: bool) -> Result<(), StandbyError> {
        let running = self.running.lock().await;
        let path = self.place.passfile();
        match (is_needed, path.exists()) {
            (true, false) => running.reach.write_passfile(&path, &self.host.account)?,
            (false, true) => passfile::remove(&path).map_err(ReplicationError::from)?,
            (true, true) | (false, false) => {}
        }
        Ok(())
    }

    /// Starts it again, with what its source asks for by now.
    ///
    /// # Errors
    /// [`StandbyError`]; it may then not run.
    pub async fn restart(&self) -> Result<(), StandbyError> {
        let mut running = self.running.lock().await;
        running.session = None;
        running.server.stop(StopMode::Fast).await?;
        let started = launch(&self.host, &self.place, &self.seeded, &running.reach).await?;
        running.server = Arc::new(started.0.ready());
        running.limits = started.1;
        Ok(())
    }

    /// Ends it.
    ///
    /// # Errors
    /// [`StandbyError::Server`] when processes are left.
    pub async fn stop(&self, mode: StopMode) -> Result<(), StandbyError> {
        let mut running = self.running.lock().await;
        running.session = None;
        Ok(running.server.stop(mode).await?)
    }
}

/// A standby that runs and that nobody has taken yet: dropping it ends its server.
#[derive(Debug)]
pub(super) struct Started {
    host: Host,
    place: Place,
    pub(super) seeded: Seeded,
    reach: Reach,
    server: Unready,
    limits: RecoveryLimits,
    log: Log,
}

impl Started {
    pub(super) async fn begin(
        host: Host,
        place: Place,
        seeded: Seeded,
        reach: Reach,
    ) -> Result<Self, StandbyError> {
        let log = Log::at_end_of(place.log());
        let (server, limits) = launch(&host, &place, &seeded, &reach).await?;
        Ok(Self {
            host,
            place,
            seeded,
            reach,
            server,
            limits,
            log,
        })
    }

    /// A session as a superuser, in the seeded database.
    pub(super) async fn connect(&self) -> Result<Session, ConnectError> {
        connect(&self.place, &self.seeded).await
    }

    /// Lets it out: from here on it outlives its handle.
    pub(super) fn standby(self) -> Standby {
        let running = Running {
            server: Arc::new(self.server.ready()),
            limits: self.limits,
            session: None,
            reach: self.reach,
            log: self.log,
        };
        Standby {
            host: self.host,
            place: self.place,
            seeded: self.seeded,
            running: Mutex::new(running),
        }
    }
}

/// A way to the source that is worth a try; the keeper finds a better one where it does not lead there.
async fn first_way(upstream: &Upstream) -> Result<Reach, StandbyError> {
    let asked = match upstream.access.connect().await {
        Ok(session) => Reach::ways(upstream, &session),
        Err(_) => Reach::unasked(upstream),
    };
    let ways = asked.map_err(ReplicationError::from)?;
    ways.into_iter().next().ok_or(StandbyError::NoWay)
}

async fn connect(place: &Place, seeded: &Seeded) -> Result<Session, ConnectError> {
    let (database, superuser) = (&seeded.database, &seeded.superuser);
    control::connect(&place.socket_dir, database, superuser, seeded.major).await
}

/// What the standby must match: what was true when it was seeded, and what it has replayed since.
fn needed(place: &Place, seeded: &Seeded) -> Result<RecoveryLimits, StandbyError> {
    let replayed = control_data::read(&place.data())?.limits;
    Ok(larger(replayed, seeded.limits))
}

fn larger(one: RecoveryLimits, other: RecoveryLimits) -> RecoveryLimits {
    RecoveryLimits {
        max_connections: one.max_connections.max(other.max_connections),
        max_worker_processes: one.max_worker_processes.max(other.max_worker_processes),
        max_wal_senders: one.max_wal_senders.max(other.max_wal_senders),
        max_prepared_transactions: one
            .max_prepared_transactions
            .max(other.max_prepared_transactions),
        max_locks_per_transaction: one
            .max_locks_per_transaction
            .max(other.max_locks_per_transaction),
    }
}

/// What a server was started with.
async fn ask_limits(session: &Session) -> Result<RecoveryLimits, StandbyError> {
    let query = "SELECT current_setting('max_connections'), current_setting('max_worker_processes'), \
         current_setting('max_wal_senders'), current_setting('max_prepared_transactions'), \
         current_setting('max_locks_per_transaction')";
    let what = "its limits";
    let asked = |source| StandbyError::Ask { what, source };
    let found = control::rows(session, query).await.map_err(asked)?;
    let value = |column| {
        let row = found.first();
        row.and_then(|row| control::text(row, column).parse().ok())
            .unwrap_or(0)
    };
    Ok(RecoveryLimits {
        max_connections: value(0),
        max_worker_processes: value(1),
        max_wal_senders: value(2),
        max_prepared_transactions: value(3),
        max_locks_per_transaction: value(4),
    })
}

fn settings(
    place: &Place,
    seeded: &Seeded,
    reach: &Reach,
    limits: RecoveryLimits,
) -> ServerSettings {
    let mut given = seeded.wal_settings();
    given.extend(limit_settings(limits));
    let wal_senders = limits.max_wal_senders.max(FOLLOWERS_MAX);
    given.insert("max_wal_senders".to_owned(), wal_senders.to_string());
    let source = reach.text(&place.passfile());
    given.insert("primary_conninfo".to_owned(), source);
    match &seeded.slot {
        SlotUse::None => {}
        SlotUse::Temporary => {
            given.insert("wal_receiver_create_temp_slot".to_owned(), "on".to_owned());
        }
        SlotUse::Permanent(name) => {
            given.insert("primary_slot_name".to_owned(), name.clone());
        }
    }
    ServerSettings {
        purpose: Purpose::Standby,
        socket_dir: place.socket_dir.clone(),
        identity: IDENTITY.to_owned(),
        semantic: given,
    }
}

pub(super) fn limit_settings(limits: RecoveryLimits) -> SemanticSettings {
    let pair = |(name, value): (&str, u32)| (name.to_owned(), value.to_string());
    limits.named().into_iter().map(pair).collect()
}

async fn launch(
    host: &Host,
    place: &Place,
    seeded: &Seeded,
    reach: &Reach,
) -> Result<(Unready, RecoveryLimits), StandbyError> {
    reach.write_passfile(&place.passfile(), &host.account)?;
    let limits = needed(place, seeded)?;
    let started = server::start(&Launch {
        installation: host.installations.server(seeded.major)?,
        account: &host.account,
        data: &place.data(),
        log: &place.log(),
        settings: &settings(place, seeded, reach, limits),
    })
    .await?;
    Ok((Unready::new(started), limits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(max_connections: u32, max_wal_senders: u32) -> RecoveryLimits {
        RecoveryLimits {
            max_connections,
            max_worker_processes: 8,
            max_wal_senders,
            max_prepared_transactions: 0,
            max_locks_per_transaction: 64,
        }
    }

    #[test]
    fn the_larger_limit_counts_each_by_itself() {
        assert_eq!(larger(limits(100, 20), limits(200, 10)), limits(200, 20));
    }
}
