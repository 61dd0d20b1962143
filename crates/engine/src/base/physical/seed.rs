//! The first copy of a source: `pg_basebackup` once, then a standby of ours.
//!
//! ```text
//!   room? ─▶ pg_basebackup ─▶ strip ─▶ sync ─▶ start as standby ─▶ look: database opens, settings hold
//!              its WAL with it    what is not PostgreSQL's own
//! ```
//!
//! Owns the order, the program's command line and end, and what a base remembers of its source. The program runs as the
//! servers' account, which owns what it writes and can write nowhere else. It makes at most a slot that ends with its
//! connection, and asks for a checkpoint at once only where the role may ask for one anyway.

mod run;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use model::engine_api::{CopyPhase, CopyProgress, ProblemKind};
use model::{ByteSize, PgMajor};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use run::RunError;

use super::collations::Otherwise;
use super::contents::{self, ContentsError};
use super::fitness::{Fit, SlotUse};
use super::replication::ReplicationError;
use super::standby::{Standby, StandbyError, Started};
use super::{Host, Place, control};
use crate::base::copy::DiskBudget;
use crate::base::lsn::WalShape;
use crate::postgres::account::AccountError;
use crate::postgres::connect::{ConnectError, Session};
use crate::postgres::control_data::RecoveryLimits;
use crate::postgres::settings::SemanticSettings;
use crate::postgres::sql;
use crate::volume::{VolumeError, sync};

/// WAL that comes beside the files: what the source writes during the backup.
const WAL_BYTES: u64 = 256 << 20;

/// What the estimate of the time counts with where no rate is set: an ordinary disk and network.
const BYTES_PER_SECOND: u64 = 100 << 20;

/// `min_wal_size` and `max_wal_size` must hold two segments.
const SEGMENTS_MIN: u64 = 2;

/// A source to seed a base of.
#[derive(Debug, Clone, Copy)]
pub struct SeedRequest<'a> {
    /// The source, found fit.
    pub fit: &'a Fit,
    /// What this machine has.
    pub host: &'a Host,
    /// Where the base comes to lie: an existing empty directory.
    pub place: &'a Place,
    /// Bytes a second at most that the source sends; none: as fast as may be.
    pub rate_max: Option<ByteSize>,
    /// What the volume has.
    pub disk: DiskBudget,
    /// How long it may take.
    pub duration_max: Duration,
}

/// What a base remembers of its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seeded {
    /// Tells clusters apart.
    pub system_identifier: u64,
    /// The version of source, base and branches.
    pub major: PgMajor,
    /// How the WAL is cut.
    pub shape: WalShape,
    /// What a standby had to match when it was seeded.
    pub limits: RecoveryLimits,
    /// The database that was asked for.
    pub database: String,
    /// Who we are on the source.
    pub source_user: String,
    /// A superuser of the source's that may log in.
    pub superuser: String,
    /// How the source keeps WAL for us.
    pub slot: SlotUse,
    /// The source's settings that applications notice, those that hold here.
    pub settings: SemanticSettings,
    /// The source's preloaded libraries.
    pub libraries: Vec<String>,
    /// Whether the WAL cannot be replayed without them.
    pub replays_by_libraries: bool,
    /// When.
    pub seeded_at: Timestamp,
    /// The base on its disk then, as far as the source said.
    pub size_bytes: ByteSize,
    /// What is otherwise than on the source, a sentence each.
    pub notes: Vec<String>,
    /// How text sorts otherwise here, for whoever adds the source; each snapshot says it anew.
    pub sorts_otherwise: Option<String>,
}

impl Seeded {
    /// Settings without which a server cannot read this WAL.
    pub(super) fn wal_settings(&self) -> SemanticSettings {
        let mut settings = SemanticSettings::new();
        let segments = (SEGMENTS_MIN * self.shape.segment_bytes) >> 20;
        settings.insert("min_wal_size".to_owned(), format!("{segments}MB"));
        let most = (2 * segments).max(1024);
        settings.insert("max_wal_size".to_owned(), format!("{most}MB"));
        if self.replays_by_libraries {
            let list = self.libraries.join(",");
            settings.insert("shared_preload_libraries".to_owned(), list);
        }
        settings
    }
}

