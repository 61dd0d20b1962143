//! The snapshots by name: the newest of a key, those that somebody holds, and the end of the others.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::engine_api::Freshness;
use model::{ByteSize, PgMajor, Secret};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{BaseError, Bases};
use crate::base::SnapshotName;
use crate::base::copy::CopiedBase;
use crate::base::moment::{Held, Moment};
use crate::branch::record::Spec;
use crate::catalogue::Record;
use crate::clock::moved;
use crate::machine::Machine;
use crate::volume::remove_tree;

/// How often bases are looked over for idle ones at least; where they are kept for less than four of it, more often.
const IDLE_LOOK_INTERVAL: Duration = Duration::from_secs(600);

/// How often at most.
const IDLE_LOOK_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// How far a journaled time of last use may lie behind: a write to the disk each time would cost more than it tells.
const LAST_USED_PRECISION: SignedDuration = SignedDuration::from_mins(5);

/// How often free space is looked at while a filesystem gives back what was removed, how often it must not have grown, and how
/// long that is done.
const GIVEN_BACK_PAUSE: Duration = Duration::from_millis(50);
const GIVEN_BACK_LOOKS: u32 = 4;
const GIVEN_BACK_MAX: Duration = Duration::from_secs(5);

/// What is kept of a base.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SnapshotRecord {
    pub(super) name: SnapshotName,
    pub(super) copied: CopiedBase,
    /// By which connection string it was read: whoever has it may have the data without asking the source again.
    pub(super) url: Secret,
    pub(super) last_used: Timestamp,
    /// What it holds for certain, where it was taken of a base that follows its source.
    #[serde(default)]
    pub(super) held: Option<Held>,
}

impl Record for SnapshotRecord {
    const TABLE: &'static str = "bases";

    fn key(&self) -> String {
        self.name.to_string()
    }
}

impl SnapshotRecord {
    /// The machine's clock has jumped: tells when it was used by it from here on. Its data may only grow older by a jump:
    /// one ahead may be time that this machine has not seen, such as that of a virtual one which stood still.
    pub fn follow_clock(&mut self, jump: SignedDuration) {
        self.last_used = moved(self.last_used, jump);
        if jump.is_negative() {
            self.copied.taken_at = moved(self.copied.taken_at, jump);
        }
    }
}

/// What those who hold a snapshot have in common.
#[derive(Debug, Default)]
pub(super) struct Hold {
    is_over: AtomicBool,
}

/// Keeps a base from being dropped for as long as it lives.
#[derive(Debug, Clone)]
pub struct SnapshotPin(Arc<Hold>);

impl SnapshotPin {
    /// Whether nothing more is to be made of it: what it was taken of is gone, and nobody will ask for it again.
    pub fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::Relaxed)
    }
}

/// A base as a request gets it.
#[derive(Debug)]
pub struct FreshSnapshot {
    /// Its name.
    pub name: SnapshotName,
    /// What was copied.
    pub copied: CopiedBase,
    /// How it is known to be fresh.
    pub freshness: Freshness,
    /// Keeps it.
    pub pin: SnapshotPin,
}

#[derive(Debug)]
pub(super) struct Known {
    record: SnapshotRecord,
    /// What the journal knows of its last use.
    journaled_use: Timestamp,
    pin: Arc<Hold>,
}

impl Known {
    pub(super) fn new(record: SnapshotRecord) -> Self {
        Self {
            journaled_use: record.last_used,
            record,
            pin: Arc::default(),
        }
    }

    fn is_over(&self) -> bool {
        self.pin.is_over.load(Ordering::Relaxed)
    }

    fn pinned(&self) -> (SnapshotRecord, SnapshotPin) {
        (self.record.clone(), SnapshotPin(Arc::clone(&self.pin)))
    }
}

/// A removal that is under way, for as long as it lives.
struct Going(Arc<watch::Sender<usize>>);

impl Going {
    fn begin(going_tx: &Arc<watch::Sender<usize>>) -> Self {
        going_tx.send_modify(|going| *going += 1);
        Self(Arc::clone(going_tx))
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.0.send_modify(|going| *going -= 1);
    }
}

