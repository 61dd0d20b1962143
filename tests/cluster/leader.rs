//! Of two operators one works. They run beside the cluster here, so that a story can kill and stop them as nothing in a
//! cluster would.

use anyhow::{Context, Result, ensure};
use fixtures::{Program, Signal, TestEnv, eventually};
use serde_json::{Value, json};

use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::operator::{IMAGE, Operator};

/// The namespace and the name of what says who leads.
const LEASE: [&str; 5] = ["-n", "bough-operator", "get", "lease", "bough-operator"];

/// What an operator's log says.
const LEADS: &str = "this operator leads";
const LEADS_NO_MORE: &str = "this operator does not lead any more";

/// An operator that stands for the lead under this name, for one namespace.
fn stand(user: &TestEnv, name: &str, namespace: &Namespace<'_>) -> Result<Program> {
    let words = ["operator", "run", "--image", IMAGE, "--identity", name];
    let place = ["--lease-namespace", "bough-operator", "--namespace"];
    user.start(user.command([&words[..], &place, &[namespace.name()]].concat()))
}

/// Who holds the lease; nobody after one that ended by itself.
fn holder(cluster: &Cluster) -> Result<String> {
    let holder = ["-o", "jsonpath={.spec.holderIdentity}"];
    cluster.ask(&[&LEASE[..], &holder].concat())
}

/// Has the operators make a branch of this name, as far as they do: its host answers.
fn branch(cluster: &Cluster, namespace: &Namespace<'_>, name: &str) -> Result<()> {
    let who = cluster.who()?;
    namespace.create(&json!({
        "apiVersion": "bough.dev/v1alpha1", "kind": "Branch", "metadata": {"name": name},
        "spec": {"id": name, "source": "db:5432/x", "version": 16, "requester": who},
    }))?;
    eventually("the branch's host", LIMIT, || {
        let found = namespace.ask(&["get", "branches.bough.dev", name, "-o", "json"])?;
        let found: Value = serde_json::from_str(&found)?;
        Ok((found["status"]["host"] == "bough-host-16-0").then_some(()))
    })
}

#[test]
fn one_operator_works_and_its_end_by_any_cause_hands_over() -> Result<()> {
    let cluster = Cluster::given()?;
    let namespace = cluster.namespace("leader")?;
    let user = cluster.user()?;
    let _rules = Operator::install_rules(&cluster, &user)?;
    let mut first = stand(&user, "first", &namespace)?;
    first.wait_for(LIMIT, |_, log| log.contains(LEADS))?;
    let mut second = stand(&user, "second", &namespace)?;
    second.wait_for(LIMIT, |_, log| log.contains("standing for the lead"))?;
    branch(&cluster, &namespace, "before")?;
    ensure!(holder(&cluster)? == "first");
    ensure!(!second.stderr()?.contains(LEADS), "{}", second.stderr()?);

    // Killed, it says nothing to anybody.
    first.signal(Signal::KILL)?;
    drop(first.finish(LIMIT)?);
    second.wait_for(LIMIT, |_, log| log.contains(LEADS))?;
    ensure!(holder(&cluster)? == "second");
    branch(&cluster, &namespace, "after")?;

    // One that stood still finds that another one works, and does nothing.
    let mut third = stand(&user, "third", &namespace)?;
    third.wait_for(LIMIT, |_, log| log.contains("standing for the lead"))?;
    second.signal(Signal::STOP)?;
    third.wait_for(LIMIT, |_, log| log.contains(LEADS))?;
    second.signal(Signal::CONT)?;
    second.wait_for(LIMIT, |_, log| log.contains(LEADS_NO_MORE))?;
    ensure!(holder(&cluster)? == "third");

    // Told to end, it gives the lead back, and nobody waits for it to run out.
    namespace.ask(&["delete", "branches.bough.dev", "--all", "--timeout=90s"])?;
    third.signal(Signal::TERM)?;
    let ended = third.finish(LIMIT)?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    second.wait_for(LIMIT, |_, log| log.matches(LEADS).count() == 2)?;
    let transitions = ["-o", "jsonpath={.spec.leaseTransitions}"];
    let transitions = cluster.ask(&[&LEASE[..], &transitions].concat())?;
    let transitions: u32 = transitions.parse().context("a number")?;
    ensure!(transitions == 3, "{transitions}");
    Ok(())
}
