//! Branch hosts: pods with an engine in the stock PostgreSQL image, for the branches of one namespace that come from one
//! `Source`, which says how many share them, or one for all others of one major version. Hosts that are alike are one
//! stateful set; each has a volume, and so bases and branches, of its own.
//!
//! An init container copies our static program in. Nothing listens but on the pod's loopback: the engine is asked through
//! `pods/exec` (`engine`), a branch is reached through `pods/portforward`. A source's connection strings come as files of
//! its Secret, which the kubelet lays there: the operator reads none.

mod connections;
mod engine;
mod given;
mod presence;
mod renewal;
mod scale;
mod wall;

use k8s_openapi::api::apps::v1::StatefulSet;
use model::engine_api::{ENGINE_END_TIME_MAX, SERVERS_STOP_TIME_MAX};
use resources::{SOURCE_HOSTS_MAX, SourceSpec};
use serde_json::{Value, json};

use given::Given;

pub(crate) use connections::{Laid, REPLICATION_FILE, SOURCE_DIR, URL_FILE, wanted};
pub(crate) use engine::{Answering, ask, ask_with, look, unready};
pub use given::{HostPod, HostPodError, TTL_MAX_VARIABLE};
pub(crate) use presence::{Presence, delete, have, volume};
pub(crate) use renewal::renew;
pub(crate) use scale::{Way, count, scale};
pub use wall::Wall;
pub(crate) use wall::wall;

/// The label of every host, with its version.
pub const HOST_LABEL: &str = "bough.dev/host";

/// The label of a source's host, with the source's name.
pub const SOURCE_LABEL: &str = "bough.dev/source";

/// What the name of a source's host begins with.
const OF_SOURCE: &str = "bough-source-";

/// The program in a host.
pub const PROGRAM: &str = "/opt/bough/bough";

/// Where a host's engine keeps its data.
pub const DATA_DIR: &str = "/var/lib/bough/engine";

/// The container that the engine runs in.
pub const CONTAINER: &str = "engine";

/// The container that brings the program.
const PROGRAM_CONTAINER: &str = "program";

/// The name of a host's volume among its own; its claim is called after the pod as well.
const DATA_CLAIM: &str = "data";

/// How long a host has to stop its servers and sync what they wrote, and then to end its engine, in seconds: the kubelet
/// counts what it runs before the end as well.
const STOP_SECONDS: u64 = SERVERS_STOP_TIME_MAX.as_secs() + ENGINE_END_TIME_MAX.as_secs() + 5;

/// The account that the stock image has for PostgreSQL.
const ACCOUNT: i64 = 999;

/// One host among those of a stateful set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OneHost<'a> {
    /// The stateful set.
    pub(crate) set: &'a str,
    /// Which of its pods, the first is 0.
    pub(crate) ordinal: u16,
}

impl<'a> OneHost<'a> {
    /// The one with this pod; the first of a set of this name where that is no pod's.
    pub(crate) fn of_pod(pod: &'a str) -> Self {
        let parts = pod.rsplit_once('-');
        let named = parts.and_then(|(set, ordinal)| Some((set, ordinal.parse().ok()?)));
        let (set, ordinal) = named.unwrap_or((pod, 0));
        Self { set, ordinal }
    }
}

/// How many hosts a source is to have. The API server refuses other numbers; one may be older than that rule.
pub(crate) fn wanted_hosts(source: Option<&SourceSpec>) -> u16 {
    source.map_or(1, |it| it.hosts.clamp(1, SOURCE_HOSTS_MAX))
}

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
    /// What their network policy keeps off.
    pub wall: Wall,
    /// What their pods are given.
    pub pod: HostPod,
}

#[cfg(test)]
impl HostSettings {
    /// With this image of ours, and all else as it is without flags.
    pub(crate) fn of_image(image: &str) -> Self {
        Self {
            image: image.to_owned(),
            postgres_image: "postgres".to_owned(),
            storage_class: None,
            storage_size: "10Gi".to_owned(),
            wall: Wall::default(),
            pod: HostPod::default(),
        }
    }
}

/// Which hosts of a namespace: those of one stateful set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Home {
    /// The major version.
    pub(crate) version: u16,
    /// The source whose branches alone they have; none for those of no source.
    pub(crate) source: Option<String>,
}

impl Home {
    /// Those that have the stateful set of this name.
    pub(crate) fn named(version: u16, name: &str) -> Self {
        let source = name.strip_prefix(OF_SOURCE).map(ToOwned::to_owned);
        Self { version, source }
    }

