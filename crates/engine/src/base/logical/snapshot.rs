//! A snapshot of a followed source: the base as it is at a moment, without its subscription.
//!
//! ```text
//!   Moment of the source, its definitions ─▶ wait until applied ─▶ sequences ─▶ stop ─▶ clone ─▶ go on
//!                                                                                        └─▶ start ▶ detach ▶ stop cleanly
//! ```
//!
//! Off the request path. The base is stopped for the clone: a checkpoint and a start are some hundred milliseconds, and a
//! clone of a stopped server needs no recovery. Owns the order and what is known of the result. Leaves sealing, and the
//! name, to `store`.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use model::{PgMajor, Secret};
use serde::{Deserialize, Serialize};

use super::fingerprint::Fingerprint;
use super::reach::Reach;
use super::seed::{Seeded, fingerprint_of};
use super::subscriber::{SUBSCRIPTION, Subscriber, SubscriberError, WaitError};
use super::{Host, Place, Upstream};
use crate::base::copy::CopiedBase;
use crate::base::copy::roles::{Older, login_roles, renew};
use crate::base::forgotten::DELETE_JOBS;
use crate::base::lsn::Lsn;
use crate::base::moment::{Held, Line, Moment as Standing, SequencesBy};
use crate::base::physical::prepare::{self, PrepareError};
use crate::base::physical::snapshot::Snapshot;
use crate::postgres::binaries::BinariesError;
use crate::postgres::connect::{ConnectError, Session, connect_admin, connect_unnoticed};
use crate::postgres::control_data::{self, ControlDataError};
use crate::postgres::server::{Launch, ServerError, StartError, StopMode, Unready, start};
use crate::postgres::settings::{Purpose, ServerSettings};
use crate::postgres::{sql, unnoticed};
use crate::source::roles::Roles;
use crate::source::{SourceError, row, rows};
use crate::volume::{Cancel, VolumeError, measure};

/// What a clone answers to `SHOW cluster_name` while it is detached.
const IDENTITY: &str = "bough-snapshot";

/// How long is waited for the source's changes before anything else is asked: with `wal_writer_delay` as it is by default
/// (200 ms), everything that was committed is flushed by then.
const FLUSHED_AFTER: Duration = Duration::from_millis(700);

/// After so many times `wal_writer_delay` an asynchronous commit is flushed at the latest (PostgreSQL documentation,
/// section 30.4 "Asynchronous Commit").
const WRITER_DELAYS: u32 = 3;

/// What a timer may be late on the source.
const WRITER_LATE_MAX: Duration = Duration::from_millis(100);

/// Sequences that one statement reads.
const SEQUENCES_PER_STATEMENT: usize = 500;

