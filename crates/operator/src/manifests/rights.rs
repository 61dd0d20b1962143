//! What the operator may do. The guide's table (`docs/guide/kubernetes.md`) has the same rows, which a test holds.

use serde_json::{Value, json};

/// One row: where, of which group, on what, to do what.
type Row = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

/// In namespaces that have branches.
const OF_BRANCHES: &[Row] = &[
    (
        "bough.dev",
        &["branches"],
        &["get", "list", "patch", "delete"],
    ),
    ("bough.dev", &["branches/status"], &["patch"]),
    ("bough.dev", &["sources"], &["list", "delete"]),
    ("bough.dev", &["sources/status"], &["patch"]),
    (
        "apps",
        &["statefulsets"],
        &["get", "list", "create", "patch", "delete"],
    ),
    (
        "networking.k8s.io",
        &["networkpolicies"],
        &["get", "create", "patch", "delete"],
    ),
    ("events.k8s.io", &["events"], &["create"]),
    ("", &["pods"], &["get"]),
    // Whether a host still has the volume that its branches were made on.
    ("", &["persistentvolumeclaims"], &["get"]),
    // Without those of agents below, sessions are told so.
    ("bough.dev", &["sessions"], &["list", "delete"]),
    ("bough.dev", &["sessions/status"], &["patch"]),
    // An engine is asked in its own pod; `get` is what WebSockets take where `create` is for others.
    ("", &["pods/exec"], &["create", "get"]),
];

/// The same where the operator places agents of sessions, which its administrator chooses.
const OF_AGENTS: &[Row] = &[
    ("", &["pods"], &["list"]),
    ("", &["pods/ephemeralcontainers"], &["patch"]),
    // Whose pods those are.
    ("", &["services"], &["get"]),
    ("apps", &["deployments", "replicasets"], &["get"]),
    ("batch", &["cronjobs"], &["get"]),
    ("batch", &["jobs"], &["get", "list"]),
    ("argoproj.io", &["rollouts"], &["get"]),
];

/// In the operator's own namespace.
const OF_OWN_NAMESPACE: &[Row] = &[
    (
        "coordination.k8s.io",
        &["leases"],
        &["get", "create", "update"],
    ),
    // What everybody is allowed.
    ("", &["configmaps"], &["get"]),
];

/// In its own namespace, as Kubernetes has rules.
pub(super) fn of_own_namespace() -> Value {
    rules(OF_OWN_NAMESPACE)
}

/// In namespaces that have branches, as Kubernetes has rules; with `sessions` those of agents as well.
pub(super) fn of_namespaces(sessions: bool) -> Value {
    let of_agents = if sessions { OF_AGENTS } else { &[] };
    rules(&[OF_BRANCHES, of_agents].concat())
}

fn rules(rows: &[Row]) -> Value {
    let rules = rows.iter().map(|(group, resources, verbs)| {
        json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
    });
    rules.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_has_every_right_and_no_other() {
        let guide = include_str!("../../../../docs/guide/kubernetes.md");
        let after = guide
            .split_once("## The operator's rights")
            .expect("a part")
            .1;
        let part = after.split("\n## ").next().expect("a part");
        let told: Vec<&str> = part
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        let quoted = |words: &[&str]| {
            let words = words.iter().map(|word| format!("`{word}`"));
            words.collect::<Vec<_>>().join(", ")
        };
        let mut wanted = Vec::new();
        let all = [OF_BRANCHES, OF_OWN_NAMESPACE, OF_AGENTS].concat();
        for (group, resources, verbs) in all {
            for resource in resources {
                let name = match resource.split_once('/') {
                    _ if group.is_empty() => (*resource).to_owned(),
                    Some((kind, sub)) => format!("{kind}.{group}/{sub}"),
                    None => format!("{resource}.{group}"),
                };
                wanted.push(format!("| `{name}` | {} |", quoted(verbs)));
            }
        }
        assert_eq!(told.len(), wanted.len(), "{wanted:#?}");
        for (told, wanted) in told.iter().zip(&wanted) {
            assert!(told.starts_with(wanted), "{told} is not {wanted}");
        }
    }

    #[test]
    fn no_right_is_on_secrets_or_on_everything() {
        let written = format!("{}{}", of_namespaces(true), of_own_namespace());
        assert!(
            !written.contains("secrets") && !written.contains('*'),
            "{written}"
        );
    }
}
