//! Every base by its name: finds one that holds what was committed before the request, copies one where there is none,
//! drops those that nobody needs.
//!
//! Owns which base is fresh, that one source is copied once at a time, and that nothing half made survives. `copy`
//! does the copying; `source::movement` says whether the source has moved. Its parts: `snapshots` (those that stand),
//! `of_living` (what is made of bases that follow their sources), `making` (what is not whole yet), `error`.

mod error;
mod making;
mod of_living;
mod snapshots;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use model::ByteSize;
use model::engine_api::{BaseMode, CopyProgress, Freshness, SourceCare, SpecView};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub(crate) use error::BEHIND_HINT;
pub use error::BaseError;
pub use making::{Making, clear};
pub use of_living::{Fresh, Moved, Newest};
pub use snapshots::{FreshSnapshot, SnapshotPin, SnapshotRecord};

use super::SnapshotName;
use super::copy::{CopyRequest, DiskBudget, WaitsForOthers, copy};
use super::living::{BaseName, Entry, LivingBases, Phase};
use super::physical::Host;
use crate::branch::record::Spec;
use crate::catalogue::CatalogueError;
use crate::machine::Machine;
use crate::named_sources::{Meant, sha256};
use crate::source::SourceAccess;
use crate::source::contact::Contact;
use crate::source::gateways::Gateways;
use crate::volume::{Motion, VolumeError, remove_tree, seal, writable_space};
use snapshots::Known;

/// Digits of a snapshot's key: 64 bits tell a machine's few hundred sources apart.
const KEY_DIGITS: usize = 16;

/// Dumps of one thing that are kept: the next one holds whatever the last one did.
const DUMPS_KEPT: u64 = 1;

/// Requests for copies of the same thing take turns, and all see the progress of the one that copies.
#[derive(Debug, Default)]
struct Family {
    turn: tokio::sync::Mutex<()>,
    contact: Contact,
    progress_tx: watch::Sender<Option<CopyProgress>>,
}

/// Whether somebody has a turn, waits for one, or follows its progress.
fn is_in_use(family: &Arc<Family>) -> bool {
    Arc::strong_count(family) > 1 || family.progress_tx.receiver_count() > 0
}

#[derive(Debug)]
struct Inner {
    machine: Arc<Machine>,
    copies: Arc<Semaphore>,
    living: LivingBases,
    gateways: Gateways,
    host: Host,
    known: Mutex<BTreeMap<SnapshotName, Known>>,
    /// Of no use any more, and not yet gone from the disk: no other snapshot may have such a name. Locked after `known`.
    leaving: Mutex<BTreeSet<SnapshotName>>,
    /// How many removals are under way.
    going_tx: Arc<watch::Sender<usize>>,
    families: Mutex<BTreeMap<String, Arc<Family>>>,
}

/// The store of bases.
#[derive(Debug, Clone)]
pub struct Bases(Arc<Inner>);

/// What a dump is a copy of: two specs with the same key can share one. 16 hexadecimal digits.
pub(crate) fn key(spec: &Spec, care: &SourceCare) -> String {
    // The user decides what can be read, so another user's copy is another base. The password decides nothing. What was
    // prepared otherwise is another copy. Versions share a key: who names the source's own means the same copy.
    let view = SpecView {
        version: None,
        ..spec.view()
    };
    let view = serde_json::to_string(&view).expect("a spec is plain data");
    let prepare = care.prepare.as_ref().map(|sql| sha256(sql.reveal()));
    let mut digest = sha256(&format!("{view}{}", prepare.unwrap_or_default()));
    digest.truncate(KEY_DIGITS);
    digest
}

/// Whether data of `taken_at` is at most so old. Nobody knows how old is what was taken in the future, by a clock that was
/// set back since.
fn is_within(taken_at: Timestamp, now: Timestamp, max_age_seconds: u64) -> bool {
    let max_age = SignedDuration::from_secs(i64::try_from(max_age_seconds).unwrap_or(i64::MAX));
    let age = now.duration_since(taken_at);
    !age.is_negative() && age <= max_age
}

impl Bases {
    /// The bases of the catalogue whose files are there.
    ///
    /// # Errors
    /// [`CatalogueError`] when it cannot be read.
    pub fn open(machine: Arc<Machine>) -> Result<Self, CatalogueError> {
        let records = machine.catalogue.all::<SnapshotRecord>()?;
        let whole = records
            .into_iter()
            .filter(|record| machine.layout.snapshot(&record.name).is_dir());
        let now = machine.clock.now();
        let known = whole.map(|mut record| {
            // The clock may have been set back: nobody has used it in the future.
            record.last_used = record.last_used.min(now);
            (record.name.clone(), Known::new(record))
        });
        let known = known.collect();
        let places = usize::try_from(machine.limits.copies_max.max(1)).unwrap_or(1);
        let host = host(&machine);
        let gateways = Gateways::new(machine.layout.sockets());
        Ok(Self(Arc::new(Inner {
            machine,
            copies: Arc::new(Semaphore::new(places)),
            living: LivingBases::default(),
            gateways,
            host,
            known: Mutex::new(known),
            families: Mutex::default(),
            leaving: Mutex::default(),
            going_tx: Arc::new(watch::Sender::new(0)),
        })))
    }

