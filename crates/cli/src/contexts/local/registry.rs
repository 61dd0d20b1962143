//! The register of targets: `<data dir>/local/<namespace>/<kind>/<name>/`, a folder a target.
//!
//! ```text
//!   lock         held by the target's keeper while it lives, and by whoever forgets the target
//!   target.json  who runs, or how it ended; replaced as a whole
//!   output.log   what the process wrote, standard output and error together
//! ```
//!
//! Owns the files and their names. Everything is the owner's alone (0700, 0600). Arguments and environment are never
//! stored: they may hold secrets.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use model::{Namespace, TargetKind, TargetRef};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use supervisor::Process;

use super::companions::PublishedPort;
use super::state::{TargetEnd, TargetState};

/// The version of the record's form. A reader refuses a newer one.
const RECORD_VERSION: u32 = 1;

/// Tells one start of the machine from another (random(4)): pids and start times begin anew with each.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

const LOCK: &str = "lock";
const RECORD: &str = "target.json";
const LOG: &str = "output.log";

/// The register cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// A file or folder of it cannot be read.
    #[error("cannot read {path:?}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file or folder of it cannot be written.
    #[error("cannot write {path:?}")]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A record is not what this program writes.
    #[error("cannot understand {path:?}: it is damaged, or another version of bough wrote it")]
    Record {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// What is written down of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// The target, with its container if it was given one.
    pub(super) target: TargetRef,
    /// Its namespace.
    pub(super) namespace: Namespace,
    /// TCP ports that it is to listen on.
    pub(super) ports: Vec<u16>,
    /// The file name of its program.
    pub(super) program: String,
    boot_id: String,
    /// Its keeper.
    pub(super) keeper: RecordedProcess,
    /// The process itself.
    pub(super) process: RecordedProcess,
    /// When it was started.
    pub(super) started_at: Timestamp,
    /// Where it is met, while it runs.
    #[serde(default)]
    pub(super) place: Option<PathBuf>,
    /// Its network.
    #[serde(default)]
    pub(super) network: TargetNetwork,
    /// How it ended, once it has.
    pub(super) end: Option<RecordedEnd>,
}

/// The network that a target is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "network", rename_all = "snake_case")]
pub(crate) enum TargetNetwork {
    /// A namespace of its own.
    Own {
        /// What of this machine leads to its ports.
        published: Vec<PublishedPort>,
    },
    /// This machine's.
    Shared {
        /// Why it has none of its own, unless that was asked for.
        why: Option<String>,
    },
}

impl Default for TargetNetwork {
    fn default() -> Self {
        Self::Shared { why: None }
    }
}

/// A process as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecordedProcess {
    pid: i32,
    start_ticks: u64,
}

/// An end as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecordedEnd {
    /// When it was seen.
    pub(super) at: Timestamp,
    /// How it ended.
    #[serde(flatten)]
    pub(super) end: TargetEnd,
}

impl RecordedProcess {
    /// The process, if it is still that one.
    pub(super) fn identity(self) -> Process {
        Process::from_parts(self.pid, self.start_ticks)
    }
}

impl From<Process> for RecordedProcess {
    fn from(process: Process) -> Self {
        Self {
            pid: process.pid(),
            start_ticks: process.start_ticks(),
        }
    }
}

/// What a keeper knows of its target when it writes the first record.
pub(super) struct Started<'a> {
    /// The target.
    pub(super) target: &'a TargetRef,
    /// Its namespace.
    pub(super) namespace: &'a Namespace,
    /// Its ports.
    pub(super) ports: &'a [u16],
    /// Its program.
    pub(super) program: &'a Path,
    /// Its keeper.
    pub(super) keeper: Process,
    /// Its process.
    pub(super) process: Process,
    /// Where it is met.
    pub(super) place: Option<&'a Path>,
    /// Its network.
    pub(super) network: &'a TargetNetwork,
    /// The time of its start.
    pub(super) at: Timestamp,
}

impl Record {
    /// The record of a target that was just started.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub(super) fn new(started: &Started<'_>) -> Result<Self, RegistryError> {
        let name = started.program.file_name().unwrap_or_default();
        Ok(Self {
            version: RECORD_VERSION,
            target: started.target.clone(),
            namespace: started.namespace.clone(),
            ports: started.ports.to_vec(),
            program: name.to_string_lossy().into_owned(),
            boot_id: boot_id()?,
            keeper: started.keeper.into(),
            process: started.process.into(),
            started_at: started.at,
            place: started.place.map(Path::to_owned),
            network: started.network.clone(),
            end: None,
        })
    }

    /// Whether its network is its own.
    pub(super) fn has_own_network(&self) -> bool {
        matches!(self.network, TargetNetwork::Own { .. })
    }

    /// What the target is doing at this moment.
    pub(super) fn state(&self) -> TargetState {
        let is_this_boot = boot_id().is_ok_and(|id| id == self.boot_id);
        let lives = |process: RecordedProcess| is_this_boot && process.identity().is_alive();
        TargetState::of(
            self.end.map(|end| end.end),
            lives(self.process),
            lives(self.keeper),
        )
    }
}

