//! Who is let in: each door of the cluster, tried by people without the right to pass it. Definitions and policies alone
//! hold here, without an operator.

use anyhow::{Context, Result, ensure};
use fixtures::{Outcome, eventually};
use serde_json::{Value, json};

use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::operator::Operator;
use crate::users::{Right, User};

/// A branch of the caller's own environment, so that no target stands before the doors of branches.
const FILE: &str = r#"{"feature": {"db_branches": [{
    "type": "pg", "id": "my-debug-session", "version": "16", "connection": {"url": "DATABASE_URL"}
}]}}"#;

pub(crate) const BRANCHES: Right<'_> = (
    "bough.dev",
    &["branches"],
    &["get", "list", "create", "patch", "delete"],
);
pub(crate) const SESSIONS: Right<'_> = (
    "bough.dev",
    &["sessions"],
    &["get", "list", "create", "patch", "delete"],
);
pub(crate) const TARGETS: Right<'_> = ("bough.dev", &["targets"], &["use"]);
pub(crate) const EXEC: Right<'_> = ("", &["pods/exec"], &["create", "get"]);
pub(crate) const PODS: Right<'_> = ("", &["pods"], &["get", "list"]);

/// What somebody wants of a branch, in the name of `requester`.
fn wish(requester: &str) -> Value {
    json!({
        "apiVersion": "bough.dev/v1alpha1", "kind": "Branch", "metadata": {"name": "pg-story"},
        "spec": {
            "id": "story", "source": "db:5432/inventory", "version": 16, "ttlSeconds": 300,
            "requester": requester,
        },
    })
}

/// A session in the place of a deployment, in the name of `requester`.
fn begun(requester: &str, deployment: &str) -> Value {
    json!({
        "apiVersion": "bough.dev/v1alpha1", "kind": "Session", "metadata": {"name": deployment},
        "spec": {"target": {"kind": "Deployment", "name": deployment}, "requester": requester},
    })
}

/// Makes an object, or with `dry` only asks whether it might.
fn create(user: &User<'_>, namespace: &Namespace<'_>, object: &Value, dry: bool) -> Result<String> {
    let mut words = vec!["-n", namespace.name(), "create", "-f", "-"];
    words.extend(dry.then_some("--dry-run=server"));
    user.ask(&words, &object.to_string())
}

/// Waits until the policies are in force, which the API server's own words tell.
fn wait_for_policies(cluster: &Cluster, namespace: &Namespace<'_>) -> Result<()> {
    let (forged, words) = (wish("nobody").to_string(), "spec.requester has to be");
    eventually("the policies", LIMIT, || {
        let ask = ["create", "--dry-run=server", "-f", "-"];
        let refused = namespace.tell(&ask, &forged).err();
        Ok(refused
            .filter(|it| it.to_string().contains(words))
            .map(drop))
    })?;
    // The other policy waits for the definition of sources.
    let who = cluster.who()?;
    let own = wish(&who).to_string();
    eventually("the policy of limits", LIMIT, || {
        let ask = ["create", "--dry-run=server", "-f", "-"];
        Ok(namespace.tell(&ask, &own).ok().map(drop))
    })
}

/// Checks that something was refused, with this sentence in it.
fn refused(tried: Result<String>, sentence: &str) -> Result<()> {
    let Err(error) = tried else {
        anyhow::bail!("it was allowed: {sentence:?}");
    };
    let told = error.to_string();
    ensure!(told.contains(sentence), "{told}\nhas no {sentence:?}");
    Ok(())
}

/// Checks that a session came to nothing, with this sentence and hint.
fn stopped(outcome: &Outcome, code: i32, sentence: &str, hint: &str) -> Result<()> {
    let Outcome { status, stderr, .. } = outcome;
    ensure!(status.code() == Some(code), "{status}: {stderr}");
    ensure!(outcome.stdout.is_empty(), "the program ran");
    ensure!(stderr.contains(sentence), "{stderr}\nhas no {sentence:?}");
    ensure!(stderr.contains(hint), "{stderr}\nhas no {hint:?}");
    Ok(())
}

/// A session of [`FILE`] by this user.
fn session(user: &mut User<'_>, namespace: &Namespace<'_>) -> Result<Outcome> {
    let file = user.env.home().join("file.json");
    std::fs::write(&file, FILE)?;
    let file = file.to_str().context("UTF-8")?.to_owned();
    user.env.set(
        "DATABASE_URL",
        "postgres://shop:secret@127.0.0.1:9/inventory",
    );
    let words = ["exec", "-f", &file, "-n", namespace.name()];
    user.env.run(
        [&words[..], &["-t", "targetless", "--", "echo", "it ran"]].concat(),
        LIMIT,
    )
}

