//! `feature.network.dns`: which names are resolved as the target would.

use super::address::{Grammar, SideFilter, side_filter};
use crate::decode::{Report, Switch, defaults, record, switch};
use crate::tree::Node;

record! {
    /// Who resolves names.
    pub struct Dns {
        /// Whether the target does.
        enabled: bool = true,
        /// Which names are meant; all without.
        filter: Option<SideFilter> [filter] = None,
    }
}

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

/// Reads `true`, `false` or an object.
pub(super) fn dns(node: &Node<'_>, report: &mut Report) -> Option<Dns> {
    let dns: Dns = switch(node, report)?;
    if !dns.enabled
        && let Some(filter) = node.get("filter").filter(|filter| !filter.is_null())
    {
        report.warning(
            &filter,
            "the filter has no effect: names are resolved on this machine",
        );
    }
    Some(dns)
}
