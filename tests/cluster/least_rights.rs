//! Users with few rights, whose sessions an operator serves: it places their agents, and they could not.

use anyhow::{Context, Result, ensure};
use fixtures::{Program, Signal, TestEnv, eventually};
use serde_json::Value;

use crate::chart::NAMESPACE;
use crate::doors::{BRANCHES, EXEC, PODS, SESSIONS, TARGETS};
use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::replaced_pods::{next_pod, wait_for_pod};
use crate::sessions::{ids, json};
use crate::stage::Stage;
use crate::users::{Right, User};
use crate::walk_through::{product, session_file, start_session};

/// The way to an agent.
pub(crate) const FORWARD: Right<'_> = ("", &["pods/portforward"], &["create", "get"]);

/// A stage whose operator works and may place agents, with a shop that answers.
fn stage(cluster: &Cluster) -> Result<Stage<'_>> {
    let stage = Stage::set(cluster, &["--sessions"])?;
    stage.shop.wait_until_it_answers()?;
    wait_for_leader(&stage)?;
    Ok(stage)
}

/// A session waits some seconds for an operator, and then does without.
pub(crate) fn wait_for_leader(stage: &Stage<'_>) -> Result<()> {
    eventually("an operator that works", LIMIT, || {
        let standing = json(&stage.user, &["operator", "status"])?;
        let operators = standing["operators"].as_array().into_iter().flatten();
        let mut leading = operators.filter(|it| it["leads"] == true && it["unready"].is_null());
        Ok(leading.next().map(drop))
    })
}

/// The session resources of a namespace.
fn resources(namespace: &Namespace<'_>) -> Result<Vec<Value>> {
    let listed = namespace.ask(&["get", "sessions.bough.dev", "-o", "json"])?;
    let mut listed: Value = serde_json::from_str(&listed)?;
    let items = listed["items"].take();
    serde_json::from_value(items).context("a list")
}

fn wait_until_gone(namespace: &Namespace<'_>) -> Result<()> {
    eventually("the end of the session's resource", LIMIT, || {
        Ok(resources(namespace)?.is_empty().then_some(()))
    })
}

/// A session that says what its variable holds, and goes on.
fn start_telling(user: &TestEnv, namespace: &Namespace<'_>) -> Result<Program> {
    let file = user.home().join("tells.json");
    let network = r#"{"feature": {"network": {"incoming": "off", "outgoing": true}}}"#;
    std::fs::write(&file, network)?;
    let file = file.to_str().context("UTF-8")?;
    let words = [
        "exec",
        "-f",
        file,
        "-t",
        "deployment/inventory",
        "-n",
        namespace.name(),
    ];
    let tell = "echo it is $DATABASE_URL; exec sleep 600";
    let mut session = user.start(user.command([&words[..], &["--", "sh", "-c", tell]].concat()))?;
    session.wait_for(LIMIT, |said, _| said.ends_with('\n'))?;
    Ok(session)
}

#[test]
fn who_may_use_a_target_has_its_agents_without_the_right_to_place_them() -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = stage(&cluster)?;
    let Stage {
        user: admin, shop, ..
    } = &stage;
    let namespace = shop.namespace();
    let alice = User::new(&cluster, namespace, "alice", &[SESSIONS, TARGETS, FORWARD])?;
    for right in [
        "patch pods/ephemeralcontainers",
        "create pods/exec",
        "list pods",
    ] {
        let (verb, resource) = right.split_once(' ').context("a right")?;
        let may = alice.ask(
            &["-n", namespace.name(), "auth", "can-i", verb, resource],
            "",
        );
        ensure!(may.is_err(), "she may {right}");
    }
    let file = session_file(&alice.env, "inventory.json", namespace.name())?;
    let (mut session, port) = start_session(&alice.env, &file)?;
    ensure!(product(port)? == (100.into(), 0.into()));
    let said = session.stderr()?;
    ensure!(said.contains("which the operator gave"), "{said}");

    // Whoever looks sees who is there, and nothing that opens a session.
    let [resource] = resources(namespace)?
        .try_into()
        .map_err(|it| anyhow::anyhow!("{it:?}"))?;
    ensure!(
        resource["spec"]["requester"] == alice.name.as_str(),
        "{resource}"
    );
    ensure!(resource["status"]["phase"] == "Ready", "{resource}");
    let sealed = resource["status"]["answers"][0]["agent"]["sealed"].as_str();
    ensure!(sealed.is_some_and(|it| it.len() > 200), "{resource}");
    let listed = json(&alice.env, &["session", "-n", namespace.name(), "ls"])?;
    ensure!(
        listed[0]["resource"]["target"] == "deployment/inventory",
        "{listed}"
    );
    let standing = json(admin, &["operator", "status", "-n", namespace.name()])?;
    ensure!(standing["sessions"][0]["phase"] == "Ready", "{standing}");

    // Operators that are killed take nobody's session along, and the next one goes on with it.
    let words = ["-n", NAMESPACE, "delete", "pods", "--all", "--force"];
    cluster.ask(&[&words[..], &["--grace-period=0"]].concat())?;
    ensure!(product(port)? == (100.into(), 0.into()));

    // Its pods come and go, and each that it joins has an agent by the operator.
    let first = next_pod(namespace, "")?;
    namespace.ask(&["rollout", "restart", "deployment/inventory"])?;
    let second = next_pod(namespace, &first)?;
    wait_for_pod(&mut session, &second)?;
    ensure!(product(port)? == (100.into(), 0.into()));
    let agents = "jsonpath={.spec.ephemeralContainers[*].name}";
    let agents = namespace.ask(&["get", "pod", &second, "-o", agents])?;
    ensure!(agents.split_whitespace().count() == 1, "{agents}");
    ensure!(resources(namespace)?.len() == 1);

    let id = ids(&listed).first().copied().context("a session")?;
    let told = admin.run(["session", "-n", namespace.name(), "stop", id], LIMIT)?;
    ensure!(told.success()?.contains("has ended"));
    let said = session.finish(LIMIT)?.exit_code(4)?.stderr;
    ensure!(said.contains("stopped the session"), "{said}");
    ensure!(resources(namespace)?.is_empty());
    ensure!(shop.product("1")?["stock_quantity"] == 100);
    Ok(())
}

