//! Every base by its name: finds one that holds what was committed before the request, copies one where there is none,
//! drops those that nobody needs.
//!
//! Owns which base is fresh, that one source is copied once at a time, and that nothing half made survives. `copy`
//! does the copying; `source::position` says whether the source has moved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use model::Secret;
use model::engine_api::{CopyProgress, Freshness, SourceCare, SpecView};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};

use super::SnapshotName;
use super::copy::{CopiedBase, CopyError, CopyRequest, DiskBudget, copy};
use crate::branch::record::Spec;
use crate::catalogue::{CatalogueError, Record};
use crate::machine::Machine;
use crate::named_sources::sha256;
use crate::postgres::server::{ServerError, sweep};
use crate::source::contact::Contact;
use crate::source::{SourceAccess, SourceError};
use crate::volume::{VolumeError, free_space, remove_tree, seal};

/// How often bases are looked over for idle ones: a fraction of the shortest sensible idle time.
const IDLE_LOOK_INTERVAL: std::time::Duration = std::time::Duration::from_secs(600);

/// Digits of a snapshot's key: 64 bits tell a machine's few hundred sources apart.
const KEY_DIGITS: usize = 16;

/// How far a journaled time of last use may lie behind: a write to the disk each time would cost more than it tells.
const LAST_USED_PRECISION: SignedDuration = SignedDuration::from_mins(5);

