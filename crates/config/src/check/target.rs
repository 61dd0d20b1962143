//! What a target goes with, and a session without one: rules of the format, the same wherever the session runs.

use model::TargetKind;

use super::deepest;
use crate::decode::Report;
use crate::root::Parts;
use crate::target::TargetChoice;
use crate::tree::Node;
use model::IncomingMode;

/// Checks the target. `is_final`: nobody will ask for one that the file does not name.
pub(super) fn check(parts: &Parts<'_, '_>, root: &Node<'_>, is_final: bool, report: &mut Report) {
    let may_come = !is_final && parts.target.choice == TargetChoice::Unset;
    if parts.target.workload().is_none() && !may_come {
        check_targetless(parts, root, report);
    }
    check_label(parts, root, report);
    check_copy(parts, root, report);
    check_operator(parts, root, report);
    check_agent(root, report);
}

const NAME_A_TARGET: &str = "add a \"target\", or name one with --target";

/// What a session without target cannot do.
fn check_targetless(parts: &Parts<'_, '_>, root: &Node<'_>, report: &mut Report) {
    let mut refuse = |path: &[&str], text: &str| {
        report
            .problem(&deepest(root, path), text)
            .hint(NAME_A_TARGET);
    };
    if parts.network.incoming.mode == IncomingMode::Steal {
        let mode = ["feature", "network", "incoming", "mode"];
        refuse(&mode, "there is no target to steal from");
    }
    if parts.copy_target.enabled {
        refuse(&["feature", "copy_target"], "there is no target to copy");
    }
    if is_on(root, &["agent", "ephemeral"]) {
        let agent = ["agent", "ephemeral"];
        refuse(&agent, "there is no target to put a container into");
    } else if let Some(namespace) = given(root, &["agent", "namespace"]) {
        report
            .warning(&namespace, "has no effect without target")
            .hint("\"target\": {\"namespace\": ...} says where such a session is");
    }
}

fn given<'t>(root: &Node<'t>, path: &[&str]) -> Option<Node<'t>> {
    root.find(path).filter(|value| !value.is_null())
}

fn is_on(root: &Node<'_>, path: &[&str]) -> bool {
    root.find(path).and_then(|value| value.truth()) == Some(true)
}

fn check_label(parts: &Parts<'_, '_>, root: &Node<'_>, report: &mut Report) {
    let by_label = parts
        .target
        .workload()
        .is_some_and(|target| target.kind == TargetKind::Label);
    let conflicts = [
        (parts.copy_target.enabled, &["feature", "copy_target"][..]),
        (parts.splits_queues, &["feature", "split_queues"]),
        (!parts.branches.is_empty(), &["feature", "db_branches"]),
    ];
    for (is_used, path) in conflicts {
        if by_label && is_used {
            let target = deepest(root, &["target"]);
            report
                .problem(
                    &target,
                    format!(
                        "a target by label does not go with \"{}\"",
                        path[path.len() - 1]
                    ),
                )
                .hint("name one workload, such as \"deployment/inventory\"");
        }
    }
}

/// A copy is of one workload's own pod, made by an operator.
fn check_copy(parts: &Parts<'_, '_>, root: &Node<'_>, report: &mut Report) {
    if !parts.copy_target.enabled {
        return;
    }
    let copy = deepest(root, &["feature", "copy_target"]);
    if parts.operator == Some(false) {
        report
            .problem(
                &copy,
                "a target is copied by the cluster's operator, and \"operator\" is false",
            )
            .hint("remove one of them");
    }
    let Some(target) = parts.target.workload() else {
        return;
    };
    if target.kind == TargetKind::Service {
        report
            .problem(&copy, "a target that is a service cannot be copied")
            .hint("name the workload behind it, such as \"deployment/inventory\"");
    }
    if parts.network.incoming.mode != IncomingMode::Steal {
        report
            .warning(
                &copy,
                "requests that come to the copy get no answer: its program does not run",
            )
            .hint("write \"incoming\": \"steal\" under \"feature.network\"");
    }
}

fn check_operator(parts: &Parts<'_, '_>, root: &Node<'_>, report: &mut Report) {
    if parts.operator != Some(false) {
        return;
    }
    let operator = deepest(root, &["operator"]);
    let hint = "remove \"operator\", or write true";
    if !parts.branches.is_empty() {
        report
            .warning(
                &operator,
                "branches in a cluster are made by its operator: there, this file is refused",
            )
            .hint(hint);
    }
    if let Some(target) = parts.target.workload()
        && needs_operator(target.kind)
    {
        let kind = target.kind.as_str();
        report
            .problem(
                &operator,
                format!("a target of the kind {kind} is found by the cluster's operator, and this is false"),
            )
            .hint(hint);
    }
}

/// Kinds whose pod is not one that is simply there.
fn needs_operator(kind: TargetKind) -> bool {
    match kind {
        TargetKind::Pod | TargetKind::Deployment | TargetKind::Rollout => false,
        TargetKind::Job
        | TargetKind::CronJob
        | TargetKind::StatefulSet
        | TargetKind::Service
        | TargetKind::ReplicaSet
        | TargetKind::Label => true,
    }
}

fn check_agent(root: &Node<'_>, report: &mut Report) {
    if is_on(root, &["agent", "ephemeral"])
        && let Some(namespace) = given(root, &["agent", "namespace"])
    {
        report.warning(
            &namespace,
            "has no effect: an ephemeral container is in the target's namespace",
        );
    }
}
