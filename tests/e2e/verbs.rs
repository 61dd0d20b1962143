//! The verbs for branches and sources, as a person without target or file uses them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{TestEnv, eventually, sql};
use serde_json::Value;

use crate::story::{LIMIT, PASSWORD, ROLE, Story, assert_says, end_session, stock};

/// An answer of an engine that only looks something up.
const MOMENT: Duration = Duration::from_secs(20);

fn ids(branches: &[Value]) -> Vec<&str> {
    branches
        .iter()
        .filter_map(|branch| branch["id"].as_str())
        .collect()
}

#[test]
fn a_named_source_makes_branches() -> Result<()> {
    let story = Story::begin()?;
    let none = story.bough(&["source", "ls"])?.success()?;
    assert_says(&none, &["No source"])?;
    // The URL comes from BOUGH_SOURCE_URL, the name from its database.
    let added = story.bough(&["source", "add"])?.success()?;
    let address = format!("127.0.0.1:{}", story.source.port());
    assert_says(&added, &[ROLE, &address, "16"])?;
    story
        .bough(&["source", "add", "--name", "twin"])?
        .success()?;
    let listed = story.json(&["source", "ls"])?;
    let names: Vec<&str> = listed
        .as_array()
        .context("a list")?
        .iter()
        .filter_map(|s| s["name"].as_str())
        .collect();
    assert_eq!(names, [ROLE, "twin"]);
    ensure!(
        !listed.to_string().contains(PASSWORD) && !added.contains(PASSWORD),
        "the password is shown"
    );

    let url = story.create("by-name", &["--source", "twin"])?;
    assert_eq!(stock(&url)?, (100, 0));
    let unknown = story.bough(&["source", "rm", "nobody"])?.exit_code(1)?;
    assert_says(&unknown.stderr, &["nobody", ROLE, "twin"])?;
    story.bough(&["source", "rm", "twin"])?.success()?;
    assert_eq!(stock(&url)?, (100, 0), "its branches stay");
    let refused = story.bough(&["db-branches", "create", "again", "--source", "twin"])?;
    ensure!(!refused.status.success(), "{}", refused.stdout);
    assert_says(&refused.stderr, &["twin"])?;
    story.end()
}

