//! The usual drivers, each told the source's own address: which of them the fence leads to the branch, by which way.
//!
//! Printed as a table; a cell that does not hold fails the test.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fixtures::{built_binary, http};
use serde_json::Value;

use super::{psql, run, words};
use crate::clients::{installed, source_of};
use crate::story::{BRANCH, PASSWORD, ROLE, Story, free_port, stock};

/// What one client takes from the stock.
const TAKEN: i64 = 7;

/// What there is for all of them.
const STOCK: i64 = 1000;

/// What a client is told that begins with TLS.
const DIRECT: &str = "direct";

/// A program with a driver.
struct Client {
    name: &'static str,
    program: Vec<String>,
    /// What its URL says to have TLS, unverified; none where its driver has no word for that.
    tls: Option<&'static str>,
}

fn client(name: &'static str, program: &[&Path], tls: Option<&'static str>) -> Result<Client> {
    let text = |path: &&Path| path.to_str().map(str::to_owned).context("a path is text");
    let program = program.iter().map(text).collect::<Result<_>>()?;
    Ok(Client { name, program, tls })
}

fn clients() -> Result<Vec<Client>> {
    let python = PathBuf::from(installed("BOUGH_TEST_PYTHON")?);
    let script = |name: &str| source_of("python", name);
    let (jdbc, java) = (
        PathBuf::from(installed("BOUGH_TEST_JDBC")?),
        source_of("java", "Client.java"),
    );
    let require = Some("sslmode=require");
    let go = built_binary("BOUGH_TEST_GO_CLIENT")?;
    // This driver insists on TLS unless it is told otherwise.
    let [env, plain, pq] = ["env", "PGSSLMODE=disable", "pq"].map(Path::new);
    let lib_pq = [env, plain, &go, pq];
    let mut all = vec![
        client(
            "Node pg",
            &[Path::new("node"), &source_of("node", "client.js")],
            Some("sslmode=no-verify"),
        )?,
        client(
            "Python psycopg 3",
            &[&python, &script("client.py")],
            require,
        )?,
        client(
            "Python psycopg2",
            &[&python, &script("psycopg2_client.py")],
            require,
        )?,
        client(
            "Python asyncpg",
            &[&python, &script("asyncpg_client.py")],
            require,
        )?,
        client("Go pgx, static", &[&go], require)?,
        client("Go lib/pq, static", &lib_pq, require)?,
        client(
            "Java JDBC",
            &[Path::new("java"), Path::new("-cp"), &jdbc, &java],
            require,
        )?,
        client(
            "PHP pgsql",
            &[Path::new("php"), &source_of("php", "client.php")],
            require,
        )?,
    ];
    let mut direct = client(
        "Python asyncpg, TLS at once",
        &[&python, &script("asyncpg_client.py")],
        None,
    )?;
    direct.program.push(DIRECT.to_owned());
    all.push(direct);
    Ok(all)
}

/// Every client's name and its program.
pub(crate) fn programs() -> Result<Vec<(&'static str, Vec<String>)>> {
    let each = clients()?.into_iter();
    // Without TLS the last one does not begin.
    let plain = each.filter(|client| !client.program.contains(&DIRECT.to_owned()));
    Ok(plain.map(|client| (client.name, client.program)).collect())
}

/// Every client that speaks TLS, its program, and what its URL says to have it unverified.
pub(crate) fn encrypting() -> Result<Vec<(&'static str, Vec<String>, &'static str)>> {
    let each = clients()?.into_iter();
    Ok(each
        .filter_map(|client| Some((client.name, client.program, client.tls?)))
        .collect())
}

/// Runs a client in a session, told `url`; the stock and the server that it saw.
fn ask(story: &Story, file: &Path, client: &Client, url: &str) -> Result<(i64, String)> {
    let told = format!("DATABASE_URL={url}");
    let mut program = vec!["env", &told];
    program.extend(client.program.iter().map(String::as_str));
    let session = run(story, file, &[], &program)?;
    let said = session.outcome.success()?;
    let said: Value =
        serde_json::from_str(&said).with_context(|| format!("{}: {said}", client.name))?;
    ensure!(
        session.report["branches"][0]["redirected"].as_u64() >= Some(1),
        "{}: {}",
        client.name,
        session.report
    );
    let stock = said["stock"].as_i64().context("it says the stock")?;
    let name = said["cluster_name"].as_str().context("it says where")?;
    Ok((stock, name.to_owned()))
}