/// What decides whether a base is superseded.
struct Entry<'a> {
    name: &'a SnapshotName,
    major: PgMajor,
    is_over: bool,
    size: ByteSize,
}

fn superseded(entries: &[Entry<'_>]) -> (usize, ByteSize) {
    let is_superseded = |entry: &&Entry<'_>| {
        let is_newer = |other: &Entry<'_>| {
            other.name.key() == entry.name.key()
                && other.major == entry.major
                && other.name.number() > entry.name.number()
        };
        entry.is_over || entries.iter().any(is_newer)
    };
    let sizes: Vec<u64> = entries
        .iter()
        .filter(is_superseded)
        .map(|entry| entry.size.0)
        .collect();
    (sizes.len(), ByteSize(sizes.iter().sum()))
}

impl Bases {
    /// How many bases there are.
    pub fn count(&self) -> usize {
        self.known().len()
    }

    /// How many bases are not the newest of what they are copies of, and the sizes of their files together.
    pub fn superseded(&self) -> (usize, ByteSize) {
        let known = self.known();
        let entries = known.values().map(|known| Entry {
            name: &known.record.name,
            major: known.record.copied.major,
            is_over: known.is_over(),
            size: known.record.copied.size_bytes,
        });
        superseded(&entries.collect::<Vec<_>>())
    }

    /// Keeps a base by name; none when it is gone.
    pub fn pin(&self, name: &SnapshotName) -> Option<SnapshotPin> {
        self.known().get(name).map(|known| known.pinned().1)
    }

    /// The newest snapshot whose servers have the version that `spec` asks for.
    pub(super) fn newest(&self, key: &str, spec: &Spec) -> Option<(SnapshotRecord, SnapshotPin)> {
        self.newest_of(key, |copied| {
            copied.major == spec.version.unwrap_or(copied.source_major)
        })
    }

    pub(super) fn newest_of(
        &self,
        key: &str,
        is_wanted: impl Fn(&CopiedBase) -> bool,
    ) -> Option<(SnapshotRecord, SnapshotPin)> {
        let known = self.known();
        let of_key = known
            .values()
            .filter(|known| known.record.name.key() == key && is_wanted(&known.record.copied));
        let newest = of_key.max_by_key(|known| known.record.name.number());
        newest.map(Known::pinned)
    }

    /// The newest snapshot of a base that follows, where it holds everything that was committed before `now`.
    pub(super) fn covering(
        &self,
        key: &str,
        now: &Moment,
    ) -> Option<(SnapshotRecord, SnapshotPin)> {
        let mut known = self.known();
        let of_key = known
            .values_mut()
            .filter(|known| known.record.name.key() == key);
        let newest = of_key.max_by_key(|known| known.record.name.number())?;
        let held = newest.record.held.as_mut()?;
        held.covers(now).then(|| newest.pinned())
    }

    /// The name of the next snapshot of a key: none that anything on the disk may have.
    pub(super) fn next_name(&self, key: &str) -> SnapshotName {
        let known = self.known();
        let leaving = self.leaving();
        let names = known.keys().chain(leaving.iter());
        let numbers = names.filter(|name| name.key() == key);
        let newest = numbers.map(SnapshotName::number).max();
        SnapshotName::new(key, newest.unwrap_or(0) + 1)
    }

    /// Gives what stands under its final name to whoever asks from here on.
    pub(super) async fn publish(
        &self,
        record: SnapshotRecord,
        freshness: Freshness,
    ) -> Result<FreshSnapshot, BaseError> {
        self.machine().catalogue.put(&record).await?;
        let known = Known::new(record.clone());
        let (_, pin) = known.pinned();
        self.known().insert(record.name.clone(), known);
        Ok(FreshSnapshot {
            name: record.name,
            copied: record.copied,
            freshness,
            pin,
        })
    }

    /// A snapshot that is used again.
    pub(super) async fn reuse(
        &self,
        (record, pin): (SnapshotRecord, SnapshotPin),
        freshness: Freshness,
    ) -> Result<FreshSnapshot, BaseError> {
        let record = self.note_use(record).await?;
        Ok(FreshSnapshot {
            name: record.name,
            copied: record.copied,
            freshness,
            pin,
        })
    }

