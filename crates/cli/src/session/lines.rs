//! What a session says of itself before its program runs and after it has ended. Pure.

use config::{KeyOrigin, Unsupported, Weight};
use jiff::Timestamp;
use model::engine_api::{BranchView, HEARTBEAT_GRACE};

use super::branches::ReadyBranch;
use super::guarded::Guarded;
use super::network;
use super::prepare::Plan;
use crate::branch_words;
use crate::diagnostics;
use crate::ui::words;

/// Where the program runs as what, with which branches, and what is not in force.
pub(super) fn opening(
    plan: &Plan,
    branches: &[ReadyBranch],
    guarded: Option<&Guarded>,
    now: Timestamp,
) -> Vec<String> {
    let target = match plan.target() {
        Some(target) => format!("target {target}"),
        None if plan.own_pod.is_some() => {
            "no target: the environment is your own, the network that of a pod".to_owned()
        }
        None => "no target: environment and network are your own".to_owned(),
    };
    let mut lines = vec![format!(
        "bough: {}, namespace {}, {target}",
        plan.context, plan.namespace
    )];
    let remarks = plan.remarks();
    let remarks = remarks.iter();
    lines.extend(remarks.map(|remark| format!("bough:   {remark}")));
    for branch in branches {
        lines.extend(describe_branch(plan, branch, now));
    }
    let told = plan
        .config
        .unsupported
        .iter()
        .filter(|unsupported| unsupported.weight == Weight::Told);
    lines.extend(told.map(|unsupported| describe_lack(plan, unsupported)));
    match guarded {
        Some(guarded) => lines.extend(guarded.opening().iter().cloned()),
        None => lines.extend(network::describe(plan, None)),
    }
    lines
}

fn describe_branch(plan: &Plan, branch: &ReadyBranch, now: Timestamp) -> Vec<String> {
    let ReadyBranch {
        planned,
        reused,
        view,
        ..
    } = branch;
    let wanted = &planned.wanted;
    let (id, name, user) = (&view.id, &view.name, &view.spec.user);
    let source = branch_words::source(view);
    let variables = wanted.connection.variables().join(", ");
    let came = if *reused {
        format!("reused, made {}", words::ago(view.created_at, now))
    } else {
        "new".to_owned()
    };
    let mut lines = vec![format!(
        "bough: branch {id} ({name}) of {source} as {user}, by {variables}: {came}"
    )];
    let holds = view.spec.copy.describe();
    let chosen = if wanted.is_copy_chosen {
        ""
    } else {
        " (the default; \"copy\": {\"mode\": \"all\"} has everything)"
    };
    lines.push(format!("bough:   holds {holds}{chosen}"));
    if let Some(base) = &view.base {
        lines.push(format!("bough:   {}", branch_words::freshness(base, now)));
        if !base.roles_without_password.is_empty() {
            let roles = base.roles_without_password.join(", ");
            lines.push(format!(
                "bough:   cannot log in there, their passwords cannot be read: {roles}"
            ));
        }
    }
    if !wanted.is_id_chosen && plan.config.key.origin == KeyOrigin::Random {
        lines.push(format!(
            "bough:   its id is this session's random key: --key {} comes back to it",
            plan.config.key.text
        ));
    }
    lines
}

fn describe_lack(plan: &Plan, unsupported: &Unsupported) -> String {
    let described = diagnostics::describe_unsupported(plan.file_name(), unsupported);
    format!("bough: {described}")
}

/// Until when each branch lives, how to come back to it, how to delete it. `left` are the branches as the engine told
/// them at the end, if it did.
pub(super) fn closing(plan: &Plan, left: Option<&[BranchView]>, now: Timestamp) -> Vec<String> {
    let Some(left) = left else {
        let grace = words::span(HEARTBEAT_GRACE.as_secs());
        return vec![format!(
            "bough: the engine did not answer; once it runs, it notices the session's end within {grace}, and the TTL of \
             its branches starts"
        )];
    };
    let key = &plan.config.key;
    let again = match key.origin {
        KeyOrigin::Random if plan.branches.iter().any(|b| !b.wanted.is_id_chosen) => {
            format!("the same command with --key {} comes back to it", key.text)
        }
        KeyOrigin::Random | KeyOrigin::Given | KeyOrigin::File => {
            "the same command comes back to it".to_owned()
        }
    };
    let lines = left.iter().map(|branch| {
        let life = branch_words::life(branch, now);
        let destroy = branch_words::destroy_command(branch);
        format!(
            "bough: branch {} lives {life}; {again}, `{destroy}` deletes it",
            branch.id
        )
    });
    lines.collect()
}