/// Why there is no base. Nothing is left running; the directory is the caller's to remove.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// There is no room for it.
    #[error(
        "the base needs {needed} of disk, and {} of {free} are free above the floor of {floor}",
        ByteSize(free.0.saturating_sub(floor.0))
    )]
    NoRoom {
        /// What it takes.
        needed: ByteSize,
        /// What is free.
        free: ByteSize,
        /// What must stay free.
        floor: ByteSize,
    },
    /// The directory could not be made.
    #[error("cannot make the data directory {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: AccountError,
    },
    /// The password could not be left for the program.
    #[error("cannot prepare the replication connection")]
    Replication(#[from] ReplicationError),
    /// The backup failed.
    #[error("cannot take a base backup")]
    Run(#[from] RunError),
    /// Its files could not be prepared.
    #[error("cannot prepare the base's files")]
    Contents(#[from] ContentsError),
    /// Its files could not be written out.
    #[error("cannot write the base to its disk")]
    Sync(#[from] VolumeError),
    /// It does not follow.
    #[error("cannot start the base")]
    Standby(#[from] StandbyError),
    /// The database cannot be opened here: most often a locale of the source's is missing on this machine.
    #[error("the source's database {database:?} cannot be opened here")]
    Open {
        /// The database.
        database: String,
        /// Why.
        #[source]
        source: ConnectError,
    },
    /// It could not be asked.
    #[error("cannot ask the base for {what}")]
    Ask {
        /// What was asked for.
        what: &'static str,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// It took too long.
    #[error("the base was not there within {seconds} s")]
    TimedOut {
        /// How long it could have taken.
        seconds: u64,
    },
}

impl SeedError {
    /// What sort of problem it is.
    pub fn kind(&self) -> ProblemKind {
        match self {
            Self::NoRoom { .. } => ProblemKind::LimitPassed,
            Self::Run(RunError::DiskFull { .. }) => ProblemKind::LimitPassed,
            Self::Contents(error) if error.is_full() => ProblemKind::LimitPassed,
            Self::Run(_) | Self::Replication(_) | Self::TimedOut { .. } => ProblemKind::Source,
            Self::Directory { .. }
            | Self::Contents(_)
            | Self::Sync(_)
            | Self::Standby(_)
            | Self::Open { .. }
            | Self::Ask { .. } => ProblemKind::Internal,
        }
    }
}

/// Copies a source and starts following it. `progress` says how far it is from the start on.
///
/// A future that is dropped ends the program, or leaves a server that is ending: call [`sweep`] on the data directory
/// before removing it.
///
/// # Errors
/// [`SeedError`].
///
/// [`sweep`]: crate::postgres::server::sweep
pub async fn seed(
    request: &SeedRequest<'_>,
    progress: &watch::Sender<Option<CopyProgress>>,
) -> Result<Standby, SeedError> {
    let seeded = tokio::time::timeout(request.duration_max, seed_all(request, progress));
    let seconds = request.duration_max.as_secs();
    seeded.await.unwrap_or(Err(SeedError::TimedOut { seconds }))
}

async fn seed_all(
    request: &SeedRequest<'_>,
    progress: &watch::Sender<Option<CopyProgress>>,
) -> Result<Standby, SeedError> {
    let SeedRequest {
        fit, host, place, ..
    } = *request;
    announce(request, progress)?;
    let data = place.data();
    host.account
        .make_dir(&data)
        .map_err(|source| SeedError::Directory {
            path: data.clone(),
            source,
        })?;
    fit.reach.write_passfile(&place.passfile(), &host.account)?;
    run::run(request, progress).await?;
    enter(progress, CopyPhase::Sealing);
    let account = host.account.clone();
    let prepared = tokio::task::spawn_blocking(move || {
        contents::make_standby(&data, &account)?;
        // They must be on the disk before a server relies on them.
        Ok::<_, SeedError>(sync(&data)?)
    });
    prepared.await.expect("work on files does not panic")?;
    let (host, place, reach) = (host.clone(), place.clone(), fit.reach.clone());
    let mut started = Started::begin(host, place, first(request), reach).await?;
    look(&mut started, fit).await?;
    Ok(started.standby())
}

/// Says what it takes, and refuses what does not fit.
fn announce(
    request: &SeedRequest<'_>,
    progress: &watch::Sender<Option<CopyProgress>>,
) -> Result<(), SeedError> {
    let size = request.fit.size();
    let needed = needed(size);
    let DiskBudget { free, .. } = request.disk;
    let rate = request
        .rate_max
        .map_or(BYTES_PER_SECOND, |rate| rate.0.max(1));
    progress.send_replace(Some(CopyProgress {
        phase: CopyPhase::Preparing,
        source_size_bytes: Some(size),
        disk_needed_bytes: Some(needed),
        disk_free_bytes: Some(free),
        estimate_seconds: Some(size.0 / rate + 2),
        copied_bytes: ByteSize(0),
        copied_rows: 0,
        table: None,
        advice: None,
        started_at: request.host.clock.now(),
    }));
    check_room(request, size)
}

/// What a base of a size takes.
pub fn needed(size: ByteSize) -> ByteSize {
    ByteSize(size.0.saturating_add(WAL_BYTES))
}

/// Refuses a base of a size that there is no room for.
fn check_room(request: &SeedRequest<'_>, size: ByteSize) -> Result<(), SeedError> {
    let needed = needed(size);
    let DiskBudget { free, floor } = request.disk;
    if needed.0.saturating_add(floor.0) > free.0 {
        return Err(SeedError::NoRoom {
            needed,
            free,
            floor,
        });
    }
    Ok(())
}

fn enter(progress: &watch::Sender<Option<CopyProgress>>, phase: CopyPhase) {
    progress.send_modify(|progress| {
        if let Some(progress) = progress {
            progress.phase = phase;
        }
    });
}

fn first(request: &SeedRequest<'_>) -> Seeded {
    let fit = request.fit;
    let superuser = fit.traits.superuser.clone();
    Seeded {
        system_identifier: fit.identity.system_identifier,
        major: fit.major(),
        shape: fit.traits.shape,
        limits: fit.traits.limits,
        database: fit.facts.database.clone(),
        source_user: fit.facts.session_user.clone(),
        superuser: superuser.expect("a source without one is not fit"),
        slot: fit.slot.clone(),
        settings: SemanticSettings::new(),
        libraries: fit.traits.libraries.clone(),
        replays_by_libraries: !fit.traits.resource_managers.is_empty(),
        seeded_at: request.host.clock.now(),
        size_bytes: fit.size(),
        notes: fit.notes.clone(),
        sorts_otherwise: None,
    }
}

/// What shows only on the copy: whether the database opens, how it sorts, and which of the source's settings hold here.
async fn look(started: &mut Started, fit: &Fit) -> Result<(), SeedError> {
    let session = started.connect().await.map_err(|source| SeedError::Open {
        database: started.seeded.database.clone(),
        source,
    })?;
    let seeded = &mut started.seeded;
    let otherwise = Otherwise::read(&session).await;
    let otherwise = otherwise.map_err(|source| SeedError::Ask {
        what: "how text sorts",
        source,
    })?;
    seeded.sorts_otherwise = otherwise.note();
    for (name, value) in &fit.facts.settings {
        // Less than our own servers need is no difference that an application could notice.
        if name == "wal_level" && value != "logical" {
            continue;
        }
        if holds_here(&session, name, value).await? {
            seeded.settings.insert(name.clone(), value.clone());
        } else {
            seeded.notes.push(format!(
                "the setting {name} = {value:?} of the source is not possible here, and has its default"
            ));
        }
    }
    Ok(())
}

/// Whether a setting can be set here: a locale may be missing, a library may lack a method. One that counts from a
/// server's start alone cannot be tried; those that a source is asked for are numbers and words of every build.
async fn holds_here(session: &Session, name: &str, value: &str) -> Result<bool, SeedError> {
    let query = format!(
        "SELECT CASE WHEN context IN ('user', 'superuser') THEN set_config(name, {value}, false) END \
         FROM pg_settings WHERE name = {name}",
        name = sql::literal(name),
        value = sql::literal(value)
    );
    match control::rows(session, &query).await {
        Ok(rows) => Ok(!rows.is_empty()),
        Err(source) if source.as_db_error().is_some() => Ok(false),
        Err(source) => Err(SeedError::Ask {
            what: "its settings",
            source,
        }),
    }
}
