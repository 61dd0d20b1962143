//! Connections in parts: each a variable or a part of one, a Secret, or a literal.

use std::collections::BTreeMap;

use model::Secret;

use super::super::{Connection, Origin, Param, ValuePattern, VariableKind, render};
use super::variable_name::VariableName;
use super::{PARTS, WrittenKind};
use crate::decode::{
    Decode, OneOrMany, Record, Render, Report, Shape, quoted, record, report_kind,
};
use crate::json::Json;
use crate::pattern;
use crate::tree::{Node, Value};

/// The keys of these shapes, for the words that an excerpt may show.
pub(super) fn vocabulary() -> Vec<&'static str> {
    [VariableParam::KEYS, GcpParam::KEYS, ByParams::KEYS].concat()
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
    /// A connection in parts.
    pub(super) struct ByParams {
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
pub(super) struct Params(BTreeMap<String, OneOrMany<ParamOrigin>>);

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

/// One origin of a param; the kind of its variable is said once for all params.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ParamOrigin(Origin);

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

/// Reads a connection in parts; `params` is the value of that key.
pub(super) fn read(node: &Node<'_>, params: &Node<'_>, report: &mut Report) -> Option<Connection> {
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
