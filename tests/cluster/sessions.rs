//! Sessions and hosts as others see them: somebody else's session listed and stopped, branches of two versions asked as one
//! list and held by one session, a branch led to by the command that made it.

use anyhow::{Context, Result, ensure};
use fixtures::{Signal, TestEnv, sql};
use serde_json::Value;

use crate::kubernetes::{Cluster, LIMIT};
use crate::stage::Stage;
use crate::walk_through::{product, session_file, start_session};

/// What `bough` answers with `-o json`.
pub(crate) fn json(user: &TestEnv, words: &[&str]) -> Result<Value> {
    let text = user
        .run([words, &["-o", "json"]].concat(), LIMIT)?
        .success()?;
    serde_json::from_str(&text).with_context(|| format!("read {words:?} as JSON: {text}"))
}

/// The ids of a list's objects.
pub(crate) fn ids(list: &Value) -> Vec<&str> {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|one| one["id"].as_str()).collect()
}

#[test]
fn sessions_are_stopped_by_others_and_hosts_of_two_versions_are_one_list() -> Result<()> {
    let cluster = Cluster::given()?;
    let mut stage = Stage::open(&cluster)?;
    let source = stage.shop.source();
    stage.user.set("BOUGH_SOURCE_URL", source);
    let Stage { user, shop, .. } = &stage;
    let namespace = shop.namespace().name();
    let file = session_file(user, "inventory-db-branch.json", namespace)?;
    let (session, port) = start_session(user, &file)?;
    ensure!(product(port)? == (100.into(), 0.into()));

    leads_by_create(user, namespace)?;
    let in_namespace = json(user, &["db-branches", "-n", namespace, "status"])?;
    ensure!(
        ids(&in_namespace) == ["my-debug-session", "newer"],
        "{in_namespace}"
    );
    let everywhere = json(user, &["db-branches", "-A", "status"])?;
    ensure!(ids(&everywhere) == ids(&in_namespace), "{everywhere}");
    user.run(["db-branches", "-A", "destroy", "newer"], LIMIT)?
        .success()?;
    let left = json(user, &["db-branches", "-n", namespace, "status"])?;
    ensure!(ids(&left) == ["my-debug-session"], "{left}");

    let listed = json(user, &["session", "-A", "ls"])?;
    ensure!(
        listed == json(user, &["session", "-n", namespace, "ls"])?,
        "{listed}"
    );
    ensure!(
        listed[0]["branches"][0]["id"] == "my-debug-session",
        "{listed}"
    );
    let id = ids(&listed).first().copied().context("a session")?;
    let told = user.run(["session", "-n", namespace, "stop", id], LIMIT)?;
    ensure!(told.success()?.contains("has ended"));
    let said = session.finish(LIMIT)?.exit_code(4)?.stderr;
    ensure!(said.contains("stopped the session"), "{said}");
    let none = json(user, &["session", "-n", namespace, "ls"])?;
    ensure!(ids(&none).is_empty(), "{none}");
    // Its branch is there, for whoever comes next.
    let (mut session, port) = start_session(user, &file)?;
    ensure!(product(port)? == (100.into(), 0.into()));
    session.signal(Signal::TERM)?;
    session.finish(LIMIT).map(drop)
}

/// A branch of another version than the session's, led to by the command that made it until that is ended.
fn leads_by_create(user: &TestEnv, namespace: &str) -> Result<()> {
    let create = ["db-branches", "-n", namespace, "create", "newer"];
    let more = ["--version", "17", "-o", "json"];
    let mut leading = user.start(user.command([&create[..], &more].concat()))?;
    leading.wait_for(LIMIT, |said, _| said.ends_with("}\n"))?;
    let made: Value = serde_json::from_str(&leading.stdout()?)?;
    let url = made["url"].as_str().context("a URL")?;
    let version = sql::query_value(url, "SHOW server_version")?;
    ensure!(version.starts_with("17."), "{version}");
    leading.signal(Signal::INT)?;
    leading.finish(LIMIT)?.success()?;
    ensure!(
        sql::query_value(url, "SELECT 1").is_err(),
        "it still leads there"
    );
    Ok(())
}

#[test]
fn a_session_has_branches_of_two_versions() -> Result<()> {
    let cluster = Cluster::given()?;
    let mut stage = Stage::open(&cluster)?;
    let source = stage.shop.source();
    stage.user.set("DATABASE_URL", &source);
    stage.user.set("AUDIT_URL", &source);
    let Stage { user, shop, .. } = &stage;
    let namespace = shop.namespace().name();
    let branch = |id: &str, version: &str, variable: &str| {
        serde_json::json!({
            "type": "pg", "id": id, "version": version, "copy": {"mode": "all"}, "connection": {"url": variable},
        })
    };
    let branches = [
        branch("newer", "17", "AUDIT_URL"),
        branch("same", "16", "DATABASE_URL"),
    ];
    let file = user.home().join("two.json");
    std::fs::write(
        &file,
        serde_json::json!({"feature": {"db_branches": branches}}).to_string(),
    )?;
    let file = file.to_str().context("UTF-8")?;
    let tell = r#"printf '%s\n%s\n' "$AUDIT_URL" "$DATABASE_URL"; exec sleep 600"#;
    let words = ["exec", "-f", file, "-n", namespace, "-t", "targetless"];
    let mut session = user.start(user.command([&words[..], &["--", "sh", "-c", tell]].concat()))?;
    session.wait_for(LIMIT, |said, _| said.lines().count() == 2)?;
    let said = session.stdout()?;
    let stock = "SELECT stock_quantity FROM products WHERE product_id = '1'";
    for (url, version) in said.lines().zip(["17.", "16."]) {
        let found = sql::query_value(url, "SHOW server_version")?;
        ensure!(found.starts_with(version), "{found} is not {version}");
        ensure!(sql::query_value(url, stock)? == "100");
    }
    // One session, which holds both.
    let listed = json(user, &["session", "-n", namespace, "ls"])?;
    let id = ids(&listed).first().copied().context("a session")?;
    ensure!(
        listed[0]["branches"]
            .as_array()
            .is_some_and(|all| all.len() == 2),
        "{listed}"
    );
    user.run(["session", "-n", namespace, "stop", id], LIMIT)?
        .success()?;
    session.finish(LIMIT)?.exit_code(4).map(drop)
}