fn boot_id() -> Result<String, RegistryError> {
    let text = fs::read_to_string(BOOT_ID).map_err(|source| RegistryError::Read {
        path: BOOT_ID.into(),
        source,
    })?;
    Ok(text.trim_end().to_owned())
}

/// The right to start or forget a target; given up when dropped, or when its holder ends.
#[derive(Debug)]
pub(super) struct TargetLock {
    _file: File,
}

/// The register in one data directory.
#[derive(Debug, Clone)]
pub(super) struct Registry {
    root: PathBuf,
}

impl Registry {
    /// The register of `data_dir`; nothing is made until a target is.
    pub(super) fn of(data_dir: &Path) -> Self {
        Self {
            root: data_dir.join("local"),
        }
    }

    /// The folder of a target. Its name is a DNS subdomain, which [`is_name`] sees to before a folder is made.
    fn folder(&self, namespace: &Namespace, target: &TargetRef) -> PathBuf {
        self.root
            .join(namespace.as_str())
            .join(target.kind.as_str())
            .join(&target.name)
    }

    /// Where a target's process writes.
    pub(super) fn log_path(&self, namespace: &Namespace, target: &TargetRef) -> PathBuf {
        self.folder(namespace, target).join(LOG)
    }

    /// Makes the target's folder and takes its lock; none when somebody else has it.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub(super) fn lock(
        &self,
        namespace: &Namespace,
        target: &TargetRef,
    ) -> Result<Option<TargetLock>, RegistryError> {
        let folder = self.folder(namespace, target);
        let path = folder.join(LOCK);
        let write_error = |source| RegistryError::Write {
            path: path.clone(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(write_error)?;
        let file = private_file()
            .truncate(false)
            .open(&path)
            .map_err(write_error)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(TargetLock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(write_error(error.into())),
        }
    }

    /// An empty log in place of the last one. What an earlier process of the target still writes goes to the old file.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn create_log(
        &self,
        namespace: &Namespace,
        target: &TargetRef,
        _lock: &TargetLock,
    ) -> Result<File, RegistryError> {
        let path = self.log_path(namespace, target);
        remove(&path)?;
        private_file()
            .append(true)
            .create_new(true)
            .open(&path)
            .map_err(|source| RegistryError::Write { path, source })
    }

    /// Writes the target's record, whole or not at all.
    ///
    /// # Errors
    /// When the disk is full or the folder is not writable.
    pub(super) fn write(&self, record: &Record, _lock: &TargetLock) -> Result<(), RegistryError> {
        let path = self.folder(&record.namespace, &record.target).join(RECORD);
        let text = serde_json::to_vec_pretty(record).expect("a record is plain data");
        replace(&path, &text).map_err(|source| RegistryError::Write { path, source })
    }

    /// The target's record; none when there is no such target.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub(super) fn read(
        &self,
        namespace: &Namespace,
        target: &TargetRef,
    ) -> Result<Option<Record>, RegistryError> {
        if !is_name(&target.name) {
            return Ok(None);
        }
        read_record(&self.folder(namespace, target).join(RECORD))
    }

    /// Every record, or those of one namespace, by namespace, kind and name.
    ///
    /// # Errors
    /// When one cannot be read or understood.
    pub(super) fn all(&self, of: Option<&Namespace>) -> Result<Vec<Record>, RegistryError> {
        let namespaces = match of {
            Some(namespace) => vec![self.root.join(namespace.as_str())],
            None => entries(&self.root)?,
        };
        let mut records = Vec::new();
        for namespace in namespaces {
            for kind in entries(&namespace)? {
                for name in entries(&kind)? {
                    records.extend(read_record(&name.join(RECORD))?);
                }
            }
        }
        records.sort_by_cached_key(|record| {
            let TargetRef { kind, name, .. } = &record.target;
            (record.namespace.clone(), kind.as_str(), name.clone())
        });
        Ok(records)
    }

    /// Forgets a target: its record and its log. Its folder stays, since others may be waiting for its lock.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub(super) fn forget(
        &self,
        namespace: &Namespace,
        target: &TargetRef,
        _lock: &TargetLock,
    ) -> Result<(), RegistryError> {
        let folder = self.folder(namespace, target);
        remove(&folder.join(RECORD))?;
        remove(&folder.join(LOG))
    }
}