    /// Those of a stateful set; none where that has no hosts.
    pub(crate) fn of(host: &StatefulSet) -> Option<Self> {
        let labels = host.metadata.labels.as_ref()?;
        Some(Self {
            version: labels.get(HOST_LABEL)?.parse().ok()?,
            source: labels.get(SOURCE_LABEL).cloned(),
        })
    }

    /// Their stateful set.
    pub(crate) fn name(&self) -> String {
        match &self.source {
            Some(source) => format!("{OF_SOURCE}{source}"),
            None => format!("bough-host-{}", self.version),
        }
    }

    /// The pod of one of them, the first is 0.
    pub(crate) fn pod(&self, ordinal: u16) -> String {
        format!("{}-{ordinal}", self.name())
    }
}

/// Hosts of `namespace`, as their source wants them where that is there, whose engines grant a TTL of so many seconds, where
/// that is known. They fit Pod Security `restricted`.
pub(crate) fn build(
    namespace: &str,
    home: &Home,
    source: Option<&SourceSpec>,
    settings: &HostSettings,
    ttl_max: Option<u32>,
) -> StatefulSet {
    let (name, version) = (home.name(), home.version);
    let mut labels =
        json!({ HOST_LABEL: version.to_string(), "app.kubernetes.io/managed-by": "bough" });
    if let Some(source) = &home.source {
        labels[SOURCE_LABEL] = json!(source);
    }
    let containers = Containers::build(version, source, settings);
    let mut volumes = vec![
        json!({"name": "program", "emptyDir": {}}),
        json!({"name": "tmp", "emptyDir": {}}),
        json!({"name": "shm", "emptyDir": {"medium": "Memory"}}),
    ];
    volumes.extend(source.map(connections::volume));
    let storage = source.and_then(|it| it.storage.as_ref());
    let class = storage
        .and_then(|it| it.class.as_ref())
        .or(settings.storage_class.as_ref());
    let size = storage.map_or(&settings.storage_size, |it| &it.size);
    let pod = json!({
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": STOP_SECONDS,
        // Its first process takes in what the engine's servers leave behind.
        "shareProcessNamespace": true,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": ACCOUNT, "runAsGroup": ACCOUNT, "fsGroup": ACCOUNT,
            // Else each new pod finds data directories that their group may write to, which PostgreSQL refuses.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "affinity": apart(&labels),
        "initContainers": [containers.program],
        "containers": [containers.engine],
        "volumes": volumes,
    });
    let mut written = json!({
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "serviceName": name,
            "replicas": wanted_hosts(source),
            // Else one that does not start keeps those behind it from coming back.
            "podManagementPolicy": "Parallel",
            // What was renewed holds from the next pod on: nobody's session is cut off for it.
            "updateStrategy": {"type": "OnDelete"},
            "selector": {"matchLabels": labels},
            // Whoever else scales it down (a tool that puts namespaces to sleep) finds everything again: `scale`.
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
            "template": {"metadata": {"labels": labels}, "spec": pod},
            "volumeClaimTemplates": [{
                "metadata": {"name": DATA_CLAIM},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": class,
                    "resources": {"requests": {"storage": size}},
                },
            }],
        },
    });
    Given::new(&settings.pod, source, ttl_max).lay(&mut written);
    serde_json::from_value(written).expect("what stands above is a stateful set")
}

/// Hosts that are alike stand on nodes of their own where there are some: a node that fails takes one of them.
fn apart(labels: &Value) -> Value {
    let term =
        json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}});
    json!({"podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}],
    }})
}

/// The containers of a host's pod, in the order in which they run.
struct Containers {
    /// Copies the program in, and ends.
    program: Value,
    /// The engine.
    engine: Value,
}

