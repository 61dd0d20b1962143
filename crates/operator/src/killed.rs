//! An operator that is killed anywhere, and one that goes on: what there is in the end is the same as without.
//!
//! ```text
//!   for every n:  something happens ──> an operator, gone with its n-th request done and unanswered ──> a fresh one
//! ```

mod played_cluster;
mod websocket;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};

use crate::look::{Strays, look};
use crate::observed::Observed;
use crate::session;
use crate::{HostSettings, Settings};
use played_cluster::{PlayedCluster, World};

const BRANCHES: &str = "/apis/bough.dev/v1alpha1/namespaces/shop/branches";
const SOURCE: &str = "/apis/bough.dev/v1alpha1/namespaces/shop/sources/stock";
const SESSION: &str = "/apis/bough.dev/v1alpha1/namespaces/shop/sessions/s";
const TARGET: &str = "/api/v1/namespaces/shop/pods/p";

/// Looks until nothing is left to be done, with one to spare.
const LOOKS: usize = 3;

/// How long an agent of a session is waited for.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

fn now() -> Timestamp {
    "2026-01-02T12:00:00Z".parse().expect("a time")
}

fn settings() -> Settings {
    Settings {
        namespaces: vec!["shop".to_owned()],
        candidate: None,
        port: None,
        cluster_domain: crate::CLUSTER_DOMAIN.to_owned(),
        host: HostSettings::of_image("bough:1"),
    }
}

fn branch(name: &str, host: &str) -> Value {
    json!({
        "apiVersion": "bough.dev/v1alpha1", "kind": "Branch",
        "metadata": {
            "name": name, "namespace": "shop", "creationTimestamp": "2026-01-02T10:00:00Z",
            "annotations": {"bough.dev/asked-at": "2026-01-02T11:59:30Z"},
        },
        "spec": {"id": name, "source": format!("{host}:5432/d"), "version": 16, "requester": "alice"},
    })
}

fn source() -> Value {
    json!({
        "apiVersion": "bough.dev/v1alpha1", "kind": "Source",
        "metadata": {"name": "stock", "namespace": "shop"},
        "spec": {
            "connection": {"name": "reader", "key": "url"}, "version": 16, "hosts": 2,
            "addresses": [{"host": "postgres", "port": 5432}],
        },
    })
}

/// Whatever an engine has, its resource is there and holds on: nothing is left in an engine that nobody names.
fn check(world: &World) {
    for id in world.engines.values().flat_map(|it| &it.branches) {
        let resource = world.objects.get(&format!("{BRANCHES}/{id}"));
        let held = resource.map(|it| &it["metadata"]["finalizers"]);
        assert_eq!(held, Some(&json!(["bough.dev/branch-host"])), "{id}");
    }
}

/// Who waits for a branch has the engine of its host make it.
fn ask_engines(world: &mut World) {
    let branches = world.objects.iter();
    let branches = branches.filter(|(path, _)| path.starts_with(BRANCHES));
    for (_, branch) in branches {
        let wants = branch["metadata"]["deletionTimestamp"].is_null()
            && branch["metadata"]["annotations"]["bough.dev/asked-at"] == "2026-01-02T11:59:30Z";
        if let Some(host) = branch["status"]["host"].as_str().filter(|_| wants) {
            let engine = world.engines.get_mut(host).expect("a host that answers");
            engine
                .branches
                .insert(branch["spec"]["id"].as_str().expect("an id").to_owned());
        }
    }
}

async fn look_often(cluster: &PlayedCluster, client: &Client) {
    let settings = settings();
    let (observed, mut strays) = (Observed::default(), Strays::default());
    for _ in 0..LOOKS {
        look(client, &settings, &observed, &mut strays, now()).await;
        ask_engines(&mut cluster.world());
    }
}

/// What is there, but for when it was said.
fn there(world: &World) -> String {
    let mut objects = json!(world.objects);
    forget_times(&mut objects);
    format!("{objects:#}\n{:#?}", world.engines)
}

fn forget_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for when in ["resourceVersion", "heardAt"] {
                fields.remove(when);
            }
            fields.values_mut().for_each(forget_times);
        }
        Value::Array(all) => all.iter_mut().for_each(forget_times),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// How often each thing was asked.
fn counted(asked: &[String]) -> BTreeMap<&str, usize> {
    let mut counted = BTreeMap::new();
    for what in asked {
        *counted.entry(what.as_str()).or_default() += 1;
    }
    counted
}

/// A branch of a source with two hosts, one of no source, all of it ready.
async fn begin() -> (PlayedCluster, Client) {
    let objects = [
        (SOURCE, source()),
        (&format!("{BRANCHES}/ours"), branch("ours", "postgres")),
        (&format!("{BRANCHES}/other"), branch("other", "elsewhere")),
    ];
    let cluster = PlayedCluster::begin(&objects, check).await;
    let client = cluster.client();
    look_often(&cluster, &client).await;
    let ready = |name: &str| {
        let world = cluster.world();
        world.objects[&format!("{BRANCHES}/{name}")]["status"]["phase"] == "Ready"
    };
    assert!(ready("ours") && ready("other"), "{:#?}", cluster.world());
    (cluster, client)
}