/// Whether a target may be called `name`: a DNS subdomain (RFC 1123), as Kubernetes has it for workloads. So it is a
/// file name that needs no escaping.
pub(super) fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Whether a target may be registered as `kind`: labels select, they do not name.
pub(super) fn is_kind(kind: TargetKind) -> bool {
    kind != TargetKind::Label
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

fn read_record(path: &Path) -> Result<Option<Record>, RegistryError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            let path = path.to_path_buf();
            return Err(RegistryError::Read { path, source });
        }
    };
    parse_record(&text)
        .map(Some)
        .map_err(|source| RegistryError::Record {
            path: path.to_path_buf(),
            source,
        })
}

fn parse_record(text: &[u8]) -> Result<Record, serde_json::Error> {
    let record: Record = serde_json::from_slice(text)?;
    if record.version == RECORD_VERSION {
        Ok(record)
    } else {
        let version = record.version;
        Err(serde::de::Error::custom(format!(
            "it is of version {version}, not {RECORD_VERSION}"
        )))
    }
}

/// The folders in `folder`; none when it is not there.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, RegistryError> {
    let read_error = |source| RegistryError::Read {
        path: folder.to_path_buf(),
        source,
    };
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(read_error(source)),
    };
    listing
        .map(|entry| Ok(entry.map_err(read_error)?.path()))
        .collect()
}

/// Replaces `path` by a file of this text: a reader sees the old one or the new one, also after a power cut.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = private_file().truncate(true).open(&next)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&next, path)
}

fn remove(path: &Path) -> Result<(), RegistryError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RegistryError::Write {
            path: path.to_path_buf(),
            source: error,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn target() -> TargetRef {
        "deployment/inventory/container/app".parse().unwrap()
    }

    fn record(process: Process) -> Record {
        Record::new(&Started {
            target: &target(),
            namespace: &Namespace::default(),
            ports: &[80],
            program: Path::new("/usr/bin/inventory"),
            keeper: process,
            process,
            place: None,
            network: &TargetNetwork::default(),
            at: Timestamp::UNIX_EPOCH,
        })
        .unwrap()
    }

    #[test]
    fn a_record_comes_back_as_it_was_and_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::of(dir.path());
        let namespace = Namespace::default();
        assert_eq!(registry.read(&namespace, &target()).unwrap(), None);
        assert_eq!(registry.all(None).unwrap(), []);

        let lock = registry.lock(&namespace, &target()).unwrap().unwrap();
        let mut record = record(Process::current().unwrap());
        registry.write(&record, &lock).unwrap();
        record.end = Some(RecordedEnd {
            at: Timestamp::UNIX_EPOCH,
            end: TargetEnd::Exited { code: 3 },
        });
        registry.write(&record, &lock).unwrap();
        assert_eq!(
            registry.read(&namespace, &target()).unwrap().as_ref(),
            Some(&record)
        );
        assert_eq!(registry.all(None).unwrap(), [record.clone()]);
        assert_eq!(
            registry
                .all(Some(&Namespace::new("other").unwrap()))
                .unwrap(),
            []
        );
        assert_eq!(record.program, "inventory");

        let folder = registry.folder(&namespace, &target());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.join(RECORD)), 0o600);
        for folder in folder.ancestors().take(4) {
            assert_eq!(mode(folder), 0o700, "{folder:?}");
        }
        registry.forget(&namespace, &target(), &lock).unwrap();
        assert_eq!(registry.all(None).unwrap(), []);
    }

    #[test]
    fn a_lock_is_held_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::of(dir.path());
        let namespace = Namespace::default();
        let lock = registry.lock(&namespace, &target()).unwrap();
        assert!(lock.is_some());
        assert!(registry.lock(&namespace, &target()).unwrap().is_none());
        drop(lock);
        assert!(registry.lock(&namespace, &target()).unwrap().is_some());
    }

    #[test]
    fn a_recycled_pid_is_not_believed() {
        let this = Process::current().unwrap();
        assert_eq!(record(this).state(), TargetState::Running);
        let older = Process::from_parts(this.pid(), this.start_ticks() - 1);
        assert_eq!(record(older).state(), TargetState::Lost);
        let mut before_the_restart = record(this);
        before_the_restart.boot_id = "0".to_owned();
        assert_eq!(before_the_restart.state(), TargetState::Lost);
    }

    #[test]
    fn a_damaged_record_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::of(dir.path());
        let namespace = Namespace::default();
        let lock = registry.lock(&namespace, &target()).unwrap().unwrap();
        let mut record = record(Process::current().unwrap());
        record.version = 2;
        registry.write(&record, &lock).unwrap();
        let error = registry.all(None).unwrap_err();
        assert!(matches!(error, RegistryError::Record { path, .. } if path.ends_with(RECORD)));
    }

    #[test]
    fn names_are_dns_subdomains() {
        for good in ["inventory", "a.b-c.1", &"x".repeat(253)] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "A",
            "a_b",
            "-a",
            "a.",
            &"x".repeat(254),
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