#[test]
fn every_driver_that_is_told_the_source_ends_in_the_branch() -> Result<()> {
    let mut story = Story::begin()?;
    story.deploy_idle()?;
    story
        .env
        .set("NODE_PATH", installed("BOUGH_TEST_NODE_MODULES")?);
    let file = story.branch_file(|_| {})?;
    story.fill_up(STOCK)?;
    let mut left = STOCK;
    println!("{:<30} {:<8} TLS", "driver", "plain");
    for client in clients()? {
        let mut cells = Vec::new();
        for suffix in [Some(""), client.tls.map(|_| "?")] {
            let Some(suffix) = suffix else {
                cells.push("-");
                continue;
            };
            let wish = if suffix.is_empty() {
                ""
            } else {
                client.tls.unwrap_or_default()
            };
            let url = format!("{}{suffix}{wish}", story.source_url());
            let (stock, name) = ask(&story, &file, &client, &url)?;
            left -= TAKEN;
            let identity = story.branch(BRANCH)?["identity"].clone();
            ensure!(stock == left, "{}: {stock} is not {left}", client.name);
            ensure!(
                identity == name.as_str(),
                "{}: {name:?} is not {identity}",
                client.name
            );
            cells.push("branch");
        }
        println!("{:<30} {:<8} {}", client.name, cells[0], cells[1]);
    }
    assert_eq!(
        stock(&story.source_url())?,
        (STOCK, 0),
        "the source is untouched"
    );
    story.end()
}

#[test]
fn a_service_with_a_pool_that_is_told_the_source_ends_in_the_branch() -> Result<()> {
    // Rust: tokio-postgres behind deadpool, in the inventory service itself.
    let story = Story::begin()?;
    story.deploy_idle()?;
    let file = story.branch_file(|_| {})?;
    let port = free_port()?;
    let told = format!("DATABASE_URL={}", story.source_url());
    let listen = port.to_string();
    let program = ["env", &told, "inventory", "--port", &listen];
    let mut session = story.env.start(story.exec(&file, &program))?;
    session.wait_for(crate::story::LIMIT, |_, stderr| {
        stderr.contains("listening")
    })?;
    let body = r#"{"items":[{"productId":"1","quantity":50}]}"#;
    let answer = http::post(port, "/api/inventory/reserve", body)?;
    ensure!(answer.status == 200, "{answer:?}");
    assert_eq!(
        stock(&story.source_url())?,
        (100, 0),
        "the source is untouched"
    );
    assert_eq!(stock(&branch_url(&story)?)?, (50, 50), "the branch is not");
    session.signal(fixtures::Signal::INT)?;
    drop(session.finish(crate::story::LIMIT)?.exit_code(0)?);
    story.end()
}

fn branch_url(story: &Story) -> Result<String> {
    let branch = story.branch(BRANCH)?;
    let door = branch["endpoint"].as_str().context("a branch has a door")?;
    Ok(format!("postgres://{ROLE}:{PASSWORD}@{door}/{ROLE}"))
}

#[test]
fn a_cancel_request_finds_the_query_that_it_means() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let file = story.branch_file(|_| {})?;
    let python = PathBuf::from(installed("BOUGH_TEST_PYTHON")?);
    let script = source_of("python", "cancel.py");
    for url in [
        story.source_url(),
        format!("{}?sslmode=require", story.source_url()),
    ] {
        let told = format!("DATABASE_URL={url}");
        let words = [
            &*told,
            python.to_str().context("text")?,
            script.to_str().context("text")?,
        ];
        let program: Vec<&str> = ["env"].into_iter().chain(words).collect();
        let session = run(&story, &file, &[], &program)?;
        assert_eq!(session.outcome.success()?, "cancelled\n");
    }
    story.end()
}