    fn machine(&self) -> &Machine {
        &self.0.machine
    }

    /// The bases that follow their sources.
    pub fn living(&self) -> &LivingBases {
        &self.0.living
    }

    /// The ways to sources that only somebody else's network reaches.
    pub fn gateways(&self) -> &Gateways {
        &self.0.gateways
    }

    /// What this machine has for bases that follow.
    pub fn host(&self) -> &Host {
        &self.0.host
    }

    /// Waits for a place among the sources that are copied at once, and says so as long as there is none.
    pub async fn copy_place(
        &self,
        progress_tx: &watch::Sender<Option<CopyProgress>>,
    ) -> OwnedSemaphorePermit {
        if let Ok(place) = Arc::clone(&self.0.copies).try_acquire_owned() {
            return place;
        }
        let machine = self.machine();
        let copies_max = machine.limits.copies_max.max(1);
        let _told = WaitsForOthers::tell(progress_tx, copies_max, machine.clock.now());
        let place = Arc::clone(&self.0.copies).acquire_owned().await;
        place.expect("the semaphore is never closed")
    }

    /// What the volume has, or the filesystem that its file is in, whichever is less, without what is promised to others.
    ///
    /// # Errors
    /// [`BaseError::Volume`].
    pub fn disk(&self) -> Result<DiskBudget, BaseError> {
        let free = writable_space(&self.machine().layout.volume())?;
        let promised = self.machine().ledger.promised();
        Ok(DiskBudget {
            free: ByteSize(free.0.saturating_sub(promised.0)),
            floor: self.machine().limits.free_floor_bytes,
        })
    }

    /// How the source of a spec is reached.
    fn access(&self, spec: &Spec) -> Result<SourceAccess, BaseError> {
        let url = spec.url();
        let gateway = spec.proxy.as_ref().map(|proxy| {
            let opened = self.0.gateways.to(proxy, &url);
            opened.map_err(|error| BaseError::Ask(error.into()))
        });
        Ok(SourceAccess {
            gateway: gateway.transpose()?,
            url,
            database: spec.database.clone(),
            settings: spec.connection_settings.clone(),
        })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<SnapshotName, Known>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn family(&self, key: &str) -> Arc<Family> {
        let families = || {
            let families = self.0.families.lock();
            families.unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(family) = families().get(key) {
            return Arc::clone(family);
        }
        // One more: those that nobody knows go, so that there are never more than copies and requests.
        let copied: BTreeSet<String> = {
            let known = self.known();
            known.keys().map(|name| name.key().to_owned()).collect()
        };
        let mut families = families();
        families.retain(|key, family| copied.contains(key) || is_in_use(family));
        Arc::clone(families.entry(key.to_owned()).or_default())
    }

    /// The progress of the copy that `spec` would wait for.
    pub fn progress(&self, spec: &Spec, meant: &Meant) -> watch::Receiver<Option<CopyProgress>> {
        let spec = &*meant.spec(spec);
        match self
            .entry_of(spec, meant)
            .map(|entry| (entry.phase(), entry))
        {
            Some((Phase::Looking | Phase::Seeding { .. }, entry)) => entry.progress_tx.subscribe(),
            Some((Phase::Lives(_) | Phase::Dumped { .. } | Phase::Over, _)) | None => {
                self.family(&key(spec, &meant.care)).progress_tx.subscribe()
            }
        }
    }

    /// When the data of the newest snapshot is from that `spec` would be given.
    pub fn newest_taken_at(&self, spec: &Spec, meant: &Meant) -> Option<Timestamp> {
        let spec = &*meant.spec(spec);
        let key = match self.entry_of(spec, meant).map(|entry| entry.phase()) {
            Some(Phase::Lives(living)) => living.snapshot_key(&meant.care),
            Some(Phase::Looking | Phase::Seeding { .. } | Phase::Dumped { .. } | Phase::Over)
            | None => key(spec, &meant.care),
        };
        let (record, _) = self.newest(&key, spec)?;
        Some(record.copied.taken_at)
    }

    /// The base that follows the source that `spec` means, where a branch of `spec` could be one of it.
    fn entry_of(&self, spec: &Spec, meant: &Meant) -> Option<Arc<Entry>> {
        let name = meant.name.as_ref()?;
        let entry = self.living().get(name)?;
        of_living::is_of_everything(spec).then_some(entry)
    }

    /// What holds everything committed before this call: the newest snapshot where the source has not moved since; else
    /// where its base follows it, that base, and where not, a new copy. Calls for the same copy take turns; dropping the
    /// future ends its copy and leaves nothing.
    ///
    /// # Errors
    /// [`BaseError`] when the source cannot be asked or copied; [`BaseError::Over`] when it means something else by now.
    pub async fn fresh(&self, spec: &Spec, meant: &Meant) -> Result<Fresh, BaseError> {
        let care = &meant.care;
        if let Some(entry) = self.entry_of(spec, meant) {
            // Whoever takes an older copy need not wait for a seed.
            if spec.max_age_seconds.is_some() {
                let copied = self.proven(spec, meant).await?;
                if let Some(fresh) = self.young_enough(&key(&copied, care), &copied).await? {
                    return Ok(Fresh::Snapshot(fresh));
                }
            }
            match entry.settled().await {
                Phase::Lives(living)
                    if spec
                        .version
                        .is_none_or(|major| major == living.base.major()) =>
                {
                    return self.of_living(&living, spec, meant).await;
                }
                Phase::Dumped { reasons, holds_off } if care.mode == BaseMode::Physical => {
                    return Err(BaseError::NotFollowed {
                        reasons,
                        is_copied_again: holds_off,
                    });
                }
                Phase::Over => return Err(BaseError::Over),
                Phase::Lives(_) | Phase::Dumped { .. } => {}
                Phase::Looking | Phase::Seeding { .. } => {}
            }
        }
        Ok(Fresh::Snapshot(self.dumped(spec, meant).await?))
    }

    /// What is copied for a request for `spec`. Where that is read by another URL than the request's, such as past a pooler,
    /// the request's own must lead somewhere, with its password.
    async fn proven<'a>(&self, spec: &'a Spec, meant: &Meant) -> Result<Cow<'a, Spec>, BaseError> {
        if meant.url.is_some() {
            let asked = self.access(spec)?.connect().await;
            asked.map_err(|error| BaseError::Ask(error.into()))?;
        }
        Ok(meant.spec(spec))
    }

