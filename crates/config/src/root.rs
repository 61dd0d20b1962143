//! The whole file: its root keys and `feature`, and making a `Config` of them.
//!
//! Owns which keys there are at these two levels, and defaults. `agent`, `container`, `experimental`, `preview` and
//! `queues` have the keys that are read and not used: `support` says what becomes of them. Leaves what the other keys
//! hold to the folder of each concern, and what must hold between them to `check`.

mod address;
mod agent;
mod container;
mod experimental;
mod preview;
mod queues;

use std::collections::BTreeMap;

use crate::branch::{self, WrittenBranch};
use crate::check;
use crate::config::{Config, SessionKey};
use crate::connection;
use crate::decode::{
    Anything, Decode, OneOrMany, Record, Render, Report, Shape, Switch, defaults, record, switches,
};
use crate::environment::{EnvRules, Magic, WrittenRules};
use crate::fs::{self, Fs};
use crate::json::Json;
use crate::network::{HttpFilter, Incoming, Network};
use crate::reader::Surroundings;
use crate::support;
use crate::target::Target;
use crate::tree::Node;
use agent::Agent;
use container::{Ci, Container, ExternalProxy, InternalProxy, StartupRetry};
use experimental::Experimental;
use preview::Preview;
use queues::Queue;

record! {
    /// A copy of the target for the session. `true` is an object with every default, `false` is none.
    pub struct CopyTarget in more forms {
        /// Whether there is one.
        enabled: bool = true,
        /// Whether the target itself is scaled to nothing meanwhile.
        scale_down: bool = false,
        /// Containers that the copy does not have.
        /// Example: `["sidecar"]`
        exclude_containers: Vec<String> = Vec::new(),
        /// Init containers that the copy does not have.
        /// Example: `["migrate"]`
        exclude_init_containers: Vec<String> = Vec::new(),
    }
}

switches!(CopyTarget);

impl Switch for CopyTarget {
    fn off() -> Self {
        Self {
            enabled: false,
            ..defaults()
        }
    }
}

record! {
    /// What a session does.
    pub(crate) struct Feature {
        /// Which variables the process gets.
        /// Example: `{"exclude": "SENTRY_*", "override": {"LOG_LEVEL": "debug"}}`
        env: EnvRules = EnvRules::default(),
        /// Whose files the process sees.
        /// Example: `"local"`
        fs: Fs = Fs::default(),
        /// How the process takes part in the target's network.
        /// Example: `{"incoming": "mirror", "outgoing": true}`
        network: Network = Network::default(),
        /// A copy of the target for the session.
        /// Example: `{"scale_down": true}`
        copy_target: CopyTarget = CopyTarget::off(),
        /// Whether the process sees the target's host name.
        hostname: bool = true,
        /// Message queues whose messages are shared between target and process, by name.
        /// Example: `{"orders": {"queue_type": "SQS", "message_filter": {"session": "^ada$"}}}`
        split_queues: BTreeMap<String, Queue> = BTreeMap::new(),
        /// Branches of databases.
        /// Example: `[{"type": "pg", "id": "my-debug-session", "connection": {"url": "DATABASE_URL"}, "copy": {"mode": "all"}}]`
        db_branches: Option<Vec<WrittenBranch>>,
        /// What is done unasked.
        /// Example: `{"aws": false}`
        magic: Magic = defaults(),
        /// An environment that lives without a session.
        /// Example: `{"ttl_mins": 60}`
        preview: Preview = defaults(),
    }
}

