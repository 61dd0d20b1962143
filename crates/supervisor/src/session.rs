//! What the parts of one guarded session share: its fence, its counts, its proxy's ears, and a way to tell the caller.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::fence::{Arrivals, Authority, CancelKeys, Fence, Ledger};
use crate::ports::PortTaken;
use crate::remote::{Destination, Remote};

/// Events that wait for the caller; it is told of each kind rarely.
const EVENTS_MAX: usize = 64;

/// Something that the user should know while the session runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A program did not believe the fence's certificate: it verifies (`sslmode=verify-full`).
    CertificateRefused(Destination),
    /// A program listens on another port than it asked for.
    PortTaken(PortTaken),
    /// A connection of this program was refused, since the fence could not look into it.
    Unreadable(String),
}

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) fence: Fence,
    pub(crate) ledger: Ledger,
    pub(crate) remote: Arc<dyn Remote>,
    pub(crate) authority: Authority,
    pub(crate) arrivals: Arrivals,
    pub(crate) cancel_keys: CancelKeys,
    pub(crate) names: Names,
    events_tx: mpsc::Sender<Event>,
}

impl Session {
    /// A session, and where its events come out.
    pub(crate) fn new(
        fence: Fence,
        remote: Arc<dyn Remote>,
        authority: Authority,
    ) -> (Self, mpsc::Receiver<Event>) {
        let (events_tx, events_rx) = mpsc::channel(EVENTS_MAX);
        let session = Self {
            ledger: Ledger::new(fence.branches()),
            fence,
            remote,
            authority,
            arrivals: Arrivals::default(),
            cancel_keys: CancelKeys::default(),
            names: Names::default(),
            events_tx,
        };
        (session, events_rx)
    }

    /// Tells the caller; an event that finds no room is in the log alone.
    pub(crate) fn tell(&self, event: Event) {
        tracing::debug!(?event, "the session's network");
        let _full = self.events_tx.try_send(event);
    }
}

/// What programs believe their redirected connections to lead to, for getpeername(2).
#[derive(Debug, Default)]
pub(crate) struct Names {
    believed: Mutex<HashMap<u64, SocketAddr>>,
}

impl Names {
    /// The socket with this cookie leads, as far as its program knows, to `address`.
    pub(crate) fn remember(&self, cookie: u64, address: SocketAddr) {
        self.lock().insert(cookie, address);
    }

    /// It leads where the kernel says.
    pub(crate) fn forget(&self, cookie: u64) {
        self.lock().remove(&cookie);
    }

    /// Where it leads as far as its program knows, if that is another place.
    pub(crate) fn get(&self, cookie: u64) -> Option<SocketAddr> {
        self.lock().get(&cookie).copied()
    }

    /// Whether no socket is redirected.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, SocketAddr>> {
        self.believed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
