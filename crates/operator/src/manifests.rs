//! What an administrator applies for an operator: its namespace, its account and rights, itself.

use serde_json::{Value, json};

/// The name of all of them, and of their namespace.
const NAME: &str = "bough-operator";

/// The objects, in the order in which they are applied. `image` is ours.
pub fn manifests(image: &str) -> Vec<Value> {
    let labels = json!({"app.kubernetes.io/name": NAME});
    let context = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    let rule = |group: &str, resources: Value, verbs: Value| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let rules = json!([
        rule(
            "bough.dev",
            json!(["branches"]),
            json!(["get", "list", "patch", "delete"])
        ),
        rule("bough.dev", json!(["branches/status"]), json!(["patch"])),
        rule("apps", json!(["statefulsets"]), json!(["get", "create"])),
        rule("", json!(["pods"]), json!(["get"])),
        // An engine is asked in its own pod; `get` is what WebSockets take where `create` is for others.
        rule("", json!(["pods/exec"]), json!(["create", "get"])),
    ]);
    let subject = json!({"kind": "ServiceAccount", "name": NAME, "namespace": NAME});
    let pod = json!({
        "serviceAccountName": NAME,
        "containers": [{
            "name": "operator",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/bough", "operator", "run", "--image", image],
            "env": [{"name": "BOUGH_DATA_DIR", "value": "/nonexistent"}],
            "securityContext": context,
        }],
    });
    vec![
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAME, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        }),
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": NAME, "namespace": NAME},
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": NAME}, "rules": rules,
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": NAME},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME},
            "subjects": [subject],
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": NAME, "namespace": NAME, "labels": labels},
            "spec": {
                // Two at once would do the same thing twice, which is harmless and useless.
                "replicas": 1, "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }),
    ]
}
