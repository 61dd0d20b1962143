//! A branch host: one pod with an engine, for the branches of one namespace and major version, in the stock PostgreSQL
//! image.
//!
//! An init container copies our static program in. Nothing listens but on the pod's loopback: the engine is asked through
//! `pods/exec`, a branch is reached through `pods/portforward`.

use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::{Value, json};

/// The label of every host, with its version.
pub const HOST_LABEL: &str = "bough.dev/host";

/// The program in a host.
pub const PROGRAM: &str = "/opt/bough/bough";

/// Where a host's engine keeps its data.
pub const DATA_DIR: &str = "/var/lib/bough/engine";

/// The container that the engine runs in.
pub const CONTAINER: &str = "engine";

/// The account that the stock image has for PostgreSQL.
const ACCOUNT: i64 = 999;

/// How branch hosts look.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// Our own image.
    pub image: String,
    /// The PostgreSQL image, without its tag, which is the major version.
    pub postgres_image: String,
    /// The storage class; none for the cluster's default one.
    pub storage_class: Option<String>,
    /// The size of a host's volume, as Kubernetes writes quantities.
    pub storage_size: String,
}

/// The name of the host of one version.
pub(crate) fn name(version: u16) -> String {
    format!("bough-host-{version}")
}

/// The name of its pod.
pub(crate) fn pod_name(version: u16) -> String {
    format!("{}-0", name(version))
}

/// The host of one namespace and version. It fits Pod Security `restricted`.
pub(crate) fn build(namespace: &str, version: u16, settings: &HostSettings) -> StatefulSet {
    let name = name(version);
    let labels =
        json!({ HOST_LABEL: version.to_string(), "app.kubernetes.io/managed-by": "bough" });
    let containers = Containers::build(version, settings);
    let pod = json!({
        "automountServiceAccountToken": false,
        // Its first process takes in what the engine's servers leave behind.
        "shareProcessNamespace": true,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": ACCOUNT, "runAsGroup": ACCOUNT, "fsGroup": ACCOUNT,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [containers.program],
        "containers": [containers.engine],
        "volumes": [
            {"name": "program", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
    });
    let written = json!({
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "serviceName": name,
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
            "template": {"metadata": {"labels": labels}, "spec": pod},
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": settings.storage_class,
                    "resources": {"requests": {"storage": settings.storage_size}},
                },
            }],
        },
    });
    serde_json::from_value(written).expect("what stands above is a stateful set")
}

/// The containers of a host's pod, in the order in which they run.
struct Containers {
    /// Copies the program in, and ends.
    program: Value,
    /// The engine.
    engine: Value,
}

impl Containers {
    fn build(version: u16, settings: &HostSettings) -> Self {
        let least = json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        });
        let bin = json!({"name": "program", "mountPath": "/opt/bough"});
        let mut bin_of_engine = bin.clone();
        bin_of_engine["readOnly"] = json!(true);
        let program = json!({
            "name": "program",
            "image": settings.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/bough", "operator", "copy-program", PROGRAM],
            "securityContext": least,
            "volumeMounts": [bin],
        });
        let engine = json!({
            "name": CONTAINER,
            "image": format!("{}:{version}", settings.postgres_image),
            "imagePullPolicy": "IfNotPresent",
            "command": [PROGRAM, "engine", "run"],
            "env": [
                {"name": "BOUGH_DATA_DIR", "value": DATA_DIR},
                {"name": "HOME", "value": "/tmp"},
            ],
            "securityContext": least,
            "readinessProbe": {
                "exec": {"command": [PROGRAM, "db-branches", "status", "--output", "json"]},
                "periodSeconds": 5, "timeoutSeconds": 10, "failureThreshold": 6,
            },
            "volumeMounts": [
                bin_of_engine,
                {"name": "data", "mountPath": "/var/lib/bough"},
                {"name": "tmp", "mountPath": "/tmp"},
                {"name": "shm", "mountPath": "/dev/shm"},
            ],
        });
        Self { program, engine }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_as_restricted_as_pod_security_has_it() {
        let settings = HostSettings {
            image: "bough:1".to_owned(),
            postgres_image: "postgres".to_owned(),
            storage_class: None,
            storage_size: "10Gi".to_owned(),
        };
        let built = build("metalmart", 16, &settings);
        let spec = built.spec.expect("a spec").template.spec.expect("a pod");
        let all = spec
            .init_containers
            .iter()
            .flatten()
            .chain(&spec.containers);
        for container in all {
            let context = container.security_context.as_ref().expect("a context");
            assert_eq!(context.allow_privilege_escalation, Some(false));
            assert_eq!(context.read_only_root_filesystem, Some(true));
            let dropped = context.capabilities.as_ref().and_then(|it| it.drop.clone());
            assert_eq!(dropped, Some(vec!["ALL".to_owned()]));
        }
        let pod = spec.security_context.expect("a context");
        assert_eq!(
            (pod.run_as_user, pod.run_as_non_root),
            (Some(999), Some(true))
        );
        assert_eq!(spec.containers[0].image.as_deref(), Some("postgres:16"));
        assert_eq!(spec.automount_service_account_token, Some(false));
    }
}
