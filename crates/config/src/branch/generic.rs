//! A branch of the type `generic`: any service that an image has, started empty.
//!
//! Owns its readiness and the rules of its connection: each param is a variable of the service's container, which its
//! command, arguments and environment may refer to as `$(NAME)`.

use std::collections::{BTreeMap, BTreeSet};

use crate::connection::{Connection, Origin, Param};
use crate::decode::{Report, record, words};
use crate::tree::Node;

words! {
    /// How it is known that a service is ready.
    pub(super) enum Probe : "\"tcp\", \"exec\" or \"http_get\"" {
        /// Its port answers.
        Tcp = "tcp",
        /// A command ends well.
        Exec = "exec",
        /// A path answers.
        HttpGet = "http_get",
    }
}

record! {
    /// How it is known that the service is ready.
    pub(super) struct Readiness {
        /// What is tried.
        /// Example: `"tcp"`
        kind as "type": Probe,
        /// The command of `"exec"`.
        /// Example: `["redis-cli", "ping"]`
        command: Option<Vec<String>>,
        /// The path of `"http_get"`.
        /// Example: `"/health"`
        path: Option<String>,
        /// The port of `"http_get"`; without it the service's.
        /// Example: `8086`
        port: Option<u16>,
    }
}

/// What of the branch its rules are about.
pub(super) struct Service<'b> {
    pub(super) image: bool,
    pub(super) port: bool,
    pub(super) name: bool,
    pub(super) connection: &'b Connection,
    pub(super) readiness: Option<&'b Readiness>,
}

/// Begins the variables that stand for params.
const PARAM_PREFIX: &str = "MIRRORD_PARAM_";

/// The variable with the branch's id.
const BRANCH_ID: &str = "MIRRORD_BRANCH_ID";

/// The variable with the database's name, where the branch has one.
const DATABASE_NAME: &str = "MIRRORD_DATABASE_NAME";

/// Checks a branch; `node` is it.
pub(super) fn check(service: &Service<'_>, node: &Node<'_>, report: &mut Report) {
    for (key, is_given) in [("image", service.image), ("port", service.port)] {
        if !is_given {
            report.problem(node, format!("the key {key:?} is missing"));
        }
    }
    if let Some(readiness) = service.readiness
        && let Some(place) = node.get("readiness")
    {
        check_readiness(readiness, &place, report);
    }
    let Some(connection) = node.get("connection") else {
        return;
    };
    let Connection::Params(params) = service.connection else {
        report
            .problem(
                &connection,
                "a generic branch has its connection in \"params\"",
            )
            .hint("read host and port out of the variable with \"value_pattern\"");
        return;
    };
    if params
        .values()
        .flatten()
        .any(|origin| matches!(origin, Origin::GcpSecretManager { .. }))
    {
        report.problem(
            &connection,
            "a generic branch reads no \"gcp_secret_manager\"",
        );
    }
    check_names(params.keys(), &connection, report);
    let mut known: BTreeSet<String> = params.keys().map(variable_of).collect();
    known.insert(BRANCH_ID.to_owned());
    if service.name {
        known.insert(DATABASE_NAME.to_owned());
    }
    check_environment(node, &mut known, report);
    check_references(node, &known, report);
}

fn check_readiness(readiness: &Readiness, place: &Node<'_>, report: &mut Report) {
    let missing = match readiness.kind {
        Probe::Tcp => None,
        Probe::Exec => readiness.command.is_none().then_some("command"),
        Probe::HttpGet => readiness.path.is_none().then_some("path"),
    };
    if let Some(key) = missing {
        report.problem(place, format!("the key {key:?} is missing"));
    }
}

fn variable_of(param: &Param) -> String {
    format!("{PARAM_PREFIX}{}", param.as_str().to_uppercase())
}

/// Params become variables, so each is a name, and no two are the same in capitals.
fn check_names<'p>(
    params: impl Iterator<Item = &'p Param>,
    connection: &Node<'_>,
    report: &mut Report,
) {
    let mut variables: BTreeMap<String, &Param> = BTreeMap::new();
    for param in params {
        let name = param.as_str();
        let place = connection.find(&["params", name]);
        let place = place.as_ref().unwrap_or(connection);
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name {
            report
                .problem(
                    place,
                    format!("the param {name:?} is no name of a variable"),
                )
                .hint("write letters, digits and \"_\"");
        }
        let variable = variable_of(param);
        if let Some(first) = variables.get(&variable) {
            report.problem(
                place,
                format!(
                    "the params {:?} and {name:?} are both {variable}",
                    first.as_str()
                ),
            );
        } else {
            variables.insert(variable, param);
        }
    }
}

/// The service's own variables join `known`; those of the branch may not be among them.
fn check_environment(node: &Node<'_>, known: &mut BTreeSet<String>, report: &mut Report) {
    let Some(env) = node.get("env") else {
        return;
    };
    for member in env.members() {
        let name = member.key.as_str();
        if name.starts_with(PARAM_PREFIX) || matches!(name, BRANCH_ID | DATABASE_NAME) {
            report.problem_at(
                env.path_to(name),
                &member.key_span,
                format!("{name} is the branch's own and cannot be set"),
            );
        } else {
            known.insert(name.to_owned());
        }
    }
}

fn check_references(node: &Node<'_>, known: &BTreeSet<String>, report: &mut Report) {
    let lists = ["command", "args"]
        .into_iter()
        .filter_map(|key| node.get(key))
        .flat_map(|list| list.items());
    let env = node.get("env");
    let values = env.iter().flat_map(|env| {
        env.members().iter().map(|member| Node {
            path: env.path_to(&member.key),
            tree: &member.value,
        })
    });
    for value in lists.chain(values) {
        for name in value.text().into_iter().flat_map(references) {
            if !known.contains(name) {
                let names: Vec<&str> = known.iter().map(String::as_str).collect();
                report
                    .problem(&value, format!("$({name}) refers to nothing"))
                    .hint(format!(
                        "there are {}; write $$(...) for a text in parentheses",
                        names.join(", ")
                    ));
            }
        }
    }
}

/// The names in `$(NAME)`; `$$` stands for a dollar sign.
fn references(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            found.push(name);
            rest = after;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_stand_in_parentheses_behind_one_dollar_sign() {
        for (text, names) in [
            ("", vec![]),
            ("a$(B)c$(D)", vec!["B", "D"]),
            ("$$(B) $B ${B} $(B", vec![]),
            ("$$$(B)", vec!["B"]),
            ("$", vec![]),
        ] {
            assert_eq!(references(text), names, "{text}");
        }
    }
}
