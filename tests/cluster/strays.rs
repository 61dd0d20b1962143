//! Branches that somebody has a host's engine make by himself, without a resource: they count, and that is told.

use anyhow::{Result, ensure};
use fixtures::{TestEnv, eventually};

use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::stage::{Stage, count_branches};

/// Asks for a branch as everybody does; what is said against it.
fn ask(user: &TestEnv, namespace: &Namespace<'_>, id: &str) -> Result<Option<String>> {
    let create = ["db-branches", "-n", namespace.name(), "create"];
    let asked = user.run([&create[..], &[id, "--version", "16"]].concat(), LIMIT)?;
    Ok((!asked.status.success()).then_some(asked.stderr))
}

/// The host's own program, run in its pod.
fn in_host(namespace: &Namespace<'_>, script: &str) -> Result<String> {
    let exec = ["exec", "bough-host-16-0", "-c", "engine", "--"];
    namespace.ask(&[&exec[..], &["sh", "-euc", script]].concat())
}

#[test]
fn a_branch_that_was_made_past_the_api_server_counts_and_is_told() -> Result<()> {
    let cluster = Cluster::given()?;
    let mut stage = Stage::set(&cluster, &["--branches-per-namespace=2"])?;
    stage.shop.wait_until_it_answers()?;
    let source = stage.shop.source();
    stage.user.set("BOUGH_SOURCE_URL", &source);
    let (user, namespace) = (&stage.user, stage.namespace());
    ensure!(ask(user, namespace, "first")?.is_none());
    let name = namespace.name();
    let words = format!("/opt/bough/bough db-branches --namespace {name}");
    in_host(
        namespace,
        &format!("BOUGH_SOURCE_URL='{source}' {words} create stray --version 16"),
    )?;
    ensure!(count_branches(namespace)? == 1, "it has a resource");

    let told = eventually("the stray's place in the quota", LIMIT, || {
        let told = ask(user, namespace, "second")?;
        // Served while the operator had not seen it yet.
        if told.is_none() {
            let second = [
                "delete",
                "branches.bough.dev",
                "--field-selector=spec.id=second",
            ];
            namespace.ask(&second)?;
        }
        Ok(told)
    })?;
    for words in [
        format!("{name} has 2 branches, and 2 for each namespace are allowed"),
        "1 of these were made in a branch host without a resource".to_owned(),
    ] {
        ensure!(told.contains(&words), "{told}\nhas no {words:?}");
    }
    // Gone, it makes room.
    in_host(namespace, &format!("{words} destroy stray"))?;
    eventually("room again", LIMIT, || {
        Ok(ask(user, namespace, "second")?.is_none().then_some(()))
    })
}
