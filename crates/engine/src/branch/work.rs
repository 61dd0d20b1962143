//! What a state has to do, done: waits for a snapshot, has it cloned, starts, watches, removes. Answers with an outcome.
//!
//! Owns nothing that lasts: it works on a copy of the record, and the driver decides what an outcome means. Every
//! work may be dropped at any await and done again.

use std::sync::Arc;
use std::time::Duration;

use model::chain;
use model::engine_api::{BaseView, Freshness};
use tokio::sync::watch;

use super::record::{ApplicationAccess, BranchRecord, Origin};
use super::state::{Failure, RESTARTS_MAX, State, Work};
use crate::app::Shared;
use crate::base::SnapshotName;
use crate::base::copy::CopiedBase;
use crate::base::store::{BaseError, Fresh, FreshSnapshot, SnapshotPin};
use crate::clone::{self, CloneError, CloneName, ServerImage};
use crate::pool::Order;
use crate::pool::followers::Caught;
use crate::postgres::server::Server;
use crate::volume::has_start_room;

/// How long a server that ended, or did not start, rests before its next start, by how often that was in a row.
const RESTART_PAUSES: [Duration; RESTARTS_MAX as usize] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_secs(2),
];

/// How often a full volume is looked at.
const ROOM_LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What a work needs to know.
#[derive(Debug)]
pub(super) struct Brief {
    /// The branch.
    pub(super) record: BranchRecord,
    /// Its server, where one runs.
    pub(super) server: Option<Arc<Server>>,
    /// The hold on its snapshot, where it has one.
    pub(super) pin: Option<SnapshotPin>,
    /// Why it waits, as long as it does: its end or its view is all that anybody hears of it.
    pub(super) waits_tx: watch::Sender<Option<String>>,
}

/// How a work ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A fresh snapshot, of which the clone is to be made.
    SnapshotFound {
        snapshot: SnapshotName,
        pin: SnapshotPin,
        clone: CloneName,
        origin: Box<Origin>,
    },
    /// A fresh snapshot, and a clone of it that runs already and lets the application in; without a snapshot it is a
    /// follower that has become a branch.
    CloneTaken {
        snapshot: Option<SnapshotName>,
        pin: Option<SnapshotPin>,
        clone: CloneName,
        server: Arc<Server>,
        origin: Box<Origin>,
    },
    /// The snapshot was dropped before it could be cloned.
    SnapshotGone,
    /// The clone stands.
    Cloned,
    /// The server answers.
    Started(Arc<Server>),
    /// The server ended.
    ServerExited,
    /// The server was stopped.
    Stopped,
    /// The server could not be stopped, and may run or not.
    StopFailed,
    /// Nothing is left on disk.
    Removed,
    /// The server did not come up; it may do so another time.
    StartFailed(Failure),
    /// It cannot be done.
    Failed(Failure),
}

/// Does `work`.
pub(super) async fn perform(work: Work, brief: Brief, shared: Arc<Shared>) -> Outcome {
    let done = match work {
        Work::AwaitSnapshot => await_snapshot(&brief, &shared).await,
        Work::Clone(snapshot) => make_clone(&brief, &snapshot, &shared).await,
        Work::Start => start_server(&brief, &shared).await,
        Work::Serve => serve(&brief).await,
        Work::Stop => stop(&brief, &shared).await,
        Work::Remove => remove(&brief, &shared).await,
        Work::Rest | Work::Finish => std::future::pending().await,
    };
    done.unwrap_or_else(Outcome::Failed)
}

