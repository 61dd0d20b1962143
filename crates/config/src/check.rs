//! What must hold between the parts of a file: no session may start whose process would miss its branch.
//!
//! Owns the rules over several keys at once, `target` those of a target and what it goes with,
//! `environment` those that keep a branch's variables in the process's environment. Rules over one key are
//! with the key.

mod environment;
mod target;

use std::collections::BTreeMap;

use crate::branch::{DbBranch, WrittenBranch};
use crate::connection::{Origin, Param};
use crate::decode::Report;
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
    // Without a target the file is where the source is found.
    if parts.target.workload().is_some() {
        environment::check_env_file(parts, root, surroundings, report);
    }
    let mut owners = BTreeMap::new();
    for (branch, node) in parts.branches.iter().zip(parts.branch_nodes) {
        if let WrittenBranch::Pg(branch) = branch {
            for (param, origin) in branch.connection().origins() {
                if let Some(variable) = origin.variable() {
                    let claim = Claim::of(param, origin, node);
                    check_owner(variable, claim, &mut owners, report);
                }
                environment::check_rules(origin, node, parts, root, report);
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

/// What a branch wants of a variable.
#[derive(Clone)]
struct Claim<'t> {
    branch: Node<'t>,
    /// Who logs in is the same on the branch: the variable is left as it is.
    unchanged: Option<Origin>,
}

impl<'t> Claim<'t> {
    fn of(param: Option<&Param>, origin: &Origin, branch: &Node<'t>) -> Self {
        let is_who = matches!(param, Some(Param::User | Param::Password));
        let is_whole = matches!(origin, Origin::Variable { .. });
        Self {
            branch: branch.clone(),
            unchanged: (is_who && is_whole).then(|| origin.clone()),
        }
    }

    /// Whether both may have the variable.
    fn agrees_with(&self, other: &Self) -> bool {
        self.branch.path == other.branch.path
            || (self.unchanged.is_some() && self.unchanged == other.unchanged)
    }
}

/// A variable that is changed leads to one database.
fn check_owner<'t>(
    variable: &str,
    claim: Claim<'t>,
    owners: &mut BTreeMap<String, Claim<'t>>,
    report: &mut Report,
) {
    let Some(first) = owners.get(variable) else {
        owners.insert(variable.to_owned(), claim);
        return;
    };
    if first.agrees_with(&claim) {
        // One that changes it is whom the others are held against.
        if first.unchanged.is_some() && claim.unchanged.is_none() {
            owners.insert(variable.to_owned(), claim);
        }
        return;
    }
    report
        .problem(
            &claim.branch,
            format!(
                "{variable} leads to {} already: it cannot lead to two branches",
                first.branch.path
            ),
        )
        .also_at(&first.branch.tree.span)
        .hint(
            "a variable of each database, or one branch: the other database then stays the shared one",
        );
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
