//! The warm pool: nameless clones of the newest snapshots, running before anybody asks for them.
//!
//! ```text
//! take(order) --> a running clone of that snapshot, or none
//!      |
//!      v notes the demand
//! keeper (one task): more wanted -> makes one at a time | fewer, older, no room -> removes
//! ```
//!
//! Beside them are `followers`, for sources that move. Owns how many there are and their end. Nothing of it is journaled:
//! what an engine leaves is removed by the next (`leftovers`). `demand` says how many are wanted,
//! `shortage` whether the machine can afford them, `shelf` which of them go and of what one more is made.

mod demand;
pub mod followers;
mod shelf;
mod shortage;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use model::chain;
use model::{ByteSize, PgUrl, Secret};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::base::SnapshotName;
use crate::base::store::{FreshSnapshot, SnapshotPin};
use crate::branch::record::Spec;
use crate::clone::{self, CloneError, CloneName, ServerImage};
use crate::machine::Machine;
use crate::postgres::server::Server;
use crate::settings::Limits;
use demand::Sizing;
use followers::Followers;
use shelf::{Look, Model, Shelves};
use shortage::Spare;

/// How long the pool leaves the machine to whoever has just taken a clone, before it makes another.
const QUIET_TIME: Duration = Duration::from_millis(300);

/// How often the pool is looked over without a request: for idle sources and for room that became short.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);

/// What a clone is made of, and whom it lets in.
#[derive(Debug, Clone)]
pub struct Order {
    /// The snapshot.
    pub snapshot: SnapshotName,
    /// Keeps it.
    pub pin: SnapshotPin,
    /// How its clones' servers are run.
    pub image: ServerImage,
    /// The snapshot on disk.
    pub size: ByteSize,
    /// The source's connection string, whose user gets its password.
    pub url: Secret,
}

impl Order {
    /// Clones of a fresh snapshot for whoever asks as `spec` does.
    pub fn of(fresh: &FreshSnapshot, spec: &Spec) -> Self {
        Self {
            snapshot: fresh.name.clone(),
            pin: fresh.pin.clone(),
            image: ServerImage::of(&fresh.copied),
            size: fresh.copied.size_bytes,
            url: spec.url.clone(),
        }
    }

    fn url(&self) -> PgUrl {
        PgUrl::parse(self.url.reveal()).expect("a spec is made of a URL that parses")
    }

    fn key(&self) -> String {
        self.snapshot.key().to_owned()
    }
}

/// A running clone that is the caller's from here on.
#[derive(Debug)]
pub struct Taken {
    /// Which.
    pub name: CloneName,
    /// Its server.
    pub server: Server,
}

#[derive(Debug)]
pub(super) struct Warm {
    name: CloneName,
    server: Server,
    /// Whose password it accepts.
    url: Secret,
}

impl Model for Order {
    type Thing = Warm;

    fn is_over(&self) -> bool {
        self.pin.is_over()
    }

    fn outdates(&self, older: &Self) -> bool {
        self.snapshot != older.snapshot
    }

    fn unasked(&self, always: usize, _now: Timestamp) -> usize {
        always
    }

    /// One whose server has ended is none.
    fn is_fit(warm: &Warm, _now: Timestamp) -> bool {
        warm.server.exited().now_or_never().is_none()
    }

    fn may_be_made(&self, spare: &Spare) -> bool {
        spare.may_add(self.size)
    }
}

#[derive(Debug)]
struct Inner {
    machine: Arc<Machine>,
    followers: Followers,
    /// By the snapshot's key.
    shelves: Mutex<Shelves<String, Order>>,
    changed: Arc<Notify>,
    /// The clone that the keeper is making.
    making: Mutex<Option<CloneName>>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// The pool.
#[derive(Debug, Clone)]
pub struct Pool(Arc<Inner>);

/// A clone on its way to who wants it. Dropped before, as by a request that is given up, it is removed.
struct OffShelf<'a> {
    pool: &'a Pool,
    warm: Option<Warm>,
}

impl OffShelf<'_> {
    fn warm(&self) -> &Warm {
        self.warm
            .as_ref()
            .expect("it is taken out at the end alone")
    }

    fn hand_out(mut self) -> Option<Taken> {
        let Warm { name, server, .. } = self.warm.take()?;
        Some(Taken { name, server })
    }
}

