//! `feature.preview`: environments that live without a session. Read and checked; a session does nothing with it.

use crate::decode::{
    Decode, OneOrMany, Render, Report, Shape, defaults, record, report_kind, words,
};
use crate::json::Json;
use crate::tree::{Node, Value};

/// The word for no end.
const INFINITE: &str = "infinite";

/// A time, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    Finite(u64),
    Infinite,
}

impl Decode for Lifetime {
    const EXPECTED: &'static str = "a whole number, or \"infinite\"";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        match &node.tree.value {
            Value::Number(_) => u64::decode(node, report).map(Self::Finite),
            Value::Text(word) if word == INFINITE => Some(Self::Infinite),
            Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Object(_) => {
                report_kind(node, Self::EXPECTED, report)
            }
        }
    }

    fn shape() -> Shape {
        Shape::one_of([
            Shape::Whole(u64::MAX),
            Shape::Words(vec![(INFINITE, "No end.".to_owned())]),
        ])
    }
}

impl Render for Lifetime {
    fn render(&self) -> Json {
        match self {
            Self::Finite(number) => Json::from(*number),
            Self::Infinite => Json::from(INFINITE),
        }
    }
}

words! {
    /// What a file holds.
    pub(crate) enum MountKind : "\"text\" or \"binary\"" {
        /// Text.
        Text = "text",
        /// Bytes, in base64.
        Binary = "binary",
    }
}

record! {
    /// A file of the environment.
    pub(crate) struct Mount {
        /// Where it is.
        /// Example: `"/etc/app/config.yaml"`
        mount_at: String,
        /// What `payload` is.
        /// Example: `"text"`
        kind as "type": Option<MountKind>,
        /// What it holds.
        /// Example: `"listen: 8080"`
        payload: Option<model::Secret>,
        /// A file of this machine that it is.
        /// Example: `"./config.yaml"`
        from_file: Option<String>,
    }
}

record! {
    /// Which labels of the target its pods have.
    pub(crate) struct PreviewLabels {
        /// These alone.
        /// Example: `["app"]`
        include: Option<OneOrMany<String>>,
        /// All but these.
        /// Example: `["pod-template-hash"]`
        exclude: Option<OneOrMany<String>>,
    }
}

record! {
    /// When it sleeps.
    pub(crate) struct PreviewIdle {
        /// Whether it sleeps at first.
        start_idle: bool = false,
        /// Seconds without requests after which it sleeps.
        /// Example: `600`
        sleep_after_secs: Option<u64>,
        /// Seconds that waking may take.
        /// Example: `30`
        wake_timeout_secs: Option<u64>,
    }
}

record! {
    /// An environment that lives without a session.
    pub(crate) struct Preview {
        /// The image that it runs.
        /// Example: `"registry.internal/inventory:pr-7"`
        image: Option<String>,
        /// Minutes that it lives, or `"infinite"`.
        /// Example: `60`
        ttl_mins: Option<Lifetime>,
        /// The same in seconds. Not beside `ttl_mins`.
        /// Example: `3600`
        ttl_secs: Option<Lifetime>,
        /// Seconds that it is waited for.
        /// Example: `120`
        creation_timeout_secs: u64 = 60,
        /// Its pods.
        /// Example: `2`
        replicas: u32 = 1,
        /// Which labels of the target its pods have.
        /// Example: `{"include": ["app"]}`
        labels: PreviewLabels = defaults(),
        /// When it sleeps.
        /// Example: `{"start_idle": true}`
        idle: PreviewIdle = defaults(),
        /// Files that it has.
        /// Example: `[{"mount_at": "/etc/app.yaml", "from_file": "./app.yaml"}]`
        config_mounts: Vec<Mount> = Vec::new(),
        /// Files that it has, which are kept as Secrets.
        /// Example: `[{"mount_at": "/etc/key.pem", "from_file": "./key.pem"}]`
        secret_mounts: Vec<Mount> = Vec::new(),
    }
}

/// What may not stand together.
pub(super) fn check(node: &Node<'_>, report: &mut Report) {
    let given = |node: &Node<'_>, key: &str| node.given(key).is_some();
    if let (Some(_), Some(second)) = (node.given("ttl_mins"), node.given("ttl_secs")) {
        report.exclusive(&second, "ttl_mins", "ttl_secs");
    }
    for key in ["config_mounts", "secret_mounts"] {
        for mount in node.get(key).iter().flat_map(Node::items) {
            match (given(&mount, "payload"), given(&mount, "from_file")) {
                (true, true) | (false, false) => {
                    report.problem(&mount, "a file has one of \"payload\" and \"from_file\"");
                }
                (true, false) if !given(&mount, "type") => {
                    report.problem(&mount, "the key \"type\" is missing beside \"payload\"");
                }
                (true, false) if is_wrong_base64(&mount) => {
                    if let Some(payload) = mount.get("payload") {
                        report.problem(&payload, "this is not base64");
                    }
                }
                (false, true) if given(&mount, "type") => {
                    report.exclusive(&mount, "type", "from_file");
                }
                (true, false) | (false, true) => {}
            }
        }
    }
}

/// Whether a payload of bytes has characters, or an end, that base64 has not (RFC 4648 section 4).
fn is_wrong_base64(mount: &Node<'_>) -> bool {
    let is_binary =
        mount.get("type").and_then(|kind| kind.text()) == Some(MountKind::Binary.as_str());
    let Some(payload) = mount.get("payload").and_then(|payload| payload.text()) else {
        return false;
    };
    let digits = payload.trim_end_matches('=');
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    is_binary
        && !(payload.len().is_multiple_of(4)
            && payload.len() - digits.len() <= 2
            && digits.bytes().all(is_digit))
}
