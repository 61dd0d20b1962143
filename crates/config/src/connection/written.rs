//! Every shape in which a file names the source: a variable, several, parts of variables, Secrets, literals.
//!
//! Owns telling the shapes apart and the words for what fits none.

use std::collections::BTreeMap;

use model::Secret;

use super::{Connection, Origin, Param, ValuePattern, VariableKind, render};
use crate::decode::{
    Decode, OneOrMany, Record, Render, Report, Shape, Word, nearest, quoted, record, report_kind,
    words,
};
use crate::json::Json;
use crate::pattern;
use crate::tree::{Node, Value};

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
    /// A variable, or a part of its value.
    struct VariableParam {
        /// The variable.
        /// Example: `"DB_HOST"`
        env_var_name: Option<VariableName>,
        /// Another word for `env_var_name`.
        /// Example: `"DB_HOST"`
        variable: Option<VariableName>,
        /// A value of the file's own, in place of the target's. Not beside `value_pattern`.
        /// Example: `"db.internal"`
        value: Option<Secret>,
        /// A regular expression whose first group is the value: the rest of the variable stays as it is.
        /// Example: `"//([^:/]+)"`
        value_pattern: Option<String>,
    }
}

record! {
    /// A key of a Kubernetes Secret.
    struct SecretParam {
        /// The Secret.
        /// Example: `"inventory-db"`
        secret: String,
        /// Its key.
        /// Example: `"password"`
        key: String,
        /// The variable that the process reads the value from.
        /// Example: `"DB_PASSWORD"`
        env_var_name: Option<VariableName>,
    }
}

record! {
    /// A secret of Google's Secret Manager.
    struct GcpParam {
        /// Its resource name.
        /// Example: `"projects/shop/secrets/db-password/versions/latest"`
        gcp_secret_manager: String,
        /// The variable that the process reads the value from.
        /// Example: `"DB_PASSWORD"`
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

record! {
    /// A connection in parts.
    struct ByParams {
        /// Where the variables are defined on the target; without it anywhere.
        kind as "type": Option<WrittenKind>,
        /// The parts: `host`, `port`, `user`, `password`, `database`, `sslmode`. Each is a variable or another origin, or a
        /// list of them: the first is the source's, all lead to the branch. `host` may hold `host:port`.
        /// Example: `{"host": "DB_HOST", "port": "DB_PORT", "user": "DB_USER"}`
        params: Params,
    }
}

/// The parts of a connection; a part that is `null` is not there.
#[derive(Debug, Clone, PartialEq)]
struct Params(BTreeMap<String, OneOrMany<ParamOrigin>>);

impl Decode for Params {
    const EXPECTED: &'static str = "an object such as {\"host\": \"DB_HOST\"}";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let written: BTreeMap<String, Option<OneOrMany<ParamOrigin>>> =
            BTreeMap::decode(node, report)?;
        let given = written
            .into_iter()
            .filter_map(|(key, origins)| Some((key, origins?)));
        Some(Self(given.collect()))
    }

    fn shape() -> Shape {
        OneOrMany::<ParamOrigin>::shape().map()
    }
}

impl Render for Params {
    fn render(&self) -> Json {
        self.0.render()
    }
}

/// The parts that a connection in parts usually has.
const PARTS: [&str; 5] = ["host", "port", "user", "password", "database"];

/// The keys of all shapes together.
const KEYS: [&str; 3] = ["url", "params", "type"];

/// The name of a variable. Whoever writes the connection string itself is told so, and it is not repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VariableName(pub(crate) String);

impl Decode for VariableName {
    const EXPECTED: &'static str = "the name of a variable";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let Some(name) = node.text() else {
            return report_kind(node, Self::EXPECTED, report);
        };
        if looks_like_value(name) {
            report
                .problem(
                    node,
                    "this is a value, and the name of a variable is expected",
                )
                .hint("name the variable that holds it, such as \"DATABASE_URL\"");
            return None;
        }
        if name.contains(['$', '{', '}', '%']) {
            report
                .warning(
                    node,
                    "a variable is named, not referred to: no sign belongs to its name",
                )
                .hint("write \"DATABASE_URL\", not \"$DATABASE_URL\"");
        }
        if name.is_empty() || name.contains(|c: char| c.is_control() || c.is_whitespace()) {
            report.problem(
                node,
                "this is no name of a variable: it is empty or holds a blank",
            );
            return None;
        }
        Some(Self(name.to_owned()))
    }

    fn shape() -> Shape {
        Shape::not_empty("name of a variable")
    }
}

impl Render for VariableName {
    fn render(&self) -> Json {
        Json::text(&self.0)
    }
}

fn looks_like_value(text: &str) -> bool {
    text.contains("://") || text.contains(['=', '@'])
}

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

/// One origin of a param; the kind of its variable is said once for all params.
#[derive(Debug, Clone, PartialEq)]
struct ParamOrigin(Origin);

