//! What an administrator allows everybody: two users and their quotas, a namespace's, TTL, versions, images of agents.

use anyhow::{Result, ensure};
use fixtures::{Outcome, eventually};
use serde_json::{Value, json};

use crate::doors::{BRANCHES, EXEC, PODS};
use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::operator::IMAGE;
use crate::shop::Shop;
use crate::stage::Stage;
use crate::users::User;

/// The label of the namespace whose agents are limited: other stories have theirs at the same time.
const MARK: &str = "bough.dev/story=limits";

/// An image that no pod here has.
const OTHER_IMAGE: &str = "registry.example/bough:1";

/// Asks for a branch, as this user.
fn create(user: &User<'_>, namespace: &Namespace<'_>, words: &[&str]) -> Result<Outcome> {
    let create = ["db-branches", "-n", namespace.name(), "create"];
    user.env.run([&create[..], words].concat(), LIMIT)
}

/// Checks that a branch was refused, in these words.
fn refused(outcome: Outcome, words: &str) -> Result<()> {
    let told = outcome.exit_code(4)?.stderr;
    ensure!(told.contains(words), "{told}\nhas no {words:?}");
    Ok(())
}

/// Somebody who may have branches here.
fn user<'a>(cluster: &'a Cluster, shop: &Shop<'_>, name: &str) -> Result<User<'a>> {
    let mut user = User::new(cluster, shop.namespace(), name, &[BRANCHES, EXEC, PODS])?;
    user.env.set("BOUGH_AGENT_IMAGE", IMAGE);
    user.env.set("BOUGH_SOURCE_URL", shop.source());
    Ok(user)
}

#[test]
fn quotas_of_users_and_namespaces_and_all_other_limits_hold_and_are_told() -> Result<()> {
    let cluster = Cluster::given()?;
    let flags = ["--branches-per-user=1", "--branches-per-namespace=2"];
    let flags = [&flags[..], &["--ttl-max=600", "--versions=16"]].concat();
    let flags = [&flags[..], &["--agent-images", OTHER_IMAGE]].concat();
    let stage = Stage::set(&cluster, &flags)?;
    let Stage { shop, .. } = &stage;
    let namespace = shop.namespace();
    cluster.ask(&["label", "namespace", namespace.name(), MARK])?;
    shop.wait_until_it_answers()?;
    let alice = user(&cluster, shop, "alice")?;
    let bob = user(&cluster, shop, "bob")?;
    let carol = user(&cluster, shop, "carol")?;

    let version = ["--version", "16"];
    let ask = |user: &User<'_>, id: &str| create(user, namespace, &[&[id][..], &version].concat());
    ask(&alice, "hers")?.success()?;
    let words = format!(
        "{} has 1 branches, and 1 for each user are allowed",
        alice.name
    );
    refused(ask(&alice, "second")?, &words)?;
    told_to_everybody(namespace, &words)?;
    let_oneself_in(namespace, "second")?;
    refused(ask(&alice, "second")?, &words)?;
    ask(&bob, "his")?.success()?;
    let words = format!(
        "{} has 2 branches, and 2 for each namespace are allowed",
        namespace.name()
    );
    refused(ask(&carol, "too-many")?, &words)?;
    // Who is in stays in, and what goes makes room.
    ask(&alice, "hers")?.success()?;
    let destroy = ["db-branches", "-n", namespace.name(), "destroy", "hers"];
    alice.env.run(destroy, LIMIT)?.success()?;
    namespace.ask(&[
        "delete",
        "branches.bough.dev",
        "--field-selector=spec.id=hers",
        "--timeout=60s",
    ])?;
    ask(&alice, "second")?.success()?;

    let long = [&["long", "--ttl", "601"][..], &version].concat();
    let words = "branches of this cluster live for at most 600 s (configmap bough-limits)";
    refused(create(&bob, namespace, &long)?, words)?;
    one_that_is_there_gets_no_more(namespace, &alice, words)?;
    let words = "branches of this cluster have the versions 16 alone";
    refused(create(&bob, namespace, &["new", "--version", "17"])?, words)?;
    images_of_agents(&cluster, namespace)?;
    one_above_a_later_limit_may_go(&cluster, namespace, &bob)?;
    the_operator_looks_again(&cluster, namespace, &carol)
}

