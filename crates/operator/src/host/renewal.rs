//! What a host that is there already takes up with its next pod: this operator's program, another Secret of its source,
//! a node of its own. That volumes stay where pods go is set back at once, when the hosts that the operator let go are gone.
//!
//! A pod that runs is left alone, with the sessions on it. Its PostgreSQL image and its volume stay those that it was made
//! with: branches live on them.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PodSpec;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::connections::{self, laid};
use super::scale::is_shrinking;
use super::{Home, PROGRAM_CONTAINER};
use crate::step::StepError;

/// Has the host `there` take up with its next pod what it would be made with today.
///
/// # Errors
/// [`StepError::Api`] when the API server refuses, as it does an operator whose rights are an earlier version's.
pub(crate) async fn renew(
    client: &Client,
    namespace: &str,
    home: &Home,
    there: &StatefulSet,
    today: &StatefulSet,
) -> Result<(), StepError> {
    let Some(patch) = renewal(there, today) else {
        return Ok(());
    };
    let api: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let name = home.name();
    let patched = api
        .patch(&name, &PatchParams::default(), &Patch::Strategic(patch))
        .await;
    patched.map_err(|source| StepError::Api {
        tried: format!("renew the branch host {name} in namespace {namespace}"),
        source: Box::new(source),
    })?;
    tracing::info!(namespace, name, "a branch host has news for its next pod");
    Ok(())
}

/// What is to be another, as a strategic merge patch; none where all is as today.
fn renewal(there: &StatefulSet, today: &StatefulSet) -> Option<Value> {
    let (old, new) = (pod(there)?, pod(today)?);
    let mut changes = json!({});
    if program(old) != program(new) {
        changes["initContainers"] = json!([{"name": PROGRAM_CONTAINER, "image": program(new)}]);
    }
    let wanted = laid(new.volumes.as_ref());
    // Without its source nobody says what it is to have.
    if !wanted.is_empty() && laid(old.volumes.as_ref()) != wanted {
        let volumes = new.volumes.iter().flatten();
        let own: Vec<_> = volumes
            .filter(|it| it.name == connections::VOLUME)
            .collect();
        changes["volumes"] = json!(own);
    }
    if old.affinity.is_none() {
        changes["affinity"] = json!(new.affinity);
    }
    let spec = there.spec.as_ref()?;
    let strategy = spec.update_strategy.as_ref();
    let is_lazy = strategy.is_some_and(|it| it.type_.as_deref() == Some("OnDelete"));
    let claims = |of: &StatefulSet| {
        let spec = of.spec.as_ref()?;
        spec.persistent_volume_claim_retention_policy.clone()
    };
    // An API server that knows no such policy has none.
    let drops_claims = claims(there).is_some_and(|it| Some(it) != claims(today));
    // The volumes of hosts that the operator lets go are let go with their pods.
    let takes_back = drops_claims && !is_shrinking(there);
    let has_news = changes.as_object().is_some_and(|it| !it.is_empty());
    if is_lazy && !has_news && !takes_back {
        return None;
    }
    // An earlier version's would have its pod replaced at once.
    let strategy = json!({"type": "OnDelete", "rollingUpdate": null});
    let mut spec = json!({"updateStrategy": strategy, "template": {"spec": changes}});
    if takes_back {
        spec["persistentVolumeClaimRetentionPolicy"] = json!(claims(today));
    }
    Some(json!({"spec": spec}))
}

fn pod(set: &StatefulSet) -> Option<&PodSpec> {
    set.spec.as_ref()?.template.spec.as_ref()
}

/// The image that brings the program.
fn program(pod: &PodSpec) -> Option<&str> {
    let mut containers = pod.init_containers.iter().flatten();
    let own = containers.find(|it| it.name == PROGRAM_CONTAINER)?;
    own.image.as_deref()
}

#[cfg(test)]
mod tests {
    use resources::SourceSpec;

    use super::super::{HostSettings, Wall, build};
    use super::*;