impl Drop for OffShelf<'_> {
    fn drop(&mut self) {
        if let Some(warm) = self.warm.take() {
            self.pool.discard(vec![warm]);
        }
    }
}

impl Pool {
    /// An empty pool.
    pub fn new(machine: Arc<Machine>) -> Self {
        Self(Arc::new(Inner {
            followers: Followers::new(Arc::clone(&machine)),
            machine,
            shelves: Mutex::default(),
            changed: Arc::default(),
            making: Mutex::default(),
            keeper: Mutex::default(),
        }))
    }

    /// Begins to keep the pool. Ends with the engine, or when it is drained.
    pub fn start(&self) {
        let keeper = tokio::spawn(keep(Arc::downgrade(&self.0), Arc::clone(&self.0.changed)));
        *lock(&self.0.keeper) = Some(keeper);
        self.0.followers.start();
    }

    fn shelves(&self) -> std::sync::MutexGuard<'_, Shelves<String, Order>> {
        lock(&self.0.shelves)
    }

    /// Keeps clones of the order's snapshot from here on, as if somebody had asked, and so many of them whether or not
    /// anybody has asked lately.
    pub fn stock(&self, order: &Order, always: u32) {
        let always = usize::try_from(always).unwrap_or(usize::MAX);
        self.shelve(order).stock(&order.key(), always);
        self.0.changed.notify_one();
    }

    /// The followers of sources that move.
    pub fn followers(&self) -> &Followers {
        &self.0.followers
    }

    /// Makes clones of the order's snapshot instead of those of an older one, where any are kept of it.
    pub fn renew(&self, order: &Order, always: u32) {
        if always > 0 || self.shelves().has(&order.key()) {
            self.stock(order, always);
        }
    }

    /// Keeps no clones any more of what `key` stands for: its source is gone, or is copied otherwise.
    pub fn forget(&self, key: &str) {
        let unwanted = self.shelves().forget(&key.to_owned());
        self.discard(unwanted);
    }

    /// A running clone of the order's snapshot that lets its user in; none when there is none, or none that can be used.
    pub async fn take(&self, order: Order) -> Option<Taken> {
        loop {
            let off_shelf = OffShelf {
                pool: self,
                warm: Some(self.pop(&order)?),
            };
            let warm = off_shelf.warm();
            if !shortage::may_hand_out(&self.0.machine) {
                return None;
            }
            if warm.server.exited().now_or_never().is_some() {
                tracing::warn!(clone = %warm.name, "a warm clone has ended");
                continue;
            }
            if warm.url == order.url {
                return off_shelf.hand_out();
            }
            let machine = &self.0.machine;
            let url = order.url();
            let opened = clone::let_application_in(machine, &warm.name, &order.image, &url);
            match opened.await {
                Ok(()) => return off_shelf.hand_out(),
                Err(error) => {
                    tracing::warn!(clone = %warm.name, error = chain(&error), "a warm clone is of no use");
                }
            }
        }
    }

    /// Notes the demand, and takes a clone of the snapshot off its shelf.
    fn pop(&self, order: &Order) -> Option<Warm> {
        let (mut shelves, key) = (self.shelve(order), order.key());
        shelves.note(&key, self.0.machine.clock.now());
        let ready = shelves.ready(&key)?;
        let same_user = ready.iter().position(|warm| warm.url == order.url);
        let warm = match same_user {
            Some(at) => Some(ready.swap_remove(at)),
            None => ready.pop(),
        };
        self.0.changed.notify_one();
        warm
    }

    /// The shelves, with one for the order's snapshot: clones of an older one are removed. What is kept whether or not
    /// anybody asks is said by whoever stocks: a request may come after its source was removed.
    fn shelve(&self, order: &Order) -> std::sync::MutexGuard<'_, Shelves<String, Order>> {
        let mut shelves = self.shelves();
        self.discard(shelves.shelve(order.key(), order.clone()));
        shelves
    }

    /// Removes clones in the background. The engine's end waits for it.
    fn discard(&self, clones: Vec<Warm>) {
        for warm in clones {
            let machine = Arc::clone(&self.0.machine);
            self.0.machine.clearing.spawn(async move {
                clone::remove(&machine, &warm.name, Some(&warm.server)).await;
            });
        }
    }

    /// How many clones wait.
    pub fn count(&self) -> usize {
        self.shelves().count()
    }

    /// Ends the keeping and removes every clone.
    pub async fn drain(&self) {
        let keeper = lock(&self.0.keeper).take();
        end_keeper(keeper).await;
        let making = lock(&self.0.making).take();
        if let Some(name) = making {
            clone::remove(&self.0.machine, &name, None).await;
        }
        let clones = self.shelves().clear();
        let machine = &self.0.machine;
        let removals = clones.into_iter().map(|warm| async move {
            clone::remove(machine, &warm.name, Some(&warm.server)).await
        });
        futures_util::future::join_all(removals).await;
        self.0.followers.drain().await;
    }

    /// Brings every shelf to its size: removes what is too much, answers with an order of which one more is wanted.
    fn look(&self) -> Option<Order> {
        let machine = &self.0.machine;
        // Before the lock: a volume that hangs holds up nobody who takes one.
        let spare = Spare::read(machine);
        let (now, sizing) = (machine.clock.now(), sizing(&machine.limits));
        let Look { surplus, lacking } = self.shelves().look(now, sizing, &spare);
        self.discard(surplus);
        lacking
    }

    /// Puts a new clone on its shelf; one whose snapshot is the newest no more goes.
    fn put(&self, order: &Order, warm: Warm) {
        let unwanted = self.shelves().put(&order.key(), order, warm);
        self.discard(unwanted.into_iter().collect());
    }

    fn pause(&self, order: &Order) {
        let now = self.0.machine.clock.now();
        self.shelves().pause(&order.key(), now);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a keeper's task, and whatever it was making.
async fn end_keeper(keeper: Option<JoinHandle<()>>) {
    if let Some(keeper) = keeper {
        keeper.abort();
        // It ends as cancelled: that is what was asked.
        let _ = keeper.await;
    }
}

fn sizing(limits: &Limits) -> Sizing {
    Sizing {
        clones_max: usize::try_from(limits.warm_per_source_max).unwrap_or(usize::MAX),
        idle_max: seconds(limits.warm_idle_seconds),
    }
}

fn seconds(seconds: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// Looks after the pool until the engine is gone.
async fn keep(pool: Weak<Inner>, changed: Arc<Notify>) {
    while let Some(inner) = pool.upgrade() {
        let (order, machine) = (Pool(Arc::clone(&inner)).look(), Arc::clone(&inner.machine));
        drop(inner);
        let Some(order) = order else {
            drop(machine);
            // Either way it is time to look again.
            let _ = tokio::time::timeout(LOOK_INTERVAL, changed.notified()).await;
            continue;
        };
        tokio::time::sleep(QUIET_TIME).await;
        let name = CloneName::random();
        let Some(inner) = pool.upgrade() else { return };
        *lock(&inner.making) = Some(name.clone());
        drop(inner);
        let made = make(&machine, &order, name).await;
        let inner = pool.upgrade();
        if let Some(inner) = &inner {
            lock(&inner.making).take();
        }
        match (inner, made) {
            (Some(inner), Ok(warm)) => Pool(inner).put(&order, warm),
            (None, Ok(warm)) => clone::remove(&machine, &warm.name, Some(&warm.server)).await,
            (inner, Err(error)) => {
                tracing::warn!(snapshot = %order.snapshot, error = chain(&error), "cannot keep a clone warm");
                if let Some(inner) = inner {
                    Pool(inner).pause(&order);
                }
            }
        }
    }
}

async fn make(machine: &Machine, order: &Order, name: CloneName) -> Result<Warm, CloneError> {
    let made = try_to_make(machine, order, &name).await;
    if made.is_err() {
        clone::remove(machine, &name, None).await;
    }
    Ok(Warm {
        server: made?,
        name,
        url: order.url.clone(),
    })
}

async fn try_to_make(
    machine: &Machine,
    order: &Order,
    name: &CloneName,
) -> Result<Server, CloneError> {
    clone::make_files(machine, name, &order.snapshot, order.size).await?;
    let server = clone::run_server(machine, name, &order.image).await?;
    let url = order.url();
    if !order.image.admits_user_of(&url) {
        clone::let_application_in(machine, name, &order.image, &url).await?;
    }
    clone::warm_up(machine, name, &order.image).await;
    Ok(server)
}
