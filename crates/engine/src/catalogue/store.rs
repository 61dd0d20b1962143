//! The store's file, open, and opened again once its disk takes writes again.
//!
//! ```text
//!   OPEN ──an error of the disk──▶ POISONED ──the next use──▶ closed, opened, checked ──▶ OPEN
//! ```
//!
//! After an error of its file redb refuses everything until it is closed and opened, which brings back what the last
//! whole transaction left. A disk that was full for a moment would else take the engine's memory for good. Owns that, and
//! how the file is opened and checked; leaves tables and records to `catalogue`.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::backends::FileBackend;
use redb::{Database, Error};

/// The open file.
#[derive(Debug)]
pub(super) struct Store {
    /// None between two openings.
    database: RwLock<Option<Database>>,
    path: PathBuf,
}

impl Store {
    /// Opens the file at `path`, readable by its owner alone, or makes it; every page is held against its checksum.
    ///
    /// # Errors
    /// [`Error::Corrupted`] of a file that is no store.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            database: RwLock::new(Some(open(path)?)),
            path: path.to_owned(),
        })
    }

    /// Does `work` with the store; once more where an earlier error of the disk was in its way.
    ///
    /// # Errors
    /// What `work` says, or why the file cannot be opened again.
    pub(super) fn with<T>(&self, work: impl Fn(&Database) -> Result<T, Error>) -> Result<T, Error> {
        {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            match database.as_ref().map(&work) {
                Some(Err(Error::PreviousIo)) | None => {}
                Some(answer) => return answer,
            }
        }
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have opened it meanwhile.
        match database.as_ref().map(&work) {
            Some(Err(Error::PreviousIo)) | None => {}
            Some(answer) => return answer,
        }
        tracing::warn!(path = %self.path.display(), "opening the catalogue again after an error of its disk");
        // Its lock on the file goes with it.
        *database = None;
        work(database.insert(open(&self.path)?))
    }
}

fn open(path: &Path) -> Result<Database, Error> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    let backend = FileBackend::new(file)?;
    // Some damage the store only asserts against.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let mut database = Database::builder().create_with_backend(backend)?;
        // A record that changed by itself is damage, not news.
        if !database.check_integrity()? {
            tracing::warn!(path = %path.display(), "the catalogue's free pages were counted again");
        }
        Ok(database)
    }));
    opened.unwrap_or_else(|_| Err(Error::Corrupted("it is damaged".to_owned())))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use redb::{ReadableDatabase as _, StorageBackend, TableDefinition};

    use super::*;

    const NUMBERS: TableDefinition<'_, u64, u64> = TableDefinition::new("numbers");

    /// A file on a disk that is full while it is told so.
    #[derive(Debug)]
    struct Full {
        file: FileBackend,
        is_full: Arc<AtomicBool>,
    }

    impl Full {
        fn check(&self) -> Result<(), io::Error> {
            if self.is_full.load(Ordering::SeqCst) {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            Ok(())
        }
    }

    impl StorageBackend for Full {
        fn len(&self) -> Result<u64, io::Error> {
            self.file.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
            self.file.read(offset, out)
        }

        fn set_len(&self, len: u64) -> Result<(), io::Error> {
            self.check()?;
            self.file.set_len(len)
        }

        fn sync_data(&self) -> Result<(), io::Error> {
            self.check()?;
            self.file.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
            self.check()?;
            self.file.write(offset, data)
        }

        fn close(&self) -> Result<(), io::Error> {
            self.file.close()
        }
    }

    fn add(store: &Store, number: u64) -> Result<(), Error> {
        store.with(|database| {
            let transaction = database.begin_write()?;
            transaction.open_table(NUMBERS)?.insert(number, number)?;
            transaction.commit()?;
            Ok(())
        })
    }

    fn has(store: &Store, number: u64) -> bool {
        let found = store.with(|database| {
            let table = database.begin_read()?.open_table(NUMBERS)?;
            Ok(redb::ReadableTable::get(&table, number)?.is_some())
        });
        found.unwrap()
    }

    #[test]
    fn a_disk_that_was_full_costs_what_did_not_fit_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("store");
        let is_full = Arc::new(AtomicBool::new(false));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        let backend = Full {
            file: FileBackend::new(file.unwrap()).unwrap(),
            is_full: Arc::clone(&is_full),
        };
        let store = Store {
            database: RwLock::new(Some(
                Database::builder().create_with_backend(backend).unwrap(),
            )),
            path,
        };
        add(&store, 1).unwrap();
        is_full.store(true, Ordering::SeqCst);
        assert!(add(&store, 2).is_err());
        is_full.store(false, Ordering::SeqCst);
        add(&store, 3).unwrap();
        assert!(has(&store, 1) && !has(&store, 2) && has(&store, 3));
    }
}