#[test]
fn who_lacks_a_right_is_refused_at_each_door_and_told_which() -> Result<()> {
    let cluster = Cluster::given()?;
    let namespace = cluster.namespace("doors")?;
    let nobody = &mut User::new(&cluster, &namespace, "nobody", &[])?;
    let _rules = Operator::install_rules(&cluster, &nobody.env)?;
    wait_for_policies(&cluster, &namespace)?;
    let name = namespace.name();

    let list = format!("you need the right to list branches.bough.dev -n {name}");
    let told = format!("cannot look for branches in namespace {name}");
    stopped(&session(nobody, &namespace)?, 4, &told, &list)?;

    let looks: Right<'_> = ("bough.dev", &["branches"], &["list"]);
    let reader = &mut User::new(&cluster, &namespace, "reader", &[looks])?;
    let told = format!("cannot ask for branch my-debug-session in namespace {name}");
    let patch = format!("you need the right to patch branches.bough.dev -n {name}");
    stopped(&session(reader, &namespace)?, 4, &told, &patch)?;

    let patches: Right<'_> = ("bough.dev", &["branches"], &["list", "patch"]);
    let patcher = &mut User::new(&cluster, &namespace, "patcher", &[patches])?;
    let make = format!("you need the right to create branches.bough.dev -n {name}");
    stopped(&session(patcher, &namespace)?, 4, &told, &make)?;

    // Everything about branches, and no right to use a target: policy.
    let asker = &mut User::new(&cluster, &namespace, "asker", &[BRANCHES, SESSIONS, PODS])?;
    let sentence = format!(
        "{} may not use the targets of namespace {name}: that takes the right to create pods/exec there",
        asker.name
    );
    let hint = "a rule of the cluster's administrator";
    stopped(&session(asker, &namespace)?, 4, &sentence, hint)?;
    refused(
        create(asker, &namespace, &wish(&asker.name), false),
        &sentence,
    )?;
    let session = begun(&asker.name, "inventory");
    refused(create(asker, &namespace, &session, false), &sentence)?;

    // Nor may he join what somebody else has asked for.
    let owner = User::new(&cluster, &namespace, "owner", &[BRANCHES, EXEC])?;
    create(&owner, &namespace, &wish(&owner.name), false)?;
    let join = |user: &User<'_>, patch: Value| {
        let patch = patch.to_string();
        let words = [
            "-n",
            name,
            "patch",
            "branches.bough.dev",
            "pg-story",
            "--type=merge",
        ];
        user.ask(&[&words[..], &["-p", &patch]].concat(), "")
    };
    let asked =
        json!({"metadata": {"annotations": {"bough.dev/asked-at": "2026-01-01T00:00:00Z"}}});
    refused(join(asker, asked.clone()), &sentence)?;
    refused(join(asker, json!({"spec": {"ttlSeconds": 900}})), &sentence)?;
    join(&owner, asked)?;
    let listed = ["-n", name, "db-branches", "status"];
    let outcome = nobody
        .env
        .run(listed[2..].iter().copied().chain(["-n", name]), LIMIT)?;
    let told = format!("cannot look for branch hosts in namespace {name}");
    stopped(&outcome, 3, &told, &format!("list pods -n {name}"))
}

