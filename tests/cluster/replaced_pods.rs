//! The target's pod replaced under a session: by a rollout, by a deletion. The session goes along, its branch stays.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use fixtures::{Program, Signal, TestEnv, eventually, http};

use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::stage::Stage;
use crate::walk_through::{ORDER, product, session_file, start_session};

/// Goes out by the target again and again: nobody but the cluster's resolver knows the name, and nobody but its network the
/// address.
const GOES_OUT: &str = "while :; do
  if exec 3<>/dev/tcp/kubernetes.default.svc.cluster.local/443; then echo reached; exec 3>&-; else echo failed; fi
  sleep 0.2
done";

/// A program that goes out by the target, as its stdout tells.
fn start_going_out(user: &TestEnv, namespace: &str) -> Result<Program> {
    let file = user.home().join("out.json");
    write(
        &file,
        r#"{"feature": {"network": {"incoming": "off", "outgoing": true}}}"#,
    )?;
    let file = file.to_str().context("UTF-8")?;
    let target = ["exec", "-t", "deployment/inventory", "-n", namespace];
    let program = ["-f", file, "--", "bash", "-c", GOES_OUT];
    let mut session = user.start(user.command([&target[..], &program].concat()))?;
    wait_for_reached(&mut session, 0)?;
    Ok(session)
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn count(text: &str, word: &str) -> usize {
    text.lines().filter(|line| line.contains(word)).count()
}

/// Waits until connections have come about since there were `before`.
fn wait_for_reached(session: &mut Program, before: usize) -> Result<()> {
    eventually("a connection by the target", LIMIT, || {
        if let Some(end) = session.ended()? {
            anyhow::bail!("it ended with {end}: {}", session.stderr()?);
        }
        Ok((count(&session.stdout()?, "reached") > before + 3).then_some(()))
    })
}

/// The one pod of the shop that is not about to end, once it is another one than `old`.
pub(crate) fn next_pod(namespace: &Namespace<'_>, old: &str) -> Result<String> {
    eventually("the next pod", LIMIT, || {
        let listed = namespace.ask(&["get", "pods", "-l", "app=inventory", "-o", "json"])?;
        let listed: serde_json::Value = serde_json::from_str(&listed)?;
        let pods = listed["items"].as_array().into_iter().flatten();
        let staying: Vec<_> = pods
            .map(|pod| &pod["metadata"])
            .filter(|metadata| metadata["deletionTimestamp"].is_null())
            .filter_map(|metadata| metadata["name"].as_str())
            .collect();
        Ok(match staying.as_slice() {
            [only] if *only != old => Some((*only).to_owned()),
            _ => None,
        })
    })
}

/// Waits until a session has said, in one line, that it goes on with a pod.
pub(crate) fn wait_for_pod(session: &mut Program, pod: &str) -> Result<()> {
    let lines = |said: &str| {
        let moved = format!("has moved to pod {pod}");
        count(said, &moved) + count(said, &format!("pod {pod} has joined"))
    };
    let waited = eventually(&format!("a word of pod {pod}"), LIMIT, || {
        if let Some(end) = session.ended()? {
            anyhow::bail!("it ended with {end}: {}", session.stderr()?);
        }
        Ok((lines(&session.stderr()?) > 0).then_some(()))
    });
    waited.with_context(|| session.stderr().unwrap_or_default())?;
    let said = session.stderr()?;
    ensure!(lines(&said) == 1, "{said}");
    Ok(())
}

#[test]
fn a_session_goes_along_when_its_pod_is_replaced() -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = Stage::open(&cluster)?;
    let Stage { user, shop, .. } = &stage;
    let namespace = shop.namespace();
    let file = session_file(user, "inventory-db-branch.json", namespace.name())?;
    let (mut branched, port) = start_session(user, &file)?;
    let reserved = http::post(port, "/api/inventory/reserve", ORDER)?;
    ensure!(reserved.status == 200, "{}", reserved.body);
    let mut going_out = start_going_out(user, namespace.name())?;

    // The new pod is there before the old one goes.
    let first = next_pod(namespace, "")?;
    namespace.ask(&["rollout", "restart", "deployment/inventory"])?;
    let second = next_pod(namespace, &first)?;
    wait_for_pod(&mut going_out, &second)?;
    wait_for_pod(&mut branched, &second)?;
    let reached = count(&going_out.stdout()?, "reached");
    wait_for_reached(&mut going_out, reached)?;
    ensure!(product(port)? == (1.into(), 99.into()));

    // It goes before the new one is there.
    let delete = ["delete", "pods", "-l", "app=inventory", "--force"];
    namespace.ask(&[&delete[..], &["--grace-period=0"]].concat())?;
    let third = next_pod(namespace, &second)?;
    wait_for_pod(&mut going_out, &third)?;
    wait_for_pod(&mut branched, &third)?;
    let reached = count(&going_out.stdout()?, "reached");
    wait_for_reached(&mut going_out, reached)?;
    ensure!(product(port)? == (1.into(), 99.into()));

    let shared = shop.product("1")?;
    ensure!(shared["stock_quantity"] == 100, "{shared}");
    branched.signal(Signal::TERM)?;
    let said = branched.finish(LIMIT)?.stderr;
    ensure!(said.contains("nothing got past the fence"), "{said}");
    going_out.signal(Signal::TERM)?;
    drop(going_out.finish(LIMIT)?);
    Ok(())
}