impl Containers {
    fn build(version: u16, source: Option<&SourceSpec>, settings: &HostSettings) -> Self {
        let least = json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        });
        let bin = json!({"name": "program", "mountPath": "/opt/bough"});
        let mut bin_of_engine = bin.clone();
        bin_of_engine["readOnly"] = json!(true);
        let program = json!({
            "name": PROGRAM_CONTAINER,
            "image": settings.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/bough", "operator", "copy-program", PROGRAM],
            "securityContext": least,
            "volumeMounts": [bin],
        });
        let image = source.and_then(|it| it.image.clone());
        let image = image.unwrap_or_else(|| format!("{}:{version}", settings.postgres_image));
        let mut mounts = vec![
            bin_of_engine,
            json!({"name": "data", "mountPath": "/var/lib/bough"}),
            json!({"name": "tmp", "mountPath": "/tmp"}),
            json!({"name": "shm", "mountPath": "/dev/shm"}),
        ];
        let connections =
            json!({"name": connections::VOLUME, "mountPath": SOURCE_DIR, "readOnly": true});
        mounts.extend(source.map(|_| connections));
        let engine = json!({
            "name": CONTAINER,
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            // A program that does not know guarded doors runs no host rather than one with open doors.
            "command": [PROGRAM, "engine", "run", "--doors", "guarded"],
            "env": [
                {"name": "BOUGH_DATA_DIR", "value": DATA_DIR},
                {"name": "HOME", "value": "/tmp"},
            ],
            "securityContext": least,
            // An engine that is only ended leaves its servers to the next one, and there is none in the same container.
            "lifecycle": {"preStop": {"exec": {"command": [PROGRAM, "engine", "stop", "--servers"]}}},
            "readinessProbe": {
                "exec": {"command": [PROGRAM, "db-branches", "status", "--output", "json"]},
                "periodSeconds": 5, "timeoutSeconds": 10, "failureThreshold": 6,
            },
            "volumeMounts": mounts,
        });
        Self { program, engine }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_of_a_source_leaves_room_for_what_kubernetes_adds() {
        // A label's longest value, and a hyphen with the hash of the set's revision.
        const LABEL_CHARS_MAX: usize = 63;
        const REVISION_CHARS: usize = 11;
        let home = Home {
            version: 16,
            source: Some("x".repeat(resources::SOURCE_NAME_CHARS_MAX)),
        };
        assert_eq!(home.name().len() + REVISION_CHARS, LABEL_CHARS_MAX);
    }

    #[test]
    fn a_pod_names_its_set_and_which_of_it_and_what_is_no_pod_s_the_first() {
        let told = |pod| {
            let OneHost { set, ordinal } = OneHost::of_pod(pod);
            (set.to_owned(), ordinal)
        };
        let orders = "bough-source-orders";
        assert_eq!(told("bough-source-orders-0"), (orders.to_owned(), 0));
        assert_eq!(told("bough-source-orders-7"), (orders.to_owned(), 7));
        assert_eq!(told(orders), (orders.to_owned(), 0));
        // A source may be called as another one's pod is.
        let home = Home::named(16, "bough-source-orders-1");
        assert_eq!(home.pod(0), "bough-source-orders-1-0");
        assert_eq!(told(&home.pod(0)), (home.name(), 0));
    }

    #[test]
    fn a_source_s_own_image_and_storage_go_before_the_operator_s() {
        let image = format!("registry.example/postgres@sha256:{}", "0a".repeat(32));
        let spec: SourceSpec = serde_json::from_value(json!({
            "connection": {"name": "database", "key": "url"}, "version": 16, "image": image,
            "addresses": [{"host": "postgres", "port": 5432}],
            "storage": {"class": "fast", "size": "1Gi"},
        }))
        .expect("a source");
        let home = Home::named(16, "bough-source-orders");
        let built = build(
            "metalmart",
            &home,
            Some(&spec),
            &HostSettings::of_image("bough:1"),
            None,
        );
        let built = serde_json::to_value(built).expect("an object");
        let pod = &built["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["image"], image.as_str());
        assert_eq!(pod["initContainers"][0]["image"], "bough:1");
        let claim = &built["spec"]["volumeClaimTemplates"][0]["spec"];
        assert_eq!(claim["storageClassName"], "fast");
        assert_eq!(claim["resources"]["requests"]["storage"], "1Gi");
    }

    #[test]
    fn a_host_is_as_restricted_as_pod_security_has_it() {
        let settings = HostSettings::of_image("bough:1");
        let home = Home {
            version: 16,
            source: None,
        };
        let built = build("metalmart", &home, None, &settings, Some(900));
        let spec = built.spec.expect("a spec").template.spec.expect("a pod");
        let all = spec
            .init_containers
            .iter()
            .flatten()
            .chain(&spec.containers);
        for container in all {
            // A quota of the namespace on requests refuses a pod that has a container without.
            let resources = json!(container.resources);
            assert_eq!(resources["requests"]["memory"], "128Mi");
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
