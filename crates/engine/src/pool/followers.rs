//! Followers: clones of a living base that go on following, each ready to become a branch of this very moment.
//!
//! ```text
//! branch(moved) --> one that waits, else one made at once: waited for, promoted, opened to the application
//!      |
//!      v notes the demand
//! keeper (one task): more wanted -> makes one at a time | fewer, old, of a base that is no more, no room -> removes
//! ```
//!
//! Owns how many wait and their end. Like the pool's clones they are not journaled, and what an engine leaves is removed
//! by the next. Only a source that was found to have moved since its newest snapshot has any.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::chain;
use model::{ByteSize, PgUrl, Secret};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use super::demand::Demand;
use super::{LOOK_INTERVAL, PAUSE_AFTER_FAILURE, QUIET_TIME, end_keeper, lock, shortage, sizing};
use crate::base::copy::CopiedBase;
use crate::base::living::{BaseName, LivingBase};
use crate::base::physical::Place;
use crate::base::physical::follower::{Follower, FollowerError, Promoted};
use crate::base::physical::prepare::PrepareError;
use crate::base::physical::standby::WaitError;
use crate::base::store::{BEHIND_HINT, Moved, PREPARE_HINT};
use crate::clone::{self, CloneError, CloneName, ServerImage};
use crate::machine::Machine;
use crate::postgres::server::Server;
use crate::volume::{self, NoRoom, VolumeError};

/// Followers that are made at once for requests that wait: each reads its base's files.
const MADE_AT_ONCE_MAX: usize = 4;

/// How long one that waited in the pool may be behind before another is made.
const BEHIND_MAX: Duration = Duration::from_secs(5);

/// How long ago its base must have moved for followers to be kept that nobody has asked for.
const MOVING: SignedDuration = SignedDuration::from_secs(60);

/// Why there is no branch of this moment.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// There is less room than it takes and must stay.
    #[error("no room for the branch")]
    Room(#[source] NoRoom),
    /// The volume cannot be used.
    #[error("cannot make the branch's directory")]
    Volume(#[from] VolumeError),
    /// It could not be made or promoted.
    #[error("cannot make a branch of the source's base")]
    Follower(#[from] Box<FollowerError>),
    /// Its base makes none.
    #[error("a base that follows by a subscription makes no followers")]
    None,
    /// The base is behind.
    #[error("the base is behind its source")]
    Behind(#[from] WaitError),
    /// The application's user could not be let in.
    #[error("cannot open the branch")]
    Open(#[from] Box<CloneError>),
}

impl FollowError {
    /// One thing to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Room(_) => {
                Some("free space on the volume, or destroy branches that nobody needs".into())
            }
            Self::Behind(_) => Some(BEHIND_HINT.into()),
            Self::Follower(_) if self.is_of_prepare() => Some(PREPARE_HINT.into()),
            Self::Open(error) => error.hint(),
            Self::Volume(_) | Self::Follower(_) | Self::None => None,
        }
    }

    /// Whether another follower would end in the same way.
    fn is_of_prepare(&self) -> bool {
        matches!(self, Self::Follower(error) if matches!(**error, FollowerError::Prepare(PrepareError::Statement(_))))
    }
}

/// A branch of the moment that was asked for.
#[derive(Debug)]
pub struct Caught {
    /// Its clone.
    pub name: CloneName,
    /// Its server.
    pub server: Server,
    /// What is known of it.
    pub copied: CopiedBase,
    /// How long it took to have everything that the source had at the request.
    pub lag: Duration,
}

/// A follower that is nobody's yet. Dropping it removes it.
#[derive(Debug)]
struct Nameless {
    // Ended first.
    follower: Option<Follower>,
    machine: Arc<Machine>,
    name: CloneName,
    made_at: Timestamp,
}

impl Nameless {
    fn has_ended(&self) -> bool {
        self.follower.as_ref().is_none_or(Follower::has_ended)
    }
}

impl Drop for Nameless {
    fn drop(&mut self) {
        let Some(follower) = self.follower.take() else {
            return;
        };
        let (machine, name) = (Arc::clone(&self.machine), self.name.clone());
        drop(follower);
        remove_later(machine, name);
    }
}

/// Removes what a clone's directory holds. The engine's end waits for it.
fn remove_later(machine: Arc<Machine>, name: CloneName) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        let clearing = machine.clearing.clone();
        let removal = async move { clone::remove(&machine, &name, None).await };
        clearing.spawn_on(removal, &runtime);
    }
}

#[derive(Debug)]
struct Shelf {
    living: Arc<LivingBase>,
    always: usize,
    demand: Demand,
    ready: Vec<Nameless>,
    paused_until: Option<Timestamp>,
}

#[derive(Debug)]
struct Inner {
    machine: Arc<Machine>,
    shelves: Mutex<BTreeMap<BaseName, Shelf>>,
    changed: Arc<Notify>,
    makers: Semaphore,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// The followers of every base.
#[derive(Debug, Clone)]
pub struct Followers(Arc<Inner>);

impl Followers {
    /// None yet.
    pub fn new(machine: Arc<Machine>) -> Self {
        Self(Arc::new(Inner {
            machine,
            shelves: Mutex::default(),
            changed: Arc::default(),
            makers: Semaphore::new(MADE_AT_ONCE_MAX),
            keeper: Mutex::default(),
        }))
    }

