//! What a session that is given up while it is planned would leave in its cluster.
//!
//! Owns the list. Leaves to each thing how it is taken back, and how long that may take.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{self, BoxFuture};

/// The things that are there so far.
#[derive(Clone, Default)]
pub(crate) struct Leftovers(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl fmt::Debug for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leftovers").finish_non_exhaustive()
    }
}

impl Leftovers {
    /// Notes what takes one thing back; of that nothing is done yet.
    pub(super) fn note(&self, taking_back: impl Future<Output = ()> + Send + 'static) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.push(Box::pin(taking_back));
    }

    /// Takes everything back, at the same time.
    pub(crate) async fn take_back(&self) {
        future::join_all(self.drain()).await;
    }

    /// The plan is made: from here on these things are its session's.
    pub(crate) fn keep(&self) {
        drop(self.drain());
    }

    fn drain(&self) -> Vec<BoxFuture<'static, ()>> {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut noted)
    }
}
