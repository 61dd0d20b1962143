//! What survives a crash: branches, bases and named sources, each a JSON record under its name in one embedded store.
//!
//! Owns durability and the format's version. A record is on disk when a write returns; `commits` has one flush serve all
//! that are written at the same time. A file that is damaged is refused and left as it is: `backup` is how its owner goes
//! on. Leaves the meaning of records to those who keep them.

mod backup;
mod commits;
mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

pub use backup::{RepairError, Repaired, backup_path, repair};
use commits::{Answers, Change, Commits};
use store::Store;

/// The version of everything in the store. A change that an older program would misread counts it up.
const FORMAT: &str = "1";

const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";

/// Something that is kept under a name.
pub trait Record: Serialize + DeserializeOwned {
    /// The table's name.
    const TABLE: &'static str;

    /// The record's name in its table.
    fn key(&self) -> String;
}

/// Why the catalogue could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The file cannot be opened, or is not a store.
    #[error(
        "cannot open the catalogue {path}, which is left as it is (`bough engine repair` rebuilds it from its backup)"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file is empty or gone, and with it the names of everything on the volume.
    #[error(
        "the catalogue {path} is empty or gone, but {volume} holds {trees} snapshots and branches that only it can name: \
         `bough engine repair` rebuilds it from its backup; to start from scratch without them, remove {volume}"
    )]
    Gone {
        /// The file.
        path: PathBuf,
        /// The volume's directory.
        volume: PathBuf,
        /// What lies there.
        trees: usize,
    },
    /// The backup cannot be written.
    #[error("cannot write the backup {path}")]
    Backup {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A newer program wrote it.
    #[error(
        "the catalogue {path} has format {found}, and this program knows {FORMAT}: use the newer bough that wrote it"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
    },
    /// A record is not what its table holds.
    #[error("the record {key:?} of the catalogue's table {table} cannot be read")]
    Record {
        /// The table.
        table: &'static str,
        /// The record's name.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A transaction failed: the disk is full or broken.
    #[error("cannot {what} the catalogue's table {table}")]
    Transaction {
        /// What was tried.
        what: &'static str,
        /// The table.
        table: &'static str,
        /// Why.
        #[source]
        source: Arc<redb::Error>,
    },
    /// The thread that wrote ended early.
    #[error("the write to the catalogue's table {table} was interrupted")]
    Interrupted {
        /// The table.
        table: &'static str,
    },
}

/// Records that are written together.
#[derive(Debug, Default)]
pub struct Together(Vec<Change>);

impl Together {
    /// Adds one.
    ///
    /// # Errors
    /// [`CatalogueError::Record`].
    pub fn add<R: Record>(&mut self, record: &R) -> Result<(), CatalogueError> {
        self.0.push(written(record)?);
        Ok(())
    }
}

fn written<R: Record>(record: &R) -> Result<Change, CatalogueError> {
    let key = record.key();
    match serde_json::to_string(record) {
        Ok(text) => Ok(Change {
            table: R::TABLE,
            key,
            text: Some(text),
        }),
        Err(source) => Err(CatalogueError::Record {
            table: R::TABLE,
            key,
            source,
        }),
    }
}

/// The open store.
#[derive(Debug)]
pub struct Catalogue {
    store: Store,
    commits: Commits,
    path: PathBuf,
    /// Told of every change.
    changed: Arc<Notify>,
}

impl Catalogue {
    /// Opens the store at `path`, readable by its owner alone, or makes it.
    ///
    /// # Errors
    /// [`CatalogueError`] when the file is no store, is held by another engine, or was written by a newer program.
    pub fn open(path: &Path) -> Result<Self, CatalogueError> {
        let open = |source: Box<dyn std::error::Error + Send + Sync>| CatalogueError::Open {
            path: path.to_owned(),
            source,
        };
        let catalogue = Self {
            store: Store::open(path).map_err(|error| open(Box::new(error)))?,
            commits: Commits::default(),
            path: path.to_owned(),
            changed: Arc::default(),
        };
        let format = catalogue.format().map_err(|error| open(Box::new(error)))?;
        match format {
            None => catalogue
                .write_format()
                .map_err(|error| open(Box::new(error)))?,
            Some(found) if found == FORMAT => {}
            Some(found) => {
                return Err(CatalogueError::Newer {
                    path: path.to_owned(),
                    found,
                });
            }
        }
        Ok(catalogue)
    }

