//! The backup of the catalogue: every record as JSON in a file beside it, and how a catalogue is made of it anew.
//!
//! ```text
//! catalogue.redb   --(a few seconds after a change, and at an engine's end)-->   catalogue.backup.json
//! catalogue.backup.json   --(`bough engine repair`, by its owner alone)-->   catalogue.redb
//!                                    the damaged one --> catalogue.redb.damaged-TIME
//! ```
//!
//! Owns the file's format and that it is replaced as a whole. Nothing is ever repaired unasked: what the backup does not
//! name is removed by the next start.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition, TableHandle as _};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Catalogue, CatalogueError, FORMAT, META};
use crate::clock::Clock;

/// How long changes gather before they are backed up: a branch's making is one backup, not six.
const GATHER_TIME: Duration = Duration::from_secs(3);

/// What a backup holds.
#[derive(Debug, Serialize, Deserialize)]
struct Backup {
    format: String,
    taken_at: Timestamp,
    /// Records by table and key, as their own text.
    tables: BTreeMap<String, BTreeMap<String, String>>,
}

/// A catalogue that was made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// Where the damaged one is now; none where there was none.
    pub aside: Option<PathBuf>,
    /// When the backup was taken.
    pub taken_at: Timestamp,
    /// Its records.
    pub records: usize,
}

