//! What a session could take the place of in a namespace, and what is left out for want of a right.

use anyhow::{Context, Result, ensure};
use fixtures::TestEnv;

use crate::kubernetes::{Cluster, LIMIT};
use crate::shop::Shop;
use crate::users::{Right, User};

#[test]
fn the_targets_of_a_namespace_are_listed_as_far_as_its_user_may_look() -> Result<()> {
    let cluster = Cluster::given()?;
    let shop = Shop::open(&cluster)?;
    shop.wait_until_it_answers()?;
    let namespace = shop.namespace().name();
    let env = cluster.user()?;
    let ask = |env: &TestEnv, words: &[&str]| {
        let command = env.command([&["ls", "-n", namespace], words].concat());
        env.start(command)?.finish(LIMIT)
    };
    let listed = ask(&env, &["-o", "json"])?.success()?;
    let listed: Vec<String> = serde_json::from_str(&listed).context("a list of texts")?;
    for expected in [
        "deployment/inventory",
        "statefulset/postgres",
        "pod/postgres-0",
    ] {
        ensure!(
            listed.iter().any(|target| target == expected),
            "no {expected}: {listed:?}"
        );
    }
    // What a deployment made is not listed a second time.
    ensure!(
        !listed
            .iter()
            .any(|target| target.starts_with("replicaset/")),
        "{listed:?}"
    );
    let services = ask(&env, &["-t", "service", "-o", "json"])?.success()?;
    let services: Vec<String> = serde_json::from_str(&services)?;
    ensure!(
        services.contains(&"service/inventory".to_owned()),
        "{services:?}"
    );
    let table = ask(&env, &["-t", "deploy"])?.success()?;
    for word in ["TARGET", "deployment/inventory", "1 of 1"] {
        ensure!(table.contains(word), "no {word}: {table}");
    }

    let pods: Right<'_> = ("", &["pods"], &["list"]);
    let guest = User::new(&cluster, shop.namespace(), "guest", &[pods])?;
    let outcome = ask(&guest.env, &["-o", "json"])?;
    let told = outcome.stderr.clone();
    let seen: Vec<String> = serde_json::from_str(&outcome.success()?)?;
    ensure!(seen.contains(&"pod/postgres-0".to_owned()), "{seen:?}");
    ensure!(
        seen.iter().all(|target| target.starts_with("pod/")),
        "{seen:?}"
    );
    let right = format!("list deployments.apps -n {namespace}");
    ensure!(told.contains(&right), "no {right}: {told}");
    let blind = User::new(&cluster, shop.namespace(), "blind", &[])?;
    let refused = ask(&blind.env, &[])?.exit_code(3)?;
    ensure!(refused.stderr.contains("list pods"), "{}", refused.stderr);
    Ok(())
}
