//! Which variable of the environment sets which key, and how its text becomes a value.

/// A variable, and the key that it sets.
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) reads: Reads,
}

/// How the value of a variable becomes a value of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// `true` or `false`.
    Truth,
    /// Digits.
    Whole,
    /// As it is.
    Text,
    /// Digits, or a word.
    WholeOrWord,
    /// Texts with `;` between them.
    List,
    /// Numbers with `;` between them.
    Ports,
    /// `true` steals, `false` is off, all else is a mode.
    Steal,
    /// A mode of files: of three variables the first that is set counts.
    FileMode,
    /// A part of an image, where the file names none.
    ImagePart,
    /// Whatever reads it: not the reader of files.
    Elsewhere,
}

const fn variable(name: &'static str, path: &'static str, reads: Reads) -> Variable {
    Variable { name, path, reads }
}

/// Every variable that sets a key.
pub(super) const VARIABLES: &[Variable] = &[
    variable("MIRRORD_KEY", "key", Reads::Elsewhere),
    variable("MIRRORD_IMPERSONATED_TARGET", "target.path", Reads::Text),
    variable("MIRRORD_TARGET_NAMESPACE", "target.namespace", Reads::Text),
    variable("MIRRORD_OPERATOR_ENABLE", "operator", Reads::Truth),
    variable("MIRRORD_KUBE_CONTEXT", "kube_context", Reads::Text),
    variable("MIRRORD_KUBECONFIG", "kubeconfig", Reads::Text),
    variable(
        "MIRRORD_ACCEPT_INVALID_CERTIFICATES",
        "accept_invalid_certificates",
        Reads::Truth,
    ),
    variable("MIRRORD_MULTI_CLUSTER", "multi_cluster", Reads::Truth),
    variable("MIRRORD_API", "api", Reads::Truth),
    variable("MIRRORD_TELEMETRY", "telemetry", Reads::Truth),
    variable("MIRRORD_PROXY", "use_proxy", Reads::Truth),
    variable("MIRRORD_SKIP_PROCESSES", "skip_processes", Reads::List),
    variable("MIRRORD_SKIP_BUILD_TOOLS", "skip_build_tools", Reads::Truth),
    variable(
        "MIRRORD_SKIP_EXTRA_BUILD_TOOLS",
        "skip_extra_build_tools",
        Reads::List,
    ),
    variable("MIRRORD_SKIP_SIP", "skip_sip", Reads::List),
    variable("TRACEPARENT", "traceparent", Reads::Elsewhere),
    variable("BAGGAGE", "baggage", Reads::Elsewhere),
    variable(
        "MIRRORD_AGENT_TCP_STEAL_TRAFFIC",
        "feature.network.incoming.mode",
        Reads::Steal,
    ),
    variable(
        "MIRRORD_OPERATOR_ON_CONCURRENT_STEAL",
        "feature.network.incoming.on_concurrent_steal",
        Reads::Text,
    ),
    variable(
        "MIRRORD_HTTP_HEADER_FILTER",
        "feature.network.incoming.http_filter.header_filter",
        Reads::Text,
    ),
    variable(
        "MIRRORD_HTTP_PATH_FILTER",
        "feature.network.incoming.http_filter.path_filter",
        Reads::Text,
    ),
    variable(
        "MIRRORD_HTTP_METHOD_FILTER",
        "feature.network.incoming.http_filter.method_filter",
        Reads::Text,
    ),
    variable(
        "MIRRORD_HTTP_HEADER_FILTER_JQ",
        "feature.network.incoming.http_filter.header_filter_jq",
        Reads::Text,
    ),
    variable(
        "MIRRORD_HTTP_FILTER_PORTS",
        "feature.network.incoming.http_filter.ports",
        Reads::Ports,
    ),
    variable(
        "MIRRORD_TCP_OUTGOING",
        "feature.network.outgoing.tcp",
        Reads::Truth,
    ),
    variable(
        "MIRRORD_UDP_OUTGOING",
        "feature.network.outgoing.udp",
        Reads::Truth,
    ),
    variable(
        "MIRRORD_OUTGOING_REMOTE_UNIX_STREAMS",
        "feature.network.outgoing.unix_streams",
        Reads::List,
    ),
    variable(
        "MIRRORD_REMOTE_DNS",
        "feature.network.dns.enabled",
        Reads::Truth,
    ),
    variable("MIRRORD_ENABLE_IPV6", "feature.network.ipv6", Reads::Truth),
    variable("MIRRORD_FILE_MODE", "feature.fs.mode", Reads::FileMode),
    variable("MIRRORD_FILE_OPS", "feature.fs.mode", Reads::FileMode),
    variable("MIRRORD_FILE_RO_OPS", "feature.fs.mode", Reads::FileMode),
    variable(
        "MIRRORD_FILE_READ_WRITE_PATTERN",
        "feature.fs.read_write",
        Reads::List,
    ),
    variable(
        "MIRRORD_FILE_READ_ONLY_PATTERN",
        "feature.fs.read_only",
        Reads::List,
    ),
    variable(
        "MIRRORD_FILE_LOCAL_PATTERN",
        "feature.fs.local",
        Reads::List,
    ),
    variable(
        "MIRRORD_OVERRIDE_ENV_VARS_INCLUDE",
        "feature.env.include",
        Reads::List,
    ),
    variable(
        "MIRRORD_OVERRIDE_ENV_VARS_EXCLUDE",
        "feature.env.exclude",
        Reads::List,
    ),
    variable(
        "MIRRORD_OVERRIDE_ENV_VARS_FILE",
        "feature.env.env_file",
        Reads::Text,
    ),
    variable(
        "MIRRORD_ENV_LOAD_FROM_PROCESS",
        "feature.env.load_from_process",
        Reads::Truth,
    ),
    variable(
        "MIRRORD_PREVIEW_IMAGE",
        "feature.preview.image",
        Reads::Text,
    ),
    variable(
        "MIRRORD_PREVIEW_TTL_MINS",
        "feature.preview.ttl_mins",
        Reads::WholeOrWord,
    ),
    variable(
        "MIRRORD_PREVIEW_TTL_SECS",
        "feature.preview.ttl_secs",
        Reads::WholeOrWord,
    ),
    variable(
        "MIRRORD_PREVIEW_CREATION_TIMEOUT_SECS",
        "feature.preview.creation_timeout_secs",
        Reads::Whole,
    ),
    variable(
        "MIRRORD_PREVIEW_REPLICAS",
        "feature.preview.replicas",
        Reads::Whole,
    ),
    variable("MIRRORD_AGENT_RUST_LOG", "agent.log_level", Reads::Text),
    variable("MIRRORD_AGENT_JSON_LOG", "agent.json_log", Reads::Truth),
    variable("MIRRORD_AGENT_NAMESPACE", "agent.namespace", Reads::Text),
    variable("MIRRORD_AGENT_IMAGE", "agent.image", Reads::Text),
    variable(
        "MIRRORD_AGENT_IMAGE_REGISTRY",
        "agent.image.registry",
        Reads::ImagePart,
    ),
    variable(
        "MIRRORD_AGENT_IMAGE_TAG",
        "agent.image.tag",
        Reads::ImagePart,
    ),
    variable(
        "MIRRORD_AGENT_IMAGE_PULL_POLICY",
        "agent.image_pull_policy",
        Reads::Text,
    ),
    variable("MIRRORD_AGENT_TTL", "agent.ttl", Reads::Whole),
    variable(
        "MIRRORD_EPHEMERAL_CONTAINER",
        "agent.ephemeral",
        Reads::Truth,
    ),
    variable(
        "MIRRORD_AGENT_COMMUNICATION_TIMEOUT",
        "agent.communication_timeout",
        Reads::Whole,
    ),
    variable(
        "MIRRORD_AGENT_STARTUP_TIMEOUT",
        "agent.startup_timeout",
        Reads::Whole,
    ),
    variable(
        "MIRRORD_AGENT_STEALER_FLUSH_CONNECTIONS",
        "agent.flush_connections",
        Reads::Truth,
    ),
    variable(
        "MIRRORD_AGENT_EXTERNAL_IP_FIX",
        "agent.external_ip_fix",
        Reads::Truth,
    ),
    variable(
        "MIRRORD_AGENT_EXCLUDE_FROM_MESH",
        "agent.exclude_from_mesh",
        Reads::Truth,
    ),
    variable(
        "MIRRORD_AGENT_HTTP_DETECTION_TIMEOUT",
        "agent.http_detection_timeout",
        Reads::Whole,
    ),
    variable(
        "MIRRORD_AGENT_CLEAN_IPTABLES_ON_START",
        "agent.clean_iptables_on_start",
        Reads::Truth,
    ),
];

/// The variables that set exactly `path`.
pub(crate) fn variables_of(path: &str) -> Vec<&'static str> {
    VARIABLES
        .iter()
        .filter(|variable| variable.path == path)
        .map(|variable| variable.name)
        .collect()
}

/// Every variable with the key that it sets.
pub(crate) fn table() -> impl Iterator<Item = (&'static str, &'static str)> {
    VARIABLES
        .iter()
        .map(|variable| (variable.name, variable.path))
}
