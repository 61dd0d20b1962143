//! `agent`: the pod that mirrord puts beside a target. Read and checked; nothing of it is used.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::decode::{
    Anything, Decode, Record, Render, Report, Shape, defaults, record, report_kind, words,
};
use crate::json::Json;
use crate::root::address::Address;
use crate::tree::{Node, Value};

words! {
    /// A capability of Linux.
    pub(crate) enum Capability : "\"NET_ADMIN\", \"NET_RAW\", \"SYS_PTRACE\" or \"SYS_ADMIN\"" {
        /// Changing the network.
        NetAdmin = "NET_ADMIN",
        /// Raw sockets.
        NetRaw = "NET_RAW",
        /// Looking into processes.
        SysPtrace = "SYS_PTRACE",
        /// Entering namespaces.
        SysAdmin = "SYS_ADMIN",
    }
}

record! {
    /// A Secret that images are pulled with.
    pub(crate) struct PullSecret {
        /// Its name.
        /// Example: `"registry"`
        name: String,
    }
}

record! {
    /// How the agent resolves names.
    pub(crate) struct AgentDns {
        /// Seconds that it waits for an answer.
        /// Example: `2`
        timeout: Option<u32>,
        /// How often it asks.
        /// Example: `3`
        attempts: Option<u32>,
    }
}

record! {
    /// A profile of the kernel's.
    pub(crate) struct SecurityProfile {
        /// Its type.
        /// Example: `"RuntimeDefault"`
        kind as "type": String,
        /// A profile of the node.
        /// Example: `"profiles/agent.json"`
        localhost_profile: Option<String>,
    }
}

record! {
    /// Under which profiles the agent runs.
    pub(crate) struct SecurityContext {
        /// Of seccomp.
        /// Example: `{"type": "RuntimeDefault"}`
        seccomp_profile: Option<SecurityProfile>,
        /// Of AppArmor.
        /// Example: `{"type": "RuntimeDefault"}`
        app_armor_profile: Option<SecurityProfile>,
    }
}

record! {
    /// An image in two parts.
    pub(crate) struct ImageParts {
        /// The image without its tag.
        /// Example: `"registry.internal/agent"`
        registry: Option<String>,
        /// The tag.
        /// Example: `"latest"`
        tag: Option<String>,
    }
}

/// The agent's image, whole or in two parts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AgentImage {
    Whole(String),
    Parts(ImageParts),
}

impl Decode for AgentImage {
    const EXPECTED: &'static str = "an image, or an object with \"registry\" and \"tag\"";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        match &node.tree.value {
            Value::Text(image) => Some(Self::Whole(image.clone())),
            Value::Object(_) => ImageParts::decode(node, report).map(Self::Parts),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) => {
                report_kind(node, Self::EXPECTED, report)
            }
        }
    }

    fn shape() -> Shape {
        Shape::one_of([Shape::text("image"), ImageParts::object_shape()])
    }
}

impl Render for AgentImage {
    fn render(&self) -> Json {
        match self {
            Self::Whole(image) => Json::text(image),
            Self::Parts(parts) => parts.render(),
        }
    }
}

record! {
    /// The pod that mirrord puts beside a target.
    pub(crate) struct Agent {
        /// What the agent logs: a level, or whatever RUST_LOG may say.
        /// Example: `"debug"`
        log_level: String = "info".to_owned(),
        /// Whether it logs in JSON.
        json_log: bool = false,
        /// The namespace that it lives in.
        /// Example: `"metalmart"`
        namespace: Option<String>,
        /// Its image.
        /// Example: `{"registry": "registry.internal/agent", "tag": "latest"}`
        image: Option<AgentImage>,
        /// When its image is pulled.
        /// Example: `"Always"`
        image_pull_policy: String = "IfNotPresent".to_owned(),
        /// Secrets that its image is pulled with.
        /// Example: `[{"name": "registry"}]`
        image_pull_secrets: Option<Vec<PullSecret>>,
        /// Seconds that the pod stays after the agent has ended.
        /// Example: `30`
        ttl: u16 = 1,
        /// Whether the agent is an ephemeral container of the target's pod.
        ephemeral: bool = false,
        /// Seconds that it lives without a connection.
        /// Example: `30`
        communication_timeout: Option<u16>,
        /// Seconds that its start may take.
        /// Example: `120`
        startup_timeout: u64 = 60,
        /// Whether connections that exist already are cut when stealing begins.
        flush_connections: bool = true,
        /// Capabilities that it does without.
        /// Example: `["SYS_ADMIN"]`
        disabled_capabilities: Option<Vec<Capability>>,
        /// Tolerations of its pod, as Kubernetes has them.
        /// Example: `[{"operator": "Exists"}]`
        tolerations: Option<Vec<Anything>>,
        /// Requests and limits of its pod, as Kubernetes has them.
        /// Example: `{"limits": {"cpu": "100m"}}`
        resources: Option<BTreeMap<String, Anything>>,
        /// Whether room on the node is checked first.
        check_out_of_pods: bool = true,
        /// Whether its container is privileged.
        privileged: bool = false,
        /// Whether the node's external address is taken for the target's.
        external_ip_fix: bool = true,
        /// Whether it uses nftables; without it, what it finds.
        /// Example: `true`
        nftables: Option<bool>,
        /// How it resolves names.
        /// Example: `{"timeout": 2}`
        dns: AgentDns = defaults(),
        /// Labels of its pod.
        /// Example: `{"user": "ada"}`
        labels: Option<BTreeMap<String, String>>,
        /// Annotations of its pod.
        /// Example: `{"prometheus.io/scrape": "true"}`
        annotations: Option<BTreeMap<String, String>>,
        /// Labels of the node that it runs on.
        /// Example: `{"kubernetes.io/hostname": "node1"}`
        node_selector: Option<BTreeMap<String, String>>,
        /// Its service account.
        /// Example: `"agent"`
        service_account: Option<String>,
        /// Where it serves metrics.
        /// Example: `"0.0.0.0:9000"`
        metrics: Option<Address<SocketAddr>>,
        /// Whether its port stays out of a service mesh.
        exclude_from_mesh: bool = false,
        /// The priority class of its pod.
        /// Example: `"high"`
        priority_class: Option<String>,
        /// Whether responses say in a header what the agent did with them.
        inject_headers: bool = false,
        /// Whether responses are kept out of caches.
        override_cache_control: bool = true,
        /// Bytes of a request's body that a filter looks at.
        /// Example: `1048576`
        max_body_buffer_size: u32 = 65535,
        /// Milliseconds that a filter waits for a body.
        /// Example: `2000`
        max_body_buffer_timeout: u32 = 1000,
        /// Seconds that it looks for HTTP in a connection.
        /// Example: `5`
        http_detection_timeout: u64 = 2,
        /// Under which profiles it runs.
        /// Example: `{"seccomp_profile": {"type": "RuntimeDefault"}}`
        security_context: Option<SecurityContext>,
        /// Whether rules that another agent left behind are removed.
        /// Example: `true`
        clean_iptables_on_start: Option<bool>,
        /// Whether no sidecar of a service mesh is put into its pod.
        disable_mesh_sidecar_injection: bool = true,
        /// Seconds that a jq program may take.
        /// Example: `2`
        jaq_time_limit: u64 = 1,
    }
}