impl Decode for ParamOrigin {
    const EXPECTED: &'static str = "the name of a variable or an object with \"env_var_name\"";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let origin = match node.tree.value {
            Value::Text(_) => {
                let VariableName(name) = VariableName::decode(node, report)?;
                Origin::Variable {
                    name,
                    kind: VariableKind::Any,
                    container: None,
                    literal: None,
                }
            }
            Value::Object(_) if node.get("secret").is_some() => {
                let secret = SecretParam::decode(node, report)?;
                Origin::Secret {
                    name: secret.secret,
                    key: secret.key,
                    variable: secret.env_var_name.map(|VariableName(name)| name),
                }
            }
            Value::Object(_) if node.get("gcp_secret_manager").is_some() => {
                let secret = GcpParam::decode(node, report)?;
                Origin::GcpSecretManager {
                    reference: secret.gcp_secret_manager,
                    variable: secret.env_var_name.map(|VariableName(name)| name),
                }
            }
            Value::Object(_) => read_variable_param(node, report)?,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) => {
                report_kind::<()>(node, Self::EXPECTED, report);
                if matches!(node.tree.value, Value::Number(_)) {
                    report.hint_at(
                        &node.path,
                        "name the variable that holds it, or give both: {\"env_var_name\": \"DB_PORT\", \"value\": \"5432\"}",
                    );
                }
                return None;
            }
        };
        Some(Self(origin))
    }

    fn shape() -> Shape {
        Shape::one_of([
            VariableName::shape(),
            VariableParam::shape(),
            SecretParam::shape(),
            GcpParam::shape(),
        ])
    }
}

impl Render for ParamOrigin {
    fn render(&self) -> Json {
        render::param(&self.0)
    }
}

fn read_variable_param(node: &Node<'_>, report: &mut Report) -> Option<Origin> {
    let param = VariableParam::decode(node, report)?;
    let name = match (param.env_var_name, param.variable) {
        (Some(VariableName(name)), None) | (None, Some(VariableName(name))) => name,
        (Some(_), Some(_)) => {
            report
                .problem(
                    node,
                    "\"variable\" is another word for \"env_var_name\": both are given",
                )
                .hint("keep \"env_var_name\"");
            return None;
        }
        (None, None) => {
            report
                .problem(node, "the key \"env_var_name\" is missing")
                .hint("name the variable that the process reads the value from");
            return None;
        }
    };
    let Some(written) = param.value_pattern else {
        return Some(Origin::Variable {
            name,
            kind: VariableKind::Any,
            container: None,
            literal: param.value,
        });
    };
    let at = node.get("value_pattern")?;
    if param.value.is_some() {
        report
            .problem(&at, "\"value\" and \"value_pattern\" exclude each other")
            .hint("a value that the file gives whole needs no pattern");
        return None;
    }
    let pattern = match pattern::compile(&written) {
        Ok(regex) => ValuePattern::new(regex),
        Err(error) => {
            pattern::report_broken(&at.path, at.tree.span.clone(), &error, report);
            return None;
        }
    };
    if pattern.is_none() {
        report
            .problem(
                &at,
                "the pattern has no group: nothing says which part is the value",
            )
            .hint("put the part in parentheses, such as \"^([^:]+):\"");
    }
    pattern.map(|pattern| Origin::Pattern { name, pattern })
}

fn with_kind(origin: Origin, kind: VariableKind) -> Origin {
    match origin {
        Origin::Variable {
            name,
            kind: _,
            container,
            literal,
        } => Origin::Variable {
            name,
            kind,
            container,
            literal,
        },
        other @ (Origin::Pattern { .. }
        | Origin::Secret { .. }
        | Origin::GcpSecretManager { .. }) => other,
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
        let present = |key: &str| node.get(key).filter(|value| !value.is_null());
        match (present("url"), present("params")) {
            (Some(_), Some(params)) => {
                report
                    .problem(&params, "\"url\" and \"params\" exclude each other")
                    .hint("keep one of them");
                None
            }
            (Some(url), None) if matches!(url.tree.value, Value::Object(_)) => {
                UrlObject::decode(node, report).map(|object| Self::Url(vec![object.url]))
            }
            (Some(url), None) => read_flat_url(node, &url, report),
            (None, Some(params)) => read_params(node, &params, report),
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

fn read_params(node: &Node<'_>, params: &Node<'_>, report: &mut Report) -> Option<Connection> {
    let ByParams {
        kind,
        params: Params(written),
    } = ByParams::decode(node, report)?;
    if written.is_empty() {
        report
            .problem(params, "\"params\" names no variable")
            .hint(format!("its keys are {}", quoted(&PARTS)));
        return None;
    }
    let mut origins = BTreeMap::new();
    for (key, OneOrMany(list)) in written {
        if list.is_empty() {
            let empty = params.get(&key)?;
            report.problem(&empty, "the list names no variable");
            return None;
        }
        let list = list
            .into_iter()
            .map(|ParamOrigin(origin)| with_kind(origin, WrittenKind::resolve(kind)));
        origins.insert(Param::from_key(&key), list.collect());
    }
    Some(Connection::Params(origins))
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
        VariableParam::KEYS,
        GcpParam::KEYS,
        ByParams::KEYS,
        &[
            "host", "port", "user", "password", "database", "sslmode", "url", "secret",
        ],
    ]
    .concat()
}
