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

use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::chain;
use model::{PgUrl, Secret};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use super::demand::Sizing;
use super::shelf::{Look, Model, Shelves};
use super::shortage::Spare;
use super::{LOOK_INTERVAL, QUIET_TIME, end_keeper, lock, seconds, sizing};
use crate::base::copy::CopiedBase;
use crate::base::living::{BaseName, LivingBase};
use crate::base::physical::Place;
use crate::base::physical::follower::{Follower, FollowerError, Promoted};
use crate::base::physical::standby::WaitError;
use crate::base::store::{BEHIND_HINT, Moved};
use crate::clone::{self, CloneError, CloneName, ROOM_HINT, ServerImage};
use crate::machine::Machine;
use crate::postgres::server::Server;
use crate::volume::{NoRoom, PromiseError, VolumeError};

/// Followers that are made at once for requests that wait: each reads its base's files.
const MADE_AT_ONCE_MAX: usize = 4;

/// Followers that are made for one request: of a server that was killed meanwhile nothing is to be learned.
const MADE_FOR_ONE_MAX: u32 = 2;

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

impl From<PromiseError> for FollowError {
    fn from(error: PromiseError) -> Self {
        match error {
            PromiseError::NoRoom(lack) => Self::Room(lack),
            PromiseError::Volume(error) => Self::Volume(error),
        }
    }
}