    fn format(&self) -> Result<Option<String>, redb::Error> {
        self.store.with(|database| {
            let transaction = database.begin_read()?;
            match transaction.open_table(META) {
                Ok(table) => Ok(table.get(FORMAT_KEY)?.map(|value| value.value().to_owned())),
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn write_format(&self) -> Result<(), redb::Error> {
        self.store.with(|database| {
            let transaction = database.begin_write()?;
            transaction.open_table(META)?.insert(FORMAT_KEY, FORMAT)?;
            transaction.commit()?;
            Ok(())
        })
    }

    /// Every record of one kind, by name.
    ///
    /// # Errors
    /// [`CatalogueError`] names the table, and the record where one cannot be read.
    pub fn all<R: Record>(&self) -> Result<Vec<R>, CatalogueError> {
        let texts = self
            .texts(R::TABLE)
            .map_err(|error| CatalogueError::Transaction {
                what: "read",
                table: R::TABLE,
                source: Arc::new(error),
            })?;
        let read = |(key, text): (String, String)| {
            serde_json::from_str(&text).map_err(|source| CatalogueError::Record {
                table: R::TABLE,
                key,
                source,
            })
        };
        texts.into_iter().map(read).collect()
    }

    fn texts(&self, table: &'static str) -> Result<Vec<(String, String)>, redb::Error> {
        self.store.with(|database| {
            let transaction = database.begin_read()?;
            let table = match transaction.open_table(TableDefinition::<&str, &str>::new(table)) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let pairs = table.iter()?.map(|pair| {
                pair.map(|(key, text)| (key.value().to_owned(), text.value().to_owned()))
            });
            Ok(pairs.collect::<Result<_, _>>()?)
        })
    }

    /// Writes a record in place of the one of its name.
    ///
    /// # Errors
    /// [`CatalogueError`] names the table.
    pub async fn put<R: Record>(self: &Arc<Self>, record: &R) -> Result<(), CatalogueError> {
        self.write("write", written(record)?).await
    }

    /// Writes records in place of those of their names, all or none.
    ///
    /// # Errors
    /// [`CatalogueError`] names the table of the first.
    pub fn put_together(&self, records: &Together) -> Result<(), CatalogueError> {
        let changes: Vec<&Change> = records.0.iter().collect();
        let Some(table) = changes.first().map(|change| change.table) else {
            return Ok(());
        };
        let committed = self.commit(&changes);
        self.changed.notify_one();
        committed.map_err(|source| CatalogueError::Transaction {
            what: "write",
            table,
            source: Arc::new(source),
        })
    }

    /// Removes the record of this name; one that is not there is no error.
    ///
    /// # Errors
    /// [`CatalogueError`] names the table.
    pub async fn remove<R: Record>(self: &Arc<Self>, key: &str) -> Result<(), CatalogueError> {
        let removed = Change {
            table: R::TABLE,
            key: key.to_owned(),
            text: None,
        };
        self.write("remove from", removed).await
    }

    /// Waits until every change that was begun before is on the disk or has failed, also one whose caller is gone.
    pub async fn settle<R: Record>(self: &Arc<Self>) {
        // Changes are tried in their order, and nothing has no name. Whether this one is written says nothing of the others.
        let _ = self.remove::<R>("").await;
    }

    async fn write(
        self: &Arc<Self>,
        what: &'static str,
        change: Change,
    ) -> Result<(), CatalogueError> {
        let table = change.table;
        let added = self.commits.add(change);
        if added.begins {
            let (catalogue, weak) = (Arc::clone(self), Arc::downgrade(self));
            // Goes on to its end also where nobody waits for it any more.
            drop(tokio::task::spawn_blocking(move || {
                let mut held = Some(catalogue);
                while let Some(catalogue) = held.take().or_else(|| weak.upgrade())
                    && let Some(answers) = catalogue.write_batch()
                {
                    drop(catalogue);
                    answers.send();
                }
            }));
        }
        match added.committed_rx.await {
            Ok(committed) => committed.map_err(|source| CatalogueError::Transaction {
                what,
                table,
                source,
            }),
            Err(_) => Err(CatalogueError::Interrupted { table }),
        }
    }

    fn write_batch(&self) -> Option<Answers> {
        self.commits.write_batch(|changes| {
            let committed = self.commit(changes);
            self.changed.notify_one();
            committed
        })
    }

    /// Whether records of this kind are refused from here on, for tests. Those that were there are lost.
    #[cfg(test)]
    pub(crate) fn refuse<R: Record>(&self, refuses: bool) {
        let changed = self.store.with(|database| {
            let transaction = database.begin_write()?;
            transaction.delete_table(TableDefinition::<&str, &str>::new(R::TABLE))?;
            if refuses {
                transaction.open_table(TableDefinition::<u64, u64>::new(R::TABLE))?;
            }
            Ok(transaction.commit()?)
        });
        changed.expect("the store takes a table");
    }

    fn commit(&self, changes: &[&Change]) -> Result<(), redb::Error> {
        self.store.with(|database| {
            let transaction = database.begin_write()?;
            for Change { table, key, text } in changes {
                let mut table =
                    transaction.open_table(TableDefinition::<&str, &str>::new(table))?;
                match text {
                    Some(text) => table.insert(key.as_str(), text.as_str())?,
                    None => table.remove(key.as_str())?,
                };
            }
            transaction.commit()?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Thing {
        name: String,
        size: u64,
    }

    impl Record for Thing {
        const TABLE: &'static str = "things";

        fn key(&self) -> String {
            self.name.clone()
        }
    }

    pub(super) fn thing(name: &str, size: u64) -> Thing {
        Thing {
            name: name.to_owned(),
            size,
        }
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_there_once_the_catalogue_has_settled() {
        let root = tempfile::tempdir().unwrap();
        let catalogue = Arc::new(Catalogue::open(&root.path().join("catalogue.redb")).unwrap());
        for round in 0..20 {
            let name = round.to_string();
            let given_up = thing(&name, round);
            // Begun, and dropped at its first await.
            let _ = futures_util::FutureExt::now_or_never(catalogue.put(&given_up));
            catalogue.settle::<Thing>().await;
            assert!(catalogue.all::<Thing>().unwrap().contains(&given_up));
        }
    }

    #[tokio::test]
    async fn records_survive_and_are_private() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("catalogue.redb");
        {
            let catalogue = Arc::new(Catalogue::open(&path).unwrap());
            assert_eq!(catalogue.all::<Thing>().unwrap(), []);
            catalogue.put(&thing("a", 1)).await.unwrap();
            catalogue.put(&thing("b", 2)).await.unwrap();
            catalogue.put(&thing("a", 3)).await.unwrap();
            catalogue.remove::<Thing>("b").await.unwrap();
            catalogue.remove::<Thing>("never there").await.unwrap();
        }
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            Catalogue::open(&path).unwrap().all::<Thing>().unwrap(),
            [thing("a", 3)]
        );
    }

    #[test]
    fn a_file_that_is_no_catalogue_is_refused_and_kept() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("catalogue.redb");
        std::fs::write(&path, "not a store".repeat(1000)).unwrap();
        assert!(matches!(
            Catalogue::open(&path),
            Err(CatalogueError::Open { .. })
        ));
        assert!(
            std::fs::read_to_string(&path)
                .unwrap()
                .starts_with("not a store")
        );
    }

    #[tokio::test]
    async fn a_bit_that_flipped_is_found_or_meant_nothing() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("catalogue.redb");
        let things: Vec<Thing> = (0..40)
            .map(|n| thing(&format!("thing {n:02}"), n))
            .collect();
        {
            let catalogue = Arc::new(Catalogue::open(&path).unwrap());
            for thing in &things {
                catalogue.put(thing).await.unwrap();
            }
        }
        let whole = std::fs::read(&path).unwrap();
        let damaged = root.path().join("damaged.redb");
        let mut refused = 0;
        for place in (0..whole.len()).step_by(whole.len() / 200) {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x10;
            std::fs::write(&damaged, &bytes).unwrap();
            let read = Catalogue::open(&damaged).and_then(|catalogue| catalogue.all::<Thing>());
            match read {
                // A commit that is not whole never was: at most the last one.
                Ok(found) => assert!(
                    found == things || found == things[..things.len() - 1],
                    "byte {place}: {found:?}"
                ),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 0, "no flip was found");
        for length in [1, 100, 4096, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&damaged, &whole[..length]).unwrap();
            let read = Catalogue::open(&damaged).and_then(|catalogue| catalogue.all::<Thing>());
            let is_whole = read.is_ok_and(|found| found == things);
            assert!(
                is_whole || std::fs::metadata(&damaged).unwrap().len() > 0,
                "{length} bytes"
            );
        }
    }

    #[test]
    fn a_newer_format_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("catalogue.redb");
        {
            let catalogue = Catalogue::open(&path).unwrap();
            let written = catalogue.store.with(|database| {
                let transaction = database.begin_write()?;
                transaction.open_table(META)?.insert(FORMAT_KEY, "2")?;
                Ok(transaction.commit()?)
            });
            written.unwrap();
        }
        assert!(
            matches!(Catalogue::open(&path), Err(CatalogueError::Newer { found, .. }) if found == "2")
        );
    }
}