#[test]
fn the_resource_goes_with_its_session_and_of_one_that_was_killed_after_a_while() -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = stage(&cluster)?;
    let namespace = stage.shop.namespace();
    let alice = User::new(&cluster, namespace, "alice", &[SESSIONS, TARGETS, FORWARD])?;
    let mut killed = start_telling(&alice.env, namespace)?;
    let mut ended = start_telling(&alice.env, namespace)?;
    ensure!(
        killed.stdout()?.contains("postgres"),
        "{}",
        killed.stdout()?
    );
    ensure!(resources(namespace)?.len() == 2);
    ended.signal(Signal::TERM)?;
    drop(ended.finish(LIMIT)?);
    ensure!(resources(namespace)?.len() == 1);
    // A target that is not there is told in the operator's words, and leaves nothing.
    let words = [
        "exec",
        "-t",
        "deployment/nobody",
        "-n",
        namespace.name(),
        "--",
        "true",
    ];
    let said = alice.env.run(words, LIMIT)?.exit_code(3)?.stderr;
    ensure!(said.contains("no target deployment/nobody"), "{said}");
    ensure!(resources(namespace)?.len() == 1);
    killed.signal(Signal::KILL)?;
    drop(killed.finish(LIMIT)?);
    wait_until_gone(namespace)
}

#[test]
fn a_session_with_a_branch_has_its_agent_by_the_operator() -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = stage(&cluster)?;
    let namespace = stage.shop.namespace();
    let rights = [SESSIONS, BRANCHES, EXEC, PODS, FORWARD];
    let alice = User::new(&cluster, namespace, "alice", &rights)?;
    let file = session_file(&alice.env, "inventory-db-branch.json", namespace.name())?;
    let (mut session, port) = start_session(&alice.env, &file)?;
    ensure!(product(port)? == (100.into(), 0.into()));
    let said = session.stderr()?;
    ensure!(said.contains("which the operator gave"), "{said}");
    // One session by both that know it.
    let listed = json(&alice.env, &["session", "-n", namespace.name(), "ls"])?;
    ensure!(
        listed.as_array().is_some_and(|all| all.len() == 1),
        "{listed}"
    );
    ensure!(
        listed[0]["branches"][0]["id"] == "my-debug-session",
        "{listed}"
    );
    ensure!(listed[0]["resource"]["phase"] == "Ready", "{listed}");
    session.signal(Signal::TERM)?;
    drop(session.finish(LIMIT)?);
    wait_until_gone(namespace)
}

#[test]
fn without_that_option_a_session_has_its_users_own_rights_and_says_so() -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = Stage::open(&cluster)?;
    wait_for_leader(&stage)?;
    let namespace = stage.shop.namespace();
    let mut session = start_telling(&stage.user, namespace)?;
    let said = session.stderr()?;
    let told =
        "placed with your own rights, as without an operator: the operator may put no agents";
    ensure!(said.contains(told), "{said}");
    ensure!(resources(namespace)?.is_empty());
    session.signal(Signal::TERM)?;
    drop(session.finish(LIMIT)?);
    // Who has no such rights is told which.
    let alice = User::new(&cluster, namespace, "alice", &[SESSIONS, TARGETS, FORWARD])?;
    let words = [
        "exec",
        "-t",
        "deployment/inventory",
        "-n",
        namespace.name(),
        "--",
        "true",
    ];
    let said = alice.env.run(words, LIMIT)?.exit_code(3)?.stderr;
    ensure!(said.contains("get deployments.apps"), "{said}");
    Ok(())
}
