//! What the parts of one guarded session share: its fence, its counts, its proxy's ears, its place in the target's
//! network, and a way to tell the caller.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use wire::SubscribeFailure;

use crate::datagrams::Datagrams;
use crate::fence::{Arrivals, Authority, CancelKeys, Fence, Ledger};
use crate::incoming::Subscriptions;
use crate::ports::PortTaken;
use crate::remote::{Destination, Remote, TargetNetwork, ThisMachine};
use crate::uploads::Uploads;

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
    /// Connections to a port of the target come to the program.
    Subscribed {
        /// What the program asked for.
        asked: SocketAddr,
        /// The port that it listens on.
        real: u16,
        /// The port of the target.
        port: u16,
        /// Whether they are copies, and the target answers.
        is_copy: bool,
        /// Connections from before that are not seen.
        left_established: u32,
    },
    /// Connections to this port of the target do not come to the program.
    NotSubscribed {
        /// The port of the target.
        port: u16,
        /// Why.
        why: SubscribeFailure,
    },
    /// Connections to this port of the target come no longer.
    SubscriptionEnded {
        /// The port of the target.
        port: u16,
        /// Why, for a person.
        why: String,
    },
    /// So many copies ended early, since the program read them too slowly.
    CopiesDropped(u64),
}

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) fence: Fence,
    pub(crate) ledger: Ledger,
    pub(crate) remote: Arc<dyn Remote>,
    /// The target's network, where the session takes part in it.
    pub(crate) network: Option<Arc<TargetNetwork>>,
    pub(crate) authority: Authority,
    pub(crate) arrivals: Arrivals,
    pub(crate) cancel_keys: CancelKeys,
    pub(crate) names: Names,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) datagrams: Datagrams,
    /// What the proxy is busy with, a task each.
    pub(crate) conversations: TaskTracker,
    pub(crate) uploads: Uploads,
    events_tx: mpsc::Sender<Event>,
}

impl Session {
    /// A session, and where its events come out.
    pub(crate) fn new(
        fence: Fence,
        network: Option<Arc<TargetNetwork>>,
        authority: Authority,
    ) -> (Self, mpsc::Receiver<Event>) {
        let (events_tx, events_rx) = mpsc::channel(EVENTS_MAX);
        let session = Self {
            ledger: Ledger::new(fence.branches()),
            fence,
            remote: remote_of(network.as_ref()),
            network,
            authority,
            arrivals: Arrivals::default(),
            cancel_keys: CancelKeys::default(),
            names: Names::default(),
            subscriptions: Subscriptions::default(),
            datagrams: Datagrams::default(),
            conversations: TaskTracker::new(),
            uploads: Uploads::default(),
            events_tx,
        };
        (session, events_rx)
    }

    /// Whether agents may still join.
    pub(crate) fn is_followed(&self) -> bool {
        let network = self.network.as_ref();
        network.is_some_and(|network| network.is_followed())
    }

    /// Tells the caller; an event that finds no room is in the log alone.
    pub(crate) fn tell(&self, event: Event) {
        tracing::debug!(?event, "the session's network");
        let _full = self.events_tx.try_send(event);
    }
}

/// Where the connections of a session in `network`, or in none, are made from.
pub fn remote_of(network: Option<&Arc<TargetNetwork>>) -> Arc<dyn Remote> {
    match network {
        Some(network) => Arc::clone(network) as Arc<dyn Remote>,
        None => Arc::new(ThisMachine),
    }
}

/// What a program believes of a redirected socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Believed {
    /// Where it leads.
    pub(crate) peer: SocketAddr,
    /// The address that it has in the target's network, where it has one.
    pub(crate) local: Option<SocketAddr>,
}

/// What programs believe of their redirected sockets, for getpeername(2) and getsockname(2).
#[derive(Debug, Default)]
pub(crate) struct Names {
    believed: Mutex<HashMap<u64, Believed>>,
}

impl Names {
    /// What the program believes of the socket with this cookie.
    pub(crate) fn remember(&self, cookie: u64, peer: SocketAddr, local: Option<SocketAddr>) {
        self.lock().insert(cookie, Believed { peer, local });
    }

    /// It leads where the kernel says.
    pub(crate) fn forget(&self, cookie: u64) {
        self.lock().remove(&cookie);
    }

    /// What its program believes of it, if that is not what the kernel says.
    pub(crate) fn get(&self, cookie: u64) -> Option<Believed> {
        self.lock().get(&cookie).copied()
    }

    /// Whether no socket is redirected.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Believed>> {
        self.believed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
