//! What is left once the operator is taken away: nothing of ours, no right of its account, and agents that have ended.

use anyhow::{Context, Result, ensure};
use fixtures::{Signal, eventually};

use crate::chart::{Helm, NAMESPACE, Release, chart};
use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::operator::{IMAGE, wait_until_known};
use crate::shop::Shop;
use crate::stage::Branches;
use crate::walk_through::{session_file, start_session};

/// The account that the operator has its rights by.
const ACCOUNT: &str = "system:serviceaccount:bough-operator:bough-operator";

/// Rights of the operator that nobody has by default.
const RIGHTS: [&[&str]; 3] = [
    &["create", "pods", "--subresource=exec"],
    &["patch", "statefulsets.apps"],
    &["get", "configmaps"],
];

/// Objects of every kind that bear our name, as `KIND NAME`: the cluster's, the operator's, those of a story's namespace.
/// Events about them are nobody's, and the node is called so.
fn ours(cluster: &Cluster, namespace: &Namespace<'_>) -> Result<Vec<String>> {
    let kinds = cluster.ask(&["api-resources", "--verbs=list", "-o", "name"])?;
    let kinds: Vec<&str> = kinds
        .lines()
        .filter(|kind| !kind.starts_with("events"))
        .collect();
    let columns = "custom-columns=NS:.metadata.namespace,KIND:.kind,NAME:.metadata.name";
    let words = ["get", &kinds.join(","), "-A", "--no-headers", "-o", columns];
    let listed = cluster.ask(&words)?;
    let places = ["<none>", NAMESPACE, namespace.name()];
    let found = listed.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (place, kind, name) = (words.next()?, words.next()?, words.next()?);
        let is_ours = name.contains("bough") && name != "bough-node";
        (is_ours && places.contains(&place)).then(|| format!("{kind} {name}"))
    });
    Ok(found.collect())
}

/// Whether the operator's account may do something in a namespace.
fn may(cluster: &Cluster, right: &[&str], namespace: &str) -> Result<bool> {
    let ask = ["--as", ACCOUNT, "-n", namespace, "auth", "can-i"];
    // Its "no" is a failure as well.
    let answer = cluster.ask(&[&ask[..], right].concat());
    match answer {
        Ok(answer) => Ok(answer.lines().last() == Some("yes")),
        Err(error) if error.to_string().contains("no\n") => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits until nothing of ours is left but these objects, nobody has a right by our account, and every agent has ended.
pub(crate) fn nothing_is_left(
    cluster: &Cluster,
    namespace: &Namespace<'_>,
    but: &[&str],
) -> Result<()> {
    let mut last = Ok(Vec::new());
    let gone = eventually("the end of all that was ours", LIMIT, || {
        // A kind may go while objects of it are asked for: asked again.
        last = ours(cluster, namespace);
        let left = last.iter().flatten();
        let is_kept = |object: &String| but.contains(&object.as_str());
        let is_gone = last.is_ok() && left.into_iter().all(is_kept);
        Ok(is_gone.then_some(()))
    });
    gone.with_context(|| format!("{last:?}"))?;
    for right in RIGHTS {
        for place in [namespace.name(), NAMESPACE] {
            ensure!(!may(cluster, right, place)?, "{right:?} in {place}");
        }
    }
    let states = "jsonpath={.items[*].status.ephemeralContainerStatuses[*].state}";
    eventually("the end of the agents", LIMIT, || {
        let states = namespace.ask(&["get", "pods", "-o", states])?;
        Ok((!states.contains("running") && !states.contains("waiting")).then_some(()))
    })
}

/// Uninstalls the chart; nothing stays but what Helm and the API server themselves keep, and agents that have ended.
pub(crate) fn takes_all_away(helm: &Helm<'_>, namespace: &Namespace<'_>) -> Result<()> {
    let words = ["uninstall", "bough", "-n", NAMESPACE, "--wait"];
    helm.run(&[&words[..], &["--timeout", "180s"]].concat())?;
    // The record of who led is nobody's, and goes with the namespace.
    let kept = ["Namespace bough-operator", "Lease bough-operator"];
    nothing_is_left(helm.cluster, namespace, &kept)?;
    let names = "jsonpath={.items[*].status.ephemeralContainerStatuses[*].state}";
    let ended = namespace.ask(&["get", "pods", "-o", names])?;
    ensure!(ended.contains("terminated"), "no agent was there: {ended}");
    Ok(())
}

#[test]
fn a_release_for_single_namespaces_is_given_its_rights_there_alone_and_gives_them_back()
-> Result<()> {
    let cluster = Cluster::given()?;
    let mut user = cluster.user()?;
    user.set("BOUGH_AGENT_IMAGE", IMAGE);
    let shop = Shop::open(&cluster)?;
    let namespace = shop.namespace();
    shop.wait_until_it_answers()?;
    let release = Release::begin(&cluster, &user)?;
    let chart = chart()?;
    let install = ["install", "bough", chart.to_str().context("UTF-8")?];
    let values = format!("image={IMAGE},namespaces={{{}}}", namespace.name());
    let all = ["-n", NAMESPACE, "--create-namespace", "--set", &values];
    let wait = ["--wait", "--timeout", "180s"];
    release.helm.run(&[&install[..], &all, &wait].concat())?;
    wait_until_known(&cluster)?;
    let exec = RIGHTS[0];
    ensure!(may(&cluster, exec, namespace.name())?);
    ensure!(!may(&cluster, exec, "default")?);

    let _branches = Branches(namespace);
    let file = session_file(&user, "inventory-db-branch.json", namespace.name())?;
    let (mut session, _) = start_session(&user, &file)?;
    session.signal(Signal::TERM)?;
    drop(session.finish(LIMIT)?);

    takes_all_away(&release.helm, namespace)?;
    let shared = shop.product("1")?;
    ensure!(shared["stock_quantity"] == 100, "{shared}");
    Ok(())
}