/// Why a catalogue could not be made of its backup.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// It needs no repair.
    #[error("the catalogue {0} is whole")]
    Whole(PathBuf),
    /// A newer program wrote it, or its backup.
    #[error(
        "{path} has format {found}, and this program knows {FORMAT}: use the newer bough that wrote it"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
    },
    /// It cannot be looked at, which says nothing of what is in it.
    #[error(
        "cannot read {path}, which is no sign of damage: it stays as it is until this is mended"
    )]
    Unread {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file cannot be read, moved or written.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The backup is damaged as well.
    #[error("the backup {path} is damaged as well")]
    Backup {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The new catalogue cannot be written.
    #[error("cannot make a catalogue of the backup")]
    Make(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where the backup of the catalogue at `path` is.
pub fn backup_path(path: &Path) -> PathBuf {
    path.with_extension("backup.json")
}

impl Catalogue {
    /// Begins to back the catalogue up after changes, the first time at once. Ends with the engine.
    pub fn start_backing_up(self: &Arc<Self>, clock: Clock) {
        let (weak, changed): (Weak<Self>, _) = (Arc::downgrade(self), Arc::clone(&self.changed));
        changed.notify_one();
        tokio::spawn(async move {
            loop {
                changed.notified().await;
                let Some(catalogue) = weak.upgrade() else {
                    return;
                };
                let now = clock.now();
                let backed_up = tokio::task::spawn_blocking(move || catalogue.back_up(now)).await;
                if let Ok(Err(error)) = backed_up {
                    tracing::error!(%error, "cannot back up the catalogue");
                }
                tokio::time::sleep(GATHER_TIME).await;
            }
        });
    }

    /// Writes the backup, in place of the one before it.
    ///
    /// # Errors
    /// [`CatalogueError::Backup`]; the one before it stays.
    pub fn back_up(&self, now: Timestamp) -> Result<(), CatalogueError> {
        let path = backup_path(&self.path);
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| CatalogueError::Backup {
            path: path.clone(),
            source,
        };
        let backup = Backup {
            format: FORMAT.to_owned(),
            taken_at: now,
            tables: self.tables().map_err(|error| failed(Box::new(error)))?,
        };
        let text = serde_json::to_vec_pretty(&backup).map_err(|error| failed(Box::new(error)))?;
        replace(&path, &text).map_err(|error| failed(Box::new(error)))
    }

    fn tables(&self) -> Result<BTreeMap<String, BTreeMap<String, String>>, redb::Error> {
        self.store.with(|database| {
            let transaction = database.begin_read()?;
            let mut tables = BTreeMap::new();
            for handle in transaction.list_tables()? {
                if handle.name() == META.name() {
                    continue;
                }
                let definition = TableDefinition::<&str, &str>::new(handle.name());
                let table = transaction.open_table(definition)?;
                let records = table.iter()?.map(|pair| {
                    pair.map(|(key, text)| (key.value().to_owned(), text.value().to_owned()))
                });
                tables.insert(handle.name().to_owned(), records.collect::<Result<_, _>>()?);
            }
            Ok(tables)
        })
    }
}

/// Writes a file for its owner alone, as a whole or not at all.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_extension("json.new");
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = file.open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// Makes the catalogue at `path` of its backup, and keeps the damaged one beside it. The caller holds the engine's lock.
///
/// # Errors
/// [`RepairError`]; the catalogue that was there is then where it was.
pub fn repair(path: &Path, now: Timestamp) -> Result<Repaired, RepairError> {
    let there = fs::metadata(path).is_ok_and(|found| found.len() > 0);
    if there {
        match Catalogue::open(path) {
            Ok(_) => return Err(RepairError::Whole(path.to_owned())),
            Err(CatalogueError::Newer { path, found }) => {
                return Err(RepairError::Newer { path, found });
            }
            Err(CatalogueError::Open { path, source }) if !is_damage(source.as_ref()) => {
                return Err(RepairError::Unread { path, source });
            }
            Err(_) => {}
        }
    }
    let backup = read(&backup_path(path))?;
    let new = path.with_extension("redb.new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(file("remove", &new)(error));
        }
        Ok(()) | Err(_) => {}
    }
    make(&new, &backup)?;
    let aside = there.then(|| path.with_extension(format!("redb.damaged-{}", now.as_second())));
    if let Some(aside) = &aside {
        fs::rename(path, aside).map_err(file("put aside", path))?;
    }
    fs::rename(&new, path).map_err(file("put in place", &new))?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(file("write to the disk", directory))?;
    Ok(Repaired {
        aside,
        taken_at: backup.taken_at,
        records: backup.tables.values().map(BTreeMap::len).sum(),
    })
}

/// Whether it is the file's content that is at fault: not the system that has no descriptor, right or room to give, nor
/// somebody else who has it open. A block that cannot be read (EIO) is content that is gone.
fn is_damage(why: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    match why.downcast_ref::<redb::Error>() {
        Some(redb::Error::DatabaseAlreadyOpen) => false,
        Some(redb::Error::Io(error)) => {
            let errno = error.raw_os_error();
            errno.is_none_or(|errno| errno == Errno::IO.raw_os_error())
        }
        Some(_) | None => true,
    }
}

fn file<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> RepairError + 'a {
    move |source| RepairError::File {
        what,
        path: path.to_owned(),
        source,
    }
}

fn read(path: &Path) -> Result<Backup, RepairError> {
    let text = fs::read(path).map_err(file("read the backup", path))?;
    let backup: Backup = serde_json::from_slice(&text).map_err(|source| RepairError::Backup {
        path: path.to_owned(),
        source,
    })?;
    if backup.format != FORMAT {
        return Err(RepairError::Newer {
            path: path.to_owned(),
            found: backup.format,
        });
    }
    Ok(backup)
}

fn make(path: &Path, backup: &Backup) -> Result<(), RepairError> {
    let catalogue = Catalogue::open(path).map_err(|error| RepairError::Make(Box::new(error)))?;
    let filled = catalogue.store.with(|database| {
        let transaction = database.begin_write()?;
        for (name, records) in &backup.tables {
            let mut table = transaction.open_table(TableDefinition::<&str, &str>::new(name))?;
            for (key, text) in records {
                table.insert(key.as_str(), text.as_str())?;
            }
        }
        transaction.commit()?;
        Ok(())
    });
    filled.map_err(|error| RepairError::Make(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::tests::Thing;
    use super::super::tests::thing;
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[tokio::test]
    async fn a_damaged_catalogue_is_made_anew_of_its_backup_and_kept() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("catalogue.redb");
        {
            let catalogue = Arc::new(Catalogue::open(&path).unwrap());
            catalogue.put(&thing("a", 1)).await.unwrap();
            catalogue.back_up(at(5)).unwrap();
        }
        let mode = fs::metadata(backup_path(&path))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(repair(&path, at(9)), Err(RepairError::Whole(_))));
        fs::write(&path, "torn").unwrap();
        let repaired = repair(&path, at(9)).unwrap();
        let aside = repaired.aside.unwrap();
        assert_eq!(fs::read_to_string(aside).unwrap(), "torn");
        assert_eq!((repaired.taken_at, repaired.records), (at(5), 1));
        let catalogue = Catalogue::open(&path).unwrap();
        assert_eq!(catalogue.all::<Thing>().unwrap(), [thing("a", 1)]);
    }

    #[test]
    fn what_the_system_refuses_is_no_damage_and_a_block_that_is_gone_is() {
        let of = |errno: Errno| redb::Error::Io(io::Error::from_raw_os_error(errno.raw_os_error()));
        for sound in [
            of(Errno::MFILE),
            of(Errno::ACCESS),
            of(Errno::NOSPC),
            redb::Error::DatabaseAlreadyOpen,
        ] {
            assert!(!is_damage(&sound), "{sound}");
        }
        let torn = io::Error::new(io::ErrorKind::InvalidData, "it ends too early");
        let corrupted = redb::Error::Corrupted("a page".to_owned());
        for damaged in [of(Errno::IO), redb::Error::Io(torn), corrupted] {
            assert!(is_damage(&damaged), "{damaged}");
        }
    }

    #[test]
    fn without_a_whole_backup_nothing_is_touched() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("catalogue.redb");
        fs::write(&path, "torn").unwrap();
        assert!(matches!(
            repair(&path, at(1)),
            Err(RepairError::File { .. })
        ));
        fs::write(backup_path(&path), "{\"format\"").unwrap();
        assert!(matches!(
            repair(&path, at(1)),
            Err(RepairError::Backup { .. })
        ));
        let newer = "{\"format\":\"2\",\"taken_at\":\"2026-11-29T00:00:00Z\",\"tables\":{}}";
        fs::write(backup_path(&path), newer).unwrap();
        assert!(matches!(
            repair(&path, at(1)),
            Err(RepairError::Newer { .. })
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "torn");
    }
}
