//! `feature.network.outgoing`: which connections of the process begin at the target.

use super::address::{Grammar, SideFilter, connection_filter_shape, side_filter};
use crate::decode::{OneOrMany, Report, Switch, defaults, record, switches};
use crate::tree::Node;

record! {
    /// Which connections of the process begin at the target. `true` is all of them, `false` none.
    pub struct Outgoing in more forms {
        /// Whether TCP goes through the target.
        tcp: bool = true,
        /// Whether UDP goes through the target.
        udp: bool = true,
        /// Whether `localhost` stays this machine's.
        ignore_localhost: bool = false,
        /// Which destinations are meant: `remote` lists the only ones that go through the target, `local` those that
        /// stay here. An entry is `[tcp|udp|any://](name|address|[v6]|network/bits)[:port]`, or `:port`. The names of
        /// the list hold for `dns.filter` as well.
        /// Example: `{"local": ["tcp://10.0.0.0/8:5432", "example.com", ":53"]}`
        filter: Option<SideFilter> [filter, connection_filter_shape] = None,
        /// Unix sockets (regular expressions over their paths) that are the target's.
        /// Example: `"^/run/shared/.+"`
        unix_streams: Option<OneOrMany<String>>,
    }
}

switches!(Outgoing);

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
