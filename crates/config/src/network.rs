//! `feature.network`: what the process hears, where it connects, and whose names it resolves.
//!
//! Owns the object. `incoming` (with `http_filter` and `tls_delivery`), `outgoing` and `dns`
//! own their parts, `address` the entries of their filters. Leaves moving bytes to supervisor and agent.

mod address;
mod dns;
mod http_filter;
mod incoming;
mod outgoing;
mod tls_delivery;

use crate::decode::{Report, Switch, defaults, record, switches};
use crate::tree::Node;

pub use address::{AddressEntry, AddressEntryError, AddressMatch, Protocol, Side, SideFilter};
pub use dns::Dns;
pub use http_filter::{BodyFilter, BodyFormat, HttpFilter, InnerFilter};
pub use incoming::{ConcurrentSteal, Incoming};
pub use outgoing::Outgoing;
pub use tls_delivery::{DeliveryProtocol, TlsDelivery};

record! {
    /// How the process takes part in the target's network. `true` is every default, `false` turns incoming, outgoing
    /// and dns off.
    pub struct Network in more forms {
        /// What comes to the target, and who gets it.
        /// Example: `"steal"`
        incoming: Incoming = Incoming::default(),
        /// Which connections of the process begin at the target instead of this machine.
        /// Example: `{"tcp": true, "udp": false}`
        outgoing: Outgoing = Outgoing::default(),
        /// Whether names are resolved as the target would resolve them.
        /// Example: `false`
        dns: Dns = Dns::default(),
        /// Whether IPv6 takes part.
        /// Example: `false`
        ipv6: bool = true,
    }
}

switches!(Network);

impl Default for Network {
    fn default() -> Self {
        defaults()
    }
}

impl Switch for Network {
    fn off() -> Self {
        Self {
            incoming: Incoming::off(),
            outgoing: Outgoing::off(),
            dns: Dns::off(),
            ipv6: true,
        }
    }
}

impl Network {
    /// What one part says for another. `node` is the feature's, if any.
    pub(crate) fn reflect(&mut self, node: Option<&Node<'_>>, report: &mut Report) {
        if let Some(filter) = node.and_then(|node| node.find(&["outgoing", "filter"])) {
            self.warn_of_sides(&filter, report);
        }
        self.dns.take_names_of(&self.outgoing);
    }

    /// A name that is resolved on one side may mean nothing on the other.
    fn warn_of_sides(&self, filter: &Node<'_>, report: &mut Report) {
        let Some(outgoing) = &self.outgoing.filter else {
            return;
        };
        if outgoing.side == Side::Remote && !self.dns.enabled && outgoing.names().next().is_some() {
            report
                .warning(
                    filter,
                    "these names are resolved on this machine: \"dns\" is off",
                )
                .hint("turn \"dns\" on to have the target resolve what it is to connect to");
        }
        let Some(dns) = self
            .dns
            .filter
            .as_ref()
            .filter(|dns| dns.side != outgoing.side)
        else {
            return;
        };
        for name in outgoing.names() {
            if dns.names().any(|other| other == name) {
                report.warning(
                    filter,
                    format!("{name} is connected to on one side and, by \"dns.filter\", resolved on the other side"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
