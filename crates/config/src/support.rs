//! What becomes of each key: the one table that messages and the reference are made of.
//!
//! A key has the standing of its nearest ancestor in the table; what is under none of them is used. Owns saying so for
//! keys whose presence alone decides. Where the value decides, the concern's own code asks for the text.

use crate::decode::Report;
use crate::diagnostic::Weight;
use crate::tree::{Node, Value};

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It does what it says.
    Used,
    /// It will, and does not yet: a run goes on without it and says so.
    NotInForce,
    /// It means nothing here: a run goes on without it.
    NoEffect,
    /// `exec` refuses a file that asks for it.
    Refused,
}

/// When the reader says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// The file has the key, neither `null` nor `false`.
    On,
    /// The file has the key, and an object that is not empty.
    NotEmpty,
    /// Never: files say it by habit, and nobody misses it.
    Untold,
    /// The concern's own code decides by the value.
    ByValue,
}

/// What becomes of one key and all below it.
pub(crate) struct Support {
    /// The path, `[]` standing for every entry of a list.
    pub(crate) path: &'static str,
    pub(crate) standing: Standing,
    /// What happens instead: a fragment that reads after the path.
    pub(crate) effect: &'static str,
    when: When,
}

const fn no_effect(path: &'static str, effect: &'static str, when: When) -> Support {
    Support {
        path,
        standing: Standing::NoEffect,
        effect,
        when,
    }
}

const fn refused(path: &'static str, effect: &'static str, when: When) -> Support {
    Support {
        path,
        standing: Standing::Refused,
        effect,
        when,
    }
}

const fn not_in_force(path: &'static str, effect: &'static str) -> Support {
    Support {
        path,
        standing: Standing::NotInForce,
        effect,
        when: When::ByValue,
    }
}

const NO_EFFECT_HERE: &str = "has no effect in this version";
const NOT_PRELOADED: &str =
    "has no effect: nothing is preloaded, so no program has to be left alone";
const NO_PROXY: &str = "has no effect: there is no such proxy";
const LOCAL_FILES: &str = "has no effect: files are this machine's";
const CLUSTER_ONLY: &str = "can be read in a cluster only: name a variable";
const OWN_ENVIRONMENT: &str = "means nothing on this machine: the target's own environment counts";
const STOLEN_TLS: &str = "has no effect: stolen TLS comes to the process as its client sent it";
const NO_LISTS: &str = "lists of paths are not supported yet";

