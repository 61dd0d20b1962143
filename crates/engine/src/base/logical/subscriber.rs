//! Our server that follows a source by a subscription: a logical base.
//!
//! Owns its start, its adoption after an engine's end, how far it has applied what the source publishes, and pointing it
//! at the source anew. It listens on its socket alone, and only we connect. Leaves judging what is seen to `tending`.
//!
//! How far it is, is known in two ways, of which the further counts: the origin's progress is the end of the last
//! transaction that was applied here; and the source's keepalives name the WAL that it has sent everything of, behind
//! which a worker that applies in order has applied everything (`latest_end_lsn`, in
//! `src/backend/replication/logical/worker.c`). What a worker has only received (`received_lsn`) says nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_postgres::SimpleQueryMessage;

use super::reach::Reach;
use super::seed::Seeded;
use super::snapshot::ways;
use super::stillness::Stillness;
use super::{Host, Place, Upstream};
use crate::base::followed::patience::{AWAY_MAX, AWAY_PAUSE};
use crate::base::lsn::{Lsn, LsnError};
use crate::postgres::binaries::BinariesError;
use crate::postgres::connect::{ConnectError, Session, connect_unnoticed};
use crate::postgres::passfile::{self, PassfileError};
use crate::postgres::server::{
    Launch, Server, ServerError, StartError, StopMode, Unready, adopt, start,
};
use crate::postgres::settings::{Purpose, ServerSettings};
use crate::postgres::{sql, unnoticed};
use crate::volume::has_start_room;

/// What a subscriber answers to `SHOW cluster_name`.
const IDENTITY: &str = "bough-subscriber";

/// The subscription's name in the base.
pub(super) const SUBSCRIPTION: &str = "bough";

/// Pauses between two looks at how far it is: short ones first, for it is mostly a matter of one round trip.
const LOOK_PAUSE_MIN: Duration = Duration::from_micros(500);
const LOOK_PAUSE_MAX: Duration = Duration::from_millis(10);

