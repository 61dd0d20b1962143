//! One making or removal of a clone's files at a time: a dropped one still finishes its file on its thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use super::CloneName;

/// The turns, by clone.
#[derive(Debug, Default)]
pub struct Turns(Mutex<BTreeMap<CloneName, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits for the turn of `name`; it ends when the guard is dropped, on whatever thread.
    pub async fn turn(self: Arc<Self>, name: &CloneName) -> OwnedMutexGuard<()> {
        let mutex = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let living = turns.get(name).and_then(Weak::upgrade);
            living.unwrap_or_else(|| {
                let mutex = Arc::default();
                turns.insert(name.clone(), Arc::downgrade(&mutex));
                mutex
            })
        };
        mutex.lock_owned().await
    }
}
