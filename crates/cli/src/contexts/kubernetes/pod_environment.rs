//! The environment of a container as its pod is written: `envFrom`, then `env`, with what they refer to, as the kubelet
//! puts them together.
//!
//! The process's own environment goes before it (an entrypoint may have changed it); this is for where that is hidden.
//! ConfigMaps and Secrets are read with the user's own rights; a value that cannot be told is named, never guessed.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, EnvVar, Pod, Secret};
use kube::{Api, Client};
use model::Namespace;
use operator::agents::{ApiFailure, ChosenPod};

use super::error::ClusterError;

/// The environment as it is written.
pub(super) struct SpecEnvironment {
    /// Variables with their values.
    pub(super) variables: BTreeMap<String, String>,
    /// Names of those, or of the objects of many, whose values cannot be told.
    pub(super) missing: Vec<String>,
}

/// What a pod's environment refers to, by name; none where it is not there or not to be read.
#[derive(Default)]
struct Referred {
    config_maps: BTreeMap<String, Option<BTreeMap<String, String>>>,
    secrets: BTreeMap<String, Option<BTreeMap<String, String>>>,
}

impl SpecEnvironment {
    /// Reads what the container's environment refers to.
    ///
    /// # Errors
    /// [`ClusterError`] when the API server does not answer. What the user may not read is only missing.
    pub(super) async fn read(
        client: &Client,
        namespace: &Namespace,
        chosen: &ChosenPod,
    ) -> Result<Self, ClusterError> {
        let (config_maps, secrets) = references(chosen);
        let mut referred = Referred::default();
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace.as_str());
        for name in config_maps {
            let found = there(api.get(&name).await, "configmaps", &name, namespace)?;
            let data = found.map(|found| found.data.unwrap_or_default());
            referred.config_maps.insert(name, data);
        }
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace.as_str());
        for name in secrets {
            let found = there(api.get(&name).await, "secrets", &name, namespace)?;
            let data = found.map(|found| texts(found.data.unwrap_or_default()));
            referred.secrets.insert(name, data);
        }
        Ok(resolve(chosen, &referred))
    }
}

/// What is there; nothing where it is not, or not for this user.
fn there<K>(
    found: kube::Result<K>,
    resource: &str,
    name: &str,
    namespace: &Namespace,
) -> Result<Option<K>, ClusterError> {
    match found.map_err(ApiFailure::from) {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.is_forbidden() || failure.is_not_found() => Ok(None),
        Err(source) => Err(ClusterError::Api {
            tried: format!("read {resource} {name} in namespace {namespace}"),
            right: format!("get {resource} -n {namespace}"),
            source,
        }),
    }
}

/// Values that are text; the kubelet gives others as bytes, which no variable of ours holds.
fn texts(data: BTreeMap<String, k8s_openapi::ByteString>) -> BTreeMap<String, String> {
    let texts = data.into_iter().filter_map(|(key, value)| {
        let text = String::from_utf8(value.0).ok()?;
        Some((key, text))
    });
    texts.collect()
}

/// Names of the ConfigMaps and Secrets that the container's environment refers to.
fn references(chosen: &ChosenPod) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut config_maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for from in chosen.container.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.iter().map(|it| it.name.clone()));
        secrets.extend(from.secret_ref.iter().map(|it| it.name.clone()));
    }
    for variable in chosen.container.env.iter().flatten() {
        if let Some(from) = &variable.value_from {
            config_maps.extend(from.config_map_key_ref.iter().map(|it| it.name.clone()));
            secrets.extend(from.secret_key_ref.iter().map(|it| it.name.clone()));
        }
    }
    (config_maps, secrets)
}

fn resolve(chosen: &ChosenPod, referred: &Referred) -> SpecEnvironment {
    let mut variables = BTreeMap::new();
    let mut missing = Vec::new();
    for from in chosen.container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let (found, name, what, optional) = match (&from.config_map_ref, &from.secret_ref) {
            (Some(it), _) => (
                referred.config_maps.get(&it.name),
                &it.name,
                "ConfigMap",
                it.optional,
            ),
            (None, Some(it)) => (
                referred.secrets.get(&it.name),
                &it.name,
                "Secret",
                it.optional,
            ),
            (None, None) => continue,
        };
        match found {
            Some(Some(data)) => {
                let named = data
                    .iter()
                    .map(|(key, value)| (format!("{prefix}{key}"), value.clone()));
                variables.extend(named);
            }
            Some(None) | None if optional == Some(true) => {}
            Some(None) | None => missing.push(format!("those of the {what} {name}")),
        }
    }
    for variable in chosen.container.env.iter().flatten() {
        match value_of(variable, &variables, &chosen.pod, referred) {
            Value::Is(value) => {
                variables.insert(variable.name.clone(), value);
            }
            Value::Unset => {}
            Value::Unknown => missing.push(variable.name.clone()),
        }
    }
    SpecEnvironment { variables, missing }
}

/// What a variable holds.
enum Value {
    Is(String),
    /// It refers to what need not be there, and is not.
    Unset,
    Unknown,
}

