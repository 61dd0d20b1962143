//! A snapshot of a followed source: a clone of the standby, recovered once, made neutral, stopped cleanly.
//!
//! ```text
//!   Moment of the source ─▶ wait until replayed ─▶ clone alive ─▶ recover ─▶ neutral ─▶ stop, check that it is clean
//! ```
//!
//! Off the request path. A branch that is cloned from it starts without recovery. Recovery is that after a crash, not a
//! promotion: it takes settings below the source's, and no new timeline (a promotion took some 115 ms more). Owns the
//! order and what is known of the result. Leaves sealing, and the name, to `store`.

use std::time::Duration;

use model::{ByteSize, Secret};

use super::backup::{self, BackupError};
use super::collations::Otherwise;
use super::neutral::{self, Done, NeutralError, Survey, Wanted};
use super::prepare::{self, PrepareError};
use super::seed::Seeded;
use super::standby::{Standby, WaitError};
use super::{Place, Upstream, control};
use crate::base::copy::CopiedBase;
use crate::base::libraries;
use crate::base::moment::{Held, Moment, SequencesBy};
use crate::postgres::binaries::{BinariesError, Installation};
use crate::postgres::connect::{ConnectError, Session};
use crate::postgres::control_data::{self, ControlDataError};
use crate::postgres::server::{Launch, ServerError, StartError, StopMode, Unready, start};
use crate::postgres::settings::{Purpose, SemanticSettings, ServerSettings};
use crate::source::SourceError;
use crate::volume::measure;

/// What a copy answers to `SHOW cluster_name` while it is made neutral.
const IDENTITY: &str = "bough-snapshot";

/// `max_wal_size` of a branch in segments, at least: two are PostgreSQL's own minimum, and a branch writes.
const BRANCH_SEGMENTS: u64 = 8;