/// The limit holds for what was let in with less, whoever is asked for more.
fn one_that_is_there_gets_no_more(
    namespace: &Namespace<'_>,
    user: &User<'_>,
    words: &str,
) -> Result<()> {
    let longer = ["second", "--ttl", "601", "--version", "16"];
    refused(create(user, namespace, &longer)?, words)?;
    let extend = ["db-branches", "-n", namespace.name(), "extend", "second"];
    let extend = |ttl| {
        let words = [&extend[..], &["--ttl", ttl]].concat();
        user.env.run(words, LIMIT)
    };
    refused(extend("601")?, words)?;
    extend("600")?.success()?;
    let found = [
        "get",
        "branches.bough.dev",
        "--field-selector=spec.id=second",
    ];
    let ttl = ["-o", "jsonpath={.items[0].spec.ttlSeconds}"];
    let ttl = namespace.ask(&[&found[..], &ttl].concat())?;
    ensure!(ttl == "600", "{ttl}");
    Ok(())
}

/// A branch whose TTL is more than what is allowed by now is deleted like any other.
fn one_above_a_later_limit_may_go(
    cluster: &Cluster,
    namespace: &Namespace<'_>,
    user: &User<'_>,
) -> Result<()> {
    let limit_to = |ttl: &str| {
        let limit = json!({"data": {"ttlSecondsMax": ttl}}).to_string();
        let limits = ["-n", "bough-operator", "patch", "configmap", "bough-limits"];
        cluster.ask(&[&limits[..], &["--type=merge", "-p", &limit]].concat())
    };
    limit_to("300")?;
    eventually("the later limit", LIMIT, || {
        let longer = ["long", "--ttl", "301", "--version", "16"];
        let told = create(user, namespace, &longer)?.exit_code(4)?.stderr;
        Ok(told.contains("at most 300 s").then_some(()))
    })?;
    namespace.ask(&[
        "delete",
        "branches.bough.dev",
        "--field-selector=spec.id=second",
        "--timeout=60s",
    ])?;
    limit_to("600").map(drop)
}

/// What the API server lets pass, as it does until a policy is in force.
fn the_operator_looks_again(
    cluster: &Cluster,
    namespace: &Namespace<'_>,
    user: &User<'_>,
) -> Result<()> {
    let bounds = "validatingadmissionpolicybindings/bough-bounds";
    cluster.ask(&["delete", bounds])?;
    namespace.ask(&["delete", "branches.bough.dev", "--all", "--timeout=60s"])?;
    let of_operator = ["-n", "bough-operator"];
    let limits = ["configmap", "bough-limits"];
    let words = "refused: branches of this cluster live for at most 600 s (configmap bough-limits)";
    eventually("the operator's own word about the TTL", LIMIT, || {
        let long = ["long", "--ttl", "601", "--version", "16"];
        let told = create(user, namespace, &long)?.exit_code(4)?.stderr;
        Ok(told.contains(words).then_some(()))
    })?;
    let words = "refused: branches of this cluster have the versions 16 alone";
    refused(create(user, namespace, &["new", "--version", "17"])?, words)?;
    cluster.ask(&[&of_operator[..], &["delete"], &limits].concat())?;
    let words = "refused: the configmap bough-limits in namespace bough-operator is gone";
    refused(create(user, namespace, &["any", "--version", "16"])?, words)?;
    let hosts = namespace.ask(&["get", "branches.bough.dev", "-o", "json"])?;
    let all: Value = serde_json::from_str(&hosts)?;
    let all = all["items"].as_array().cloned().unwrap_or_default();
    ensure!(all.len() == 3, "{all:?}");
    for branch in all {
        let status = &branch["status"];
        ensure!(status["conditions"][0]["reason"] == "Refused", "{status}");
        ensure!(
            status["host"].is_null() && status["port"].is_null(),
            "{status}"
        );
    }
    let versions = namespace.ask(&["get", "statefulsets", "-o", "name"])?;
    ensure!(!versions.contains("bough-host-17"), "{versions}");
    // An empty one allows everything.
    cluster.ask(&[&of_operator[..], &["create"], &limits].concat())?;
    create(user, namespace, &["any", "--version", "16"])?
        .success()
        .map(drop)
}

/// Has a branch the finalizer that the operator gives to who is let in, which anybody may write.
fn let_oneself_in(namespace: &Namespace<'_>, id: &str) -> Result<()> {
    let finalizer = json!({"metadata": {"finalizers": ["bough.dev/branch-host"]}}).to_string();
    let id = format!("--field-selector=spec.id={id}");
    let name = namespace.ask(&["get", "branches.bough.dev", &id, "-o", "name"])?;
    let patch = ["patch", &name, "--type=merge", "-p", &finalizer];
    namespace.ask(&patch).map(drop)
}

