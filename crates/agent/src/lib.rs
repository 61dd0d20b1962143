//! Bough's process in the target's network: it connects, resolves, listens and reads the environment there, for the
//! sessions that prove their keys.
//!
//! ```text
//!   supervisor  <- wire, over any byte stream ->  server      who comes, and whose session he carries on
//!                                                   session     one task a session: what it asks for
//!                                                     outgoing    TCP, UDP and Unix sockets
//!                                                     dns         the target's resolv.conf and hosts
//!                                                     environ     the target process's environment
//!                                                     incoming    the target's ports, mirrored or stolen
//! ```
//!
//! Beside it, for programs that hold no session, a proxy (`proxy`). And for targets of this machine, the relay: their
//! network namespaces and the way out of them (`relay`). It shares with the agent how the kernel is told of rules, and
//! nothing else.
//!
//! The agent was placed by somebody else: it runs in the target's network namespace already and is told where the
//! target's files are. Outgoing connections, names and the environment need no capability; incoming needs
//! CAP_NET_ADMIN in that namespace.

mod dns;
mod environ;
mod incoming;
mod marks;
mod netlink;
mod nftables;
mod outgoing;
pub mod proxy;
pub mod relay;
mod server;
mod session;

use std::path::PathBuf;
use std::time::Duration;

pub use incoming::try_incoming;
pub use server::{Agent, Listener, RunError, run};
use wire::AgentKey;

/// What an agent has to know of its target.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What sessions' keys are made from.
    pub key: AgentKey,
    /// The target's resolver configuration; read again when it changes.
    pub resolv_conf: PathBuf,
    /// The target's table of hosts; read again when it changes.
    pub hosts: PathBuf,
    /// The target's root directory, where paths of Unix sockets begin.
    pub root: PathBuf,
    /// The target's process, whose environment is asked for.
    pub process: Option<u32>,
    /// For how long a session without a link is kept.
    pub grace: Duration,
    /// How long the agent goes on without any session; none where its end is another's to say.
    pub idle: Option<Duration>,
    /// Why the target's ports are not to be touched; none where they may be. In a network that is not the target's
    /// alone, the ports are other programs' too.
    pub hands_off: Option<String>,
}
