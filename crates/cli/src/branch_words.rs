//! A branch in words, as reports and sessions tell of it. Pure.

use jiff::Timestamp;
use model::engine_api::{BaseView, BranchView, Freshness};

use crate::ui::words;

/// The source's address and database: `db:5432/inventory`, and whose network the address is in.
pub(crate) fn source(branch: &BranchView) -> String {
    let place = format!("{}/{}", branch.spec.source, branch.spec.database);
    address(&place, branch.spec.network.as_deref())
}

/// An address, with the network that it is in where that is not this machine's.
pub(crate) fn address(place: &str, network: Option<&str>) -> String {
    match network {
        Some(network) => format!("{place} (in the network of {network})"),
        None => place.to_owned(),
    }
}

/// How fresh the data is, and how that is known.
pub(crate) fn freshness(base: &BaseView, now: Timestamp) -> String {
    let how = match base.freshness {
        Freshness::Copied => "copied for this branch",
        Freshness::Unmoved => "the source had not moved since its copy",
        Freshness::Accepted => "young enough for what was asked; the source may have moved since",
        Freshness::Replayed => "the base follows the source and had everything",
    };
    let lag = base
        .lag_milliseconds
        .map(|lag| format!(" {lag} ms after it was asked"));
    let lag = lag.unwrap_or_default();
    let age = words::ago(base.taken_at, now);
    format!(
        "data as of {} ({age}), position {}; {how}{lag}",
        words::moment(base.taken_at),
        base.position
    )
}

/// Until when the branch lives.
pub(crate) fn life(branch: &BranchView, now: Timestamp) -> String {
    let ttl = words::span(branch.ttl_seconds.0);
    match branch.expires_at {
        Some(then) => format!(
            "until {} ({})",
            words::moment(then),
            words::ahead(then, now)
        ),
        None if branch.sessions.is_empty() => format!("{ttl} from when it is ready"),
        None => format!("{ttl} from when its last session leaves"),
    }
}

/// The command that deletes the branch.
pub(crate) fn destroy_command(branch: &BranchView) -> String {
    let id = words::shell_word(branch.id.as_str());
    format!("bough db-branches -n {} destroy {id}", branch.namespace)
}