/// Why a subscriber does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum SubscriberError {
    /// No server of the version.
    #[error("cannot run a subscriber with what is installed")]
    Binaries(#[from] BinariesError),
    /// The password of its connection could not be left for it.
    #[error(transparent)]
    Passfile(#[from] PassfileError),
    /// It did not start.
    #[error("cannot start the subscriber")]
    Start(#[from] StartError),
    /// It could not be looked at or ended.
    #[error("cannot handle the subscriber's server")]
    Server(#[from] ServerError),
    /// It refuses our connection.
    #[error("cannot connect to the subscriber")]
    Connect(#[from] ConnectError),
    /// It did not answer.
    #[error("cannot {what} on the subscriber")]
    Ask {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// It has no subscription of ours.
    #[error("the subscriber in {data} has lost its subscription")]
    NoSubscription {
        /// Its data directory.
        data: PathBuf,
    },
    /// It answered something that is no position.
    #[error("the subscriber's answer makes no sense")]
    Answer(#[from] LsnError),
    /// The server that was to be stopped is not there any more.
    #[error("the subscriber's server in {data} has ended, or somebody else has started it again")]
    Replaced {
        /// Its data directory.
        data: PathBuf,
    },
}

impl SubscriberError {
    /// Whether its server does not answer just now.
    fn is_away(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Ask { .. } => true,
            Self::Binaries(_)
            | Self::Passfile(_)
            | Self::Start(_)
            | Self::Server(_)
            | Self::NoSubscription { .. }
            | Self::Answer(_)
            | Self::Replaced { .. } => false,
        }
    }

    /// Whether its files seem to be at fault, and not this machine as it is just now.
    pub fn is_of_files(&self) -> bool {
        match self {
            Self::NoSubscription { .. } | Self::Answer(_) => true,
            Self::Start(error) => matches!(error, StartError::Ended { .. }),
            Self::Binaries(_)
            | Self::Passfile(_)
            | Self::Server(_)
            | Self::Connect(_)
            | Self::Ask { .. }
            | Self::Replaced { .. } => false,
        }
    }
}

/// Why a subscriber does not hold what the source had.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// It could not be asked.
    #[error("cannot ask how far the source's changes have come")]
    Ask(#[from] Box<SubscriberError>),
    /// It has not come so far in time.
    #[error(
        "the source's changes up to {wanted} have come to {reached} within {:.1} s{}",
        waited.as_secs_f64(),
        if *follows { "" } else { ", and nothing arrives from it" }
    )]
    TimedOut {
        /// Where the source stood.
        wanted: Lsn,
        /// How far they have come.
        reached: Lsn,
        /// Whether a worker is at it.
        follows: bool,
        /// How long was waited.
        waited: Duration,
    },
}

/// How far a subscriber is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Everything that was committed on the source before here is applied.
    pub applied: Lsn,
    /// Whether a worker is connected to the source.
    pub follows: bool,
    /// Whether the subscription is still enabled.
    pub is_enabled: bool,
    /// Errors of its worker since its statistics began.
    pub errors: u64,
}

/// What a subscriber is found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Whether its server runs.
    pub is_running: bool,
    /// How far it is; none when it does not answer.
    pub progress: Option<Progress>,
    /// Whether its server has room to work; not asked as long as a worker is connected and nothing was complained of.
    pub has_room: bool,
    /// What its log complained of since the last look.
    pub said: Option<String>,
}

/// A subscriber; dropping it leaves its server running.
#[derive(Debug)]
pub struct Subscriber {
    host: Host,
    place: Place,
    seeded: Seeded,
    running: Mutex<Running>,
    /// Shared with every other handle of the same base.
    pub(super) stillness: Arc<Stillness>,
}

#[derive(Debug)]
struct Running {
    server: Arc<Server>,
    session: Option<Arc<Session>>,
    log_read_to: u64,
    /// How it reaches its source; none while that is not known.
    reach: Option<Reach>,
}

impl Running {
    fn of(server: Server, place: &Place, reach: Option<Reach>) -> Self {
        Self {
            server: Arc::new(server),
            session: None,
            log_read_to: length(&place.log()),
            reach,
        }
    }

    async fn has_ended(&self) -> bool {
        let ended = tokio::time::timeout(Duration::ZERO, self.server.exited()).await;
        ended.is_ok()
    }
}

const PROGRESS: &str = "SELECT s.subenabled, t.pid IS NOT NULL, coalesce(t.latest_end_lsn, '0/0'), \
     coalesce(pg_replication_origin_progress('pg_' || s.oid, false), '0/0'), coalesce(e.apply_error_count, 0) \
     FROM pg_subscription s LEFT JOIN pg_stat_subscription t ON t.subid = s.oid AND t.relid IS NULL \
     LEFT JOIN pg_stat_subscription_stats e ON e.subid = s.oid WHERE s.subname = 'bough'";

impl Subscriber {
    /// The subscriber of a directory again, after an engine's end or a reboot: its living server adopted, or started.
    ///
    /// # Errors
    /// [`SubscriberError`]; nothing of it is left running then.
    pub async fn resume(
        host: Host,
        place: Place,
        seeded: Seeded,
        upstream: &Upstream,
    ) -> Result<Self, SubscriberError> {
        let stillness = host.stillnesses.of(&place);
        // Whoever copies its files by another handle has stopped the server, and starts it again.
        let _still = stillness.still.lock().await;
        if let Some(adopted) = Self::adopt(host.clone(), place.clone(), seeded.clone()).await? {
            // Told by the engine before how its source is reached.
            if let Ok(ways) = ways(upstream, &adopted.seeded).await {
                adopted.running.lock().await.reach = ways.into_iter().next();
            }
            return Ok(adopted);
        }
        let subscriber = Self {
            running: Mutex::new(Running::of(
                launch(&host, &place, &seeded).await?.ready(),
                &place,
                None,
            )),
            stillness: Arc::clone(&stillness),
            host,
            place,
            seeded,
        };
        // A source that does not answer now is looked for by `tend`; its connection is as it was.
        if let Ok(ways) = ways(upstream, &subscriber.seeded).await
            && let Some(reach) = ways.first()
        {
            subscriber.point_at(reach).await?;
        }
        Ok(subscriber)
    }

    /// The living subscriber of a directory, after an engine's end.
    ///
    /// # Errors
    /// [`SubscriberError`] when the machine does not let us look.
    pub async fn adopt(
        host: Host,
        place: Place,
        seeded: Seeded,
    ) -> Result<Option<Self>, SubscriberError> {
        let Some(server) = adopt(&place.data()).await? else {
            return Ok(None);
        };
        Ok(Some(Self {
            running: Mutex::new(Running::of(server, &place, None)),
            stillness: host.stillnesses.of(&place),
            host,
            place,
            seeded,
        }))
    }

    /// What was seeded.
    pub fn seeded(&self) -> &Seeded {
        &self.seeded
    }

    /// Where it lies.
    pub fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// The session that is kept for questions.
    async fn session(&self) -> Result<Arc<Session>, SubscriberError> {
        let mut running = self.running.lock().await;
        let kept = running.session.as_ref();
        if let Some(session) = kept.filter(|session| !session.is_closed()) {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(connect(&self.place, &self.seeded).await?);
        running.session = Some(Arc::clone(&session));
        Ok(session)
    }

    /// How far it is.
    ///
    /// # Errors
    /// [`SubscriberError`] when it does not answer.
    pub async fn progress(&self) -> Result<Progress, SubscriberError> {
        let session = self.session().await?;
        let asked = session.simple_query(PROGRESS).await;
        let found = asked.map_err(|source| SubscriberError::Ask {
            what: "ask for the progress",
            source,
        })?;
        let row = found.into_iter().find_map(|message| {
            if let SimpleQueryMessage::Row(row) = message {
                Some(row)
            } else {
                None
            }
        });
        let row = row.ok_or_else(|| SubscriberError::NoSubscription {
            data: self.place.data(),
        })?;
        let text = |column| row.get(column).unwrap_or_default();
        let (sent, committed): (Lsn, Lsn) = (text(2).parse()?, text(3).parse()?);
        Ok(Progress {
            applied: sent.max(committed),
            follows: text(1) == "t",
            is_enabled: text(0) == "t",
            errors: text(4).parse().unwrap_or(0),
        })
    }

    /// Waits a few seconds for a server that is away: whoever tends it starts it again.
    ///
    /// # Errors
    /// [`WaitError::Ask`] where it stays away.
    pub async fn wait_until_there(&self, time_max: Duration) -> Result<(), WaitError> {
        let begun = tokio::time::Instant::now();
        loop {
            match self.progress().await {
                Err(error) if error.is_away() && begun.elapsed() < AWAY_MAX.min(time_max) => {
                    tokio::time::sleep(AWAY_PAUSE).await;
                }
                answer => return answer.map(drop).map_err(|error| Box::new(error).into()),
            }
        }
    }

    /// Waits until everything is applied that the source had written before `wanted`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] after `time_max`.
    pub async fn wait_applied(&self, wanted: Lsn, time_max: Duration) -> Result<Lsn, WaitError> {
        let mut last = None;
        let applied = async {
            let mut pause = LOOK_PAUSE_MIN;
            loop {
                let progress = self.progress().await.map_err(Box::new)?;
                last = Some(progress);
                if progress.applied >= wanted {
                    return Ok(progress.applied);
                }
                // Nothing tells of it: it is looked at until the deadline.
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LOOK_PAUSE_MAX);
            }
        };
        match tokio::time::timeout(time_max, applied).await {
            Ok(applied) => applied,
            Err(_) => Err(WaitError::TimedOut {
                wanted,
                reached: last.map_or(Lsn(0), |last| last.applied),
                follows: last.is_some_and(|last| last.follows),
                waited: time_max,
            }),
        }
    }

    /// Looks at it.
    pub async fn look(&self) -> Sight {
        let is_running = !self.running.lock().await.has_ended().await;
        let progress = if is_running {
            match self.progress().await {
                Ok(progress) => Some(progress),
                // Nothing follows by it any more, as by one that was disabled.
                Err(SubscriberError::NoSubscription { .. }) => Some(Progress {
                    applied: Lsn(0),
                    follows: false,
                    is_enabled: false,
                    errors: 0,
                }),
                Err(_) => None,
            }
        } else {
            None
        };
        let mut running = self.running.lock().await;
        let said = read_complaint(&self.place.log(), &mut running.log_read_to);
        let follows = progress.is_some_and(|progress| progress.follows);
        Sight {
            is_running,
            progress,
            has_room: (follows && said.is_none()) || has_start_room(&self.place.directory),
            said,
        }
    }

    /// Points it at the source: by another way, or the same one again.
    ///
    /// # Errors
    /// [`SubscriberError`].
    pub async fn point_at(&self, reach: &Reach) -> Result<(), SubscriberError> {
        write_passfile(&self.host, &self.place, reach)?;
        let text = reach.text(&self.place.passfile());
        let session = self.session().await?;
        let alter = format!(
            "ALTER SUBSCRIPTION {SUBSCRIPTION} CONNECTION {}",
            sql::literal(&text)
        );
        let altered = unnoticed::run(&session, &[&alter]).await;
        altered.map_err(|source| SubscriberError::Ask {
            what: "tell how the source is reached",
            source,
        })?;
        self.running.lock().await.reach = Some(reach.clone());
        Ok(())
    }

    /// Leaves the password of its connection where it reads it, or takes it away: it is read at each connection and needed
    /// at no other time, and a superuser in a branch may read what the servers' account may.
    ///
    /// # Errors
    /// [`SubscriberError`].
    pub(super) async fn show_password(&self, is_needed: bool) -> Result<(), SubscriberError> {
        let running = self.running.lock().await;
        let is_there = self.place.passfile().exists();
        match &running.reach {
            Some(reach) if is_needed && !is_there => {
                write_passfile(&self.host, &self.place, reach)?;
            }
            Some(_) if !is_needed && is_there => passfile::remove(&self.place.passfile())?,
            // What nobody could write again stays.
            Some(_) | None => {}
        }
        Ok(())
    }

    /// Starts it again, whether or not it runs.
    ///
    /// # Errors
    /// [`SubscriberError`]; it may then not run.
    pub async fn restart(&self) -> Result<(), SubscriberError> {
        let mut running = self.running.lock().await;
        running.session = None;
        running.server.stop(StopMode::Fast).await?;
        self.launch(&mut running).await
    }

    /// Stops it cleanly for as long as its files are copied. Only the very server that this handle knows: one that
    /// another handle has started goes on.
    ///
    /// # Errors
    /// [`SubscriberError::Replaced`], or [`SubscriberError::Server`] when processes are left.
    pub(super) async fn halt(&self) -> Result<(), SubscriberError> {
        let mut running = self.running.lock().await;
        running.session = None;
        if running.has_ended().await {
            let data = self.place.data();
            return Err(SubscriberError::Replaced { data });
        }
        Ok(running.server.stop(StopMode::Fast).await?)
    }

    /// Starts it again after [`halt`](Self::halt), where nobody else has: what was copied would then be torn.
    ///
    /// # Errors
    /// [`SubscriberError`], where a server works there already as well.
    pub(super) async fn start_again(&self) -> Result<(), SubscriberError> {
        let mut running = self.running.lock().await;
        self.launch(&mut running).await
    }

    async fn launch(&self, running: &mut Running) -> Result<(), SubscriberError> {
        running.log_read_to = length(&self.place.log());
        if let Some(reach) = &running.reach {
            write_passfile(&self.host, &self.place, reach)?;
        }
        let started = launch(&self.host, &self.place, &self.seeded).await?;
        running.server = Arc::new(started.ready());
        Ok(())
    }

    /// Ends it for good: a snapshot that is being taken of it comes to nothing, and starts nothing.
    ///
    /// # Errors
    /// [`SubscriberError::Server`] when processes are left.
    pub async fn end(&self, mode: StopMode) -> Result<(), SubscriberError> {
        let _still = self.stillness.end().await;
        self.stop(mode).await
    }

    /// Ends it cleanly.
    ///
    /// # Errors
    /// [`SubscriberError::Server`] when processes are left.
    pub async fn stop(&self, mode: StopMode) -> Result<(), SubscriberError> {
        let mut running = self.running.lock().await;
        running.session = None;
        Ok(running.server.stop(mode).await?)
    }
}

/// A subscriber that runs and that nobody has taken yet: dropping it ends its server.
#[derive(Debug)]
pub(super) struct Started {
    host: Host,
    place: Place,
    seeded: Seeded,
    reach: Reach,
    server: Unready,
}

impl Started {
    pub(super) async fn begin(
        host: Host,
        place: Place,
        seeded: Seeded,
        reach: &Reach,
    ) -> Result<Self, SubscriberError> {
        write_passfile(&host, &place, reach)?;
        let server = launch(&host, &place, &seeded).await?;
        Ok(Self {
            host,
            place,
            seeded,
            reach: reach.clone(),
            server,
        })
    }

    /// A session of the administrator's, in the database.
    pub(super) async fn connect(&self) -> Result<Session, ConnectError> {
        connect(&self.place, &self.seeded).await
    }

    /// Lets it out: from here on it outlives its handle.
    pub(super) fn subscriber(self) -> Subscriber {
        Subscriber {
            running: Mutex::new(Running::of(
                self.server.ready(),
                &self.place,
                Some(self.reach),
            )),
            stillness: self.host.stillnesses.of(&self.place),
            host: self.host,
            place: self.place,
            seeded: self.seeded,
        }
    }
}

async fn connect(place: &Place, seeded: &Seeded) -> Result<Session, ConnectError> {
    let copied = &seeded.copied;
    let (database, password) = (&copied.database, &copied.admin_password);
    connect_unnoticed(&place.socket_dir, database, password, copied.major).await
}

async fn launch(host: &Host, place: &Place, seeded: &Seeded) -> Result<Unready, SubscriberError> {
    let settings = ServerSettings {
        purpose: Purpose::Subscriber,
        socket_dir: place.socket_dir.clone(),
        identity: IDENTITY.to_owned(),
        semantic: seeded.copied.settings.clone(),
    };
    let started = start(&Launch {
        installation: host.installations.server(seeded.copied.major)?,
        account: &host.account,
        data: &place.data(),
        log: &place.log(),
        settings: &settings,
    })
    .await?;
    Ok(Unready::new(started))
}

/// Leaves the password where the subscription's connection reads it.
fn write_passfile(host: &Host, place: &Place, reach: &Reach) -> Result<(), PassfileError> {
    passfile::write(&place.passfile(), reach.password(), &host.account)
}

fn length(log: &Path) -> u64 {
    fs::metadata(log).map_or(0, |found| found.len())
}

/// Bytes of a log that are looked at: a worker that fails says so in a few lines each time.
const LOG_BYTES_MAX: u64 = 64 * 1024;

/// Bytes from which on a log is emptied: while a source is away it grows by some 80 MB a day.
const LOG_SIZE_MAX: u64 = 16 << 20;

/// The last error in what a log says beyond `read_to`; one that cannot be read says nothing.
fn read_complaint(log: &Path, read_to: &mut u64) -> Option<String> {
    use std::io::{Read as _, Seek as _};
    let end = length(log);
    // Shorter than before: somebody emptied it.
    let begin = if end < *read_to { 0 } else { *read_to };
    let from = begin.max(end.saturating_sub(LOG_BYTES_MAX));
    *read_to = end;
    let mut file = fs::File::open(log).ok()?;
    file.seek(io::SeekFrom::Start(from)).ok()?;
    let mut text = Vec::new();
    file.take(LOG_BYTES_MAX).read_to_end(&mut text).ok()?;
    if end > LOG_SIZE_MAX {
        // The server appends, so that it goes on at the new end.
        let emptied = fs::OpenOptions::new().write(true).open(log);
        if emptied.and_then(|file| file.set_len(0)).is_ok() {
            *read_to = 0;
        }
    }
    complaint(&String::from_utf8_lossy(&text))
}

fn complaint(text: &str) -> Option<String> {
    let said = |line: &str| line.split_once("ERROR:  ").map(|(_, said)| said.to_owned());
    text.lines().filter_map(said).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_a_log_is_what_it_complains_of() {
        let log = "t [1] LOG:  logical replication apply worker for subscription \"bough\" has started\n\
             t [1] ERROR:  duplicate key value violates unique constraint \"t_pkey\"\n\
             t [1] DETAIL:  Key (id)=(1) already exists.\n\
             t [2] LOG:  background worker \"logical replication worker\" (PID 1) exited with exit code 1\n";
        let said = complaint(log).unwrap();
        assert_eq!(
            said,
            "duplicate key value violates unique constraint \"t_pkey\""
        );
        assert_eq!(complaint("t [1] LOG:  ready\n"), None);
    }

    #[test]
    fn a_log_that_grows_is_emptied_and_read_on() {
        use std::io::Write as _;
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("server.log");
        let mut server = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let mut read_to = 0;
        let line = format!("t [1] LOG:  {}\n", "x".repeat(1 << 20));
        for _ in 0..16 {
            server.write_all(line.as_bytes()).unwrap();
        }
        server
            .write_all(b"t [1] ERROR:  could not connect to the publisher\n")
            .unwrap();
        let said = read_complaint(&log, &mut read_to);
        assert_eq!(said.as_deref(), Some("could not connect to the publisher"));
        assert_eq!(length(&log), 0);
        server.write_all(b"t [1] ERROR:  again\n").unwrap();
        let said = read_complaint(&log, &mut read_to);
        assert_eq!(said.as_deref(), Some("again"));
        assert_eq!(read_complaint(&log, &mut read_to), None);
    }
}