/// Why there is no snapshot. Nothing is left running; the directory is the caller's to remove.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The source could not be asked where it stands.
    #[error("cannot ask the source where it stands")]
    Source(#[from] SourceError),
    /// The base is behind.
    #[error("the base is behind its source")]
    Behind(#[from] WaitError),
    /// The standby could not be cloned.
    #[error("cannot clone the base")]
    Backup(#[from] BackupError),
    /// No server of the version.
    #[error("cannot recover the clone with what is installed")]
    Binaries(#[from] BinariesError),
    /// The clone did not recover.
    #[error("cannot recover the clone")]
    Start(#[from] StartError),
    /// The clone refuses our connection.
    #[error("cannot connect to the clone")]
    Connect(#[from] ConnectError),
    /// It could not be made neutral.
    #[error("cannot make the clone neutral")]
    Neutral(#[from] NeutralError),
    /// It does not say how it sorts.
    #[error("cannot compare how text sorts")]
    Collations(#[source] tokio_postgres::Error),
    /// The administrator's SQL could not be run.
    #[error("cannot prepare the clone")]
    Prepare(#[from] PrepareError),
    /// It could not be stopped.
    #[error("cannot stop the clone's server")]
    Stop(#[from] ServerError),
    /// It is not known whether it was stopped cleanly.
    #[error("cannot read the clone's state")]
    State(#[from] ControlDataError),
    /// It was not stopped cleanly.
    #[error("the clone was not shut down cleanly")]
    NotClean,
}

impl SnapshotError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Backup(error) => error.is_full(),
            Self::Source(_)
            | Self::Behind(_)
            | Self::Binaries(_)
            | Self::Start(_)
            | Self::Connect(_)
            | Self::Neutral(_)
            | Self::Collations(_)
            | Self::Prepare(_)
            | Self::Stop(_)
            | Self::State(_)
            | Self::NotClean => false,
        }
    }
}

/// A snapshot to make.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotRequest<'a> {
    /// The base.
    pub standby: &'a Standby,
    /// Its source.
    pub upstream: &'a Upstream,
    /// Where it comes to lie: an existing empty directory.
    pub place: &'a Place,
    /// SQL that runs in it before it is stopped.
    pub prepare: Option<&'a Secret>,
    /// How long the base may take to be where the source is.
    pub wait_max: Duration,
}

/// A snapshot that was made.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What branches of it need to know.
    pub copied: CopiedBase,
    /// What it holds for certain.
    pub held: Held,
}

/// Makes a snapshot.
///
/// # Errors
/// [`SnapshotError`].
pub async fn snapshot(request: &SnapshotRequest<'_>) -> Result<Snapshot, SnapshotError> {
    let SnapshotRequest {
        standby,
        upstream,
        place,
        ..
    } = *request;
    let (seeded, host) = (standby.seeded(), standby.host());
    let session = upstream.access.connect().await.map_err(SourceError::from)?;
    let anchor = Moment::read(&session, seeded.shape, host.clock).await?;
    drop(session);
    standby.wait_replayed(&anchor, request.wait_max).await?;
    let reached = backup::clone_standby(standby, &place.data()).await?;
    let held = Held {
        lsn: reached.lsn,
        timeline: reached.timeline,
        sequences: SequencesBy::Wal,
        quiet_to: reached.lsn,
        anchor,
    };
    let user_password = upstream.access.url.password();
    let user = &seeded.source_user;
    let (wanted, admin_password) = Wanted::new(&seeded.database, user, user_password.as_ref());
    let installation = host.installations.server(seeded.major)?;
    let done = recover(request, installation, &wanted).await?;
    let settings = branch_settings(seeded, installation);
    let size = measure(place.data()).await;
    let copied = describe(size, seeded, &held, done, settings, admin_password);
    Ok(Snapshot { copied, held })
}

/// Recovers the clone, makes it neutral, prepares it and stops it.
async fn recover(
    request: &SnapshotRequest<'_>,
    installation: &Installation,
    wanted: &Wanted,
) -> Result<Done, SnapshotError> {
    let SnapshotRequest { standby, place, .. } = *request;
    let (seeded, host) = (standby.seeded(), standby.host());
    let mut given = seeded.wal_settings();
    if let Some(prepared) = seeded.settings.get("max_prepared_transactions") {
        given.insert("max_prepared_transactions".to_owned(), prepared.clone());
    }
    let settings = ServerSettings {
        purpose: Purpose::Recovery,
        socket_dir: place.socket_dir.clone(),
        identity: IDENTITY.to_owned(),
        semantic: given,
    };
    let started = start(&Launch {
        installation,
        account: &host.account,
        data: &place.data(),
        log: &place.log(),
        settings: &settings,
    })
    .await?;
    let server = Unready::new(started);
    let enter = |database: String| {
        let superuser = seeded.superuser.as_str();
        async move { control::connect(&place.socket_dir, &database, superuser, seeded.major).await }
    };
    let session = enter(seeded.database.clone()).await?;
    let otherwise = Otherwise::read(&session).await;
    let otherwise = otherwise.map_err(SnapshotError::Collations)?;
    let survey = neutral::survey(&session, wanted).await?;
    let mut done = make_neutral(&session, wanted, survey, enter).await?;
    done.notes.extend(otherwise.note());
    drop(session);
    if let Some(sql) = request.prepare {
        prepare::run(host, place, seeded, sql).await?;
    }
    server.stop(StopMode::Fast).await?;
    if !control_data::read(&place.data())?.is_shut_down {
        return Err(SnapshotError::NotClean);
    }
    Ok(done)
}

/// Everything in order, on a copy that takes writes.
pub(super) async fn make_neutral<F>(
    session: &Session,
    wanted: &Wanted,
    survey: Survey,
    enter: impl Fn(String) -> F,
) -> Result<Done, NeutralError>
where
    F: Future<Output = Result<Session, ConnectError>>,
{
    let prepared = neutral::roll_back_prepared(session, &wanted.database, enter).await?;
    let mut done = neutral::neutralise(session, wanted, survey).await?;
    done.note_prepared(prepared);
    Ok(done)
}

/// What a branch's server is given, and what it lacks.
pub(super) fn branch_settings(
    seeded: &Seeded,
    installation: &Installation,
) -> (SemanticSettings, Vec<String>) {
    let mut settings = seeded.settings.clone();
    settings.extend(seeded.wal_settings());
    let most = (BRANCH_SEGMENTS * seeded.shape.segment_bytes) >> 20;
    settings.insert("max_wal_size".to_owned(), format!("{most}MB"));
    let loaded = libraries::preload(installation, &seeded.libraries, &seeded.database);
    settings.extend(loaded.settings);
    (settings, loaded.notes)
}

pub(super) fn describe(
    size_bytes: ByteSize,
    seeded: &Seeded,
    held: &Held,
    done: Done,
    (settings, mut notes): (SemanticSettings, Vec<String>),
    admin_password: Secret,
) -> CopiedBase {
    notes.splice(0..0, seeded.notes.iter().cloned());
    notes.extend(done.notes);
    CopiedBase {
        position: held.anchor.position.clone(),
        taken_at: held.anchor.taken_at,
        source_major: seeded.major,
        major: seeded.major,
        database: seeded.database.clone(),
        owner: done.owner,
        source_user: seeded.source_user.clone(),
        roles_without_password: done.roles_without_password,
        roles_with_verifier: done.roles_with_verifier,
        notes,
        admin_password,
        admits: None,
        settings,
        size_bytes,
    }
}
