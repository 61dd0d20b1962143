//! Keys that are known by name and not used: their names are checked all the way down, their values are not.
//!
//! Owns the names and what leaving each key out of the run means.

use crate::decode::{Report, report_kind, report_unknown};
use crate::diagnostic::Weight;
use crate::tree::{Node, Value};

/// A key that is not used.
struct Known {
    /// Where it stands.
    path: &'static [&'static str],
    weight: Weight,
    effect: &'static str,
    /// What it holds.
    shape: Shape,
}

/// What is known of a value.
enum Shape {
    /// Nothing.
    Any,
    /// An object with these keys.
    Object(&'static [&'static str]),
    /// The same, or a value of another kind.
    ObjectOrOther(&'static [&'static str]),
}

const AGENT: &[&str] = &[
    "log_level",
    "json_log",
    "namespace",
    "image",
    "image_pull_policy",
    "image_pull_secrets",
    "ttl",
    "ephemeral",
    "communication_timeout",
    "startup_timeout",
    "flush_connections",
    "disabled_capabilities",
    "tolerations",
    "resources",
    "check_out_of_pods",
    "privileged",
    "external_ip_fix",
    "nftables",
    "dns",
    "labels",
    "annotations",
    "node_selector",
    "service_account",
    "metrics",
    "exclude_from_mesh",
    "priority_class",
    "inject_headers",
    "override_cache_control",
    "max_body_buffer_size",
    "max_body_buffer_timeout",
    "http_detection_timeout",
    "security_context",
    "clean_iptables_on_start",
    "disable_mesh_sidecar_injection",
    "jaq_time_limit",
];

const CONTAINER: &[&str] = &[
    "cli_image",
    "cli_extra_args",
    "cli_prevent_cleanup",
    "cli_image_lib_path",
    "override_host_ip",
    "host_gateway_detection",
    "cli_tls_path",
    "platform",
];

const INTERNAL_PROXY: &[&str] = &[
    "start_idle_timeout",
    "idle_timeout",
    "socket_timeout",
    "ping_interval",
    "log_level",
    "log_destination",
    "json_log",
    "process_logging_interval",
];

const EXTERNAL_PROXY: &[&str] = &[
    "tls_enable",
    "start_idle_timeout",
    "idle_timeout",
    "log_level",
    "log_destination",
    "json_log",
    "host_ip",
];

const EXPERIMENTAL: &[&str] = &[
    "tcp_ping4_mock",
    "trust_any_certificate",
    "enable_exec_hooks_linux",
    "hide_ipv6_interfaces",
    "disable_reuseaddr",
    "use_dev_null",
    "idle_local_http_connection_timeout",
    "ignore_system_proxy_config",
    "browser_extension_config",
    "sip_log_destination",
    "non_blocking_tcp_connect",
    "dlopen_cgo",
    "latency",
    "applev",
    "sip_utils",
    "go_asmcgocall",
    "guard_std_fds",
];

const PREVIEW: &[&str] = &[
    "image",
    "ttl_mins",
    "ttl_secs",
    "creation_timeout_secs",
    "replicas",
    "labels",
    "idle",
    "config_mounts",
    "secret_mounts",
];

const fn told(path: &'static [&'static str], effect: &'static str, shape: Shape) -> Known {
    Known {
        path,
        weight: Weight::Told,
        effect,
        shape,
    }
}

const fn refused(path: &'static [&'static str], effect: &'static str) -> Known {
    Known {
        path,
        weight: Weight::Refused,
        effect,
        shape: Shape::Any,
    }
}

const NO_EFFECT_HERE: &str = "has no effect in this version";
const MACOS: &str = "has no effect: nothing is preloaded, so no program has to be left alone";

