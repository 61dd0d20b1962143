//! What an administrator applies for an operator: what is refused to everybody, its namespace, its account and rights,
//! itself. `charts/bough` has the same objects, which a story holds.

mod admission;
mod rights;

use serde_json::{Value, json};

pub use admission::OWN_POD_LABEL;

use crate::host::{HostPod, Wall};
use crate::limits::{LIMITS_NAME, Limits};

/// The name of all of them, and of their namespace.
pub const NAME: &str = "bough-operator";

/// The role in each namespace of branches, where the whole cluster is not granted.
const ROLE: &str = "bough-branches";

/// The group of roles.
const RBAC: &str = "rbac.authorization.k8s.io";

/// What an operator is to be.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Our image.
    pub image: String,
    /// The namespaces that may have branches; none for all of the cluster.
    pub namespaces: Vec<String>,
    /// The PostgreSQL image, without its tag.
    pub postgres_image: String,
    /// The storage class of branch hosts; none for the cluster's default one.
    pub storage_class: Option<String>,
    /// The size of each host's volume.
    pub storage_size: String,
    /// What the network policy of branch hosts keeps off.
    pub wall: Wall,
    /// What the pods of branch hosts are given.
    pub host_pod: HostPod,
    /// Whether it places agents for sessions, which takes rights beside pods.
    pub sessions: bool,
    /// Whether its log is JSON.
    pub logs_json: bool,
    /// What everybody is allowed.
    pub limits: Limits,
}

/// The port of its probes and metrics, in its pod.
const PORT: u16 = 8080;

/// What the API server refuses by itself, which belongs to the cluster, for an operator in the namespace `own`.
pub fn policies(own: &str) -> Vec<Value> {
    admission::policies(own)
}

/// The operator's own objects, in the order in which they are applied.
pub fn manifests(wish: &Wish) -> Vec<Value> {
    let mut objects = vec![
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAME, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        }),
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": NAME, "namespace": NAME},
        }),
    ];
    objects.push(limits(&wish.limits));
    objects.extend(granted(
        "Role",
        NAME,
        Some(NAME),
        &rights::of_own_namespace(),
    ));
    for namespace in &wish.namespaces {
        objects.extend(granted(
            "Role",
            ROLE,
            Some(namespace),
            &rights::of_namespaces(wish.sessions),
        ));
    }
    if wish.namespaces.is_empty() {
        objects.extend(granted(
            "ClusterRole",
            NAME,
            None,
            &rights::of_namespaces(wish.sessions),
        ));
    }
    objects.push(deployment(wish));
    objects
}

/// Where an administrator writes what everybody is allowed.
fn limits(limits: &Limits) -> Value {
    let mut object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": LIMITS_NAME, "namespace": NAME},
    });
    let data = limits.data();
    if !data.is_empty() {
        object["data"] = json!(data);
    }
    object
}

/// A role and the binding that gives it to the operator.
fn granted(kind: &str, name: &str, namespace: Option<&str>, rules: &Value) -> [Value; 2] {
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    let api = format!("{RBAC}/v1");
    let subject = json!({"kind": "ServiceAccount", "name": NAME, "namespace": NAME});
    [
        json!({"apiVersion": api, "kind": kind, "metadata": metadata, "rules": rules}),
        json!({
            "apiVersion": api, "kind": format!("{kind}Binding"), "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": kind, "name": name}, "subjects": [subject],
        }),
    ]
}

