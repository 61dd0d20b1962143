//! Rules over `feature.env` and the branches' connections: no variable that leads to a branch may be dropped, replaced or
//! given by a file, and what the user is told otherwise.

use super::deepest;
use crate::branch::WrittenBranch;
use crate::connection::Origin;
use crate::decode::Report;
use crate::environment::{Environment, Rule};
use crate::reader::Surroundings;
use crate::root::Parts;
use crate::tree::Node;

/// The rules of `feature.env` may not keep a connection variable from the process.
pub(super) fn check_rules(
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
pub(super) fn check_env_file(
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