fn value_of(
    variable: &EnvVar,
    before: &BTreeMap<String, String>,
    pod: &Pod,
    referred: &Referred,
) -> Value {
    let Some(from) = &variable.value_from else {
        let text = variable.value.as_deref().unwrap_or_default();
        return Value::Is(expand(text, before));
    };
    let look = |objects: &BTreeMap<String, Option<BTreeMap<String, String>>>,
                name: &str,
                key: &str,
                optional: Option<bool>| {
        let value = objects.get(name).and_then(Option::as_ref);
        match value.and_then(|data| data.get(key)) {
            Some(value) => Value::Is(value.clone()),
            None if optional == Some(true) => Value::Unset,
            None => Value::Unknown,
        }
    };
    if let Some(it) = &from.config_map_key_ref {
        look(&referred.config_maps, &it.name, &it.key, it.optional)
    } else if let Some(it) = &from.secret_key_ref {
        look(&referred.secrets, &it.name, &it.key, it.optional)
    } else if let Some(field) = &from.field_ref {
        field_of(pod, &field.field_path).map_or(Value::Unknown, Value::Is)
    } else {
        Value::Unknown
    }
}

/// A field of the pod, of those that variables may have (Kubernetes, Downward API).
fn field_of(pod: &Pod, path: &str) -> Option<String> {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let in_brackets = |name: &str| {
        let rest = path.strip_prefix(name)?;
        rest.strip_prefix("['")?.strip_suffix("']")
    };
    if let Some(key) = in_brackets("metadata.labels") {
        return metadata.labels.as_ref()?.get(key).cloned();
    }
    if let Some(key) = in_brackets("metadata.annotations") {
        return metadata.annotations.as_ref()?.get(key).cloned();
    }
    match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "spec.nodeName" => spec?.node_name.clone(),
        "spec.serviceAccountName" => spec?.service_account_name.clone(),
        "status.hostIP" => status?.host_ip.clone(),
        "status.podIP" => status?.pod_ip.clone(),
        _ => None,
    }
}

/// `$(NAME)` becomes what the variable holds, `$$` a dollar sign, everything else stays (Kubernetes, Define Dependent
/// Environment Variables).
fn expand(text: &str, before: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|it| it.split_once(')'))
        {
            match before.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        pairs.collect()
    }

    #[test]
    fn references_to_variables_are_expanded_as_the_kubelet_does() {
        let before = map(&[("HOST", "db"), ("EMPTY", "")]);
        for (text, expected) in [
            ("postgres://$(HOST):5432/d", "postgres://db:5432/d"),
            (
                "$(EMPTY)|$(LATER)|$$(HOST)|$HOST|$",
                "|$(LATER)|$(HOST)|$HOST|$",
            ),
            ("$(HOST", "$(HOST"),
            ("a$$b", "a$b"),
        ] {
            assert_eq!(expand(text, &before), expected, "{text}");
        }
    }

    #[test]
    fn later_ones_win_and_what_cannot_be_told_is_named() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": {"app.kubernetes.io/name": "inventory"}},
            "spec": {"nodeName": "n1", "containers": [{
                "name": "app",
                "envFrom": [
                    {"configMapRef": {"name": "settings"}},
                    {"prefix": "DB_", "secretRef": {"name": "database"}},
                    {"secretRef": {"name": "hidden"}},
                    {"configMapRef": {"name": "gone", "optional": true}},
                ],
                "env": [
                    {"name": "LEVEL", "value": "debug"},
                    {"name": "URL", "value": "postgres://$(DB_user)@h/d"},
                    {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "database", "key": "password"}}},
                    {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "token"}}},
                    {"name": "EXTRA", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "x", "optional": true}}},
                    {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                    {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app.kubernetes.io/name']"}}},
                    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                    {"name": "NOTHING"},
                ],
            }]},
        }))
        .expect("it is a pod");
        let container = pod.spec.as_ref().expect("a spec").containers[0].clone();
        let chosen = ChosenPod {
            name: "p".to_owned(),
            pod,
            container,
        };
        let (config_maps, secrets) = references(&chosen);
        assert_eq!(Vec::from_iter(config_maps), ["gone", "settings"]);
        assert_eq!(Vec::from_iter(secrets), ["database", "hidden"]);
        let referred = Referred {
            config_maps: [
                (
                    "settings".to_owned(),
                    Some(map(&[("LEVEL", "info"), ("MODE", "fast")])),
                ),
                ("gone".to_owned(), None),
            ]
            .into(),
            secrets: [
                (
                    "database".to_owned(),
                    Some(map(&[("user", "app"), ("password", "hunter2")])),
                ),
                ("hidden".to_owned(), None),
            ]
            .into(),
        };
        let written = resolve(&chosen, &referred);
        let expected = map(&[
            ("LEVEL", "debug"),
            ("MODE", "fast"),
            ("DB_user", "app"),
            ("DB_password", "hunter2"),
            ("URL", "postgres://app@h/d"),
            ("PASSWORD", "hunter2"),
            ("NODE", "n1"),
            ("APP", "inventory"),
            ("NOTHING", ""),
        ]);
        assert_eq!(written.variables, expected);
        assert_eq!(
            written.missing,
            ["those of the Secret hidden", "TOKEN", "CPU"]
        );
    }
}