    /// Journals that a snapshot is in use, as seldom as its idle time allows.
    async fn note_use(&self, mut record: SnapshotRecord) -> Result<SnapshotRecord, BaseError> {
        let machine = self.machine();
        let now = machine.clock.now();
        record.last_used = now;
        let is_due = self.known().get_mut(&record.name).is_some_and(|known| {
            known.record.last_used = now;
            now.duration_since(known.journaled_use) >= LAST_USED_PRECISION
        });
        if is_due {
            machine.catalogue.put(&record).await?;
            if let Some(known) = self.known().get_mut(&record.name) {
                known.journaled_use = now;
            }
        }
        Ok(record)
    }

    /// Drops what nobody holds of the snapshots like `newest`, but for the newest `kept`. Their files go in the background:
    /// whoever asked for the newest one need not wait for thousands of them.
    pub(super) fn drop_older(&self, newest: &FreshSnapshot, kept: u64) {
        let FreshSnapshot { name, copied, .. } = newest;
        let is_older = |record: &SnapshotRecord| {
            record.name.key() == name.key()
                && record.name.number().saturating_add(kept) <= name.number()
                && record.copied.major == copied.major
        };
        let names = self.take_unpinned(is_older);
        drop(self.begin_to_remove(names));
    }

    fn leaving(&self) -> MutexGuard<'_, BTreeSet<SnapshotName>> {
        self.0
            .leaving
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that nothing more is to be made of the snapshots that `picks` names: they go once nobody holds them.
    pub(super) fn end_of(&self, picks: impl Fn(&SnapshotRecord) -> bool) {
        for known in self.known().values().filter(|known| picks(&known.record)) {
            known.pin.is_over.store(true, Ordering::Relaxed);
        }
    }

    /// Drops every snapshot that nobody holds, for somebody who finds no room; answers whether any has gone meanwhile.
    pub async fn make_room(&self) -> bool {
        let mut going = self.0.going_tx.subscribe();
        let others_go = *going.borrow_and_update() > 0;
        let dropped = self.drop_unpinned(|_| true).await;
        // What others began to remove is room as well. The sender is our own.
        drop(going.wait_for(|going| *going == 0).await);
        let has_dropped = others_go || dropped > 0;
        if has_dropped {
            self.wait_until_given_back().await;
        }
        has_dropped
    }

    /// Waits while the filesystem still gives back what was removed, which XFS does behind its removal (its `inodegc`).
    async fn wait_until_given_back(&self) {
        let volume = self.machine().layout.volume();
        let free = || crate::volume::writable_space(&volume).map_or(0, |free| free.0);
        let grows = async {
            let (mut last, mut still) = (free(), 0);
            while still < GIVEN_BACK_LOOKS {
                tokio::time::sleep(GIVEN_BACK_PAUSE).await;
                let now = free();
                still = if now > last { 0 } else { still + 1 };
                last = now;
            }
        };
        // Whoever needs the room asks for it next, and says what is missing.
        tokio::time::timeout(GIVEN_BACK_MAX, grows).await.ok();
    }

    /// Drops the bases that nobody holds and `unwanted` picks, or that are over; answers how many, once they are gone. Dropping the
    /// future leaves the removal to go on.
    pub(super) async fn drop_unpinned(&self, unwanted: impl Fn(&SnapshotRecord) -> bool) -> usize {
        let names = self.take_unpinned(unwanted);
        let count = names.len();
        // It ends in any case, and tells of its errors itself.
        let _ended = self.begin_to_remove(names).await;
        count
    }

    /// Gives nobody any more what nobody holds and `unwanted` picks, or what is over.
    fn take_unpinned(&self, unwanted: impl Fn(&SnapshotRecord) -> bool) -> Vec<SnapshotName> {
        let mut known = self.known();
        let drop = |known: &Known| {
            let is_unwanted = known.is_over() || unwanted(&known.record);
            Arc::strong_count(&known.pin) == 1 && is_unwanted
        };
        let names: Vec<SnapshotName> = known
            .values()
            .filter(|known| drop(known))
            .map(|known| known.record.name.clone())
            .collect();
        known.retain(|name, _| !names.contains(name));
        self.leaving().extend(names.iter().cloned());
        names
    }