#[test]
fn create_answers_a_shell_and_a_program() -> Result<()> {
    let story = Story::begin()?;
    let script =
        r#"eval "$("$0" -q db-branches create shell -o env)" && printf %s "$DATABASE_URL""#;
    let bough = fixtures::built_binary("BOUGH_BIN")?;
    let mut shell = story.env.command::<&str>([]);
    shell = {
        let mut sh = std::process::Command::new("sh");
        sh.arg("-c")
            .arg(script)
            .arg(&bough)
            .env_clear()
            .current_dir(story.env.home());
        sh.envs(
            shell
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        sh
    };
    let url = story.env.start(shell)?.finish(LIMIT)?.success()?;
    assert_eq!(stock(&url)?, (100, 0), "a shell has the URL");
    let again = story.json(&["db-branches", "create", "shell"])?;
    assert_eq!(again["url"], url.as_str(), "the same branch");
    assert_eq!(again["reused"], true);
    assert_eq!(again["branch"]["id"], "shell");
    let text = story
        .bough(&["db-branches", "create", "shell"])?
        .success()?;
    assert_says(&text, &["shell", "lived already", "psql", "destroy"])?;
    ensure!(
        !text.contains(PASSWORD),
        "a person's screen shows no password:\n{text}"
    );
    story.end()
}

#[test]
fn copies_hold_what_their_mode_says() -> Result<()> {
    let story = Story::begin()?;
    let schema = story.create("schema", &["--copy", "schema"])?;
    assert_eq!(
        sql::query_value(&schema, "SELECT count(*) FROM products")?,
        "0"
    );
    let empty = story.create("empty", &["--copy", "empty"])?;
    let relations = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    assert_eq!(sql::query_value(&empty, relations)?, "0");
    let all = story.create("all", &[])?;
    assert_eq!(
        sql::query_value(&all, "SELECT count(*) FROM products")?,
        "6"
    );
    story.end()
}

#[test]
fn psql_opens_a_branch() -> Result<()> {
    let story = Story::begin()?;
    story.create("open", &[])?;
    let asked = [
        "-At",
        "-c",
        "SELECT current_user, current_database(), stock_quantity FROM products WHERE product_id = '1'",
    ];
    let said = story
        .bough(&[&["db-branches", "psql", "open", "--"], &asked[..]].concat())?
        .success()?;
    assert_eq!(said.trim(), "inventory|inventory|100");
    let failed = story.bough(&[
        "db-branches",
        "psql",
        "open",
        "--",
        "-v",
        "ON_ERROR_STOP=1",
        "-c",
        "SELECT 1/0",
    ])?;
    let failed = failed.exit_code(1)?;
    assert_says(&failed.stderr, &["division by zero"])?;
    story.end()
}

#[test]
fn urls_show_their_password_only_when_asked() -> Result<()> {
    let story = Story::begin()?;
    let url = story.create("hidden", &[])?;
    let shown = story
        .bough(&["db-branches", "url", "hidden", "--show-password"])?
        .success()?;
    assert_eq!(shown.trim(), url);
    let hidden = story.bough(&["db-branches", "url", "hidden"])?.success()?;
    let endpoint = story.branch("hidden")?["endpoint"]
        .as_str()
        .context("an endpoint")?
        .to_owned();
    assert_says(&hidden, &[&endpoint, ROLE])?;
    ensure!(!hidden.contains(PASSWORD), "{hidden}");

    let connections = story.bough(&["db-branches", "connections"])?.success()?;
    assert_says(&connections, &["hidden", &endpoint])?;
    let as_json = story.json(&["db-branches", "connections"])?;
    assert_eq!(as_json[0]["id"], "hidden");
    for text in [
        connections,
        as_json.to_string(),
        story
            .bough(&["db-branches", "status", "hidden"])?
            .success()?,
    ] {
        ensure!(!text.contains(PASSWORD), "{text}");
    }
    story.end()
}

#[test]
fn connections_are_counted_and_sessions_listed() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let file = story.branch_file(|_| {})?;
    let (session, url) = story.start_session(&file)?;
    let before = story.branch(crate::story::BRANCH)?["connections_total"]
        .as_u64()
        .context("a count")?;
    sql::query(&url, "SELECT 1")?;
    let rows = story.json(&["db-branches", "-n", crate::story::NAMESPACE, "connections"])?;
    assert_eq!(rows[0]["connections_total"].as_u64(), Some(before + 1));
    let sessions = rows[0]["sessions"].as_array().context("sessions")?;
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0]["pid"].as_u64(), Some(u64::from(session.id())));
    assert_eq!(sessions[0]["program"], "sh");
    ensure!(!rows.to_string().contains(PASSWORD), "{rows}");
    end_session(session)?;
    story.end()
}

#[test]
fn reset_keeps_the_address_and_brings_fresh_data() -> Result<()> {
    let story = Story::begin()?;
    let url = story.create("again", &[])?;
    sql::execute(&url, "DROP TABLE products")?;
    sql::execute(
        &story.source_url(),
        "UPDATE products SET stock_quantity = 77 WHERE product_id = '1'",
    )?;
    let said = story.bough(&["db-branches", "reset", "again"])?.success()?;
    assert_says(&said, &["again", "fresh data"])?;
    assert_eq!(
        stock(&url)?.0,
        77,
        "under the same URL, with what the source holds"
    );
    story.end()
}

#[test]
fn extend_gives_time_up_to_the_maximum() -> Result<()> {
    let story = Story::begin()?;
    story.create("short", &["--ttl", "60"])?;
    let expiry = |story: &Story| -> Result<String> {
        Ok(story.branch("short")?["expires_at"]
            .as_str()
            .context("it expires")?
            .to_owned())
    };
    let before = expiry(&story)?;
    let extended = story.json(&["db-branches", "extend", "short", "--ttl", "900"])?;
    assert_eq!(extended[0]["ttl_seconds"], 900);
    // RFC 3339 in UTC: later texts sort later.
    ensure!(expiry(&story)? > before, "{before}");
    let refused = story
        .bough(&["db-branches", "extend", "short", "--ttl", "901"])?
        .exit_code(4)?;
    assert_says(&refused.stderr, &["900", "hint:"])?;
    story.create("shorter", &["--ttl", "1"])?;
    story.wait_gone("shorter", MOMENT)?;
    story.end()
}