impl FollowError {
    /// One thing to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Room(_) => Some(ROOM_HINT.into()),
            Self::Behind(_) => Some(BEHIND_HINT.into()),
            Self::Follower(error) => error.hint().map(Into::into),
            Self::Open(error) => error.hint(),
            Self::Volume(_) | Self::None => None,
        }
    }

    /// Whether more room on the volume would help.
    pub fn wants_room(&self) -> bool {
        matches!(self, Self::Room(_)) || matches!(self, Self::Volume(error) if error.is_full())
    }

    fn is_of_prepare(&self) -> bool {
        matches!(self, Self::Follower(error)
            if matches!(&**error, FollowerError::Prepare(error) if error.is_of_the_file()))
    }

    /// Whether another follower need not end in the same way.
    fn is_of_this_one(&self) -> bool {
        match self {
            Self::Follower(error) => !self.is_of_prepare() && !error.is_full(),
            Self::Behind(error) => matches!(error, WaitError::Ask(_)),
            Self::Open(_) => true,
            Self::Room(_) | Self::Volume(_) | Self::None => false,
        }
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
pub(super) struct Nameless {
    // Ended first.
    follower: Option<Follower>,
    machine: Arc<Machine>,
    name: CloneName,
    /// From then on another is made in its place.
    old_at: Timestamp,
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

impl Model for Arc<LivingBase> {
    type Thing = Nameless;

    fn is_over(&self) -> bool {
        self.is_retired()
    }

    /// The same base may have been brought back with another URL, and its followers are what they were.
    fn outdates(&self, _older: &Self) -> bool {
        false
    }

    fn unasked(&self, always: usize, now: Timestamp) -> usize {
        let moves = now.duration_since(self.seen().still_since) < MOVING;
        if moves { always } else { 0 }
    }

    fn is_fit(waiting: &Nameless, now: Timestamp) -> bool {
        now < waiting.old_at && !waiting.has_ended()
    }

    fn may_be_made(&self, spare: &Spare) -> bool {
        self.seen().follows && spare.may_add_follower(self.base.size())
    }
}

#[derive(Debug)]
struct Inner {
    machine: Arc<Machine>,
    shelves: Mutex<Shelves<BaseName, Arc<LivingBase>>>,
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

    fn shelves(&self) -> MutexGuard<'_, Shelves<BaseName, Arc<LivingBase>>> {
        lock(&self.0.shelves)
    }

    /// A branch that holds everything that was committed before the request, and lets the user of `url` in.
    ///
    /// # Errors
    /// [`FollowError`]; nothing of it is left.
    pub async fn branch(&self, moved: &Moved, url: &Secret) -> Result<Caught, FollowError> {
        self.note(moved);
        while let Some(waiting) = self.pop(&moved.living.name) {
            match self.promote(waiting, moved, url, BEHIND_MAX).await {
                Err(error) if !error.is_of_prepare() => {
                    tracing::warn!(base = %moved.living.name, error = chain(&error), "a follower is of no use");
                }
                answer => return answer,
            }
        }
        let wait_max = Duration::from_secs(self.0.machine.limits.replay_wait_seconds_max);
        let base = &moved.living.base;
        let mut made = 1;
        loop {
            // A base that is just being reconnected to its source cannot be cloned, and a clone of one that is behind
            // would be behind as well.
            base.wait_replayed(&moved.moment, wait_max).await?;
            match self.make_for(moved, url, wait_max).await {
                Err(error) if error.is_of_this_one() && made < MADE_FOR_ONE_MAX => {
                    tracing::warn!(base = %moved.living.name, error = chain(&error), "another follower is made");
                    made += 1;
                }
                answer => return answer,
            }
        }
    }

    /// A branch by a follower that is made for it.
    async fn make_for(
        &self,
        moved: &Moved,
        url: &Secret,
        wait_max: Duration,
    ) -> Result<Caught, FollowError> {
        let place = self.0.makers.acquire().await;
        let made = make(&self.0.machine, &moved.living).await?;
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
        let max = self.0.machine.limits.followers_per_source_max;
        let always = usize::try_from(always.min(max)).unwrap_or(usize::MAX);
        self.shelve(living).stock(&living.name, always);
        self.0.changed.notify_one();
    }

    fn note(&self, moved: &Moved) {
        let now = self.0.machine.clock.now();
        self.shelve(&moved.living).note(&moved.living.name, now);
    }

    fn shelve(
        &self,
        living: &Arc<LivingBase>,
    ) -> MutexGuard<'_, Shelves<BaseName, Arc<LivingBase>>> {
        let mut shelves = self.shelves();
        drop(shelves.shelve(living.name.clone(), Arc::clone(living)));
        shelves
    }

    fn pop(&self, base: &BaseName) -> Option<Nameless> {
        let mut shelves = self.shelves();
        let ready = shelves.ready(base)?;
        ready.retain(|waiting| !waiting.has_ended());
        let taken = ready.pop();
        self.0.changed.notify_one();
        taken
    }

    /// Gives up the followers of a base.
    pub fn forget(&self, base: &BaseName) {
        let unwanted = self.shelves().forget(base);
        drop(unwanted);
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.shelves().count()
    }

    /// Ends the keeping and removes all of them.
    pub async fn drain(&self) {
        let keeper = lock(&self.0.keeper).take();
        end_keeper(keeper).await;
        let waiting = self.shelves().clear();
        let removals = waiting.into_iter().map(|mut waiting| async move {
            drop(waiting.follower.take());
            clone::remove(&waiting.machine, &waiting.name, None).await;
        });
        futures_util::future::join_all(removals).await;
    }

    /// Brings every shelf to its size: removes what is too much, answers with a base of which one more is wanted.
    fn look(&self) -> Option<Arc<LivingBase>> {
        let machine = &self.0.machine;
        // Before the lock: a volume that hangs holds up nobody who takes one.
        let spare = Spare::read(machine);
        let limits = &machine.limits;
        let sizing = Sizing {
            clones_max: usize::try_from(limits.followers_per_source_max).unwrap_or(usize::MAX),
            ..sizing(limits)
        };
        let look = self.shelves().look(machine.clock.now(), sizing, &spare);
        let Look { surplus, lacking } = look;
        drop(surplus);
        lacking
    }

    fn put(&self, living: &Arc<LivingBase>, made: Nameless) {
        let unwanted = self.shelves().put(&living.name, living, made);
        drop(unwanted);
    }

    fn pause(&self, living: &LivingBase) {
        let now = self.0.machine.clock.now();
        self.shelves().pause(&living.name, now);
    }
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
    let room = machine.copy_room(living.base.size());
    let _promise = machine.promise_room(room).await?;
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
    let age_max = seconds(machine.limits.follower_seconds_max);
    let old_at = machine.clock.now().checked_add(age_max);
    Ok(Nameless {
        follower: Some(follower),
        machine: Arc::clone(machine),
        name,
        old_at: old_at.unwrap_or(Timestamp::MAX),
    })
}