/// Every key that is not simply used, parents before children.
pub(crate) const TABLE: &[Support] = &[
    no_effect("$schema", "is for editors", When::Untold),
    no_effect(
        "operator",
        "has no effect in the context `local`, which has no operator",
        When::Untold,
    ),
    no_effect("accept_invalid_certificates", NO_EFFECT_HERE, When::On),
    refused(
        "profile",
        "profiles of the cluster are not supported: write what it says into the file",
        When::On,
    ),
    refused(
        "multi_cluster",
        "sessions over several clusters are not supported",
        When::On,
    ),
    no_effect("agent", NO_EFFECT_HERE, When::On),
    no_effect("container", "has no effect on a session", When::On),
    no_effect("internal_proxy", NO_PROXY, When::On),
    no_effect("external_proxy", NO_PROXY, When::On),
    no_effect("experimental", NO_EFFECT_HERE, When::On),
    no_effect("startup_retry", NO_EFFECT_HERE, When::On),
    no_effect("ci", "has no effect on a session", When::On),
    no_effect("skip_processes", NOT_PRELOADED, When::On),
    no_effect("skip_build_tools", NOT_PRELOADED, When::On),
    no_effect("skip_extra_build_tools", NOT_PRELOADED, When::On),
    no_effect("skip_sip", NOT_PRELOADED, When::On),
    no_effect("sip_binaries", NOT_PRELOADED, When::On),
    no_effect("api", NO_EFFECT_HERE, When::On),
    no_effect(
        "telemetry",
        "has no effect: nothing is ever sent home",
        When::On,
    ),
    no_effect("use_proxy", NO_EFFECT_HERE, When::On),
    no_effect("traceparent", NO_EFFECT_HERE, When::On),
    no_effect("baggage", NO_EFFECT_HERE, When::On),
    refused(
        "feature.network.incoming.http_filter.body_filter",
        "filters over bodies are not supported yet",
        When::On,
    ),
    refused(
        "feature.network.incoming.http_filter.header_filter_jq",
        "jq programs are not supported yet",
        When::On,
    ),
    no_effect(
        "feature.network.incoming.tls_delivery",
        STOLEN_TLS,
        When::On,
    ),
    no_effect(
        "feature.network.incoming.https_delivery",
        STOLEN_TLS,
        When::On,
    ),
    refused(
        "feature.fs.mode",
        "modes other than \"local\" are not supported yet; where only the default chose one, runs as \"local\"",
        When::ByValue,
    ),
    refused("feature.fs.read_write", NO_LISTS, When::ByValue),
    refused("feature.fs.read_only", NO_LISTS, When::ByValue),
    no_effect("feature.fs.local", LOCAL_FILES, When::Untold),
    refused("feature.fs.not_found", NO_LISTS, When::ByValue),
    refused("feature.fs.mapping", NO_LISTS, When::ByValue),
    no_effect("feature.fs.readonly_file_buffer", LOCAL_FILES, When::Untold),
    no_effect(
        "feature.env.load_from_process",
        "has no effect: the process has its variables from its start",
        When::On,
    ),
    refused(
        "feature.copy_target",
        "copies of a target are not supported yet",
        When::ByValue,
    ),
    not_in_force(
        "feature.hostname",
        "not in force yet: the process sees this machine's host name",
    ),
    refused(
        "feature.split_queues",
        "split queues are not supported yet",
        When::NotEmpty,
    ),
    no_effect("feature.magic.auto_mount", LOCAL_FILES, When::On),
    no_effect("feature.magic.turbo", LOCAL_FILES, When::On),
    no_effect("feature.preview", "has no effect on a session", When::On),
    refused(
        "feature.db_branches[].profile",
        "profiles are not supported yet",
        When::ByValue,
    ),
    refused(
        "feature.db_branches[].iam_auth",
        "logging in to a source by a cloud provider's identity is not supported yet",
        When::ByValue,
    ),
    refused(
        "feature.db_branches[].migrations",
        "migrations are not run yet: run them in the session",
        When::ByValue,
    ),
    refused(
        "feature.db_branches[].connection.url.name",
        CLUSTER_ONLY,
        When::ByValue,
    ),
    refused(
        "feature.db_branches[].connection.url.key",
        CLUSTER_ONLY,
        When::ByValue,
    ),
    refused(
        "feature.db_branches[].connection.url.secret_ref",
        CLUSTER_ONLY,
        When::ByValue,
    ),
    no_effect(
        "feature.db_branches[].connection.url.container",
        OWN_ENVIRONMENT,
        When::ByValue,
    ),
    refused(
        "feature.db_branches[].connection.params.{}.secret",
        CLUSTER_ONLY,
        When::ByValue,
    ),
    refused(
        "feature.db_branches[].connection.params.{}.key",
        CLUSTER_ONLY,
        When::ByValue,
    ),
    refused(
        "feature.db_branches[].connection.params.{}.gcp_secret_manager",
        CLUSTER_ONLY,
        When::ByValue,
    ),
];

/// What becomes of `path`; none where it is used.
pub(crate) fn of(path: &str) -> Option<&'static Support> {
    TABLE
        .iter()
        .filter(|support| {
            path.strip_prefix(support.path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
        .max_by_key(|support| support.path.len())
}

/// The fragment for exactly `path`.
pub(crate) fn effect(path: &'static str) -> &'static str {
    let found = TABLE.iter().find(|support| support.path == path);
    found.expect("the table has the path").effect
}

impl Standing {
    fn weight(self) -> Weight {
        match self {
            Self::Refused => Weight::Refused,
            Self::Used | Self::NotInForce | Self::NoEffect => Weight::Told,
        }
    }
}

/// Says of `node` what the table says of `path`.
pub(crate) fn tell(path: &'static str, node: &Node<'_>, report: &mut Report) {
    if let Some(support) = TABLE.iter().find(|support| support.path == path) {
        report.lacks(node, support.standing.weight(), support.effect);
    }
}

/// Says what becomes of every key of the file whose presence decides.
pub(crate) fn tell_present(root: &Node<'_>, report: &mut Report) {
    for support in TABLE {
        let keys: Vec<&str> = support.path.split('.').collect();
        let Some(value) = root.find(&keys) else {
            continue;
        };
        let is_on = match support.when {
            When::On => !value.is_null() && value.truth() != Some(false),
            When::NotEmpty => {
                matches!(&value.tree.value, Value::Object(members) if !members.is_empty())
            }
            When::Untold | When::ByValue => false,
        };
        if is_on {
            report.lacks(&value, support.standing.weight(), support.effect);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_standing_of_its_nearest_ancestor() {
        let standing = |path| of(path).map(|support| support.standing);
        assert_eq!(standing("agent.dns.timeout"), Some(Standing::NoEffect));
        assert_eq!(standing("feature.fs.mapping"), Some(Standing::Refused));
        assert_eq!(
            standing("feature.db_branches[].migrations.path"),
            Some(Standing::Refused)
        );
        for used in [
            "target",
            "feature.env.include",
            "feature.fs",
            "feature.db_branches[].id",
            "key",
        ] {
            assert_eq!(standing(used), None, "{used}");
        }
        // A longer name is another key.
        assert_eq!(standing("profiles"), None);
    }
}