/// Why no fresh base could be had.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// The source could not be asked whether it has moved.
    #[error("cannot ask the source whether it has moved")]
    Ask(#[source] SourceError),
    /// The copy failed.
    #[error("cannot copy the source")]
    Copy(#[source] Box<CopyError>),
    /// Files could not be made, moved or removed.
    #[error("cannot keep the base {name}")]
    Keep {
        /// The base.
        name: SnapshotName,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The volume failed.
    #[error("cannot use the volume")]
    Volume(#[from] VolumeError),
    /// What a copy left running could not be ended.
    #[error("cannot end what a copy left running")]
    Sweep(#[from] ServerError),
    /// The catalogue failed.
    #[error("cannot journal the base")]
    Catalogue(#[from] CatalogueError),
}

impl BaseError {
    /// One thing to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Ask(error) => error.hint(),
            Self::Copy(error) => error.hint(),
            Self::Keep { .. } | Self::Volume(_) | Self::Sweep(_) | Self::Catalogue(_) => None,
        }
    }

    /// Whether dropping other bases could help.
    fn wants_room(&self) -> bool {
        match self {
            Self::Copy(error) => error.wants_room(),
            Self::Volume(error) => error.is_full(),
            Self::Ask(_) | Self::Keep { .. } | Self::Sweep(_) | Self::Catalogue(_) => false,
        }
    }
}

/// What is kept of a base.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SnapshotRecord {
    name: SnapshotName,
    copied: CopiedBase,
    /// By which connection string it was read: whoever has it may have the data without asking the source again.
    url: Secret,
    last_used: Timestamp,
}

impl Record for SnapshotRecord {
    const TABLE: &'static str = "bases";

    fn key(&self) -> String {
        self.name.to_string()
    }
}

/// Keeps a base from being dropped for as long as it lives.
#[derive(Debug, Clone)]
pub struct SnapshotPin(#[expect(dead_code, reason = "its count is what matters")] Arc<()>);

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
struct Known {
    record: SnapshotRecord,
    pin: Arc<()>,
}

/// Requests for copies of the same thing take turns, and all see the progress of the one that copies.
#[derive(Debug)]
struct Family {
    turn: tokio::sync::Mutex<()>,
    contact: Contact,
    progress_tx: watch::Sender<Option<CopyProgress>>,
}

#[derive(Debug)]
struct Inner {
    machine: Arc<Machine>,
    copies: Semaphore,
    known: Mutex<BTreeMap<SnapshotName, Known>>,
    families: Mutex<BTreeMap<String, Arc<Family>>>,
}

/// The store of bases.
#[derive(Debug, Clone)]
pub struct Bases(Arc<Inner>);

/// What a base is a copy of: two specs with the same key can share one. 16 hexadecimal digits.
fn key(spec: &Spec, care: &SourceCare) -> String {
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
        let known = whole
            .map(|record| {
                (
                    record.name.clone(),
                    Known {
                        record,
                        pin: Arc::default(),
                    },
                )
            })
            .collect();
        let copies = Semaphore::new(usize::try_from(machine.limits.copies_max.max(1)).unwrap_or(1));
        Ok(Self(Arc::new(Inner {
            machine,
            copies,
            known: Mutex::new(known),
            families: Mutex::default(),
        })))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<SnapshotName, Known>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn family(&self, key: &str) -> Arc<Family> {
        let mut families = self
            .0
            .families
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let new = || {
            Arc::new(Family {
                turn: tokio::sync::Mutex::default(),
                contact: Contact::default(),
                progress_tx: watch::Sender::new(None),
            })
        };
        Arc::clone(families.entry(key.to_owned()).or_insert_with(new))
    }

    /// How many bases there are.
    pub fn count(&self) -> usize {
        self.known().len()
    }

    /// The progress of the copy that `spec` would wait for.
    pub fn progress(
        &self,
        spec: &Spec,
        care: &SourceCare,
    ) -> watch::Receiver<Option<CopyProgress>> {
        self.family(&key(spec, care)).progress_tx.subscribe()
    }

    /// When the data of the newest snapshot is from that `spec` would be given.
    pub fn newest_taken_at(&self, spec: &Spec, care: &SourceCare) -> Option<Timestamp> {
        let (record, _) = self.newest(&key(spec, care), spec)?;
        Some(record.copied.taken_at)
    }

    /// Keeps a base by name; none when it is gone.
    pub fn pin(&self, name: &SnapshotName) -> Option<SnapshotPin> {
        self.known()
            .get(name)
            .map(|known| SnapshotPin(Arc::clone(&known.pin)))
    }

    /// A base that holds everything committed before this call: the newest one where the source has not moved since,
    /// else a new copy. Calls for the same thing take turns; dropping the future ends its copy and leaves nothing.
    ///
    /// # Errors
    /// [`BaseError`] when the source cannot be asked or copied.
    pub async fn fresh(&self, spec: &Spec, care: &SourceCare) -> Result<FreshSnapshot, BaseError> {
        let key = key(spec, care);
        let family = self.family(&key);
        let access = SourceAccess {
            url: spec.url(),
            database: spec.database.clone(),
            settings: spec.connection_settings.clone(),
        };
        let _turn = family.turn.lock().await;
        if let Some(fresh) = self.young_enough(&key, spec).await? {
            return Ok(fresh);
        }
        if let Some(fresh) = self.unmoved(&key, spec, &access, &family.contact).await? {
            return Ok(fresh);
        }
        let _place = self
            .0
            .copies
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let copied = match self
            .copy(&key, &access, spec, care, &family.progress_tx)
            .await
        {
            Err(error) if error.wants_room() && self.drop_unpinned(|_| true).await > 0 => {
                tracing::warn!(%error, "dropped the bases that nobody uses, and copying again");
                self.copy(&key, &access, spec, care, &family.progress_tx)
                    .await
            }
            result => result,
        };
        family.progress_tx.send_replace(None);
        let fresh = copied?;
        let (name, major) = (&fresh.name, fresh.copied.major);
        let is_older = |record: &SnapshotRecord| {
            record.name.key() == name.key()
                && record.name.number() < name.number()
                && record.copied.major == major
        };
        self.drop_unpinned(is_older).await;
        Ok(fresh)
    }

    /// The newest snapshot whose servers have the version that `spec` asks for.
    fn newest(&self, key: &str, spec: &Spec) -> Option<(SnapshotRecord, SnapshotPin)> {
        let known = self.known();
        let of_key = known.values().filter(|known| {
            let copied = &known.record.copied;
            known.record.name.key() == key
                && copied.major == spec.version.unwrap_or(copied.source_major)
        });
        let newest = of_key.max_by_key(|known| known.record.name.number());
        newest.map(|known| (known.record.clone(), SnapshotPin(Arc::clone(&known.pin))))
    }

    /// The newest snapshot, where the request accepts its age and could read the source itself.
    async fn young_enough(
        &self,
        key: &str,
        spec: &Spec,
    ) -> Result<Option<FreshSnapshot>, BaseError> {
        let (Some(max_age), Some((record, pin))) = (spec.max_age_seconds, self.newest(key, spec))
        else {
            return Ok(None);
        };
        let age = self
            .0
            .machine
            .clock
            .now()
            .duration_since(record.copied.taken_at);
        let max_age = SignedDuration::from_secs(i64::try_from(max_age).unwrap_or(i64::MAX));
        if age > max_age || record.url != spec.url {
            return Ok(None);
        }
        let record = self.note_use(record).await?;
        Ok(Some(FreshSnapshot {
            name: record.name,
            copied: record.copied,
            freshness: Freshness::Accepted,
            pin,
        }))
    }

    async fn unmoved(
        &self,
        key: &str,
        spec: &Spec,
        access: &SourceAccess,
        contact: &Contact,
    ) -> Result<Option<FreshSnapshot>, BaseError> {
        let Some((record, pin)) = self.newest(key, spec) else {
            return Ok(None);
        };
        let position = contact.position(access, self.0.machine.clock).await;
        let position = position.map_err(BaseError::Ask)?;
        if !position.unmoved_since(&record.copied.position) {
            return Ok(None);
        }
        let record = self.note_use(record).await?;
        Ok(Some(FreshSnapshot {
            name: record.name,
            copied: record.copied,
            freshness: Freshness::Unmoved,
            pin,
        }))
    }

    /// Journals that a snapshot is in use, as seldom as its idle time allows.
    async fn note_use(&self, mut record: SnapshotRecord) -> Result<SnapshotRecord, BaseError> {
        let machine = &self.0.machine;
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

    async fn copy(
        &self,
        key: &str,
        access: &SourceAccess,
        spec: &Spec,
        care: &SourceCare,
        progress_tx: &watch::Sender<Option<CopyProgress>>,
    ) -> Result<FreshSnapshot, BaseError> {
        let machine = &self.0.machine;
        let newest = self
            .known()
            .keys()
            .filter(|name| name.key() == key)
            .map(SnapshotName::number)
            .max();
        let name = SnapshotName::new(key, newest.unwrap_or(0) + 1);
        let keep = |source| BaseError::Keep {
            name: name.clone(),
            source,
        };
        // A base that was never journaled may lie there from before a crash.
        let last = machine.layout.snapshot(&name);
        remove_tree(&last)?;
        let making = Making::begin(machine, &name.to_string()).await?;
        let free = free_space(&machine.layout.volume())?;
        let request = CopyRequest {
            access,
            copy: &spec.copy,
            version: spec.version,
            directory: &making.directory,
            socket_dir: &making.socket_dir,
            installations: &machine.installations,
            account: &machine.account,
            disk: DiskBudget {
                free,
                floor: machine.limits.free_floor_bytes,
            },
            duration_max: machine.limits.copy_time_max(),
            prepare: care.prepare.as_ref(),
            rate_max: care.rate_bytes_max,
            size_max: machine.limits.unasked_copy_bytes_max(spec.max_age_seconds),
            clock: machine.clock,
        };
        let copied = match copy(&request, progress_tx).await {
            Ok(copied) => copied,
            Err(error) => {
                // Whoever is told of the failure finds nothing of it.
                making.abandon().await?;
                return Err(BaseError::Copy(Box::new(error)));
            }
        };
        let data = making.directory.join("data");
        let sealed = tokio::task::spawn_blocking(move || seal(&data)).await;
        sealed.map_err(|error| keep(std::io::Error::other(error)))??;
        std::fs::rename(&making.directory, &last).map_err(keep)?;
        let record = SnapshotRecord {
            name: name.clone(),
            copied: copied.clone(),
            url: spec.url.clone(),
            last_used: machine.clock.now(),
        };
        machine.catalogue.put(&record).await?;
        let pin = Arc::new(());
        self.known().insert(
            name.clone(),
            Known {
                record,
                pin: Arc::clone(&pin),
            },
        );
        Ok(FreshSnapshot {
            name,
            copied,
            freshness: Freshness::Copied,
            pin: SnapshotPin(pin),
        })
    }

    /// Drops the bases that nobody holds and `unwanted` picks; answers how many. The record goes first: files
    /// without one are removed at the next start.
    async fn drop_unpinned(&self, unwanted: impl Fn(&SnapshotRecord) -> bool) -> usize {
        let names: Vec<SnapshotName> = {
            let mut known = self.known();
            let drop =
                |known: &Known| Arc::strong_count(&known.pin) == 1 && unwanted(&known.record);
            let names: Vec<SnapshotName> = known
                .values()
                .filter(|known| drop(known))
                .map(|known| known.record.name.clone())
                .collect();
            known.retain(|name, _| !names.contains(name));
            names
        };
        for name in &names {
            if let Err(error) = self.remove(name).await {
                tracing::error!(base = %name, %error, "cannot remove a base that nobody uses");
            }
        }
        names.len()
    }

    async fn remove(&self, name: &SnapshotName) -> Result<(), BaseError> {
        self.0
            .machine
            .catalogue
            .remove::<SnapshotRecord>(&name.to_string())
            .await?;
        let directory = self.0.machine.layout.snapshot(name);
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

/// A directory in which something is put together. Dropping it ends what still runs there and removes it.
#[derive(Debug)]
struct Making {
    directory: PathBuf,
    socket_dir: PathBuf,
}

impl Making {
    async fn begin(machine: &Machine, name: &str) -> Result<Self, BaseError> {
        let making = Self {
            directory: machine.layout.making_of(name),
            socket_dir: machine.layout.socket_dir(name),
        };
        clear(&making.directory).await?;
        std::fs::create_dir(&making.directory).map_err(|source| VolumeError::File {
            what: "make",
            path: making.directory.clone(),
            source,
        })?;
        Ok(making)
    }

    /// What dropping it does, done when this returns.
    async fn abandon(self) -> Result<(), BaseError> {
        remove_tree(&self.socket_dir)?;
        clear(&self.directory).await
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let (directory, socket_dir) = (self.directory.clone(), self.socket_dir.clone());
        tokio::spawn(async move {
            let removed = remove_tree(&socket_dir).map_err(BaseError::Volume);
            if let Err(error) = removed.and(clear(&directory).await) {
                tracing::error!(directory = %directory.display(), %error, "cannot clear what a copy left");
            }
        });
    }
}

/// Ends every server that works in `directory` and removes it.
///
/// # Errors
/// [`BaseError::Sweep`] or [`BaseError::Volume`].
pub async fn clear(directory: &Path) -> Result<(), BaseError> {
    sweep(&directory.join("data")).await?;
    let directory = directory.to_owned();
    let removed = tokio::task::spawn_blocking(move || remove_tree(&directory)).await;
    removed.unwrap_or(Ok(()))?;
    Ok(())
}
