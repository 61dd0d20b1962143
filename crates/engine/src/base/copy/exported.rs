//! A snapshot of a source that a session of somebody else's exported, such as the one a replication slot begins with.
//!
//! Owns how long that session lives: until the copy has taken the snapshot for its own, for it holds back the source's
//! vacuum as long as it is there. Leaves making it to whoever has the session.

use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Whatever keeps a session open; dropped, it ends.
type Holder = Box<dyn Send + Sync>;

/// A snapshot, and who holds it.
pub struct Exported {
    name: String,
    holder: Mutex<Option<Holder>>,
}

impl Exported {
    /// The snapshot of a name (`SET TRANSACTION SNAPSHOT`), there for as long as `holder` is.
    pub fn new(name: String, holder: Holder) -> Self {
        Self {
            name,
            holder: Mutex::new(Some(holder)),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends its session: a transaction that has taken the snapshot holds it by itself (PostgreSQL documentation, "Snapshot
    /// Synchronization Functions").
    pub(super) fn release(&self) {
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        drop(holder.take());
    }
}

impl fmt::Debug for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exported")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
