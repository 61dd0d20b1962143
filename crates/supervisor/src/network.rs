//! The session's part in the target's network: what goes there, what stays here, and what comes from there.
//!
//! ```text
//!   a connection ─▶ Outgoing::side ─┬─ Target: made by the agent      a name ─▶ Dns::side ─┬─ the target's resolver
//!                                   └─ Here: made by this machine                           └─ this machine's
//!   a port that is listened on ─▶ Incoming::wish ─▶ a subscription at the agent, or none
//! ```
//!
//! Owns the decisions, pure, in the supervisor's own types ([`NetworkPlan`]), and the names that addresses go by
//! (`NameBook`). Leaves reading them from a file to the caller, and carrying them out to `remote` and `intercept`.

mod dns;
mod filter;
mod incoming;
mod name_book;
mod outgoing;

pub use dns::Dns;
pub use filter::{Entry, Filter, Place, Protocol, Side};
pub use incoming::{HttpFilter, Incoming, IncomingMode, OnConcurrentSteal};
pub(crate) use name_book::NameBook;
pub use outgoing::{Outgoing, UnixStreams};

/// How a session takes part in its target's network.
#[derive(Debug, Clone, Default)]
pub struct NetworkPlan {
    /// Connections and datagrams that the program sends.
    pub outgoing: Outgoing,
    /// Names that it looks up.
    pub dns: Dns,
    /// Connections that come to the target.
    pub incoming: Incoming,
    /// Whether IPv6 leads to the target as well; without it IPv6 stays this machine's, and names have no such addresses.
    pub ipv6: bool,
}

impl NetworkPlan {
    /// Whether something leads to the target, or comes from it.
    pub fn is_needed(&self) -> bool {
        self.outgoing.tcp
            || self.outgoing.udp
            || self.outgoing.unix_streams.is_set()
            || self.dns.enabled
            || self.incoming.mode != IncomingMode::Off
    }

    /// Whether questions to name servers are answered by the session: to answer them as the target would, or because a
    /// filter goes by names, which only answers tell.
    pub(crate) fn answers_names(&self) -> bool {
        self.dns.enabled || self.outgoing.filter.as_ref().is_some_and(Filter::has_names)
    }
}