/// What was refused stands where everybody looks.
fn told_to_everybody(namespace: &Namespace<'_>, words: &str) -> Result<()> {
    let all = namespace.ask(&["get", "branches.bough.dev", "-o", "json"])?;
    let all: Value = serde_json::from_str(&all)?;
    let all = all["items"].as_array().cloned().unwrap_or_default();
    let one = all.iter().find(|it| it["spec"]["id"] == "second");
    let status = one.map(|it| it["status"].clone()).unwrap_or_default();
    let condition = &status["conditions"][0];
    ensure!(
        condition["reason"] == "Refused" && condition["status"] == "False",
        "{status}"
    );
    ensure!(status["host"].is_null(), "{status}");
    eventually("the event of the refusal", LIMIT, || {
        let events = namespace.ask(&["get", "events", "--field-selector=reason=Refused"])?;
        Ok((events.contains(words) && events.contains("Warning")).then_some(()))
    })
}

/// Waits until the API server refuses an agent that it is only asked about: nobody but it looks at agents, and one that
/// it lets in meanwhile is there for the next session as well.
fn wait_for_the_policy_of_agents(namespace: &Namespace<'_>) -> Result<()> {
    let name = "jsonpath={.items[0].metadata.name}";
    let name = namespace.ask(&["get", "pods", "-l", "app=inventory", "-o", name])?;
    let path = format!(
        "/api/v1/namespaces/{}/pods/{name}/ephemeralcontainers?dryRun=All",
        namespace.name()
    );
    let words = format!("agents of this cluster run from {OTHER_IMAGE} alone");
    eventually("the policy of agents", LIMIT, || {
        // As it is now: the kubelet writes it meanwhile, and the API server takes no older one.
        let pod = namespace.ask(&["get", "pod", &name, "-o", "json"])?;
        let mut pod: Value = serde_json::from_str(&pod)?;
        pod["spec"]["ephemeralContainers"] = json!([{
            "name": "bough-agent-asked", "image": IMAGE, "terminationMessagePolicy": "File",
        }]);
        let asked = namespace.tell(&["replace", "--raw", &path, "-f", "-"], &pod.to_string());
        let refused = asked.err().map(|error| error.to_string());
        Ok(refused.filter(|it| it.contains(&words)).map(drop))
    })
}

/// The same for pods of sessions without target.
fn wait_for_the_policy_of_own_pods(namespace: &Namespace<'_>) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "asked", "labels": {"bough.dev/own-pod": "asked"}},
        "spec": {"containers": [{"name": "agent", "image": IMAGE}]},
    });
    let words = ["create", "--dry-run=server", "-f", "-"];
    eventually("the policy of own pods", LIMIT, || {
        let refused = namespace.tell(&words, &pod.to_string()).err();
        let refused = refused.map(|error| error.to_string());
        let alone = format!("run from {OTHER_IMAGE} alone");
        Ok(refused.filter(|it| it.contains(&alone)).map(drop))
    })
}

/// An administrator changes his mind while everything runs.
fn images_of_agents(cluster: &Cluster, namespace: &Namespace<'_>) -> Result<()> {
    wait_for_the_policy_of_agents(namespace)?;
    let mut user = cluster.user()?;
    user.set("BOUGH_AGENT_IMAGE", IMAGE);
    let exec = [
        "exec",
        "-t",
        "deployment/inventory",
        "-n",
        namespace.name(),
        "--",
        "true",
    ];
    let told = user.run(exec, LIMIT)?.exit_code(3)?.stderr;
    let words = format!("agents of this cluster run from {OTHER_IMAGE} alone");
    ensure!(told.contains(&words), "{told}\nhas no {words:?}");
    // Nor does the pod of a session without target.
    let targetless = [
        "exec",
        "-t",
        "targetless",
        "-n",
        namespace.name(),
        "--",
        "true",
    ];
    wait_for_the_policy_of_own_pods(namespace)?;
    let told = user.run(targetless, LIMIT)?.exit_code(3)?.stderr;
    ensure!(told.contains(&words), "{told}\nhas no {words:?}");
    let patch = json!({"data": {"agentImages": format!("{OTHER_IMAGE}, {IMAGE}")}}).to_string();
    let words = ["-n", "bough-operator", "patch", "configmap", "bough-limits"];
    cluster.ask(&[&words[..], &["-p", &patch]].concat())?;
    eventually("an agent from an image that is allowed", LIMIT, || {
        Ok(user.run(exec, LIMIT)?.status.success().then_some(()))
    })?;
    eventually("a pod from an image that is allowed", LIMIT, || {
        Ok(user.run(targetless, LIMIT)?.status.success().then_some(()))
    })
}
