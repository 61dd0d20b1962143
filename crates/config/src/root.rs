//! The whole file: its root keys and `feature`, and making a `Config` of them.
//!
//! Owns which keys there are at these two levels, and defaults. `rest` names the keys that are known and not used.
//! Leaves what the keys hold to the folder of each concern, and what must hold between them to `check`.

mod rest;

use std::collections::BTreeMap;

use crate::branch::{self, WrittenBranch};
use crate::check;
use crate::config::{Config, SessionKey};
use crate::connection;
use crate::decode::{Anything, Decode, Record, Report, Switch, defaults, record, switch};
use crate::diagnostic::Weight;
use crate::environment::{EnvRules, Magic};
use crate::fs::{self, Fs};
use crate::network::{self, Network};
use crate::reader::Surroundings;
use crate::target::{self, Target};
use crate::tree::{Node, Value};

record! {
    /// A copy of the target for the session.
    pub struct CopyTarget {
        /// Whether there is one.
        enabled: bool = true,
        /// Whether the target itself is scaled to nothing meanwhile.
        scale_down: bool = false,
        /// Containers that the copy does not have.
        exclude_containers: Vec<String> = Vec::new(),
        /// Init containers that it does not have.
        exclude_init_containers: Vec<String> = Vec::new(),
    }
}

impl Switch for CopyTarget {
    fn off() -> Self {
        Self {
            enabled: false,
            ..defaults()
        }
    }
}

record! {
    /// The features.
    pub(crate) struct Feature {
        /// Variables.
        env: EnvRules [switch] = EnvRules::default(),
        /// Files.
        fs: Fs [fs::fs] = Fs::default(),
        /// Network.
        network: Network [switch] = Network::default(),
        /// A copy of the target.
        copy_target: CopyTarget [switch] = CopyTarget::off(),
        /// The target's host name.
        hostname: bool = true,
        /// Message queues that are split.
        split_queues: Option<BTreeMap<String, Anything>>,
        /// Branches of databases.
        db_branches: Option<Vec<WrittenBranch>>,
        /// What is done unasked.
        magic: Magic = Magic::default(),
        /// Preview environments.
        preview: Option<Anything>,
    }
}

record! {
    /// The file.
    pub(crate) struct Root {
        /// For editors.
        schema as "$schema": Option<Anything>,
        /// Whose place is taken.
        target: Target [target::target] = Target::default(),
        /// The features.
        feature: Feature = defaults(),
        /// Branches of databases, in the older home of the list.
        db_branches: Option<Vec<WrittenBranch>>,
        /// Whether an operator is used.
        operator: Option<bool>,
        /// The kubeconfig's context.
        kube_context: Option<String>,
        /// The kubeconfig.
        kubeconfig: Option<String>,
        /// The session's key.
        key: Option<String> [key] = None,
        /// The agent's pod.
        agent: Option<Anything>,
        /// Running in a container.
        container: Option<Anything>,
        /// Several clusters.
        multi_cluster: Option<Anything>,
        /// A profile of the cluster.
        profile: Option<Anything>,
        /// Certificates of the API server.
        accept_invalid_certificates: Option<Anything>,
        /// Programs that are left alone.
        skip_processes: Option<Anything>,
        /// Build tools that are left alone.
        skip_build_tools: Option<Anything>,
        /// More of them.
        skip_extra_build_tools: Option<Anything>,
        /// A local API.
        api: Option<Anything>,
        /// Programs on macOS.
        sip_binaries: Option<Anything>,
        /// Programs on macOS that are left alone.
        skip_sip: Option<Anything>,
        /// What is sent home.
        telemetry: Option<Anything>,
        /// A helper of the session.
        internal_proxy: Option<Anything>,
        /// Another one.
        external_proxy: Option<Anything>,
        /// Proxies of the environment.
        use_proxy: Option<Anything>,
        /// Experiments.
        experimental: Option<Anything>,
        /// How often a start is tried.
        startup_retry: Option<Anything>,
        /// Continuous integration.
        ci: Option<Anything>,
        /// A trace's parent.
        traceparent: Option<Anything>,
        /// A trace's baggage.
        baggage: Option<Anything>,
    }
}

fn key(node: &Node<'_>, report: &mut Report) -> Option<Option<String>> {
    let text = String::decode(node, report)?;
    if text.is_empty() {
        report.problem(node, "an empty key names no session");
        return None;
    }
    Some(Some(text))
}

/// Where the list of branches stands, first the home that counts.
const BRANCH_HOMES: [&[&str]; 2] = [&["feature", "db_branches"], &["db_branches"]];