/// Has an operator killed after each of its requests, and another one go on; `asked` is what engines are asked for it.
async fn is_the_same_wherever_it_is_cut(happens: fn(&mut World), asked: &[&str]) {
    let (cluster, client) = begin().await;
    let mut before = cluster.world().clone();
    before.asked.clear();
    happens(&mut before);
    cluster.reset(&before);
    look_often(&cluster, &client).await;
    let wanted = there(&cluster.world());
    let told = cluster.world().asked.clone();
    assert_eq!(counted(&told).into_keys().collect::<Vec<_>>(), asked);
    for requests in 1.. {
        cluster.reset(&before);
        let looks = look_often(&cluster, &client);
        let ended = cluster.cut_after(requests, looks).await;
        look_often(&cluster, &client).await;
        assert_eq!(there(&cluster.world()), wanted, "cut after {requests}");
        let again = cluster.world().asked.clone();
        let (once, again) = (counted(&told), counted(&again));
        assert!(once.keys().eq(again.keys()), "{again:?} after {requests}");
        for (what, count) in again {
            assert!(count <= once[what] + 1, "{what}: {count} after {requests}");
        }
        if ended {
            assert!(requests > LOOKS, "nothing was cut");
            return;
        }
    }
}

#[tokio::test]
async fn a_branch_is_made_once_wherever_its_operator_is_killed() {
    let happens = |world: &mut World| {
        world.put(&format!("{BRANCHES}/second"), branch("second", "postgres"));
        world.put(&format!("{BRANCHES}/third"), branch("third", "elsewhere"));
    };
    is_the_same_wherever_it_is_cut(happens, &[]).await;
}

#[tokio::test]
async fn a_deleted_branch_goes_with_its_data_wherever_its_operator_is_killed() {
    let happens = |world: &mut World| {
        world.delete(&format!("{BRANCHES}/ours"), &json!({}));
        world.delete(&format!("{BRANCHES}/other"), &json!({}));
    };
    let asked = [
        "destroy other bough-host-16-0",
        "destroy ours bough-source-stock-0",
    ];
    is_the_same_wherever_it_is_cut(happens, &asked).await;
}

#[tokio::test]
async fn an_expired_branch_s_resource_goes_wherever_its_operator_is_killed() {
    let happens = |world: &mut World| {
        let path = format!("{BRANCHES}/ours");
        let mut branch = world.objects[&path].clone();
        branch["metadata"]["annotations"]["bough.dev/asked-at"] = json!("2026-01-02T11:00:00Z");
        for engine in world.engines.values_mut() {
            engine.branches.remove("ours");
        }
        world.put(&path, branch);
    };
    is_the_same_wherever_it_is_cut(happens, &[]).await;
}

#[tokio::test]
async fn a_source_has_one_host_less_wherever_its_operator_is_killed() {
    let happens = |world: &mut World| {
        let mut source = world.objects[SOURCE].clone();
        source["spec"]["hosts"] = json!(1);
        source["metadata"]["generation"] = json!(2);
        world.put(SOURCE, source);
    };
    let asked = [
        "add stock bough-source-stock-0",
        "add stock bough-source-stock-1",
        "rm stock bough-source-stock-1",
    ];
    is_the_same_wherever_it_is_cut(happens, &asked).await;
}

#[tokio::test]
async fn a_source_s_hosts_go_after_it_wherever_their_operator_is_killed() {
    let happens = |world: &mut World| {
        world.delete(SOURCE, &json!({}));
        world.delete(&format!("{BRANCHES}/ours"), &json!({}));
    };
    let asked = [
        "destroy ours bough-source-stock-0",
        "rm stock bough-source-stock-0",
        "rm stock bough-source-stock-1",
    ];
    is_the_same_wherever_it_is_cut(happens, &asked).await;
}

async fn begin_session() -> PlayedCluster {
    let session = json!({
        "apiVersion": "bough.dev/v1alpha1", "kind": "Session",
        "metadata": {"name": "s", "namespace": "shop", "annotations": {session::BEAT_ANNOTATION: "1"}},
        "spec": {"target": {"kind": "Pod", "name": "p"}, "asks": [{"key": "aa"}]},
    });
    let pod = json!({
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"containers": [{"name": "app", "image": "shop:1"}], "ephemeralContainers": []},
        "status": {
            "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": "app", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}},
            }],
            "ephemeralContainerStatuses": [],
        },
    });
    PlayedCluster::begin(&[(SESSION, session), (TARGET, pod)], check).await
}

/// Looks after sessions until this one's ask has its answer and its pods are told.
async fn look_after(cluster: &PlayedCluster, client: &Client) {
    let (settings, observed) = (settings(), Observed::default());
    let answered = async {
        loop {
            {
                let world = cluster.world();
                let status = &world.objects[SESSION]["status"];
                if status["phase"] == "Ready" && status["pods"].is_array() {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = session::look_after(client, &settings, now, &observed) => {}
        answered = tokio::time::timeout(ANSWERED_WITHIN, answered) => answered.expect("an agent"),
    }
}

#[tokio::test]
async fn a_session_has_one_agent_wherever_its_operator_is_killed() {
    let cluster = begin_session().await;
    look_after(&cluster, &cluster.client()).await;
    // What it asked while it was looked at whether it had ended is cut as well.
    let (wanted, requests) = (there(&cluster.world()), cluster.done());
    let cut = (1..=requests).map(async |requests| {
        let cluster = begin_session().await;
        let client = cluster.client();
        cluster
            .cut_after(requests, look_after(&cluster, &client))
            .await;
        look_after(&cluster, &client).await;
        (requests, cluster)
    });
    for (requests, cluster) in join_all(cut).await {
        let world = cluster.world();
        assert_eq!(there(&world), wanted, "cut after {requests}");
        let agents = world.objects[TARGET]["spec"]["ephemeralContainers"].as_array();
        assert_eq!(agents.map(Vec::len), Some(1), "after {requests}");
        let invites = world.asked.len();
        assert!((1..=2).contains(&invites), "{invites} after {requests}");
    }
}
