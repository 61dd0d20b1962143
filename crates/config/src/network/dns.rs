//! `feature.network.dns`: which names are resolved as the target would.

use super::address::{
    AddressEntry, AddressMatch, Grammar, Protocol, SideFilter, name_filter_shape, side_filter,
};
use super::outgoing::Outgoing;
use crate::decode::{Report, Switch, defaults, record, switches};
use crate::tree::Node;

record! {
    /// Who resolves names. `true` is the target, `false` this machine.
    pub struct Dns in more forms {
        /// Whether the target resolves names.
        enabled: bool = true,
        /// Which names are meant: `remote` lists the only ones that the target resolves, `local` those that this machine
        /// does. An entry is `(name|address|[v6]|network/bits)[:port]`, or `:port`.
        /// Example: `{"remote": ["orders.shop"]}`
        filter: Option<SideFilter> [filter, name_filter_shape] = None,
    }
}

switches!(Dns, warn_of_idle_filter);

impl Default for Dns {
    fn default() -> Self {
        defaults()
    }
}

impl Switch for Dns {
    fn off() -> Self {
        Self {
            enabled: false,
            filter: None,
        }
    }
}

fn filter(node: &Node<'_>, report: &mut Report) -> Option<Option<SideFilter>> {
    side_filter(node, Grammar::Names, report).map(Some)
}

fn warn_of_idle_filter(dns: &Dns, node: &Node<'_>, report: &mut Report) {
    if !dns.enabled
        && let Some(filter) = node.given("filter")
    {
        report.warning(
            &filter,
            "the filter has no effect: names are resolved on this machine",
        );
    }
}

impl Dns {
    /// A name whose connections stay on one side is resolved on that side: the names of `outgoing.filter` count here
    /// as well, unless this filter is about the other side. Looking a name up knows no protocol.
    pub(super) fn take_names_of(&mut self, outgoing: &Outgoing) {
        let Some(theirs) = &outgoing.filter else {
            return;
        };
        let names: Vec<_> = theirs
            .entries
            .iter()
            .filter(|entry| matches!(entry.address, AddressMatch::Name(_)))
            .map(|entry| AddressEntry {
                protocol: Protocol::Any,
                ..entry.clone()
            })
            .collect();
        if !self.enabled || names.is_empty() {
            return;
        }
        let own = self.filter.get_or_insert_with(|| SideFilter {
            side: theirs.side,
            entries: Vec::new(),
        });
        if own.side == theirs.side {
            for name in names {
                if !own.entries.contains(&name) {
                    own.entries.push(name);
                }
            }
        }
    }
}
