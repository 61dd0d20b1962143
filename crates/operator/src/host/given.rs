//! What the pods of branch hosts are given: processors and memory, nodes, credentials of registries, an account, and the
//! longest TTL that their engines grant. All of it reaches a host that is there with its next pod.
//!
//! Kubernetes writes quantities and absent fields in its own way, so that what is wanted is compared with what was wanted
//! last, which an annotation of the hosts' stateful set says.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use resources::{PodResources, SourceSpec, Toleration};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::PROGRAM;

/// By which a host's engine is told the longest TTL that it grants, in seconds.
pub const TTL_MAX_VARIABLE: &str = "BOUGH_TTL_MAX_SECONDS";

/// What was wanted last.
pub(super) const GIVEN_ANNOTATION: &str = "bough.dev/given";

/// How often an engine is asked whether it is there at all, in seconds, and how long it may take for its answer.
const ALIVE_SECONDS: u32 = 60;

/// How many of these it may leave without an answer, one after the other: a quarter of an hour, in which one that is busy
/// answers.
const ALIVE_FAILURES_MAX: u32 = 15;

/// What every host is given, unless a `Source` says otherwise of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HostPod {
    /// What each of its containers takes; they run one after the other.
    pub resources: PodResources,
    /// The most that its servers share in memory, as Kubernetes writes quantities; empty for what the node allows.
    pub shm_size: String,
    /// Labels of the nodes that it may be on.
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that it bears.
    pub tolerations: Vec<Toleration>,
    /// Secrets of its namespace with credentials of registries.
    pub image_pull_secrets: Vec<String>,
    /// The account of its namespace that it runs under, whose token it never gets; empty for `default`.
    pub service_account_name: String,
}

impl Default for HostPod {
    fn default() -> Self {
        let requests = [("cpu", "50m"), ("memory", "128Mi")];
        let requests = requests.map(|(what, size)| (what.to_owned(), size.to_owned()));
        Self {
            resources: PodResources {
                requests: requests.into(),
                limits: BTreeMap::new(),
            },
            shm_size: String::new(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            image_pull_secrets: Vec::new(),
            service_account_name: String::new(),
        }
    }
}

/// What is written is not what a host's pod can be given.
#[derive(Debug, thiserror::Error)]
pub enum HostPodError {
    /// It is no JSON, or has a field that is none, or another value than that has.
    #[error("{0}")]
    Form(#[from] serde_json::Error),
    /// Something in it is not known.
    #[error("{0} has a field that is not known")]
    Unknown(&'static str),
}

impl FromStr for HostPod {
    type Err = HostPodError;

    /// Reads it from JSON.
    fn from_str(text: &str) -> Result<Self, HostPodError> {
        let pod: Self = serde_json::from_str(text)?;
        let given: Value = serde_json::from_str(text)?;
        // Their types are those of resources, whose unknown fields the API server takes away.
        let inner = [
            ("resources", json!(pod.resources)),
            ("tolerations", json!(pod.tolerations)),
        ];
        for (name, read) in inner {
            if given.get(name).is_some_and(|it| !is_within(it, &read)) {
                return Err(HostPodError::Unknown(name));
            }
        }
        Ok(pod)
    }
}

/// Whether `read` has all of `given` that says something.
fn is_within(given: &Value, read: &Value) -> bool {
    let says_nothing = |it: &Value| {
        it.is_null()
            || it.as_object().is_some_and(serde_json::Map::is_empty)
            || it.as_array().is_some_and(Vec::is_empty)
    };
    match (given, read) {
        (Value::Object(given), Value::Object(read)) => given.iter().all(|(name, value)| {
            says_nothing(value) || read.get(name).is_some_and(|it| is_within(value, it))
        }),
        (Value::Array(given), Value::Array(read)) => {
            given.len() == read.len() && given.iter().zip(read).all(|(a, b)| is_within(a, b))
        }
        (given, read) => given == read,
    }
}

impl fmt::Display for HostPod {
    /// As flags and values of the chart have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        json!(self).fmt(f)
    }
}

impl HostPod {
    /// What the hosts of this source are given.
    fn of(&self, source: Option<&SourceSpec>) -> Self {
        let own = source.and_then(|it| it.pod.clone()).unwrap_or_default();
        let all = self.clone();
        Self {
            resources: own.resources.unwrap_or(all.resources),
            node_selector: own.node_selector.unwrap_or(all.node_selector),
            tolerations: own.tolerations.unwrap_or(all.tolerations),
            image_pull_secrets: own.image_pull_secrets.unwrap_or(all.image_pull_secrets),
            ..all
        }
    }
}

/// What one stateful set's pods are given.
pub(super) struct Given {
    pod: HostPod,
    ttl_max: Option<u32>,
}

impl Given {
    /// `ttl_max` is the longest TTL in seconds; none where nobody knows it at this moment.
    pub(super) fn new(all: &HostPod, source: Option<&SourceSpec>, ttl_max: Option<u32>) -> Self {
        let pod = all.of(source);
        Self { pod, ttl_max }
    }