    fn source(secret: &str) -> SourceSpec {
        serde_json::from_value(json!({
            "connection": {"name": secret, "key": "url"}, "version": 16,
            "addresses": [{"host": "postgres", "port": 5432}],
        }))
        .expect("a spec")
    }

    fn host(image: &str, postgres: &str, source: Option<&SourceSpec>) -> StatefulSet {
        let settings = HostSettings {
            image: image.to_owned(),
            postgres_image: postgres.to_owned(),
            storage_class: None,
            storage_size: "10Gi".to_owned(),
            wall: Wall::default(),
        };
        let home = Home {
            version: 16,
            source: Some("orders".to_owned()),
        };
        build("shop", &home, source, &settings)
    }

    #[test]
    fn a_host_takes_up_another_program_and_another_secret_and_nothing_else() {
        let (old, new) = (source("old"), source("new"));
        let there = host("bough:1", "postgres", Some(&old));
        assert_eq!(renewal(&there, &there), None);
        assert_eq!(
            renewal(&there, &host("bough:1", "mirror/postgres", Some(&old))),
            None
        );
        assert_eq!(
            renewal(&there, &host("bough:1", "postgres", None)),
            None,
            "its source is gone"
        );
        let news = renewal(&there, &host("bough:2", "postgres", None)).expect("news");
        assert_eq!(
            news,
            json!({"spec": {
                "updateStrategy": {"type": "OnDelete", "rollingUpdate": null},
                "template": {"spec": {"initContainers": [{"name": "program", "image": "bough:2"}]}},
            }})
        );
        let news = renewal(&there, &host("bough:1", "postgres", Some(&new))).expect("news");
        let changes = &news["spec"]["template"]["spec"];
        let secret = "/volumes/0/projected/sources/0/secret/name";
        assert_eq!(changes.pointer(secret), Some(&json!("new")));
        assert_eq!(changes["volumes"][0]["name"], "source");
        assert_eq!(changes["initContainers"], Value::Null);
    }

    #[test]
    fn an_earlier_version_s_host_is_not_replaced_at_once() {
        let today = host("bough:1", "postgres", None);
        let mut there = today.clone();
        let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}});
        there.spec.as_mut().expect("a spec").update_strategy =
            serde_json::from_value(strategy).expect("a strategy");
        let news = renewal(&there, &today).expect("news");
        assert_eq!(news["spec"]["updateStrategy"]["type"], "OnDelete");
        assert_eq!(news["spec"]["template"], json!({"spec": {}}));
    }

    #[test]
    fn an_earlier_version_s_host_keeps_off_its_like_from_now_on() {
        let today = host("bough:1", "postgres", Some(&source("old")));
        let mut there = today.clone();
        let spec = there.spec.as_mut().expect("a spec");
        spec.template.spec.as_mut().expect("a pod").affinity = None;
        let news = renewal(&there, &today).expect("news")["spec"].clone();
        assert_eq!(news["persistentVolumeClaimRetentionPolicy"], Value::Null);
        let changes = news["template"]["spec"].as_object().expect("an object");
        assert_eq!(changes.keys().collect::<Vec<_>>(), ["affinity"]);
        assert_eq!(renewal(&today, &today), None);
    }
    #[test]
    fn volumes_are_let_go_with_the_pods_of_hosts_that_go_and_kept_from_then_on() {
        let today = host("bough:1", "postgres", None);
        let mut there = today.clone();
        let spec = there.spec.as_mut().expect("a spec");
        let dropped = json!({"whenDeleted": "Delete", "whenScaled": "Delete"});
        spec.persistent_volume_claim_retention_policy =
            serde_json::from_value(dropped).expect("a policy");
        let pods =
            |replicas| serde_json::from_value(json!({"replicas": replicas})).expect("a status");
        there.status = pods(2);
        assert_eq!(renewal(&there, &today), None, "its second pod is yet to go");
        there.status = pods(1);
        let news = renewal(&there, &today).expect("news");
        let policy = &news["spec"]["persistentVolumeClaimRetentionPolicy"];
        assert_eq!(policy["whenScaled"], "Retain");
    }
}