#[test]
fn a_session_is_begun_by_who_may_use_its_target_and_is_his_alone() -> Result<()> {
    let cluster = Cluster::given()?;
    let namespace = cluster.namespace("targets")?;
    let alice = User::new(&cluster, &namespace, "alice", &[SESSIONS, TARGETS])?;
    let bob = User::new(&cluster, &namespace, "bob", &[SESSIONS, TARGETS])?;
    let clerk = User::new(&cluster, &namespace, "clerk", &[SESSIONS])?;
    let _rules = Operator::install_rules(&cluster, &alice.env)?;
    wait_for_policies(&cluster, &namespace)?;
    let sentence = format!("{} may not use the targets", clerk.name);
    let session = begun(&clerk.name, "inventory");
    refused(create(&clerk, &namespace, &session, false), &sentence)?;
    // A role may name targets.
    let group = "rbac.authorization.k8s.io";
    let subject = json!({"kind": "ServiceAccount", "name": "clerk", "namespace": namespace.name()});
    namespace.create(&json!({
        "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": {"name": "inventory"},
        "rules": [{
            "apiGroups": ["bough.dev"], "resources": ["targets"], "verbs": ["use"],
            "resourceNames": ["deployment.inventory"],
        }],
    }))?;
    namespace.create(&json!({
        "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": {"name": "inventory"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "inventory"}, "subjects": [subject],
    }))?;
    eventually("the role's effect", LIMIT, || {
        Ok(create(&clerk, &namespace, &session, true).ok().map(drop))
    })?;
    create(&clerk, &namespace, &session, false)?;
    let other = begun(&clerk.name, "orders");
    refused(create(&clerk, &namespace, &other, false), &sentence)?;

    create(&alice, &namespace, &begun(&alice.name, "orders"), false)?;
    let patch = [
        "patch",
        "sessions.bough.dev",
        "orders",
        "--type=merge",
        "-p",
    ];
    let patch = [&["-n", namespace.name()], &patch[..]].concat();
    let change = |user: &User<'_>, wanted: Value| {
        user.ask(&[&patch[..], &[&wanted.to_string()]].concat(), "")
    };
    let ask = || json!({"spec": {"asks": [{"key": "0f".repeat(32)}]}});
    change(&alice, ask())?;
    let more = json!({"spec": {"asks": [{"key": "0e".repeat(32)}]}});
    let sentence = format!("this session is not that of {}", bob.name);
    refused(change(&bob, more), &sentence)?;
    for (wanted, sentence) in [
        (json!({"requester": bob.name}), "who asked is written once"),
        (
            json!({"target": {"kind": "Pod", "name": "x"}}),
            "a session keeps its target",
        ),
        (
            json!({"network": {"incoming": "steal"}}),
            "a session keeps its network wishes",
        ),
    ] {
        refused(change(&alice, json!({"spec": wanted})), sentence)?;
    }
    // Whose session it is reads there who ended it: nobody writes another's name, nor takes his own back for him.
    let stop =
        |who: Option<&str>| json!({"metadata": {"annotations": {"bough.dev/stopped-by": who}}});
    let sentence = format!("has to be who stops the session, which is {}", bob.name);
    refused(change(&bob, stop(Some(&alice.name))), &sentence)?;
    change(&bob, stop(Some(&bob.name)))?;
    let sentence = format!("which is {}", alice.name);
    refused(change(&alice, stop(None)), &sentence)?;
    // Nobody but an operator says what became of one.
    let ready = r#"{"status": {"phase": "Ready"}}"#;
    let told = [&patch[..], &[ready, "--subresource=status"]].concat();
    refused(alice.ask(&told, ""), "Forbidden")
}

#[test]
fn a_user_of_one_namespace_neither_sees_nor_uses_nor_destroys_branches_of_another() -> Result<()> {
    let cluster = Cluster::given()?;
    let (hers, his) = (cluster.namespace("alice")?, cluster.namespace("bob")?);
    let rights = [BRANCHES, SESSIONS, EXEC, PODS];
    let alice = User::new(&cluster, &hers, "alice", &rights)?;
    let bob = &mut User::new(&cluster, &his, "bob", &rights)?;
    let _rules = Operator::install_rules(&cluster, &alice.env)?;
    wait_for_policies(&cluster, &hers)?;
    create(&alice, &hers, &wish(&alice.name), false)?;

    let there = ["-n", hers.name()];
    for words in [
        &["get", "branches.bough.dev"][..],
        &["get", "branches.bough.dev", "pg-story"],
        &["delete", "branches.bough.dev", "pg-story"],
        &["annotate", "branches.bough.dev", "pg-story", "a=b"],
    ] {
        refused(bob.ask(&[&there[..], words].concat(), ""), "Forbidden")?;
    }
    refused(
        create(bob, &hers, &wish(&bob.name), false),
        "cannot create resource \"branches\"",
    )?;
    refused(
        bob.ask(&["get", "branches.bough.dev", "-A"], ""),
        "Forbidden",
    )?;
    let hint = format!("list branches.bough.dev -n {}", hers.name());
    stopped(&session(bob, &hers)?, 4, "cannot look for branches", &hint)?;
    for verb in [&["status"][..], &["destroy", "story"], &["reset", "story"]] {
        let words = [&["db-branches", "-n", hers.name()], verb].concat();
        let outcome = bob.env.run(words, LIMIT)?;
        let hint = format!("list pods -n {}", hers.name());
        stopped(&outcome, 3, "cannot look for branch hosts", &hint)?;
    }
    // The same id in his own namespace is another branch.
    create(bob, &his, &wish(&bob.name), false)?;
    let asked = "jsonpath={.items[*].spec.requester}";
    let asked_by = alice.ask(
        &["-n", hers.name(), "get", "branches.bough.dev", "-o", asked],
        "",
    )?;
    ensure!(asked_by == alice.name, "{asked_by}");
    Ok(())
}