    /// Gives it to the stateful set `written`, whose containers are there.
    pub(super) fn lay(&self, written: &mut Value) {
        let pod = &mut written["spec"]["template"]["spec"];
        for containers in ["initContainers", "containers"] {
            for container in pod[containers].as_array_mut().into_iter().flatten() {
                container["resources"] = json!(self.pod.resources);
            }
        }
        let engine = &mut pod["containers"][0];
        engine["livenessProbe"] = is_alive();
        if let Some(env) = engine["env"].as_array_mut() {
            env.extend(self.variable());
        }
        for volume in pod["volumes"].as_array_mut().into_iter().flatten() {
            if volume["name"] == "shm" {
                *volume = self.shm();
            }
        }
        pod["nodeSelector"] = json!(self.pod.node_selector);
        pod["tolerations"] = json!(self.pod.tolerations);
        pod["imagePullSecrets"] = json!(self.secrets());
        let account = Some(&self.pod.service_account_name).filter(|it| !it.is_empty());
        pod["serviceAccountName"] = json!(account);
        if self.ttl_max.is_some() {
            written["metadata"]["annotations"] = json!({GIVEN_ANNOTATION: self.text()});
        }
    }

    /// What the annotation says.
    fn text(&self) -> String {
        json!({"pod": self.pod, "ttlMax": self.ttl_max, "alive": is_alive()}).to_string()
    }

    fn variable(&self) -> Option<Value> {
        let seconds = self.ttl_max?;
        Some(json!({"name": TTL_MAX_VARIABLE, "value": seconds.to_string()}))
    }

    fn shm(&self) -> Value {
        // An absent limit is null, which takes an earlier one away.
        let size = Some(&self.pod.shm_size).filter(|it| !it.is_empty());
        json!({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": size}})
    }

    fn secrets(&self) -> Vec<Value> {
        let secrets = self.pod.image_pull_secrets.iter();
        secrets.map(|name| json!({ "name": name })).collect()
    }
}

/// A probe that ends an engine which hangs, and none that has much to do.
fn is_alive() -> Value {
    json!({
        "exec": {"command": [PROGRAM, "engine", "status"]},
        "periodSeconds": ALIVE_SECONDS, "timeoutSeconds": ALIVE_SECONDS, "failureThreshold": ALIVE_FAILURES_MAX,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_chart_writes_is_read_and_a_word_that_is_none_is_refused() {
        let plain = r#"{"imagePullSecrets":[],"nodeSelector":{},"resources":{"limits":{},"requests":{"memory":"1Gi"}},"serviceAccountName":"","shmSize":"64Mi","tolerations":[{"key":"disk","operator":"Exists"}]}"#;
        let pod: HostPod = plain.parse().expect("it is one");
        assert_eq!(pod.resources.requests["memory"], "1Gi");
        assert_eq!(pod.to_string().parse::<HostPod>().expect("again"), pod);
        assert_eq!(
            "{}".parse::<HostPod>().expect("nothing"),
            HostPod::default()
        );
        for wrong in [
            r#"{"resource":{}}"#,
            r#"{"resources":{"request":{"memory":"1Gi"}}}"#,
            r#"{"tolerations":[{"key":"a","effects":"NoSchedule"}]}"#,
            r#"{"tolerations":[{"operator":"Is"}]}"#,
            "1Gi",
        ] {
            assert!(wrong.parse::<HostPod>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_source_says_field_by_field_what_its_own_hosts_are_given() {
        let source: SourceSpec = serde_json::from_value(json!({
            "connection": {"name": "s", "key": "k"}, "version": 16,
            "addresses": [{"host": "postgres", "port": 5432}],
            "pod": {"resources": {"requests": {"memory": "8Gi"}, "limits": {"memory": "8Gi"}}},
        }))
        .expect("a spec");
        let all = HostPod {
            node_selector: [("disk".to_owned(), "fast".to_owned())].into(),
            ..HostPod::default()
        };
        let own = all.of(Some(&source));
        assert_eq!(own.resources.limits["memory"], "8Gi");
        assert_eq!(
            own.resources.requests.get("cpu"),
            None,
            "it said all of them"
        );
        assert_eq!(own.node_selector, all.node_selector);
        assert_eq!(all.of(None), all);
    }

    #[test]
    fn an_engine_that_is_busy_has_a_quarter_of_an_hour_for_a_word() {
        let probe = is_alive();
        let numbers = ["periodSeconds", "failureThreshold"].map(|it| probe[it].as_u64());
        let seconds: u64 = numbers.into_iter().flatten().product();
        assert_eq!(seconds, 15 * 60);
        // Nothing that counts branches or looks at the disk.
        assert_eq!(
            probe["exec"]["command"],
            json!([PROGRAM, "engine", "status"])
        );
    }
}
