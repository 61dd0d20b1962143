//! One at a time of what may not meet: a clone's files, of which a dropped making still finishes one on its thread, or a
//! source's name, whose removal goes on where nobody waits for it any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

/// The turns, by name.
#[derive(Debug)]
pub struct Turns<N>(Mutex<BTreeMap<N, Weak<tokio::sync::Mutex<()>>>>);

impl<N> Default for Turns<N> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<N: Ord + Clone> Turns<N> {
    /// Waits for the turn of `name`; it ends when the guard is dropped, on whatever thread.
    pub async fn turn(self: Arc<Self>, name: &N) -> OwnedMutexGuard<()> {
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