    /// Begins to keep them. Ends with the engine, or when they are drained.
    pub fn start(&self) {
        let keeper = tokio::spawn(keep(Arc::downgrade(&self.0), Arc::clone(&self.0.changed)));
        *lock(&self.0.keeper) = Some(keeper);
    }

    fn shelves(&self) -> MutexGuard<'_, BTreeMap<BaseName, Shelf>> {
        lock(&self.0.shelves)
    }

    /// A branch that holds everything that was committed before the request, and lets the user of `url` in.
    ///
    /// # Errors
    /// [`FollowError`]; nothing of it is left.
    pub async fn branch(&self, moved: &Moved, url: &Secret) -> Result<Caught, FollowError> {
        self.note(moved);
        let machine = &self.0.machine;
        while let Some(waiting) = self.pop(&moved.living.name) {
            match self.promote(waiting, moved, url, BEHIND_MAX).await {
                Err(error) if !error.is_of_prepare() => {
                    tracing::warn!(base = %moved.living.name, error = chain(&error), "a follower is of no use");
                }
                answer => return answer,
            }
        }
        let wait_max = Duration::from_secs(machine.limits.replay_wait_seconds_max);
        // A base that is just being reconnected to its source cannot be cloned, and a clone of one that is behind would
        // be behind as well.
        let base = &moved.living.base;
        base.wait_replayed(&moved.moment, wait_max).await?;
        let place = self.0.makers.acquire().await;
        let made = make(machine, &moved.living).await?;
        drop(place);
        self.promote(made, moved, url, wait_max).await
    }

    async fn promote(
        &self,
        mut waiting: Nameless,
        moved: &Moved,
        url: &Secret,
        wait_max: Duration,
    ) -> Result<Caught, FollowError> {
        let machine = &self.0.machine;
        let follower = waiting
            .follower
            .as_ref()
            .expect("only a promotion takes it");
        let reached = follower.wait_replayed(&moved.moment, wait_max).await?;
        let lag = machine.clock.now().duration_since(moved.asked_at);
        let name = waiting.name.clone();
        let follower = waiting.follower.take().expect("it was there a line above");
        let unclaimed = Unclaimed::new(machine, &name);
        let promoted = follower.promote(&moved.moment, reached, moved.prepare.as_ref());
        let Promoted { server, copied, .. } = promoted.await.map_err(Box::new)?;
        let asked = PgUrl::parse(url.reveal()).expect("a spec is made of a URL that parses");
        if asked != moved.living.upstream.access.url {
            let image = ServerImage::of(&copied);
            let opened = clone::let_application_in(machine, &name, &image, &asked);
            opened.await.map_err(Box::new)?;
        }
        unclaimed.claim();
        Ok(Caught {
            name,
            server,
            copied,
            lag: Duration::try_from(lag).unwrap_or_default(),
        })
    }

    /// Keeps followers of a base from here on, as long as it moves, whether or not anybody asks.
    pub fn stock(&self, living: &Arc<LivingBase>, always: u32) {
        let mut shelves = self.shelves();
        let shelf = shelve(&mut shelves, living);
        shelf.always = usize::try_from(always).unwrap_or(usize::MAX);
        drop(shelves);
        self.0.changed.notify_one();
    }

    fn note(&self, moved: &Moved) {
        let now = self.0.machine.clock.now();
        let mut shelves = self.shelves();
        shelve(&mut shelves, &moved.living).demand.note(now);
    }

    fn pop(&self, base: &BaseName) -> Option<Nameless> {
        let mut shelves = self.shelves();
        let ready = &mut shelves.get_mut(base)?.ready;
        ready.retain(|waiting| !waiting.has_ended());
        let taken = ready.pop();
        self.0.changed.notify_one();
        taken
    }

    /// Gives up the followers of a base.
    pub fn forget(&self, base: &BaseName) {
        drop(self.shelves().remove(base));
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.shelves().values().map(|shelf| shelf.ready.len()).sum()
    }

    /// Ends the keeping and removes all of them.
    pub async fn drain(&self) {
        let keeper = lock(&self.0.keeper).take();
        end_keeper(keeper).await;
        let shelves = std::mem::take(&mut *self.shelves());
        let waiting = shelves.into_values().flat_map(|shelf| shelf.ready);
        let removals = waiting.map(|mut waiting| async move {
            drop(waiting.follower.take());
            clone::remove(&waiting.machine, &waiting.name, None).await;
        });
        futures_util::future::join_all(removals).await;
    }

