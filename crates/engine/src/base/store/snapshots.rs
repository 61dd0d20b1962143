//! The snapshots by name: the newest of a key, those that somebody holds, and the end of the others.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use model::Secret;
use model::engine_api::Freshness;
use serde::{Deserialize, Serialize};

use super::{BaseError, Bases};
use crate::base::SnapshotName;
use crate::base::copy::CopiedBase;
use crate::base::moment::{Held, Moment};
use crate::branch::record::Spec;
use crate::catalogue::Record;
use crate::machine::Machine;
use crate::volume::remove_tree;

/// How often bases are looked over for idle ones: a fraction of the shortest sensible idle time.
const IDLE_LOOK_INTERVAL: std::time::Duration = std::time::Duration::from_secs(600);

/// How far a journaled time of last use may lie behind: a write to the disk each time would cost more than it tells.
const LAST_USED_PRECISION: SignedDuration = SignedDuration::from_mins(5);

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
    pin: Arc<Hold>,
}

impl Known {
    pub(super) fn new(record: SnapshotRecord) -> Self {
        Self {
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

impl Bases {
    /// How many bases there are.
    pub fn count(&self) -> usize {
        self.known().len()
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
        if now.duration_since(record.last_used) < LAST_USED_PRECISION {
            return Ok(record);
        }
        record.last_used = now;
        machine.catalogue.put(&record).await?;
        if let Some(known) = self.known().get_mut(&record.name) {
            known.record.last_used = now;
        }
        Ok(record)
    }

    /// Drops what nobody holds of the snapshots like `newest`, but for the newest `kept`.
    pub(super) async fn drop_older(&self, newest: &FreshSnapshot, kept: u64) {
        let FreshSnapshot { name, copied, .. } = newest;
        let is_older = |record: &SnapshotRecord| {
            record.name.key() == name.key()
                && record.name.number().saturating_add(kept) <= name.number()
                && record.copied.major == copied.major
        };
        self.drop_unpinned(is_older).await;
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

    /// Drops the bases that nobody holds and `unwanted` picks, or that are over; answers how many, once they are gone. The record goes
    /// first: files without one are removed at the next start. Dropping the future leaves the removal to go on.
    pub(super) async fn drop_unpinned(&self, unwanted: impl Fn(&SnapshotRecord) -> bool) -> usize {
        let names: Vec<SnapshotName> = {
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
        };
        let count = names.len();
        let bases = self.clone();
        let removal = async move {
            for name in names {
                match bases.remove(&name).await {
                    Ok(()) => drop(bases.leaving().remove(&name)),
                    // Its name is taken until the next start, which removes it.
                    Err(error) => {
                        tracing::error!(base = %name, %error, "cannot remove a base that nobody uses");
                    }
                }
            }
        };
        // It ends in any case, and tells of its errors itself.
        let _ended = self.machine().clearing.spawn(removal).await;
        count
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
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(IDLE_LOOK_INTERVAL).await;
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
