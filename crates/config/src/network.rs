//! `feature.network`: what the process hears, where it connects, and whose names it resolves.
//!
//! Owns the object and what of it is in force. `incoming` (with `http_filter` and `tls_delivery`), `outgoing` and `dns`
//! own their parts, `address` the entries of their filters. Leaves moving bytes to supervisor and agent.

mod address;
mod dns;
mod http_filter;
mod incoming;
mod outgoing;
mod tls_delivery;

use crate::decode::{Report, Switch, defaults, record};
use crate::diagnostic::Weight;
use crate::tree::{Node, Value};

pub use address::{AddressEntry, AddressEntryError, AddressMatch, Protocol, Side, SideFilter};
pub use dns::Dns;
pub use http_filter::{BodyFilter, BodyFormat, HttpFilter, InnerFilter};
pub use incoming::{ConcurrentSteal, Incoming, IncomingMode};
pub use outgoing::Outgoing;
pub use tls_delivery::{DeliveryProtocol, TlsDelivery};

record! {
    /// How the process takes part in the target's network.
    pub struct Network {
        /// What comes to the target.
        incoming: Incoming [incoming::incoming] = Incoming::default(),
        /// Where the process connects from.
        outgoing: Outgoing [outgoing::outgoing] = Outgoing::default(),
        /// Who resolves names.
        dns: Dns [dns::dns] = Dns::default(),
        /// Whether IPv6 takes part.
        ipv6: bool = true,
    }
}

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

/// Says what of `feature.network` is not in force yet: a run goes on without it. `node` is the feature's, if any.
pub(crate) fn tell_lacking(network: &Network, node: Option<&Node<'_>>, report: &mut Report) {
    let parts = [
        (
            "incoming",
            network.incoming.mode != IncomingMode::Off,
            "not in force yet: the target keeps its traffic, and the process is reached on this machine alone",
        ),
        (
            "outgoing",
            network.outgoing.tcp || network.outgoing.udp,
            "not in force yet: the process connects from this machine",
        ),
        (
            "dns",
            network.dns.enabled,
            "not in force yet: names are resolved on this machine",
        ),
        (
            "ipv6",
            !network.ipv6,
            "not in force yet: the process uses IPv6 as this machine does",
        ),
    ];
    for (key, is_on, effect) in parts {
        if !is_on {
            continue;
        }
        let chosen = node.and_then(|node| match node.tree.value {
            Value::Bool(_) => Some(node.clone()),
            Value::Null | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Object(_) => {
                node.get(key).filter(|value| !value.is_null())
            }
        });
        match chosen {
            Some(value) => report.lacks(&value, Weight::Told, effect),
            None => report.default_lacks(&format!("feature.network.{key}"), effect),
        }
    }
}

#[cfg(test)]
mod tests;