record! {
    /// A configuration file.
    pub(crate) struct Root {
        /// The schema of this file, for editors.
        /// Example: `"https://example.com/bough.schema.json"`
        schema as "$schema": Option<Anything>,
        /// The workload whose place is taken: `"KIND/NAME"`, `"targetless"`, or an object.
        /// Example: `{"path": {"deployment": "inventory"}, "namespace": "metalmart"}`
        target: Target = Target::default(),
        /// What a session does.
        /// Example: `{"env": true}`
        feature: Feature = defaults(),
        /// Branches of databases, in the older home of the list: `feature.db_branches` says the same.
        /// Example: `[{"type": "pg", "connection": {"url": "DATABASE_URL"}}]`
        db_branches: Option<Vec<WrittenBranch>>,
        /// The session's key: finds branches again that have no id, and is `{{ key }}` in templates. Without it random.
        /// Example: `"ada-1"`
        key: Option<Key>,
        /// Whether an operator is used in a cluster: `true` demands one, `false` forbids it.
        /// Example: `true`
        operator: Option<bool>,
        /// Where targets live: `"local"`, or a context of the kubeconfig.
        /// Example: `"local"`
        kube_context: Option<String>,
        /// The kubeconfig.
        /// Example: `"~/.kube/other"`
        kubeconfig: Option<String>,
        /// Whether certificates of the API server are not checked.
        /// Example: `true`
        accept_invalid_certificates: Option<bool>,
        /// A profile of the cluster: `NAME` or `NAMESPACE/NAME`.
        /// Example: `"developers"`
        profile: Option<String>,
        /// Whether the session spans several clusters.
        /// Example: `true`
        multi_cluster: Option<bool>,
        /// The pod that mirrord puts beside a target.
        /// Example: `{"log_level": "debug"}`
        agent: Agent = defaults(),
        /// How `mirrord container` runs.
        /// Example: `{"platform": "linux/amd64"}`
        container: Container = defaults(),
        /// The helper of a session.
        /// Example: `{"idle_timeout": 30}`
        internal_proxy: InternalProxy = defaults(),
        /// The helper of a session in a container.
        /// Example: `{"idle_timeout": 30}`
        external_proxy: ExternalProxy = defaults(),
        /// What mirrord tries out.
        /// Example: `{"use_dev_null": false}`
        experimental: Experimental = defaults(),
        /// How often the API server is asked again at the start.
        /// Example: `{"max_retries": 5}`
        startup_retry: StartupRetry = defaults(),
        /// Continuous integration.
        /// Example: `{"output_dir": "/tmp/out"}`
        ci: Ci = defaults(),
        /// Programs that are left alone.
        /// Example: `["bash"]`
        skip_processes: Option<OneOrMany<String>>,
        /// Whether build tools are left alone.
        skip_build_tools: bool = true,
        /// Further build tools that are left alone.
        /// Example: `["make"]`
        skip_extra_build_tools: Option<OneOrMany<String>>,
        /// Programs of macOS that are left alone.
        /// Example: `["git", "bash"]`
        skip_sip: OneOrMany<String> = OneOrMany(vec!["git".to_owned()]),
        /// Programs of macOS that are patched.
        /// Example: `["bash"]`
        sip_binaries: Option<OneOrMany<String>>,
        /// Whether a session can be looked at through a local API.
        api: bool = true,
        /// Whether use is reported to the vendor.
        telemetry: bool = true,
        /// Whether proxies of the environment are used.
        use_proxy: bool = true,
        /// The parent of the session's trace.
        /// Example: `"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"`
        traceparent: Option<String>,
        /// What goes along with the session's trace.
        /// Example: `"session=ada"`
        baggage: Option<String>,
    }
}

/// The session's key as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Decode for Key {
    const EXPECTED: &'static str = "a string";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let text = String::decode(node, report)?;
        if text.is_empty() {
            report.problem(node, "an empty key names no session");
            return None;
        }
        Some(Self(text))
    }

    fn shape() -> Shape {
        Shape::not_empty("string")
    }
}

impl Render for Key {
    fn render(&self) -> Json {
        Json::text(&self.0)
    }
}

