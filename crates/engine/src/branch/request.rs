//! What a branch is asked, and what the rest of the engine holds of the one that is asked. Leaves the answers to `driver`.

use std::sync::Arc;

use model::Ttl;
use model::engine_api::{BranchConnection, BranchView, EnsuredBranch, Holder, Problem, SessionId};
use tokio::sync::{mpsc, oneshot, watch};

use super::record::Spec;
use crate::clone::CloneName;
use crate::door::Counts;

/// Requests that wait for one branch; more senders wait in turn.
pub(super) const REQUESTS_MAX: usize = 64;

/// What a branch is asked.
#[derive(Debug)]
pub(super) enum Request {
    /// The branch of this spec, made anew where it failed, and held by whoever asks as a session.
    Ensure {
        spec: Box<Spec>,
        ttl: Ttl,
        holder: Option<Holder>,
        reply: oneshot::Sender<Result<EnsuredBranch, Problem>>,
    },
    /// A session joins, or says that it lives.
    Join {
        holder: Holder,
        reply: oneshot::Sender<Result<BranchView, Problem>>,
    },
    /// A session leaves. Answers none when it was not there.
    Leave {
        id: SessionId,
        reply: oneshot::Sender<Option<BranchView>>,
    },
    /// Nothing that a session asks is done any more. Answers none when it was not there.
    Stop {
        id: SessionId,
        by: String,
        reply: oneshot::Sender<Result<Option<BranchView>, Problem>>,
    },
    /// A new TTL.
    Extend {
        ttl: Ttl,
        reply: oneshot::Sender<Result<BranchView, Problem>>,
    },
    /// Fresh data.
    Reset {
        reply: oneshot::Sender<Result<BranchView, Problem>>,
    },
    /// The branch is to go; the view's channel closes when it is gone.
    Delete { reply: oneshot::Sender<()> },
    /// How to connect, password included, and what lets this session in at the door, or a command.
    Connection {
        session: Option<SessionId>,
        reply: oneshot::Sender<Result<BranchConnection, Problem>>,
    },
    /// Stops the server with the engine; the answer comes when it has stopped.
    StopServer { reply: oneshot::Sender<()> },
}

/// What the rest of the engine holds of a driver.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    pub(super) requests_tx: mpsc::Sender<Request>,
    pub(super) view_rx: watch::Receiver<BranchView>,
    /// Whose files are the branch's.
    pub(super) clone_rx: watch::Receiver<Option<CloneName>>,
    pub(super) counts: Arc<Counts>,
}
