//! `feature.network.outgoing`: which connections of the process begin at the target.

use super::address::{Grammar, SideFilter, side_filter};
use crate::decode::{OneOrMany, Report, Switch, defaults, record, switch};
use crate::tree::Node;

record! {
    /// Where the process connects from.
    pub struct Outgoing {
        /// Whether TCP goes through the target.
        tcp: bool = true,
        /// Whether UDP does.
        udp: bool = true,
        /// Whether `localhost` stays this machine.
        ignore_localhost: bool = false,
        /// Which destinations are meant; all without.
        filter: Option<SideFilter> [filter] = None,
        /// Unix sockets (regular expressions) that are the target's.
        unix_streams: Option<OneOrMany<String>>,
    }
}

impl Default for Outgoing {
    fn default() -> Self {
        defaults()
    }
}

impl Switch for Outgoing {
    fn off() -> Self {
        Self {
            tcp: false,
            udp: false,
            ..Self::default()
        }
    }
}

fn filter(node: &Node<'_>, report: &mut Report) -> Option<Option<SideFilter>> {
    side_filter(node, Grammar::Connections, report).map(Some)
}

/// Reads `true`, `false` or an object.
pub(super) fn outgoing(node: &Node<'_>, report: &mut Report) -> Option<Outgoing> {
    switch(node, report)
}