/// The shape of a whole file.
pub(crate) fn shape() -> Shape {
    Root::shape()
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
    support::tell_present(node, report);
    let mut root = Root::decode(node, report)?;
    check_unused(&root, node, report);
    if let Some(given) = &surroundings.target {
        root.target.choice = given.clone();
    }
    if let Some(given) = &surroundings.namespace {
        root.target.namespace = Some(given.clone());
    }
    let network = node.find(&["feature", "network"]);
    root.feature.network.reflect(network.as_ref(), report);
    let (written, list) = merge_branches(&mut root, node, report);
    let parts = Parts {
        target: &root.target,
        network: &root.feature.network,
        env: &root.feature.env,
        copy_target: &root.feature.copy_target,
        operator: root.operator,
        splits_queues: !root.feature.split_queues.is_empty(),
        branches: &written,
        branch_nodes: &list,
    };
    check::check(&parts, node, surroundings, report);
    tell_lacking(
        &parts,
        &root.feature.fs,
        root.feature.hostname,
        node,
        report,
    );
    if root.feature.magic.aws {
        root.feature.env.add_aws_magic();
    }
    root.key = Some(Key(key.text.clone()));
    let resolved = render(&root, &written);
    let branches = branch::resolve(written, &list, key, report);
    check::check_ids(&branches, &list, report);
    let feature = root.feature;
    Some(Config {
        target: root.target,
        operator: root.operator,
        kube_context: root.kube_context,
        kubeconfig: root.kubeconfig,
        key: key.clone(),
        network: feature.network,
        fs: feature.fs,
        env: feature.env,
        copy_target: feature.copy_target,
        hostname: feature.hostname,
        magic: feature.magic,
        branches,
        warnings: Vec::new(),
        unsupported: Vec::new(),
        resolved,
    })
}

/// The whole file with every default in place, the list of branches in its newer home.
fn render(root: &Root, branches: &[WrittenBranch]) -> Json {
    let list = Json::list(branches.iter().map(Render::render));
    let Json::Object(members) = root.render() else {
        return Json::Null;
    };
    let members = members
        .into_iter()
        .filter(|(key, _)| !matches!(key.as_str(), "$schema" | "db_branches"));
    Json::object(members.map(|(key, value)| match (key.as_str(), value) {
        ("feature", Json::Object(mut feature)) => {
            for (key, value) in &mut feature {
                if key == "db_branches" {
                    *value = list.clone();
                }
            }
            (key, Json::Object(feature))
        }
        (_, value) => (key, value),
    }))
}

/// What must hold within parts that are not used: a file is as good here as it is where they are.
fn check_unused(root: &Root, node: &Node<'_>, report: &mut Report) {
    if let Some(queues) = node.find(&["feature", "split_queues"]) {
        queues::check(&queues, report);
    }
    if let Some(preview) = node.find(&["feature", "preview"]) {
        preview::check(&preview, report);
    }
    if let Some(retry) = node.get("startup_retry") {
        root.startup_retry.check(&retry, report);
    }
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

/// The one list of branches, taken out of its home; both homes at once would leave open which counts.
fn merge_branches<'t>(
    root: &mut Root,
    node: &Node<'t>,
    report: &mut Report,
) -> (Vec<WrittenBranch>, Vec<Node<'t>>) {
    let (in_feature, in_root) = (root.feature.db_branches.take(), root.db_branches.take());
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
    fs::tell_lacking(fs, feature("fs").as_ref(), report);
    if parts.copy_target.enabled
        && let Some(copy_target) = feature("copy_target")
    {
        support::tell("feature.copy_target", &copy_target, report);
    }
    if hostname {
        match feature("hostname") {
            Some(chosen) => support::tell("feature.hostname", &chosen, report),
            None => report.default_lacks("feature.hostname", support::effect("feature.hostname")),
        }
    }
}

/// The objects whose keys people put elsewhere, in words.
pub(crate) fn homes() -> Vec<(&'static str, &'static [&'static str])> {
    vec![
        ("at the root of the file", Root::KEYS),
        ("under \"feature\"", Feature::KEYS),
        ("under \"feature.network\"", Network::KEYS),
        ("under \"target\"", crate::target::HOME_KEYS),
        ("under \"feature.network.incoming\"", Incoming::KEYS),
        (
            "under \"feature.network.incoming.http_filter\"",
            HttpFilter::KEYS,
        ),
        ("under \"feature.env\"", WrittenRules::KEYS),
        ("in an entry of \"feature.db_branches\"", branch::pg_keys()),
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
