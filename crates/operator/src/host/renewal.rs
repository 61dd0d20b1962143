//! What a host that is there already takes up with its next pod: this operator's program and how it is called, another
//! Secret of its source, a node of its own, and what its pod is given (`given`). That volumes stay where pods go is set back
//! at once, when the hosts that the operator let go are gone.
//!
//! A pod that runs is left alone, with the sessions on it. Its PostgreSQL image and its volume stay those that it was made
//! with: branches live on them.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PodSpec;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::connections::{self, laid};
use super::given::GIVEN_ANNOTATION;
use super::scale::is_shrinking;
use super::{CONTAINER, Home, PROGRAM_CONTAINER};
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
    // Whether its doors are guarded: a pod of before goes on with open ones.
    if command(old) != command(new) {
        changes["containers"] = json!([{"name": CONTAINER, "command": command(new)}]);
    }
    let wanted = laid(new.volumes.as_ref());
    // Without its source nobody says what it is to have.
    let is_left = Home::of(today).is_some_and(|it| it.source.is_some()) && wanted.is_empty();
    if !wanted.is_empty() && laid(old.volumes.as_ref()) != wanted {
        let volumes = new.volumes.iter().flatten();
        let own: Vec<_> = volumes
            .filter(|it| it.name == connections::VOLUME)
            .collect();
        changes["volumes"] = json!(own);
    }
    let news_of_given = given(today).filter(|it| !is_left && given(there).as_ref() != Some(it));
    if news_of_given.is_some() {
        give(&mut changes, new);
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
    let mut patch = json!({"spec": spec});
    if let Some(text) = news_of_given {
        patch["metadata"] = json!({"annotations": {GIVEN_ANNOTATION: text}});
    }
    Some(patch)
}

/// What its pods were wanted to be given last.
fn given(set: &StatefulSet) -> Option<String> {
    set.metadata
        .annotations
        .as_ref()?
        .get(GIVEN_ANNOTATION)
        .cloned()
}