    /// A dump that holds everything committed before this call.
    async fn dumped(&self, spec: &Spec, meant: &Meant) -> Result<FreshSnapshot, BaseError> {
        let care = &meant.care;
        let spec = &*self.proven(spec, meant).await?;
        let key = key(spec, care);
        let family = self.family(&key);
        let access = self.access(spec)?;
        let mark = family.contact.mark();
        let _turn = family.turn.lock().await;
        if let Some(fresh) = self.young_enough(&key, spec).await? {
            return Ok(fresh);
        }
        if let Some(told) = family.contact.silence_since(mark, &access) {
            return Err(BaseError::Ask(told));
        }
        if let Some(fresh) = self.unmoved(&key, spec, &access, &family.contact).await? {
            return Ok(fresh);
        }
        let _place = self.copy_place(&family.progress_tx).await;
        let copied = match self
            .copy(&key, &access, spec, care, &family.progress_tx)
            .await
        {
            Err(error) if error.wants_room() && self.make_room().await => {
                tracing::warn!(%error, "dropped the bases that nobody uses, and copying again");
                self.copy(&key, &access, spec, care, &family.progress_tx)
                    .await
            }
            result => result,
        };
        family.progress_tx.send_replace(None);
        let fresh = copied.inspect_err(|error| {
            if let Some(error) = error.of_source() {
                family.contact.note(&access, error);
            }
        })?;
        self.drop_older(&fresh, DUMPS_KEPT);
        Ok(fresh)
    }

    /// The newest snapshot, where the request accepts its age and could read the source itself.
    async fn young_enough(
        &self,
        key: &str,
        spec: &Spec,
    ) -> Result<Option<FreshSnapshot>, BaseError> {
        let (Some(max_age), Some(newest)) = (spec.max_age_seconds, self.newest(key, spec)) else {
            return Ok(None);
        };
        let record = &newest.0;
        let now = self.0.machine.clock.now();
        if !is_within(record.copied.taken_at, now, max_age) || record.url != spec.url {
            return Ok(None);
        }
        Ok(Some(self.reuse(newest, Freshness::Accepted).await?))
    }

    async fn unmoved(
        &self,
        key: &str,
        spec: &Spec,
        access: &SourceAccess,
        contact: &Contact,
    ) -> Result<Option<FreshSnapshot>, BaseError> {
        let Some(newest) = self.newest(key, spec) else {
            return Ok(None);
        };
        let position = contact.position(access, self.0.machine.clock).await;
        let position = position.map_err(BaseError::Ask)?;
        if !position.unmoved_since(&newest.0.copied.position) {
            return Ok(None);
        }
        Ok(Some(self.reuse(newest, Freshness::Unmoved).await?))
    }