/// Makes a configuration of the file's tree. None: what is wrong was reported.
pub(crate) fn resolve(
    node: &Node<'_>,
    key: &SessionKey,
    surroundings: &Surroundings,
    report: &mut Report,
) -> Option<Config> {
    rest::check_names(node, report);
    let root = Root::decode(node, report)?;
    let mut target = root.target;
    if let Some(given) = &surroundings.target {
        target.choice = given.clone();
    }
    if let Some(given) = &surroundings.namespace {
        target.namespace = Some(given.clone());
    }
    let feature = root.feature;
    let (written, list) = merge_branches(feature.db_branches, root.db_branches, node, report);
    let parts = Parts {
        target: &target,
        network: &feature.network,
        env: &feature.env,
        copy_target: &feature.copy_target,
        operator: root.operator,
        splits_queues: feature
            .split_queues
            .is_some_and(|queues| !queues.is_empty()),
        branches: &written,
        branch_nodes: &list,
    };
    check::check(&parts, node, surroundings, report);
    tell_lacking(&parts, &feature.fs, feature.hostname, node, report);
    let branches = branch::resolve(written, &list, key, report);
    check::check_ids(&branches, &list, report);
    let mut env = feature.env;
    if feature.magic.aws {
        env.add_aws_magic();
    }
    Some(Config {
        target,
        operator: root.operator,
        kube_context: root.kube_context,
        kubeconfig: root.kubeconfig,
        key: key.clone(),
        network: feature.network,
        fs: feature.fs,
        env,
        copy_target: feature.copy_target,
        hostname: feature.hostname,
        magic: feature.magic,
        branches,
        warnings: Vec::new(),
        unsupported: Vec::new(),
    })
}

/// What the checks between concerns look at.
pub(crate) struct Parts<'a, 't> {
    pub(crate) target: &'a Target,
    pub(crate) network: &'a Network,
    pub(crate) env: &'a EnvRules,
    pub(crate) copy_target: &'a CopyTarget,
    pub(crate) operator: Option<bool>,
    pub(crate) splits_queues: bool,
    pub(crate) branches: &'a [WrittenBranch],
    /// The entries of the list, in the same order.
    pub(crate) branch_nodes: &'a [Node<'t>],
}

/// The one list of branches; both homes at once would leave open which counts.
fn merge_branches<'t>(
    in_feature: Option<Vec<WrittenBranch>>,
    in_root: Option<Vec<WrittenBranch>>,
    node: &Node<'t>,
    report: &mut Report,
) -> (Vec<WrittenBranch>, Vec<Node<'t>>) {
    if let (Some(_), Some(_), Some(second)) = (&in_feature, &in_root, node.get("db_branches")) {
        report
            .problem(&second, "\"db_branches\" is here and under \"feature\"")
            .hint("keep the list under \"feature\"");
    }
    let [feature_home, root_home] = BRANCH_HOMES;
    let (written, home) = match (in_feature, in_root) {
        (Some(written), _) => (written, feature_home),
        (None, Some(written)) => (written, root_home),
        (None, None) => return (Vec::new(), Vec::new()),
    };
    let items = node.find(home).map(|list| list.items()).unwrap_or_default();
    (written, items)
}

fn tell_lacking(
    parts: &Parts<'_, '_>,
    fs: &Fs,
    hostname: bool,
    node: &Node<'_>,
    report: &mut Report,
) {
    let feature = |key: &str| {
        node.find(&["feature", key])
            .filter(|value| !value.is_null())
    };
    network::tell_lacking(parts.network, feature("network").as_ref(), report);
    fs::tell_lacking(fs, feature("fs").as_ref(), report);
    if parts.copy_target.enabled
        && let Some(copy_target) = feature("copy_target")
    {
        report.lacks(
            &copy_target,
            Weight::Refused,
            "copies of a target are not supported yet",
        );
    }
    if parts.splits_queues
        && let Some(queues) = feature("split_queues")
    {
        report.lacks(
            &queues,
            Weight::Refused,
            "split queues are not supported yet",
        );
    }
    if hostname {
        let effect = "not in force yet: the process sees this machine's host name";
        match feature("hostname") {
            Some(chosen) => report.lacks(&chosen, Weight::Told, effect),
            None => report.default_lacks("feature.hostname", effect),
        }
    }
    if let Some(preview) = feature("preview") {
        report.lacks(&preview, Weight::Told, "has no effect on a session");
    }
    for (key, effect) in [
        ("aws", "removes AWS_PROFILE alone: ~/.aws is this machine's"),
        ("auto_mount", "has no effect: files are this machine's"),
        ("turbo", "has no effect: files are this machine's"),
    ] {
        let chosen = node.find(&["feature", "magic", key]);
        if let Some(chosen) = chosen.filter(|value| matches!(value.tree.value, Value::Bool(true))) {
            report.lacks(&chosen, Weight::Told, effect);
        }
    }
}

/// The objects whose keys people put elsewhere, in words.
pub(crate) fn homes() -> Vec<(&'static str, &'static [&'static str])> {
    vec![
        ("at the root of the file", Root::KEYS),
        ("under \"feature\"", Feature::KEYS),
        ("under \"feature.network\"", Network::KEYS),
    ]
}

/// Every key of the format: the words that may be shown of a file that cannot be read.
pub(crate) fn vocabulary() -> Vec<&'static str> {
    [
        Root::KEYS.to_vec(),
        Feature::KEYS.to_vec(),
        Network::KEYS.to_vec(),
        CopyTarget::KEYS.to_vec(),
        connection::vocabulary(),
        branch::vocabulary(),
        vec![
            "path",
            "namespace",
            "include",
            "exclude",
            "unset",
            "env_file",
            "incoming",
            "outgoing",
        ],
        vec![
            "true", "false", "null", "mirror", "steal", "off", "local", "read", "write",
        ],
    ]
    .concat()
}