fn failure(
    tried: &str,
    error: &(dyn std::error::Error + 'static),
    hint: Option<String>,
) -> Failure {
    Failure {
        message: format!("{tried}: {}", chain(error)),
        hint,
    }
}

impl From<CloneError> for Failure {
    fn from(error: CloneError) -> Self {
        Self {
            message: chain(&error),
            hint: error.hint(),
        }
    }
}

/// How often a base may go away between being found and a branch of it: it is seeded again, which a request waits for.
const TRIES_MAX: u32 = 2;

/// How often its source may be added anew while a request waits for it: each time it means another copy.
const MEANINGS_MAX: u32 = 16;

async fn await_snapshot(brief: &Brief, shared: &Shared) -> Result<Outcome, Failure> {
    let spec = &brief.record.spec;
    let view = spec.view();
    let tried = format!("no copy of {} at {}", view.database, view.source);
    let (mut tries, mut meanings, mut makes_room) = (1, 1, true);
    loop {
        let meant = shared.sources.meant(spec);
        let fresh = match shared.bases.fresh(spec, &meant).await {
            Err(BaseError::Over) if meanings < MEANINGS_MAX => {
                meanings += 1;
                continue;
            }
            fresh => fresh.map_err(|error| failure(&tried, &error, error.hint()))?,
        };
        let moved = match fresh {
            Fresh::Snapshot(fresh) => {
                let order = Order::of(&fresh, spec);
                return Ok(take_clone(fresh, order, shared).await);
            }
            Fresh::Moved(moved) => moved,
        };
        match shared.pool.followers().branch(&moved, &spec.url).await {
            Ok(caught) => return Ok(caught_up(caught)),
            Err(_) if moved.living.is_retired() && tries < TRIES_MAX => tries += 1,
            Err(error) if makes_room && error.wants_room() && shared.bases.make_room().await => {
                tracing::warn!(%error, "dropped the copies that nobody uses, and making a branch again");
                makes_room = false;
            }
            Err(error) => return Err(failure(&tried, &error, error.hint())),
        }
    }
}

/// A clone of a fresh snapshot: one that runs already, else one to be made.
async fn take_clone(fresh: FreshSnapshot, order: Order, shared: &Shared) -> Outcome {
    let origin = Box::new(origin_of(&fresh.copied, fresh.freshness, None));
    let (snapshot, pin) = (fresh.name, fresh.pin);
    match shared.pool.take(order).await {
        Some(taken) => Outcome::CloneTaken {
            snapshot: Some(snapshot),
            pin: Some(pin),
            clone: taken.name,
            server: Arc::new(taken.server),
            origin,
        },
        None => Outcome::SnapshotFound {
            snapshot,
            pin,
            clone: CloneName::random(),
            origin,
        },
    }
}

fn caught_up(caught: Caught) -> Outcome {
    let origin = origin_of(&caught.copied, Freshness::Replayed, Some(caught.lag));
    Outcome::CloneTaken {
        snapshot: None,
        pin: None,
        clone: caught.name,
        server: Arc::new(caught.server),
        origin: Box::new(origin),
    }
}

fn origin_of(copied: &CopiedBase, freshness: Freshness, lag: Option<Duration>) -> Origin {
    Origin {
        base: BaseView {
            position: copied.position.lsn.clone(),
            taken_at: copied.taken_at,
            freshness,
            lag_milliseconds: lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
            source_version: copied.source_major,
            roles_without_password: copied.roles_without_password.clone(),
            notes: copied.notes.clone(),
        },
        image: ServerImage::of(copied),
        database: copied.database.clone(),
        size_bytes: copied.size_bytes,
    }
}

/// The clone and the origin of a record whose state says that it has them.
fn placed(record: &BranchRecord) -> Result<(&CloneName, &Origin), Failure> {
    let placed = record.clone.as_ref().zip(record.origin.as_ref());
    placed.ok_or_else(|| Failure {
        message: "the record of the branch names no clone".to_owned(),
        hint: None,
    })
}

async fn make_clone(
    brief: &Brief,
    snapshot: &SnapshotName,
    shared: &Shared,
) -> Result<Outcome, Failure> {
    let (name, origin) = placed(&brief.record)?;
    let Some(_pin) = brief.pin.clone().or_else(|| shared.bases.pin(snapshot)) else {
        return Ok(Outcome::SnapshotGone);
    };
    let make = || clone::make_files(&shared.machine, name, snapshot, origin.size_bytes);
    match make().await {
        Err(error) if error.wants_room() && shared.bases.make_room().await => {
            tracing::warn!(%error, "dropped the copies that nobody uses, and making a branch again");
            make().await?;
        }
        made => made?,
    }
    Ok(Outcome::Cloned)
}

/// Adopts the living server or starts one, and lets the application's user in. A failure at the second leaves a running
/// server, which the next try adopts or the removal ends.
async fn start_server(brief: &Brief, shared: &Shared) -> Result<Outcome, Failure> {
    let (name, origin) = placed(&brief.record)?;
    if let State::Starting { restarts, .. } = brief.record.state {
        pause_before(restarts, shared, &brief.waits_tx).await;
    }
    let server = match clone::adopt_server(&shared.machine, name).await {
        Ok(Some(server)) if brief.record.application_access == ApplicationAccess::Told => {
            return Ok(Outcome::Started(Arc::new(server)));
        }
        Ok(Some(server)) => server,
        Ok(None) if brief.record.unsynced_on != shared.machine.volume_mount => {
            return Err(lost_with_the_mount());
        }
        Ok(None) => match clone::run_server(&shared.machine, name, &origin.image).await {
            Ok(server) => server,
            Err(error) => return Ok(Outcome::StartFailed(error.into())),
        },
        Err(error) => return Ok(Outcome::StartFailed(error.into())),
    };
    if brief.record.application_access == ApplicationAccess::Inborn
        && origin.image.admits_user_of(&brief.record.spec.url())
    {
        return Ok(Outcome::Started(Arc::new(server)));
    }
    Ok(match accept_application(&brief.record, shared).await {
        Ok(()) => Outcome::Started(Arc::new(server)),
        Err(failure) => Outcome::StartFailed(failure),
    })
}

/// Gives what ended a server time to pass, and waits for room on a full volume: a server that cannot write ends again,
/// and what its branch holds would be given up for want of space.
async fn pause_before(restarts: u32, shared: &Shared, waits_tx: &watch::Sender<Option<String>>) {
    let place = restarts
        .checked_sub(1)
        .and_then(|place| usize::try_from(place).ok());
    let Some(pause) = place.and_then(|place| RESTART_PAUSES.get(place)) else {
        return;
    };
    tokio::time::sleep(*pause).await;
    let volume = shared.machine.layout.volume();
    let lacks_room = || !has_start_room(&volume);
    if lacks_room() {
        tracing::warn!(volume = %volume.display(), "a branch waits for room to start its server");
        let why = format!(
            "{} is full: the branch keeps its data, and its server waits for room",
            volume.display()
        );
        waits_tx.send_replace(Some(why));
    }
    while lacks_room() {
        tokio::time::sleep(ROOM_LOOK_INTERVAL).await;
    }
    waits_tx.send_replace(None);
}

/// What its server wrote last may never have come to the disk, and without fsync no recovery finds out.
fn lost_with_the_mount() -> Failure {
    Failure {
        message: "the branch was lost when its volume was mounted again after a failure: branches keep their data in memory first".to_owned(),
        hint: Some("ask for it again: it is made from scratch".to_owned()),
    }
}

/// Gives the role of the source's URL the URL's password, so that the application's own credentials work.
pub(super) async fn accept_application(
    record: &BranchRecord,
    shared: &Shared,
) -> Result<(), Failure> {
    let (name, origin) = placed(record)?;
    let url = record.spec.url();
    Ok(clone::let_application_in(&shared.machine, name, &origin.image, &url).await?)
}

/// Watches the server until it ends.
async fn serve(brief: &Brief) -> Result<Outcome, Failure> {
    if let Some(server) = &brief.server {
        server.exited().await;
    }
    Ok(Outcome::ServerExited)
}

/// Stops the server cleanly: this engine's, or the one that an engine before it left.
async fn stop(brief: &Brief, shared: &Shared) -> Result<Outcome, Failure> {
    let (name, _) = placed(&brief.record)?;
    let stopped = clone::stop_server(&shared.machine, name, brief.server.as_deref()).await;
    Ok(match stopped {
        Ok(()) => Outcome::Stopped,
        Err(error) => {
            tracing::warn!(branch = %brief.record.name, error = %chain(&error), "a server does not stop");
            Outcome::StopFailed
        }
    })
}

/// Ends the server at once and removes every file.
async fn remove(brief: &Brief, shared: &Shared) -> Result<Outcome, Failure> {
    if let Some(name) = &brief.record.clone {
        let tell = |why: &str| {
            let why = format!("its files cannot be removed, which is tried again and again: {why}");
            brief.waits_tx.send_replace(Some(why));
        };
        clone::remove_telling(&shared.machine, name, brief.server.as_deref(), tell).await;
    }
    Ok(Outcome::Removed)
}