/// Why there is no snapshot. Nothing is left running but the base; the directory is the caller's to remove.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The source could not be asked.
    #[error("cannot ask the source where it stands")]
    Source(#[from] SourceError),
    /// Something was defined otherwise since the base was copied: it has to be copied again.
    #[error("the source's definitions have changed since the base was copied")]
    Changed,
    /// The base goes.
    #[error("the base is of no more use")]
    Over,
    /// The base is behind.
    #[error("the base is behind its source")]
    Behind(#[from] WaitError),
    /// The base could not be stopped or started.
    #[error("cannot stop and start the base")]
    Subscriber(#[from] SubscriberError),
    /// Its files could not be cloned.
    #[error("cannot clone the base's files")]
    Clone(#[from] VolumeError),
    /// No server of the version.
    #[error("cannot start the clone with what is installed")]
    Binaries(#[from] BinariesError),
    /// The clone did not start.
    #[error("cannot start the clone")]
    Start(#[from] StartError),
    /// The clone refuses our connection.
    #[error("cannot connect to the clone")]
    Connect(#[from] ConnectError),
    /// The clone did not do what it was told.
    #[error("cannot {what} on the clone")]
    Detach {
        /// What was tried.
        what: &'static str,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The administrator's SQL could not be run.
    #[error("cannot prepare the clone")]
    Prepare(#[from] PrepareError),
    /// The clone could not be stopped.
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
        matches!(self, Self::Clone(error) if error.is_full())
    }
}

/// Where a source stands, for whoever waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Its position.
    pub standing: Standing,
    /// Its definitions then, or a little later.
    pub fingerprint: Fingerprint,
}

impl Moment {
    /// Asks a source where it stands. The session's transaction is over afterwards.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn read(
        session: &Session,
        seeded: &Seeded,
        clock: crate::clock::Clock,
    ) -> Result<Self, SourceError> {
        let standing = Standing::read(session, seeded.shape, clock).await?;
        // Later than the position: a definition that was committed before it is seen.
        let fingerprint = fingerprint_of(session).await?;
        Ok(Self {
            standing,
            fingerprint,
        })
    }
}

/// A snapshot to make.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotRequest<'a> {
    /// The base.
    pub subscriber: &'a Subscriber,
    /// Its source.
    pub upstream: &'a Upstream,
    /// Where it comes to lie: an existing empty directory.
    pub place: &'a Place,
    /// SQL that runs in the clone before it can be used.
    pub prepare: Option<&'a Secret>,
    /// How long the base may take to be where the source is.
    pub wait_max: Duration,
}

/// Makes a snapshot.
///
/// # Errors
/// [`SnapshotError`].
pub async fn snapshot(request: &SnapshotRequest<'_>) -> Result<Snapshot, SnapshotError> {
    let SnapshotRequest {
        subscriber,
        upstream,
        place,
        ..
    } = *request;
    let (seeded, host) = (subscriber.seeded(), subscriber.host());
    let _turn = subscriber.stillness.turn.lock().await;
    let session = upstream.access.connect().await.map_err(SourceError::from)?;
    let moment = Moment::read(&session, seeded, host.clock).await?;
    if moment.fingerprint != seeded.fingerprint {
        return Err(SnapshotError::Changed);
    }
    let reached = tokio::select! {
        reached = wait(subscriber, &session, &moment, request.wait_max) => reached?,
        // Nobody starts its server again.
        () = subscriber.stillness.over.cancelled() => return Err(SnapshotError::Over),
    };
    let roles = Roles::read(&session).await?;
    let sequences = clone_stopped(subscriber, place, &session).await?;
    drop(session);
    detach(request, &sequences, &roles).await?;
    let mut snapshot = describe(request, moment.standing, reached, &roles).await;
    if request.prepare.is_some() {
        // It may have given the role another password.
        snapshot.copied.admits = None;
    }
    Ok(snapshot)
}

/// What is known of a snapshot that holds everything of a moment, and of the WAL what was `reached`.
async fn describe(
    request: &SnapshotRequest<'_>,
    standing: Standing,
    reached: Lsn,
    roles: &Roles,
) -> Snapshot {
    let copied = request.subscriber.seeded().copied.clone();
    let password = request.upstream.access.url.password();
    let known = password.map(|_| copied.source_user.as_str());
    let login_roles = login_roles(roles, known);
    let copied = CopiedBase {
        position: standing.position.clone(),
        taken_at: standing.taken_at,
        roles_with_verifier: login_roles.with_verifier,
        roles_without_password: login_roles.without_password,
        size_bytes: measure(request.place.data()).await,
        ..copied
    };
    let held = Held {
        lsn: reached,
        timeline: match standing.line {
            Line::On(timeline) | Line::OnOrLater(timeline) => timeline,
        },
        sequences: SequencesBy::Reading,
        quiet_to: standing.lsn,
        anchor: standing,
    };
    Snapshot { copied, held }
}

/// Waits until the base holds everything that was committed before the moment; answers up to where it holds the WAL.
///
/// A source inserts WAL that it does not flush, and therefore does not send, until somebody commits: that of an open
/// transaction, say. Every commit before the moment is flushed a little later, and what is flushed then is enough.
///
/// # Errors
/// [`SnapshotError`].
pub async fn wait(
    subscriber: &Subscriber,
    session: &Session,
    moment: &Moment,
    time_max: Duration,
) -> Result<Lsn, SnapshotError> {
    let wanted = moment.standing.lsn;
    let clock = subscriber.host().clock;
    subscriber.wait_until_there(time_max).await?;
    let first = time_max.min(FLUSHED_AFTER);
    let Err(early) = subscriber.wait_applied(wanted, first).await else {
        return Ok(wanted);
    };
    if matches!(early, WaitError::Ask(_)) {
        return Err(early.into());
    }
    let flushed_after = flushed_after(session).await?.max(first);
    let Some(rest) = time_max
        .checked_sub(flushed_after)
        .filter(|rest| !rest.is_zero())
    else {
        return Err(early.into());
    };
    let since = SignedDuration::try_from(flushed_after).unwrap_or_default();
    clock
        .wait_until(moment.standing.taken_at.checked_add(since).ok())
        .await;
    let flushed = "SELECT pg_catalog.pg_current_wal_flush_lsn()";
    let flushed: Lsn = row(session, "flushed WAL", flushed).await?.number(0)?;
    let flushed = flushed.reachable(subscriber.seeded().shape);
    let reached = wanted.min(flushed);
    subscriber.wait_applied(reached, rest).await?;
    Ok(reached)
}

/// After how long a commit is in the source's flushed WAL at the latest.
async fn flushed_after(session: &Session) -> Result<Duration, SourceError> {
    // In milliseconds, whatever unit it was written in.
    let asked = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_writer_delay'";
    let delay: u32 = row(session, "wal_writer_delay", asked).await?.number(0)?;
    Ok(Duration::from_millis(delay.into()) * WRITER_DELAYS + WRITER_LATE_MAX)
}

/// Where a sequence stands: its name in SQL, its last value, whether that was given out.
type Sequence = (String, i64, bool);

const SEQUENCES: &str = "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' \
     AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY c.oid";

/// A cluster's roles, but PostgreSQL's own.
const OWN_ROLES: &str = "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname !~ '^pg_'";

/// What ends the memberships of these. From 16 on there is one for each grantor.
const REVOKES: &str = "SELECT pg_catalog.format('REVOKE %I FROM %I%s CASCADE', r.rolname, m.rolname, \
       CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 160000 \
            THEN pg_catalog.format(' GRANTED BY %I', g.rolname) ELSE '' END) \
     FROM pg_catalog.pg_auth_members a JOIN pg_catalog.pg_roles r ON r.oid = a.roleid \
     JOIN pg_catalog.pg_roles m ON m.oid = a.member LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantor \
     WHERE m.rolname !~ '^pg_'";

async fn read_sequences(session: &Session) -> Result<Vec<Sequence>, SourceError> {
    let listed = rows(session, "sequences", SEQUENCES).await?;
    let mut sequences = Vec::new();
    for some in listed.chunks(SEQUENCES_PER_STATEMENT) {
        let mut asked = Vec::new();
        for sequence in some {
            let name = sql::qualified(&sequence.text(0)?, &sequence.text(1)?);
            let literal = sql::literal(&name);
            asked.push(format!(
                "SELECT {literal}, last_value, is_called FROM {name}"
            ));
        }
        for value in rows(session, "sequences", &asked.join(" UNION ALL ")).await? {
            sequences.push((value.text(0)?, value.number(1)?, value.is(2)));
        }
    }
    Ok(sequences)
}

/// Stops the base cleanly, reads the source's sequences, clones the files, and starts the base again whatever became of
/// the two, unless it goes. A clone is of one moment only where nobody else has started it meanwhile.
async fn clone_stopped(
    subscriber: &Subscriber,
    place: &Place,
    source: &Session,
) -> Result<Vec<Sequence>, SnapshotError> {
    let stillness = &subscriber.stillness;
    let _still = stillness.still.lock().await;
    if stillness.over.is_cancelled() {
        return Err(SnapshotError::Over);
    }
    subscriber.halt().await?;
    let done = async {
        // Not before no row arrives any more: a number that a row of the clone has is then behind its sequence.
        let sequences = sequences_of(subscriber.seeded(), source).await?;
        clone_files(subscriber, place).await?;
        Ok(sequences)
    };
    let done = tokio::select! {
        biased;
        () = stillness.over.cancelled() => return Err(SnapshotError::Over),
        done = done => done,
    };
    subscriber.start_again().await?;
    done
}

/// The source's sequences, of the very definitions that the base has.
async fn sequences_of(seeded: &Seeded, source: &Session) -> Result<Vec<Sequence>, SnapshotError> {
    let sequences = read_sequences(source).await?;
    if fingerprint_of(source).await? != seeded.fingerprint {
        return Err(SnapshotError::Changed);
    }
    Ok(sequences)
}

async fn clone_files(subscriber: &Subscriber, place: &Place) -> Result<(), SnapshotError> {
    let cancel = Arc::new(Cancel::default());
    let clone = Arc::clone(&subscriber.host().clone_live);
    let (from, to) = (subscriber.place().data(), place.data());
    let cloned = {
        let cancel = Arc::clone(&cancel);
        tokio::task::spawn_blocking(move || clone(&from, &to, &cancel))
    };
    let guard = CancelOnDrop(cancel);
    let cloned = cloned.await.expect("a clone of files does not panic");
    drop(guard);
    Ok(cloned?)
}

/// Ends a clone whose future was dropped, before its next file.
struct CancelOnDrop(Arc<Cancel>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Makes the clone a database of its own: no subscription, sequences where the source's stand, its roles as they are.
async fn detach(
    request: &SnapshotRequest<'_>,
    sequences: &[Sequence],
    roles: &Roles,
) -> Result<(), SnapshotError> {
    let (host, place) = (request.subscriber.host(), request.place);
    let copied = &request.subscriber.seeded().copied;
    let server = launch(host, place, copied).await?;
    let (database, password) = (&copied.database, &copied.admin_password);
    let session = connect_unnoticed(&place.socket_dir, database, password, copied.major).await?;
    drop_subscription(&session).await?;
    // Published with the rest, and left out of every copy: a branch runs no jobs of its source's.
    run(&session, "delete jobs", DELETE_JOBS).await?;
    for some in sequences.chunks(SEQUENCES_PER_STATEMENT) {
        let set = some.iter().map(|(name, last, is_called)| {
            let name = sql::literal(name);
            format!("pg_catalog.setval({name}, {last}, {is_called})")
        });
        let set = set.collect::<Vec<_>>().join(", ");
        run(&session, "set sequences", &format!("SELECT {set}")).await?;
    }
    renew_roles(&session, copied.major, roles).await?;
    drop(session);
    if let Some(sql) = request.prepare {
        let session = connect_admin(&place.socket_dir, database, password, copied.major).await?;
        let time_max = request.subscriber.host().prepare_time_max;
        prepare::execute(&session, sql, time_max).await?;
    }
    server.stop(StopMode::Fast).await?;
    if !control_data::read(&place.data())?.is_shut_down {
        return Err(SnapshotError::NotClean);
    }
    Ok(())
}

async fn drop_subscription(session: &Session) -> Result<(), SnapshotError> {
    let statements = [
        format!("ALTER SUBSCRIPTION {SUBSCRIPTION} DISABLE"),
        // Without the name of the slot, which is the base's: dropping would reach for it.
        format!("ALTER SUBSCRIPTION {SUBSCRIPTION} SET (slot_name = NONE)"),
        format!("DROP SUBSCRIPTION {SUBSCRIPTION}"),
    ];
    let dropped = unnoticed::run(session, &statements.each_ref().map(String::as_str)).await;
    dropped.map_err(|source| SnapshotError::Detach {
        what: "drop the subscription",
        source,
    })
}

/// A subscription carries no roles: they come, go and change with the source's since the base was seeded.
async fn renew_roles(
    session: &Session,
    major: PgMajor,
    source: &Roles,
) -> Result<(), SnapshotError> {
    let what = "bring roles up to the source's";
    let failed = |source| SnapshotError::Detach { what, source };
    let found = session.query(OWN_ROLES, &[]).await.map_err(failed)?;
    let roles = found.iter().map(|row| row.get(0)).collect();
    let found = session.query(REVOKES, &[]).await.map_err(failed)?;
    let revokes = found.iter().map(|row| row.get(0)).collect();
    let older = Older {
        major,
        roles,
        revokes,
    };
    let statements = renew(source, &older);
    run(session, what, &statements.join("; ")).await
}

async fn launch(host: &Host, place: &Place, copied: &CopiedBase) -> Result<Unready, SnapshotError> {
    let settings = ServerSettings {
        purpose: Purpose::Base,
        socket_dir: place.socket_dir.clone(),
        identity: IDENTITY.to_owned(),
        semantic: copied.settings.clone(),
    };
    let started = start(&Launch {
        installation: host.installations.server(copied.major)?,
        account: &host.account,
        data: &place.data(),
        log: &place.log(),
        settings: &settings,
    })
    .await?;
    Ok(Unready::new(started))
}

async fn run(session: &Session, what: &'static str, statement: &str) -> Result<(), SnapshotError> {
    let done = session.batch_execute(statement).await;
    done.map_err(|source| SnapshotError::Detach { what, source })
}

/// How the source of a base is reached now, where its own URL serves for replication as well.
///
/// # Errors
/// [`ConnectError`].
pub async fn ways(upstream: &Upstream, seeded: &Seeded) -> Result<Vec<Reach>, ConnectError> {
    let session = upstream.access.connect().await?;
    Reach::ways(upstream, &session, &seeded.copied.database)
}
