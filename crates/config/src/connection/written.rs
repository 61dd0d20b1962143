//! Every shape in which a file names the source: a variable, several, parts of variables, Secrets, literals.
//!
//! Owns telling the shapes apart, the words for what fits none, and whole connection strings. `params` has connections in
//! parts, `variable_name` what may be the name of a variable.

mod params;
mod variable_name;

use model::Secret;

use super::{Connection, Origin, VariableKind};
use crate::decode::{
    Decode, OneOrMany, Record, Report, Shape, Word, nearest, record, report_kind, words,
};
use crate::tree::{Node, Value};
use params::ByParams;
use variable_name::{VariableName, looks_like_value};

words! {
    /// Where a variable is defined on its target.
    enum WrittenKind : "\"env\" or \"env_from\"" {
        /// In the container's `env`.
        Env = "env",
        /// In a ConfigMap or Secret that the container takes whole (`envFrom`).
        EnvFrom = "env_from",
    }
}

impl WrittenKind {
    fn resolve(kind: Option<Self>) -> VariableKind {
        match kind {
            None => VariableKind::Any,
            Some(Self::Env) => VariableKind::Env,
            Some(Self::EnvFrom) => VariableKind::EnvFrom,
        }
    }
}

words! {
    /// What a `url` object describes.
    enum SourceType : "\"env\", \"env_from\", \"secret\" or \"gcp_secret_manager\"" {
        /// A variable.
        Env = "env",
        /// A variable of a ConfigMap or Secret that the container takes whole (`envFrom`).
        EnvFrom = "env_from",
        /// A key of a Kubernetes Secret.
        Secret = "secret",
        /// A secret of Google's Secret Manager.
        GcpSecretManager = "gcp_secret_manager",
    }
}

record! {
    /// A variable that holds the connection string.
    struct EnvObject {
        /// `"env"`: the variable is in the container's `env`.
        kind as "type": SourceType,
        /// The variable.
        /// Example: `"DATABASE_URL"`
        variable: VariableName,
        /// The container that has it; without it the target's own.
        /// Example: `"app"`
        container: Option<String>,
        /// A connection string of the file's own, in place of the target's.
        /// Example: `"postgres://app@db/inventory"`
        value: Option<Secret>,
    }
}

record! {
    /// A variable of a ConfigMap or Secret that the container takes whole.
    struct EnvFromObject {
        /// `"env_from"`: the variable comes by the container's `envFrom`.
        kind as "type": SourceType,
        /// The variable.
        /// Example: `"DATABASE_URL"`
        variable: VariableName,
        /// The container that has it; without it the target's own.
        /// Example: `"app"`
        container: Option<String>,
    }
}

record! {
    /// A key of a Kubernetes Secret that holds the connection string.
    struct SecretObject {
        /// `"secret"`.
        kind as "type": SourceType,
        /// The Secret.
        /// Example: `"inventory-db"`
        name: String,
        /// Its key.
        /// Example: `"url"`
        key: String,
        /// The variable that the process reads the value from; without it the process is not led to the branch.
        /// Example: `"DATABASE_URL"`
        env_var_name: Option<VariableName>,
    }
}

record! {
    /// A secret of Google's Secret Manager that holds the connection string.
    struct GcpObject {
        /// `"gcp_secret_manager"`.
        kind as "type": SourceType,
        /// Its resource name.
        /// Example: `"projects/shop/secrets/db-url/versions/latest"`
        secret_ref: String,
        /// The variable that the process reads the value from; without it the process is not led to the branch.
        /// Example: `"DATABASE_URL"`
        env_var_name: Option<VariableName>,
    }
}

record! {
    /// Variables that hold whole connection strings.
    struct FlatUrl {
        /// Where the variables are defined on the target; without it anywhere.
        kind as "type": Option<WrittenKind>,
        /// The variable, or several: the first is the source, all lead to the branch.
        /// Example: `"DATABASE_URL"`
        url: OneOrMany<VariableName>,
    }
}

record! {
    /// One origin of a whole connection string.
    struct UrlObject {
        /// Where the connection string is.
        /// Example: `{"type": "env", "variable": "DATABASE_URL"}`
        url: Origin,
    }
}

/// The parts that a connection in parts usually has.
const PARTS: [&str; 5] = ["host", "port", "user", "password", "database"];

/// The keys of all shapes together.
const KEYS: [&str; 3] = ["url", "params", "type"];

