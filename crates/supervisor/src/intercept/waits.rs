//! Connects that go on while their programs do something else: which sockets, and what became of them.
//!
//! ```text
//!   begin ─▶ OnItsWay ─┬─ end: what became of it is told to whoever waits for it
//!                      ├─ fail ─▶ Failed ─▶ take_failure: the program has heard of it
//!                      └─ forget, or a begin of the same socket: the other end is no longer asked
//! ```

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::ports::ports_on_their_way;

/// Connects that are on their way or have failed late, by their sockets' cookies.
#[derive(Debug, Default)]
pub(super) struct Waits {
    by_cookie: Mutex<HashMap<u64, Wait>>,
}

#[derive(Debug)]
enum Wait {
    OnItsWay {
        /// The socket's own port.
        port: u16,
        /// An errno, 0 for none. Once nobody hears it any more, the other end is no longer asked.
        outcome_rx: watch::Receiver<Option<i32>>,
    },
    /// With this errno, of which the program has not heard.
    Failed(i32),
}

impl Waits {
    /// The socket `cookie` with this port of its own is on its way. What it was on its way to before is over.
    pub(super) fn begin(&self, cookie: u64, port: u16) -> watch::Sender<Option<i32>> {
        let (outcome_tx, outcome_rx) = watch::channel(None);
        self.lock()
            .insert(cookie, Wait::OnItsWay { port, outcome_rx });
        outcome_tx
    }

    /// The socket is gone, or meant for something else; with what it failed, of which its program has not heard.
    pub(super) fn forget(&self, cookie: u64) -> Option<i32> {
        match self.lock().remove(&cookie)? {
            Wait::Failed(errno) => Some(errno),
            Wait::OnItsWay { .. } => None,
        }
    }

    /// With what the socket failed; this is how its program hears of it.
    pub(super) fn take_failure(&self, cookie: u64) -> Option<i32> {
        let mut all = self.lock();
        let Some(Wait::Failed(errno)) = all.get(&cookie) else {
            return None;
        };
        let errno = *errno;
        all.remove(&cookie);
        Some(errno)
    }

    /// The socket has failed. Whom `wake` wakes up hears of it, once it has been done.
    pub(super) fn fail<T>(&self, cookie: u64, errno: i32, wake: impl FnOnce() -> T) -> T {
        let mut all = self.lock();
        all.insert(cookie, Wait::Failed(errno));
        wake()
    }

    /// What will become of a socket that is on its way.
    pub(super) fn outcome(&self, cookie: u64) -> Option<watch::Receiver<Option<i32>>> {
        match self.lock().get(&cookie)? {
            Wait::OnItsWay { outcome_rx, .. } => Some(outcome_rx.clone()),
            Wait::Failed(_) => None,
        }
    }

    /// A wait is over, and told as such; another one of the same socket goes on.
    pub(super) fn end(
        &self,
        cookie: u64,
        outcome_tx: watch::Sender<Option<i32>>,
        outcome: Option<i32>,
    ) {
        outcome_tx.send_replace(outcome);
        drop(outcome_tx);
        let mut all = self.lock();
        if let Some(Wait::OnItsWay { outcome_rx, .. }) = all.get(&cookie)
            && outcome_rx.has_changed().is_err()
        {
            all.remove(&cookie);
        }
    }

    /// Whether no socket has failed or is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Sockets that are on their way no more, as the kernel's tables have it. Of one that has failed they do not tell.
    pub(super) fn closed(&self) -> Vec<u64> {
        let all = self.lock();
        if all.is_empty() {
            return Vec::new();
        }
        let ports = ports_on_their_way();
        let closed = all.iter().filter(|(_, wait)| match wait {
            Wait::OnItsWay { port, .. } => !ports.contains(port),
            Wait::Failed(_) => true,
        });
        closed.map(|(cookie, _)| *cookie).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Wait>> {
        self.by_cookie
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_the_other_end_hears_that_nobody_wants_it_any_more() {
        let waits = Waits::default();
        let first_tx = waits.begin(7, 1);
        assert!(!first_tx.is_closed());
        // A call that waits for it still wants it.
        let outcome_rx = waits.outcome(7).unwrap();
        assert_eq!(waits.forget(7), None);
        assert!(!first_tx.is_closed());
        drop(outcome_rx);
        assert!(first_tx.is_closed());
    }

    #[test]
    fn the_end_of_one_way_leaves_the_next_of_the_same_socket() {
        let waits = Waits::default();
        let first_tx = waits.begin(7, 1);
        let second_tx = waits.begin(7, 2);
        assert!(first_tx.is_closed());
        waits.end(7, first_tx, None);
        let outcome_rx = waits.outcome(7).unwrap();
        waits.end(7, second_tx, Some(0));
        assert_eq!(*outcome_rx.borrow(), Some(0));
        assert!(waits.is_empty());
    }

    #[test]
    fn a_failure_is_told_once() {
        let waits = Waits::default();
        let outcome_tx = waits.begin(7, 1);
        assert_eq!(waits.take_failure(7), None);
        waits.fail(7, libc::EHOSTUNREACH, || ());
        waits.end(7, outcome_tx, Some(libc::EHOSTUNREACH));
        assert!(waits.outcome(7).is_none());
        assert_eq!(waits.take_failure(7), Some(libc::EHOSTUNREACH));
        assert_eq!(waits.take_failure(7), None);
        assert!(waits.is_empty());
    }
}