    async fn copy(
        &self,
        key: &str,
        access: &SourceAccess,
        spec: &Spec,
        care: &SourceCare,
        progress_tx: &watch::Sender<Option<CopyProgress>>,
    ) -> Result<FreshSnapshot, BaseError> {
        let machine = &self.0.machine;
        let name = self.next_name(key);
        // A base that was never journaled may lie there from before a crash.
        let last = machine.layout.snapshot(&name);
        remove_tree(&last)?;
        // A name of its own: what a copy before this one left may still be being cleared.
        let making = Making::begin(machine, BaseName::random().as_str()).await?;
        let data = making.directory.join("data");
        make_data(machine, data.clone()).await?;
        let request = CopyRequest {
            access,
            copy: &spec.copy,
            version: spec.version,
            within: None,
            directory: &making.directory,
            socket_dir: &making.socket_dir,
            installations: &machine.installations,
            account: &machine.account,
            disk: self.disk()?,
            burden: machine.limits.copy_burden(),
            prepare: care.prepare.as_ref(),
            rate_max: care.rate_bytes_max,
            readers_max: machine.limits.copy_readers_max,
            size_max: machine.limits.unasked_copy_bytes_max(spec.max_age_seconds),
            clock: machine.clock,
        };
        let _promise = machine.ledger.promise_copy(progress_tx.subscribe());
        let copied = match machine.before_the_end(copy(&request, progress_tx)).await {
            None => return making.give_up().await,
            Some(Ok(copied)) => copied,
            Some(Err(error)) => {
                // Whoever is told of the failure finds nothing of it.
                making.abandon().await?;
                return Err(BaseError::Copy(Box::new(error)));
            }
        };
        finish(&name, &making, last).await?;
        let record = SnapshotRecord {
            name: name.clone(),
            copied,
            url: spec.url.clone(),
            last_used: machine.clock.now(),
            held: None,
        };
        self.publish(record, Freshness::Copied).await
    }
}

/// Makes a data directory on a thread that may block.
///
/// # Errors
/// [`VolumeError`].
pub async fn make_data(machine: &Machine, data: PathBuf) -> Result<(), VolumeError> {
    let volume = Arc::clone(&machine.volume);
    let made = tokio::task::spawn_blocking(move || volume.make_data(&data)).await;
    made.expect("making a directory does not panic")
}

/// Seals a snapshot that is whole and gives it its place, on a thread that may block.
async fn finish(name: &SnapshotName, making: &Making, last: PathBuf) -> Result<(), BaseError> {
    let directory = making.directory.clone();
    let placed = tokio::task::spawn_blocking(move || {
        seal(&directory.join("data"))?;
        Ok::<_, VolumeError>(place(&directory, &last))
    });
    let placed = placed.await.expect("work on files does not panic")?;
    placed.map_err(|source| BaseError::Keep {
        name: name.clone(),
        source,
    })
}

/// Gives what is whole its final name, which is as much of it as the bytes are: it is on the disk when this returns.
fn place(making: &Path, last: &Path) -> std::io::Result<()> {
    std::fs::rename(making, last)?;
    let directory = last.parent().unwrap_or(Path::new("/"));
    std::fs::File::open(directory)?.sync_all()
}

fn host(machine: &Machine) -> Host {
    let volume = Arc::clone(&machine.volume);
    Host {
        installations: Arc::clone(&machine.installations),
        account: machine.account.clone(),
        clock: machine.clock,
        clone_live: Arc::new(move |from, to, cancel| {
            volume.copy_tree(from, to, Motion::Live, cancel)
        }),
        prepare_time_max: machine.limits.prepare_time_max(),
        stillnesses: Arc::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_in_the_future_is_of_unknown_age() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(is_within(at(100), at(160), 60));
        assert!(!is_within(at(100), at(161), 60));
        assert!(is_within(at(100), at(100), 0));
        // A clock that was a day ahead and was set back since.
        assert!(!is_within(at(86_500), at(100), 60));
        assert!(!is_within(at(86_500), at(100), u64::MAX));
    }

    #[test]
    fn a_family_is_in_use_while_somebody_has_it_or_follows_its_progress() {
        let family = Arc::new(Family::default());
        assert!(!is_in_use(&family));
        let watcher = family.progress_tx.subscribe();
        assert!(is_in_use(&family));
        drop(watcher);
        let turn = Arc::clone(&family);
        assert!(is_in_use(&family));
        drop(turn);
        assert!(!is_in_use(&family));
    }
}