#[test]
fn a_forged_requester_and_a_wish_that_is_nonsense_are_refused_by_the_api_server() -> Result<()> {
    let cluster = Cluster::given()?;
    let namespace = cluster.namespace("forged")?;
    let alice = User::new(&cluster, &namespace, "alice", &[BRANCHES, SESSIONS, EXEC])?;
    let _rules = Operator::install_rules(&cluster, &alice.env)?;
    wait_for_policies(&cluster, &namespace)?;
    let sentence = format!("spec.requester has to be who asks, which is {}", alice.name);
    refused(create(&alice, &namespace, &wish("bob"), false), &sentence)?;
    let mut unnamed = wish("");
    drop(
        unnamed["spec"]
            .as_object_mut()
            .context("a spec")?
            .remove("requester"),
    );
    refused(create(&alice, &namespace, &unnamed, false), &sentence)?;
    create(&alice, &namespace, &wish(&alice.name), false)?;

    // What is asked for once stays, but for its TTL.
    let change = |patch: Value| {
        let patch = patch.to_string();
        let words = [
            "-n",
            namespace.name(),
            "patch",
            "branches.bough.dev",
            "pg-story",
        ];
        alice.ask(&[&words[..], &["--type=merge", "-p", &patch]].concat(), "")
    };
    change(json!({"spec": {"ttlSeconds": 600}}))?;
    for (patch, sentence) in [
        (json!({"requester": "bob"}), "who asked is written once"),
        (json!({"requester": null}), "who asked is written once"),
        (json!({"id": "other"}), "a branch keeps its id"),
        (
            json!({"source": "other:5432/x"}),
            "a branch keeps its source",
        ),
        (json!({"version": 17}), "a branch keeps its version"),
        (
            json!({"copy": {"mode": "all"}}),
            "a branch keeps what it holds",
        ),
        (
            json!({"target": {"kind": "Pod", "name": "x"}}),
            "a branch keeps its target",
        ),
        (json!({"ttlSeconds": -1}), "spec.ttlSeconds"),
    ] {
        refused(change(json!({"spec": patch})), sentence)?;
    }
    let mut both = wish(&alice.name);
    both["metadata"]["name"] = json!("pg-other");
    both["spec"]["copy"] = json!({"mode": "all", "tables": {"items": {}}});
    refused(
        create(&alice, &namespace, &both, false),
        "mode all has every table already",
    )?;
    a_source_s_name_fits_its_host(&namespace)?;
    a_source_limits_its_branches(&namespace, &alice)
}

/// What the pod of a source's host could not be named after is no name of a source.
fn a_source_s_name_fits_its_host(namespace: &Namespace<'_>) -> Result<()> {
    let make = |name: &str| {
        let source = json!({
            "apiVersion": "bough.dev/v1alpha1", "kind": "Source", "metadata": {"name": name},
            "spec": {
                "connection": {"name": "s", "key": "url"}, "version": 16,
                "addresses": [{"host": "db", "port": 5432}],
            },
        });
        let words = ["create", "--dry-run=server", "-f", "-"];
        namespace.tell(&words, &source.to_string())
    };
    make(&"x".repeat(39))?;
    let sentence = "a source's name has at most 39 characters and no dot";
    refused(make(&"x".repeat(40)), sentence)?;
    refused(make("inventory.eu"), sentence)
}

/// A source that its administrator named says how long its branches live.
fn a_source_limits_its_branches(namespace: &Namespace<'_>, alice: &User) -> Result<()> {
    namespace.create(&json!({
        "apiVersion": "bough.dev/v1alpha1", "kind": "Source", "metadata": {"name": "inventory"},
        "spec": {
            "connection": {"name": "s", "key": "url"}, "version": 16, "ttlSecondsMax": 60,
            "addresses": [{"host": "db", "port": 5432}],
        },
    }))?;
    let mut long = wish(&alice.name);
    long["metadata"]["name"] = json!("pg-long");
    let sentence = "branches of the source inventory live for at most 60 s";
    eventually("the limit of the source", LIMIT, || {
        let tried = create(alice, namespace, &long, true).err();
        Ok(tried
            .filter(|it| it.to_string().contains(sentence))
            .map(drop))
    })?;
    long["spec"]["source"] = json!("elsewhere:5432/inventory");
    create(alice, namespace, &long, false).map(drop)
}