    /// Removes what nobody is given any more. The record goes first: files without one are removed at the next start.
    fn begin_to_remove(&self, names: Vec<SnapshotName>) -> JoinHandle<()> {
        let going = Going::begin(&self.0.going_tx);
        let bases = self.clone();
        self.machine().clearing.spawn(async move {
            let _going = going;
            for name in names {
                match bases.remove(&name).await {
                    Ok(()) => drop(bases.leaving().remove(&name)),
                    // Its name is taken until the next start, which removes it.
                    Err(error) => {
                        tracing::error!(base = %name, %error, "cannot remove a base that nobody uses");
                    }
                }
            }
        })
    }

    async fn remove(&self, name: &SnapshotName) -> Result<(), BaseError> {
        let machine: &Machine = self.machine();
        machine
            .catalogue
            .remove::<SnapshotRecord>(&name.to_string())
            .await?;
        let directory = machine.layout.snapshot(name);
        let removed = tokio::task::spawn_blocking(move || remove_tree(&directory)).await;
        removed.unwrap_or(Ok(()))?;
        tracing::info!(base = %name, "dropped");
        Ok(())
    }

    /// Begins to drop bases that no request used for the time that the limits name. Ends with the engine.
    pub fn start_dropping_idle(&self) {
        let weak = Arc::downgrade(&self.0);
        let idle_max = Duration::from_secs(self.machine().limits.base_idle_seconds);
        let interval = (idle_max / 4).clamp(IDLE_LOOK_INTERVAL_MIN, IDLE_LOOK_INTERVAL);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                let Some(inner) = weak.upgrade() else { return };
                let idle = SignedDuration::from_secs(
                    i64::try_from(inner.machine.limits.base_idle_seconds).unwrap_or(i64::MAX),
                );
                let now = inner.machine.clock.now();
                Bases(inner)
                    .drop_unpinned(|record| now.duration_since(record.last_used) >= idle)
                    .await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_superseded_by_a_newer_one_of_the_same_thing_and_version_or_by_its_end() {
        let [old, new, other, over] = [
            SnapshotName::new("a", 1),
            SnapshotName::new("a", 2),
            SnapshotName::new("b", 1),
            SnapshotName::new("c", 1),
        ];
        let entry = |name, major, is_over, size| Entry {
            name,
            major: PgMajor(major),
            is_over,
            size: ByteSize(size),
        };
        let told = superseded(&[
            entry(&old, 16, false, 1),
            entry(&new, 16, false, 10),
            entry(&other, 16, false, 100),
            entry(&over, 16, true, 1000),
        ]);
        assert_eq!(told, (2, ByteSize(1001)));
        let told = superseded(&[entry(&old, 17, false, 1), entry(&new, 16, false, 10)]);
        assert_eq!(told, (0, ByteSize(0)));
    }

    #[test]
    fn data_grows_no_younger_by_a_jump_of_the_clock() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let copied = CopiedBase {
            position: crate::source::movement::Position::at_snapshot("740:740:"),
            taken_at: at(5000),
            source_major: PgMajor(16),
            major: PgMajor(16),
            database: String::new(),
            owner: String::new(),
            source_user: String::new(),
            roles_without_password: Vec::new(),
            roles_with_verifier: Vec::new(),
            notes: Vec::new(),
            admin_password: Secret::new(""),
            admits: None,
            settings: std::collections::BTreeMap::new(),
            size_bytes: ByteSize(0),
        };
        let mut record = SnapshotRecord {
            name: SnapshotName::new("a", 1),
            copied,
            url: Secret::new(""),
            last_used: at(5500),
            held: None,
        };
        let mut after = |jump| {
            record.follow_clock(SignedDuration::from_secs(jump));
            (record.copied.taken_at, record.last_used)
        };
        // Back: as old as before. Ahead: older, for the machine may have stood still.
        assert_eq!(after(-1000), (at(4000), at(4500)));
        assert_eq!(after(3600), (at(4000), at(8100)));
    }
}