/// Every such key; those under `feature` tell what they lack elsewhere and are here for their names only.
const KNOWN: &[Known] = &[
    told(&["agent"], NO_EFFECT_HERE, Shape::Object(AGENT)),
    told(
        &["container"],
        "has no effect on a session",
        Shape::Object(CONTAINER),
    ),
    told(
        &["internal_proxy"],
        "has no effect: there is no such proxy",
        Shape::Object(INTERNAL_PROXY),
    ),
    told(
        &["external_proxy"],
        "has no effect: there is no such proxy",
        Shape::Object(EXTERNAL_PROXY),
    ),
    told(
        &["experimental"],
        NO_EFFECT_HERE,
        Shape::Object(EXPERIMENTAL),
    ),
    told(
        &["startup_retry"],
        NO_EFFECT_HERE,
        Shape::Object(&["min_ms", "max_ms", "max_retries"]),
    ),
    told(
        &["ci"],
        "has no effect on a session",
        Shape::Object(&["output_dir"]),
    ),
    told(&["accept_invalid_certificates"], NO_EFFECT_HERE, Shape::Any),
    told(&["kubeconfig"], NO_EFFECT_HERE, Shape::Any),
    told(&["skip_processes"], MACOS, Shape::Any),
    told(&["skip_build_tools"], MACOS, Shape::Any),
    told(&["skip_extra_build_tools"], MACOS, Shape::Any),
    told(&["skip_sip"], MACOS, Shape::Any),
    told(&["sip_binaries"], MACOS, Shape::Any),
    told(&["api"], NO_EFFECT_HERE, Shape::Any),
    told(
        &["telemetry"],
        "has no effect: nothing is ever sent home",
        Shape::Any,
    ),
    told(&["use_proxy"], NO_EFFECT_HERE, Shape::Any),
    told(&["traceparent"], NO_EFFECT_HERE, Shape::Any),
    told(&["baggage"], NO_EFFECT_HERE, Shape::Any),
    refused(
        &["profile"],
        "profiles of the cluster are not supported: write what it says into the file",
    ),
    refused(
        &["multi_cluster"],
        "sessions over several clusters are not supported",
    ),
];

/// Objects within others, whose names are checked and nothing more.
const INNER: &[(&[&str], Shape)] = &[
    (&["agent", "dns"], Shape::Object(&["timeout", "attempts"])),
    (
        &["agent", "image"],
        Shape::ObjectOrOther(&["registry", "tag"]),
    ),
    (
        &["experimental", "latency"],
        Shape::Object(&["transmit_delay", "receive_delay"]),
    ),
    (&["feature", "preview"], Shape::Object(PREVIEW)),
    (
        &["feature", "preview", "labels"],
        Shape::Object(&["include", "exclude"]),
    ),
    (
        &["feature", "preview", "idle"],
        Shape::Object(&["start_idle", "sleep_after_secs", "wake_timeout_secs"]),
    ),
];

/// Checks the names of all of them, and says which the file uses for nothing.
pub(super) fn check_names(root: &Node<'_>, report: &mut Report) {
    for known in KNOWN {
        let chosen = root
            .find(known.path)
            .filter(|value| !value.is_null() && !matches!(value.tree.value, Value::Bool(false)));
        if let Some(value) = chosen {
            check_shape(&value, &known.shape, report);
            report.lacks(&value, known.weight, known.effect);
        }
    }
    for (path, shape) in INNER {
        if let Some(value) = root.find(path).filter(|value| !value.is_null()) {
            check_shape(&value, shape, report);
        }
    }
}

fn check_shape(node: &Node<'_>, shape: &Shape, report: &mut Report) {
    let is_object = matches!(node.tree.value, Value::Object(_));
    let keys = match shape {
        Shape::Any => return,
        Shape::ObjectOrOther(_) if !is_object => return,
        Shape::Object(_) if !is_object => {
            report_kind::<()>(node, "an object", report);
            return;
        }
        Shape::Object(keys) | Shape::ObjectOrOther(keys) => keys,
    };
    for member in node.members() {
        if !keys.contains(&member.key.as_str()) {
            report_unknown(node, member, keys, report);
        }
    }
}