/// Adds what the pod `new` is given; what it has no more is taken away.
fn give(changes: &mut Value, new: &PodSpec) {
    let mut all = json!({});
    let program = new.init_containers.iter().flatten();
    for (place, name, container) in program
        .map(|it| ("initContainers", PROGRAM_CONTAINER, it))
        .chain(
            new.containers
                .iter()
                .map(|it| ("containers", CONTAINER, it)),
        )
    {
        let mut own = json!({"name": name, "resources": json!(container.resources)});
        own["resources"]["$patch"] = json!("replace");
        if place == "containers" {
            own["env"] = json!(container.env);
            own["livenessProbe"] = json!(container.liveness_probe);
            // How it is called may be news as well.
            if let Some(command) = changes.pointer("/containers/0/command") {
                own["command"] = command.clone();
            }
        } else if let Some(image) = changes.pointer("/initContainers/0/image") {
            own["image"] = image.clone();
        }
        all[place] = json!([own]);
    }
    let mut volumes = changes["volumes"].as_array().cloned().unwrap_or_default();
    let shm = new.volumes.iter().flatten().find(|it| it.name == "shm");
    if let Some(empty) = shm.and_then(|it| it.empty_dir.as_ref()) {
        let (medium, size) = (&empty.medium, &empty.size_limit);
        let empty = json!({"medium": medium, "sizeLimit": size});
        volumes.push(json!({"name": "shm", "emptyDir": empty}));
    }
    all["volumes"] = json!(volumes);
    let mut nodes = json!(new.node_selector.clone().unwrap_or_default());
    nodes["$patch"] = json!("replace");
    all["nodeSelector"] = nodes;
    all["tolerations"] = json!(new.tolerations);
    let mut secrets = vec![json!({"$patch": "replace"})];
    secrets.extend(new.image_pull_secrets.iter().flatten().map(|it| json!(it)));
    all["imagePullSecrets"] = json!(secrets);
    // The API server keeps its name twice, once as it was called first.
    all["serviceAccountName"] = json!(new.service_account_name);
    all["serviceAccount"] = json!(new.service_account_name);
    if let (Some(changes), Some(all)) = (changes.as_object_mut(), all.as_object_mut()) {
        changes.append(all);
    }
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

/// How the program is called that is the engine.
fn command(pod: &PodSpec) -> Option<&[String]> {
    let mut containers = pod.containers.iter();
    let engine = containers.find(|it| it.name == CONTAINER)?;
    engine.command.as_deref()
}

#[cfg(test)]
mod tests {
    use resources::SourceSpec;

    use super::super::{HostPod, HostSettings, build};
    use super::*;

    fn source(secret: &str) -> SourceSpec {
        serde_json::from_value(json!({
            "connection": {"name": secret, "key": "url"}, "version": 16,
            "addresses": [{"host": "postgres", "port": 5432}],
        }))
        .expect("a spec")
    }

    fn host(image: &str, postgres: &str, source: Option<&SourceSpec>) -> StatefulSet {
        given_so(image, postgres, source, |_| (), Some(900))
    }

    fn given_so(
        image: &str,
        postgres: &str,
        source: Option<&SourceSpec>,
        wish: impl FnOnce(&mut HostPod),
        ttl_max: Option<u32>,
    ) -> StatefulSet {
        let mut settings = HostSettings {
            postgres_image: postgres.to_owned(),
            ..HostSettings::of_image(image)
        };
        wish(&mut settings.pod);
        let home = Home {
            version: 16,
            source: Some("orders".to_owned()),
        };
        build("shop", &home, source, &settings, ttl_max)
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
    fn an_earlier_version_s_host_has_guarded_doors_with_its_next_pod() {
        let today = host("bough:1", "postgres", None);
        let mut there = today.clone();
        let spec = there.spec.as_mut().expect("a spec");
        let engine = &mut spec.template.spec.as_mut().expect("a pod").containers[0];
        engine.command.as_mut().expect("a command").truncate(3);
        let news = renewal(&there, &today).expect("news");
        let engine = json!([{
            "name": "engine", "command": ["/opt/bough/bough", "engine", "run", "--doors", "guarded"],
        }]);
        assert_eq!(
            news["spec"]["template"]["spec"],
            json!({"containers": engine})
        );
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
    fn what_a_pod_is_given_reaches_a_host_with_its_next_pod_and_what_is_taken_away_goes() {
        let orders = source("old");
        let there = host("bough:1", "postgres", Some(&orders));
        let wish = |pod: &mut HostPod| {
            pod.resources.requests = [("memory".to_owned(), "1024Mi".to_owned())].into();
            pod.shm_size = "256Mi".to_owned();
            pod.node_selector = [("disk".to_owned(), "fast".to_owned())].into();
            pod.image_pull_secrets = vec!["mirror".to_owned()];
            pod.service_account_name = "hosts".to_owned();
        };
        let today = given_so("bough:2", "postgres", Some(&orders), wish, Some(3600));
        let news = renewal(&there, &today).expect("news");
        let changes = &news["spec"]["template"]["spec"];
        let program = &changes["initContainers"][0];
        assert_eq!(program["image"], "bough:2");
        assert_eq!(
            program["resources"],
            json!({"requests": {"memory": "1024Mi"}, "$patch": "replace"})
        );
        let engine = &changes["containers"][0];
        assert_eq!(engine["resources"], program["resources"]);
        let env = engine["env"].as_array().expect("a list");
        let ttl_max = json!({"name": "BOUGH_TTL_MAX_SECONDS", "value": "3600"});
        assert!(env.contains(&ttl_max), "{env:?}");
        assert_eq!(changes["volumes"][0]["emptyDir"]["sizeLimit"], "256Mi");
        assert_eq!(
            changes["nodeSelector"],
            json!({"disk": "fast", "$patch": "replace"})
        );
        assert_eq!(
            changes["imagePullSecrets"],
            json!([{"$patch": "replace"}, {"name": "mirror"}])
        );
        assert_eq!(changes["serviceAccountName"], "hosts");
        // The API server writes 1024Mi as 1Gi: what was wanted is compared, so that nothing is sent twice.
        let mut renewed = today.clone();
        let mut pod = json!(renewed.spec);
        pod["template"]["spec"]["containers"][0]["resources"]["requests"]["memory"] = json!("1Gi");
        renewed.spec = serde_json::from_value(pod).expect("a spec");
        assert_eq!(renewal(&renewed, &today), None);
        let plain = host("bough:2", "postgres", Some(&orders));
        let news = renewal(&renewed, &plain).expect("news");
        let changes = &news["spec"]["template"]["spec"];
        assert_eq!(changes["nodeSelector"], json!({"$patch": "replace"}));
        assert_eq!(changes["volumes"][0]["emptyDir"]["sizeLimit"], Value::Null);
        assert_eq!(changes["serviceAccountName"], Value::Null);
        // While nobody knows the longest TTL, and once nobody says what the source wants, it stays as it is.
        let unknown = given_so("bough:2", "postgres", Some(&orders), |_| (), None);
        assert_eq!(renewal(&renewed, &unknown), None);
        assert_eq!(renewal(&renewed, &host("bough:2", "postgres", None)), None);
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