#[test]
fn destroy_takes_ids_names_several_and_all() -> Result<()> {
    let story = Story::begin()?;
    for id in ["a", "b", "c", "d", "e"] {
        story.create(id, &["--copy", "empty"])?;
    }
    let name = story.branch("b")?["name"]
        .as_str()
        .context("a name")?
        .to_owned();
    ensure!(name.starts_with("pg-"), "{name}");
    story.bough(&["db-branches", "destroy", "a"])?.success()?;
    let unknown = story
        .bough(&["db-branches", "destroy", "c", "nobody"])?
        .exit_code(1)?;
    assert_says(&unknown.stderr, &["nobody", "b, c, d, e"])?;
    assert_eq!(
        ids(&story.branches()?),
        ["b", "c", "d", "e"],
        "with an unknown name among them none is touched"
    );
    story
        .bough(&["db-branches", "destroy", &name, "c"])?
        .success()?;
    assert_eq!(ids(&story.branches()?), ["d", "e"]);
    story.bough(&["db-branches", "stop", "d"])?.success()?;
    let elsewhere = story
        .bough(&["db-branches", "-n", "other", "destroy", "--all"])?
        .success()?;
    assert_says(&elsewhere, &["other"])?;
    assert_eq!(
        ids(&story.branches()?),
        ["e"],
        "another namespace's are not ours"
    );
    let hinted = story
        .bough(&["db-branches", "-n", "other", "destroy", "e"])?
        .exit_code(1)?;
    assert_says(&hinted.stderr, &["hint:", "-n default"])?;
    story
        .bough(&["db-branches", "destroy", "--all"])?
        .success()?;
    ensure!(story.branches()?.is_empty(), "all are gone");
    for words in [
        vec!["status", "e"],
        vec!["url", "e"],
        vec!["psql", "e"],
        vec!["reset", "e"],
        vec!["extend", "e"],
        vec!["destroy", "e"],
    ] {
        let unknown = story
            .bough(&[vec!["db-branches"], words].concat())?
            .exit_code(1)?;
        assert_says(&unknown.stderr, &["error:", "\"e\"", "there is none"])?;
    }
    story.end()
}

#[test]
fn the_engine_tells_of_itself_and_stops() -> Result<()> {
    let story = Story::begin()?;
    let before = story.json(&["engine", "status"])?;
    assert_eq!(before["running"], false, "looking does not start it");
    let url = story.create("kept", &[])?;
    let status = story.json(&["engine", "status"])?;
    assert_eq!(status["running"], true);
    assert_eq!(status["engine"]["branches"], 1);
    assert_eq!(status["engine"]["ttl_max_seconds"], 900);
    let text = story.bough(&["engine", "status"])?.success()?;
    assert_says(&text, &["Engine", "Volume", "PostgreSQL"])?;
    let logs = story.bough(&["engine", "logs"])?.success()?;
    ensure!(!logs.is_empty() && !logs.contains(PASSWORD), "{logs}");
    story.bough(&["engine", "stop"])?.success()?;
    assert_eq!(story.json(&["engine", "status"])?["running"], false);
    let again = story.bough(&["engine", "stop"])?.success();
    ensure!(again.is_ok(), "to stop what is stopped is no failure");
    story.bough(&["db-branches", "status"])?.success()?;
    eventually(
        "the branch behind its door",
        MOMENT,
        || Ok(stock(&url).ok()),
    )
    .context("it came back")?;
    story.end()
}

#[test]
fn completions_and_verify_config_need_no_engine_and_doctor_asks_it() -> Result<()> {
    let story = Story::begin()?;
    for shell in ["bash", "zsh", "fish"] {
        let script = story.bough(&["completions", shell])?.success()?;
        assert_says(&script, &["db-branches"])?;
    }
    let file = crate::story::shop_file("inventory-db-branch.json");
    let file = file.to_str().context("a path is text")?;
    story.bough(&["verify-config", file])?.success()?;
    let wrong = story.branch_file(|file| file["db_branches"][0]["ttl_sec"] = 5.into())?;
    let refused = story.bough(&["verify-config", wrong.to_str().context("a path is text")?])?;
    ensure!(!refused.status.success(), "{}", refused.stdout);
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert_says(&said, &["ttl_sec", "ttl_secs"])?;
    assert_eq!(story.json(&["engine", "status"])?["running"], false);

    let doctor = story.bough(&["doctor"])?.success()?;
    assert_says(&doctor, &["PostgreSQL", "16", "ok"])?;
    let checks = story.json(&["doctor"])?;
    ensure!(
        checks["checks"]
            .as_array()
            .is_some_and(|checks| checks.len() > 5),
        "{checks}"
    );
    story.end()
}

#[test]
fn an_unknown_flag_is_a_usage_error() -> Result<()> {
    let env = TestEnv::new(fixtures::built_binary("BOUGH_BIN")?)?;
    let refused = env
        .run(["db-branches", "--frobnicate"], MOMENT)?
        .exit_code(2)?;
    assert_says(&refused.stderr, &["--frobnicate"])
}
