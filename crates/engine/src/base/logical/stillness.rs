//! Who may stop and start a subscriber's server, whichever handle he has of it: a base that is taken up again gets another
//! one while a request still takes a snapshot by the one before.
//!
//! ```text
//!   STANDS ──over──▶ nothing is begun with the base any more, and what is under way ends early
//! ```
//!
//! Owns the turns of one directory. Leaves what is done in them to `snapshot`, `subscriber` and `tending`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError, Weak};

use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::Place;

/// The turns at one base.
#[derive(Debug, Default)]
pub struct Stillness {
    /// Held by whoever makes a snapshot: one at a time.
    pub(super) turn: Mutex<()>,
    /// Held while the server is stopped on purpose, and while it is taken up: nobody starts or stops it meanwhile.
    pub(super) still: Mutex<()>,
    /// Cancelled when the base goes.
    pub(super) over: CancellationToken,
}

impl Stillness {
    /// Ends what is under way with the base's server, and lets nothing more begin. Nobody starts it once this returns.
    pub async fn end(&self) -> MutexGuard<'_, ()> {
        self.over.cancel();
        self.still.lock().await
    }
}

/// The turns at every base, by its directory.
#[derive(Debug, Default)]
pub struct Stillnesses(StdMutex<BTreeMap<PathBuf, Weak<Stillness>>>);

impl Stillnesses {
    /// Those at the base of a place: the same for all who have a handle of it at the same time.
    pub fn of(&self, place: &Place) -> Arc<Stillness> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, stillness| stillness.strong_count() > 0);
        let living = known.get(&place.directory).and_then(Weak::upgrade);
        living.unwrap_or_else(|| {
            let stillness = Arc::default();
            known.insert(place.directory.clone(), Arc::downgrade(&stillness));
            stillness
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Place {
        Place {
            directory: name.into(),
            socket_dir: name.into(),
        }
    }

    #[test]
    fn all_handles_of_a_base_share_its_turns_and_no_others() {
        let all = Stillnesses::default();
        let (one, again, other) = (
            all.of(&place("a")),
            all.of(&place("a")),
            all.of(&place("b")),
        );
        assert!(Arc::ptr_eq(&one, &again) && !Arc::ptr_eq(&one, &other));
        one.over.cancel();
        drop((one, again));
        assert!(
            !all.of(&place("a")).over.is_cancelled(),
            "a later one is another"
        );
        assert_eq!(all.0.lock().unwrap().len(), 2);
    }
}
