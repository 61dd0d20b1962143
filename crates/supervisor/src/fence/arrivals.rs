//! What each connection at the proxy was meant for, by where it comes from.
//!
//! The receiver connects the session's socket and then writes down where it was going; the proxy may have accepted the
//! connection before that, and waits. Who comes from nowhere that was written down is no part of the session.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::remote::{Destination, Dialled};

/// How long a connection may be unknown: the receiver writes it down right after making it.
const ARRIVAL_WAIT_MAX: Duration = Duration::from_secs(5);

/// Connections that are written down and not yet accepted: above any listener's backlog, so that none is lost.
const ARRIVALS_MAX: usize = 16 * 1024;

/// Where a connection comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    /// From this address, in its canonical form.
    Tcp(SocketAddr),
    /// From a Unix socket with this abstract name.
    Unix(Vec<u8>),
}

/// A connection on its way to the proxy.
pub(crate) struct Arrival {
    /// What the program meant.
    pub(crate) destination: Destination,
    /// The session's socket.
    pub(crate) cookie: u64,
    /// The other end, where it had to answer first.
    pub(crate) upstream: Option<Dialled>,
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival")
            .field("destination", &self.destination)
            .field("cookie", &self.cookie)
            .finish_non_exhaustive()
    }
}

/// Connections that were made and not yet accepted.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    expected: Mutex<HashMap<Peer, Arrival>>,
    added: Notify,
}

impl Arrivals {
    /// Writes a connection down.
    pub(crate) fn expect(&self, peer: Peer, arrival: Arrival) {
        let mut expected = self.lock();
        if expected.len() < ARRIVALS_MAX {
            expected.insert(peer, arrival);
        }
        drop(expected);
        self.added.notify_waiters();
    }

    /// What the connection from `peer` was meant for; none where nobody says so in time.
    pub(crate) async fn take(&self, peer: &Peer) -> Option<Arrival> {
        let waiting = async {
            loop {
                let mut added = std::pin::pin!(self.added.notified());
                // Registered before the look, so that nothing is added in between unseen.
                added.as_mut().enable();
                if let Some(arrival) = self.lock().remove(peer) {
                    return arrival;
                }
                added.await;
            }
        };
        tokio::time::timeout(ARRIVAL_WAIT_MAX, waiting).await.ok()
    }

    /// Whether every connection that was written down is accepted.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Peer, Arrival>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