    /// Brings every shelf to its size: removes what is too much, answers with a base of which one more is wanted.
    fn look(&self) -> Option<Arc<LivingBase>> {
        let machine = &self.0.machine;
        let now = machine.clock.now();
        let may_keep = shortage::may_keep(machine);
        let age_max = seconds(machine.limits.follower_seconds_max);
        let mut shelves = self.shelves();
        shelves.retain(|_, shelf| {
            let wanted = if may_keep { self.wanted(shelf, now) } else { 0 };
            shelf.ready.retain(|waiting| {
                now.duration_since(waiting.made_at) < age_max && !waiting.has_ended()
            });
            shelf.ready.truncate(wanted);
            !shelf.living.is_retired() && (shelf.always > 0 || self.wanted(shelf, now) > 0)
        });
        let lacking = shelves.values().find(|shelf| {
            may_keep
                && shelf.ready.len() < self.wanted(shelf, now)
                && shelf.paused_until.is_none_or(|until| until <= now)
                && shelf.living.seen().follows
                && shortage::may_add_follower(machine, shelf.living.base.size())
        });
        lacking.map(|shelf| Arc::clone(&shelf.living))
    }

    fn wanted(&self, shelf: &Shelf, now: Timestamp) -> usize {
        let limits = &self.0.machine.limits;
        let mut sizing = sizing(limits);
        sizing.clones_max = usize::try_from(limits.followers_per_source_max).unwrap_or(usize::MAX);
        let moves = now.duration_since(shelf.living.seen().still_since) < MOVING;
        let always = if moves { shelf.always } else { 0 };
        let wanted = shelf.demand.wanted(now, sizing).max(always);
        wanted.min(sizing.clones_max)
    }

    fn put(&self, living: &Arc<LivingBase>, made: Nameless) {
        let mut shelves = self.shelves();
        if let Some(shelf) = shelves.get_mut(&living.name)
            && !living.is_retired()
        {
            shelf.ready.push(made);
        }
    }

    fn pause(&self, living: &LivingBase) {
        let until = self.0.machine.clock.now().checked_add(PAUSE_AFTER_FAILURE);
        if let Some(shelf) = self.shelves().get_mut(&living.name) {
            shelf.paused_until = until.ok();
        }
    }
}

fn seconds(seconds: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn shelve<'a>(
    shelves: &'a mut BTreeMap<BaseName, Shelf>,
    living: &Arc<LivingBase>,
) -> &'a mut Shelf {
    let shelf = shelves.entry(living.name.clone()).or_insert_with(|| Shelf {
        living: Arc::clone(living),
        always: 0,
        demand: Demand::default(),
        ready: Vec::new(),
        paused_until: None,
    });
    // The same base may have been brought back with another URL.
    shelf.living = Arc::clone(living);
    shelf
}

/// Looks after the followers until the engine is gone.
async fn keep(followers: Weak<Inner>, changed: Arc<Notify>) {
    while let Some(inner) = followers.upgrade() {
        let (living, machine) = (
            Followers(Arc::clone(&inner)).look(),
            Arc::clone(&inner.machine),
        );
        drop(inner);
        let Some(living) = living else {
            drop(machine);
            // Either way it is time to look again.
            let _ = tokio::time::timeout(LOOK_INTERVAL, changed.notified()).await;
            continue;
        };
        tokio::time::sleep(QUIET_TIME).await;
        let made = make(&machine, &living).await;
        let Some(inner) = followers.upgrade() else {
            return;
        };
        match made {
            Ok(made) => Followers(inner).put(&living, made),
            Err(error) => {
                tracing::warn!(base = %living.name, error = chain(&error), "cannot keep a follower");
                Followers(inner).pause(&living);
            }
        }
    }
}

/// A clone's directory that nobody has claimed. Dropping it removes the clone.
struct Unclaimed(Option<(Arc<Machine>, CloneName)>);

impl Unclaimed {
    fn new(machine: &Arc<Machine>, name: &CloneName) -> Self {
        Self(Some((Arc::clone(machine), name.clone())))
    }

    fn claim(mut self) {
        self.0 = None;
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some((machine, name)) = self.0.take() {
            remove_later(machine, name);
        }
    }
}

async fn make(machine: &Arc<Machine>, living: &LivingBase) -> Result<Nameless, FollowError> {
    check_room(machine, living.base.size())?;
    let name = CloneName::random();
    let unclaimed = Unclaimed::new(machine, &name);
    let place = Place {
        directory: machine.layout.clone_dir(&name),
        socket_dir: machine.layout.socket_dir(name.as_str()),
    };
    std::fs::create_dir(&place.directory).map_err(|source| VolumeError::File {
        what: "make",
        path: place.directory.clone(),
        source,
    })?;
    let identity = name.identity();
    let made = living
        .base
        .make_follower(&living.upstream, &place, &identity)
        .await;
    let follower = made.map_err(Box::new)?.ok_or(FollowError::None)?;
    unclaimed.claim();
    Ok(Nameless {
        follower: Some(follower),
        machine: Arc::clone(machine),
        name,
        made_at: machine.clock.now(),
    })
}

fn check_room(machine: &Machine, size: ByteSize) -> Result<(), FollowError> {
    let wanted = if machine.volume.copy_takes_room() {
        size
    } else {
        ByteSize(0)
    };
    let room = volume::room(&machine.layout.volume())?;
    let checked = room.check(wanted, machine.limits.free_floor_bytes);
    checked.map_err(FollowError::Room)
}