fn deployment(wish: &Wish) -> Value {
    let labels = json!({"app.kubernetes.io/name": NAME});
    let mut command: Vec<&str> = vec!["/bough", "operator", "run"];
    command.extend(["--image", &wish.image, "--identity", "$(POD_NAME)"]);
    command.extend(["--lease-namespace", NAME]);
    command.extend(["--postgres-image", &wish.postgres_image]);
    command.extend(["--storage-size", &wish.storage_size]);
    command.extend(["--network-policy", wish.wall.as_str()]);
    let host_pod = wish.host_pod.to_string();
    command.extend(["--host-pod", &host_pod]);
    let port = PORT.to_string();
    command.extend(["--port", &port]);
    command.extend(["--log-format", if wish.logs_json { "json" } else { "text" }]);
    if let Some(class) = &wish.storage_class {
        command.extend(["--storage-class", class]);
    }
    for namespace in &wish.namespaces {
        command.extend(["--namespace", namespace]);
    }
    let container = json!({
        "name": "operator",
        "image": wish.image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": [
            {"name": "BOUGH_DATA_DIR", "value": "/nonexistent"},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "ports": [{"name": "metrics", "containerPort": PORT}],
        // A restart is for one that hangs, not for one that waits for the API server.
        "livenessProbe": {"httpGet": {"path": "/livez", "port": "metrics"}, "periodSeconds": 10, "failureThreshold": 3},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "metrics"}, "periodSeconds": 5},
        // It keeps nothing between two looks.
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    });
    let pod = json!({"serviceAccountName": NAME, "containers": [container]});
    // As Prometheus's usual configuration finds pods.
    let annotations = json!({"prometheus.io/scrape": "true", "prometheus.io/port": port});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAME, "labels": labels},
        "spec": {
            // One works, the other takes over.
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(namespaces: &[&str]) -> Wish {
        Wish {
            image: "bough:1".to_owned(),
            namespaces: namespaces.iter().map(|&it| it.to_owned()).collect(),
            postgres_image: "postgres".to_owned(),
            storage_class: None,
            storage_size: "10Gi".to_owned(),
            wall: Wall::default(),
            host_pod: HostPod::default(),
            sessions: false,
            logs_json: false,
            limits: Limits::default(),
        }
    }

    #[test]
    fn with_namespaces_nothing_is_granted_elsewhere() {
        let objects = manifests(&wish(&["shop", "bank"]));
        let kinds: Vec<_> = objects.iter().map(|it| it["kind"].as_str()).collect();
        assert!(!kinds.contains(&Some("ClusterRole")), "{kinds:?}");
        let roles = objects.iter().filter(|it| it["kind"] == "Role");
        let places: Vec<_> = roles
            .map(|it| it["metadata"]["namespace"].clone())
            .collect();
        assert_eq!(places, [NAME, "shop", "bank"]);
        let run = objects.last().expect("a deployment")["spec"]["template"].to_string();
        assert!(
            run.contains(r#""--namespace","shop","--namespace","bank""#),
            "{run}"
        );
        let whole = manifests(&wish(&[]));
        assert!(whole.iter().any(|it| it["kind"] == "ClusterRole"));
    }

    #[test]
    fn the_right_to_place_agents_is_there_where_it_was_asked_for_alone() {
        let written = |sessions| {
            let wish = Wish {
                sessions,
                ..wish(&["shop"])
            };
            json!(manifests(&wish)).to_string()
        };
        assert!(!written(false).contains("ephemeralcontainers"));
        assert!(written(true).contains("ephemeralcontainers"));
    }

    #[test]
    fn every_policy_is_bound_denies_and_fails_closed() {
        let policies = policies(NAME);
        for pair in policies.chunks(2) {
            let [policy, binding] = pair else {
                panic!("{pair:?}");
            };
            assert_eq!(policy["spec"]["failurePolicy"], "Fail");
            assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
            assert_eq!(binding["spec"]["validationActions"], json!(["Deny"]));
            // Not even the operator's own account is exempt.
            assert_eq!(policy["spec"].get("matchConditions"), None);
        }
    }

    #[test]
    fn limits_are_read_where_the_operator_is() {
        let written = json!(policies("tools")).to_string();
        assert!(!written.contains(NAME), "{written}");
        let bindings = policies("tools");
        let places = bindings
            .iter()
            .filter_map(|it| it["spec"]["paramRef"].get("namespace"));
        assert_eq!(places.collect::<Vec<_>>(), ["tools"; 3]);
    }

    #[test]
    fn images_of_agents_are_held_beside_targets_and_without_any() {
        let policies = policies(NAME);
        let images = policies
            .iter()
            .filter(|it| it.to_string().contains("agentImages"));
        let resources = images.map(|it| {
            let constraints = &it["spec"]["matchConstraints"];
            (
                constraints["resourceRules"][0]["resources"][0].clone(),
                constraints["objectSelector"].is_null(),
            )
        });
        assert_eq!(
            resources.collect::<Vec<_>>(),
            [
                (json!("pods/ephemeralcontainers"), true),
                (json!("pods"), false)
            ]
        );
    }
}