#[test]
fn http_goes_through_where_isolation_is_asserted() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let file = story.branch_file(|_| {})?;
    // The shop's own service is the server; nothing of it is in the session.
    let port = free_port()?;
    let mut server = std::process::Command::new(built_binary("INVENTORY_BIN")?);
    server
        .args(["--port", &port.to_string()])
        .env("DATABASE_URL", story.source_url());
    let mut server = story.env.start(server)?;
    server.wait_for(crate::story::LIMIT, |_, stderr| {
        stderr.contains("listening")
    })?;
    let url = format!("http://127.0.0.1:{port}/api/inventory/1");
    let fetch = source_of("java", "Fetch.java");
    let node = format!("fetch('{url}').then(r => r.text()).then(t => console.log(t))");
    let python = format!("import urllib.request as r; print(r.urlopen('{url}').read().decode())");
    let ways: [(&str, Vec<&str>); 4] = [
        ("curl", vec!["curl", "-sS", &url]),
        ("Node fetch", vec!["node", "-e", &node]),
        ("Python urllib", vec!["/usr/bin/python3", "-c", &python]),
        (
            "Java HttpClient",
            vec!["java", fetch.to_str().context("text")?, &url],
        ),
    ];
    for (name, program) in ways {
        let session = run(&story, &file, &["--assert-isolated"], &program)?;
        let said = session.outcome.success()?;
        ensure!(said.contains("\"stock_quantity\":100"), "{name}: {said}");
        ensure!(
            session.report["isolated"] == true,
            "{name}: {}",
            session.report
        );
        let other = &session.report["others"][0];
        ensure!(
            other["address"] == format!("127.0.0.1:{port}"),
            "{name}: {}",
            session.report
        );
        println!("{name:<16} HTTP under --assert-isolated: as it is");
    }
    server.signal(fixtures::Signal::INT)?;
    drop(server.finish(crate::story::LIMIT)?.exit_code(0)?);
    story.end()
}

#[test]
fn programs_that_insist_on_tls_have_it_and_one_that_verifies_is_told_how() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let file = story.branch_file(|_| {})?;
    let certificate = story.env.home().join("session.pem");
    let certificate = certificate.to_str().context("text")?;
    let asked = "SELECT 'in ' || current_setting('cluster_name')";
    let url = |wish: &str| format!("{}?{wish}", story.source_url());
    let required = run(
        &story,
        &file,
        &[],
        &words(&psql(&url("sslmode=require"), asked)?),
    )?;
    ensure!(required.outcome.success()?.starts_with("in bough-"));

    let verified = url(&format!("sslmode=verify-full&sslrootcert={certificate}"));
    let session = run(
        &story,
        &file,
        &["--ca-file", certificate],
        &words(&psql(&verified, asked)?),
    )?;
    ensure!(session.outcome.success()?.starts_with("in bough-"));

    // The certificate of the last session is not this one's.
    let session = run(&story, &file, &[], &words(&psql(&verified, asked)?))?;
    ensure!(
        session.outcome.status.code() == Some(2),
        "{:?}",
        session.outcome
    );
    crate::story::assert_says(
        &session.outcome.stderr,
        &[
            "a program that verifies certificates refused the fence's own",
            "exec --ca-file FILE",
        ],
    )?;
    // By the branch's own address, since its variable says so.
    let file = story.branch_file(|file| {
        file["db_branches"][0]["query_params"] = serde_json::json!({"sslmode": "require"});
    })?;
    let script = format!(
        "exec {} -XAtqc \"{asked}\" \"$DATABASE_URL\"",
        fixtures::tool(15, "psql")?.display()
    );
    let session = run(&story, &file, &[], &["sh", "-c", &script])?;
    ensure!(
        session.report["branches"][0]["direct"] == 1,
        "{}",
        session.report
    );
    ensure!(session.outcome.success()?.starts_with("in bough-"));
    story.end()
}
