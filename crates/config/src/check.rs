//! What must hold between the parts of a file: no session may start whose process would miss its branch.
//!
//! Owns the rules over several keys at once, `target` those of a target and what it goes with. Rules over one key are
//! with the key.

mod target;

use std::collections::BTreeMap;

use crate::branch::{DbBranch, WrittenBranch};
use crate::connection::Origin;
use crate::decode::Report;
use crate::environment::{Environment, Rule};
use crate::reader::Surroundings;
use crate::root::Parts;
use crate::tree::Node;

/// Checks everything but ids.
pub(crate) fn check(
    parts: &Parts<'_, '_>,
    root: &Node<'_>,
    surroundings: &Surroundings,
    report: &mut Report,
) {
    target::check(parts, root, surroundings.is_target_final, report);
    check_env_file(parts, root, surroundings, report);
    let mut owners = BTreeMap::new();
    for (branch, node) in parts.branches.iter().zip(parts.branch_nodes) {
        if let WrittenBranch::Pg(branch) = branch {
            for variable in branch.connection().variables() {
                check_owner(variable, node, &mut owners, report);
            }
            for (_, origin) in branch.connection().origins() {
                check_rules(origin, node, parts, root, report);
            }
        }
    }
}

/// The deepest part of `path` that the file has.
fn deepest<'t>(root: &Node<'t>, path: &[&str]) -> Node<'t> {
    (0..=path.len())
        .rev()
        .find_map(|length| root.find(&path[..length]))
        .unwrap_or_else(|| root.clone())
}

/// A variable leads to one database.
fn check_owner<'t>(
    variable: &str,
    node: &Node<'t>,
    owners: &mut BTreeMap<String, Node<'t>>,
    report: &mut Report,
) {
    if let Some(first) = owners.get(variable) {
        report
            .problem(
                node,
                format!(
                    "{variable} leads to {} already: it cannot lead to two branches",
                    first.path
                ),
            )
            .also_at(&first.tree.span);
    } else {
        owners.insert(variable.to_owned(), node.clone());
    }
}

/// The rules of `feature.env` may not keep a connection variable from the process.
fn check_rules(
    origin: &Origin,
    branch: &Node<'_>,
    parts: &Parts<'_, '_>,
    root: &Node<'_>,
    report: &mut Report,
) {
    let Some(variable) = origin.variable() else {
        return;
    };
    let Some(rule) = parts.env.rule_against(variable) else {
        return;
    };
    let (key, what, hint) = match rule {
        // A literal does not come from the target, so not taking it from there keeps nothing back.
        Rule::Include | Rule::Exclude | Rule::Off | Rule::Own if !origin.is_from_target() => return,
        Rule::Override => (
            Some("override"),
            "this gives it another value",
            "remove it from \"override\"",
        ),
        Rule::Mapping => (
            Some("mapping"),
            "this gives it another value",
            "let no pattern match it",
        ),
        Rule::Unset => (Some("unset"), "this removes it", "remove it from \"unset\""),
        Rule::Include => (
            Some("include"),
            "this does not include it",
            "add it to \"include\"",
        ),
        Rule::Exclude => (
            Some("exclude"),
            "this excludes it",
            "remove it from \"exclude\"",
        ),
        Rule::Off => (
            None,
            "this takes no variable of the target",
            "write true, or an object with \"include\"",
        ),
        Rule::Own => (
            None,
            "that name always stays this machine's own",
            "use another variable for the connection",
        ),
    };
    let path: Vec<&str> = ["feature", "env"].into_iter().chain(key).collect();
    let place = match rule {
        Rule::Own => branch.clone(),
        Rule::Override
        | Rule::Mapping
        | Rule::Unset
        | Rule::Include
        | Rule::Exclude
        | Rule::Off => deepest(root, &path),
    };
    report
        .problem(
            &place,
            format!("{} needs {variable}, and {what}", branch.path),
        )
        .hint(hint);
}

/// An env_file may not give a connection variable a value of its own. It is read to know.
fn check_env_file(
    parts: &Parts<'_, '_>,
    root: &Node<'_>,
    surroundings: &Surroundings,
    report: &mut Report,
) {
    let Some(place) = root.find(&["feature", "env", "env_file"]) else {
        return;
    };
    if parts.env.env_file.is_none() || parts.branches.is_empty() {
        return;
    }
    let read = parts
        .env
        .read_env_file(&surroundings.directory, &surroundings.environment);
    match read {
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            report
                .problem(
                    &place,
                    format!(
                        "the file cannot be checked for the variables of db_branches: {}",
                        cause.unwrap_or_else(|| error.to_string())
                    ),
                )
                .hint("a relative path starts at the working directory");
        }
        Ok(found) => {
            report_file_variables(&found.unwrap_or_default(), &place, parts, report);
        }
    }
}

fn report_file_variables(
    found: &Environment,
    place: &Node<'_>,
    parts: &Parts<'_, '_>,
    report: &mut Report,
) {
    for (branch, node) in parts.branches.iter().zip(parts.branch_nodes) {
        let WrittenBranch::Pg(branch) = branch else {
            continue;
        };
        for variable in branch.connection().variables() {
            if found.contains_key(std::ffi::OsStr::new(variable)) {
                report
                    .problem(
                        place,
                        format!(
                            "{} needs {variable}, and the file gives it another value",
                            node.path
                        ),
                    )
                    .hint(format!("remove {variable} from the file"));
            }
        }
    }
}

/// Every branch has an id of its own. `nodes` are the entries of the list.
pub(crate) fn check_ids(branches: &[DbBranch], nodes: &[Node<'_>], report: &mut Report) {
    let resolved: BTreeMap<&str, &DbBranch> = branches
        .iter()
        .map(|branch| (branch.path.as_str(), branch))
        .collect();
    let mut first_places: BTreeMap<String, Node<'_>> = BTreeMap::new();
    for node in nodes {
        let derived = resolved.get(node.path.as_str());
        let written = node.get("id").and_then(|id| id.text()).map(str::to_owned);
        let Some(id) = derived.map(|branch| branch.id.to_string()).or(written) else {
            continue;
        };
        let place = node.given("id").unwrap_or_else(|| node.clone());
        if let Some(first) = first_places.get(&id) {
            report
                .problem(&place, format!("two branches have the id {id:?}"))
                .also_at(&first.tree.span)
                .hint("an id finds one branch again: give each its own");
        } else {
            first_places.insert(id, place);
        }
    }
}