/// The `url` objects.
impl Decode for Origin {
    const EXPECTED: &'static str =
        "an object such as {\"type\": \"env\", \"variable\": \"DATABASE_URL\"}";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        if !matches!(node.tree.value, Value::Object(_)) {
            return report_kind(node, Self::EXPECTED, report);
        }
        let Some(kind) = node.get("type") else {
            report
                .problem(node, "the key \"type\" is missing")
                .hint(format!("expected {}", SourceType::EXPECTED));
            return None;
        };
        let variable = |VariableName(name), kind, container, literal| Self::Variable {
            name,
            kind,
            container,
            literal,
        };
        match SourceType::decode_word(&kind, SourceType::EXPECTED, report)? {
            SourceType::Env => EnvObject::decode(node, report)
                .map(|env| variable(env.variable, VariableKind::Env, env.container, env.value)),
            SourceType::EnvFrom => EnvFromObject::decode(node, report)
                .map(|env| variable(env.variable, VariableKind::EnvFrom, env.container, None)),
            SourceType::Secret => SecretObject::decode(node, report).map(|secret| Self::Secret {
                name: secret.name,
                key: secret.key,
                variable: secret.env_var_name.map(|VariableName(name)| name),
            }),
            SourceType::GcpSecretManager => {
                GcpObject::decode(node, report).map(|secret| Self::GcpSecretManager {
                    reference: secret.secret_ref,
                    variable: secret.env_var_name.map(|VariableName(name)| name),
                })
            }
        }
    }

    fn shape() -> Shape {
        Shape::one_of([
            EnvObject::shape().with_word("type", "env"),
            EnvFromObject::shape().with_word("type", "env_from"),
            SecretObject::shape().with_word("type", "secret"),
            GcpObject::shape().with_word("type", "gcp_secret_manager"),
        ])
    }
}

impl Decode for Connection {
    const EXPECTED: &'static str = "an object such as {\"url\": \"DATABASE_URL\"}";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        if !matches!(node.tree.value, Value::Object(_)) {
            let found = node.kind();
            let finding =
                report.problem(node, format!("expected {}, found {found}", Self::EXPECTED));
            match node.text() {
                Some(text) if looks_like_value(text) => {
                    finding.hint(
                        "name the variable that holds it, such as {\"url\": \"DATABASE_URL\"}",
                    );
                }
                Some(name) => {
                    finding.hint(format!("write {{\"url\": {name:?}}}"));
                }
                None => {}
            }
            return None;
        }
        match (node.given("url"), node.given("params")) {
            (Some(_), Some(params)) => {
                report.exclusive(&params, "url", "params");
                None
            }
            (Some(url), None) if matches!(url.tree.value, Value::Object(_)) => {
                UrlObject::decode(node, report).map(|object| Self::Url(vec![object.url]))
            }
            (Some(url), None) => read_flat_url(node, &url, report),
            (None, Some(params)) => params::read(node, &params, report),
            (None, None) => {
                report_shapeless(node, report);
                None
            }
        }
    }

    fn shape() -> Shape {
        Shape::one_of([FlatUrl::shape(), UrlObject::shape(), ByParams::shape()])
    }
}

fn report_shapeless(node: &Node<'_>, report: &mut Report) {
    let misspelt = node.members().iter().find_map(|member| {
        let near = nearest(&member.key, KEYS)?;
        (near != member.key).then_some((member, near))
    });
    match misspelt {
        Some((member, near)) => {
            report
                .problem_at(
                    node.path_to(&member.key),
                    &member.key_span,
                    format!("a connection has no key {:?}", member.key),
                )
                .hint(format!("did you mean {near:?}?"));
        }
        None => {
            let has = |keys: &[&str]| {
                let mut members = node.members().iter();
                members.any(|member| keys.contains(&member.key.as_str()))
            };
            let hint = if has(&PARTS) {
                "put the parts under \"params\": {\"params\": {\"host\": \"DB_HOST\", ...}}"
            } else if has(&["variable", "name", "key", "secret_ref"]) {
                "put all of it under \"url\": {\"url\": {...}}"
            } else {
                "write {\"url\": \"DATABASE_URL\"} with the variable that the process reads"
            };
            report
                .problem(node, "the connection names neither \"url\" nor \"params\"")
                .hint(hint);
        }
    }
}

fn read_flat_url(node: &Node<'_>, url: &Node<'_>, report: &mut Report) -> Option<Connection> {
    let FlatUrl {
        kind,
        url: OneOrMany(names),
    } = FlatUrl::decode(node, report)?;
    if names.is_empty() {
        report.problem(url, "the list names no variable");
        return None;
    }
    let origins = names
        .into_iter()
        .map(|VariableName(name)| Origin::Variable {
            name,
            kind: WrittenKind::resolve(kind),
            container: None,
            literal: None,
        });
    Some(Connection::Url(origins.collect()))
}

/// The shape of a connection in parts alone.
pub(crate) fn params_shape() -> Shape {
    ByParams::shape()
}

/// The keys of every shape, for the words that an excerpt may show.
pub(crate) fn vocabulary() -> Vec<&'static str> {
    [
        EnvObject::KEYS,
        SecretObject::KEYS,
        GcpObject::KEYS,
        &params::vocabulary(),
        &PARTS,
        &["sslmode", "url", "secret"],
    ]
    .concat()
}
