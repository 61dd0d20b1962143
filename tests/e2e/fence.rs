//! The fence, by the programs that people use: whoever names the shared database itself ends in the branch.
//!
//! Each program here is told the source's own address, as if it had it hard-coded, in a configuration file, or from a
//! vault at run time; the session's branch stands in for it.

pub(crate) mod encrypted;
pub(crate) mod matrix;
mod pooled;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fixtures::Outcome;
use serde_json::{Value, json};

use crate::story::{BRANCH, LIMIT, PASSWORD, ROLE, Story, assert_says, stock};

/// What a session said, and its report.
struct Session {
    outcome: Outcome,
    report: Value,
}

impl Session {
    /// The count `field` of branch `number`.
    fn count(&self, number: usize, field: &str) -> u64 {
        self.report["branches"][number][field]
            .as_u64()
            .unwrap_or(u64::MAX)
    }
}

/// Runs a session with these flags, to its end.
fn run(story: &Story, file: &Path, flags: &[&str], program: &[&str]) -> Result<Session> {
    let report = story.env.home().join("report.json");
    let mut command = story.env.command(["exec", "-f"]);
    command.arg(file).arg("--report").arg(&report);
    command.args(flags).arg("--").args(program);
    let outcome = story.env.start(command)?.finish(LIMIT)?;
    let written = fs::read(&report).with_context(|| format!("a report of {outcome:?}"))?;
    Ok(Session {
        outcome,
        report: serde_json::from_slice(&written)?,
    })
}

/// `psql` that asks a database by its URL; PostgreSQL 15's, which only Debian's package brings.
fn psql(url: &str, statement: &str) -> Result<Vec<String>> {
    let program = fixtures::tool(15, "psql")?;
    let program = program.to_str().context("a path is text")?;
    Ok([program, "-XAtq", "-c", statement, url]
        .map(str::to_owned)
        .to_vec())
}

fn words(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

const TAKE: &str = "UPDATE products SET stock_quantity = stock_quantity - 1 WHERE product_id = '1'; \
                    SELECT 'in ' || current_setting('cluster_name')";

#[test]
fn a_hard_coded_address_is_the_branch_and_the_report_says_so() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let file = story.branch_file(|_| {})?;
    let port = story.source.port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let url = format!("postgres://{ROLE}:{PASSWORD}@{host}:{port}/{ROLE}");
        let asked = psql(&url, TAKE)?;
        let session = run(&story, &file, &[], &words(&asked))?;
        let identity = story.branch(BRANCH)?["identity"].clone();
        let identity = identity.as_str().context("a branch has an identity")?;
        assert_says(&session.outcome.stdout, &[&format!("in {identity}")])?;
        ensure!(
            session.count(0, "redirected") == 1,
            "{host}: {}",
            session.report
        );
        ensure!(session.report["branched_databases_untouched"] == true);
        assert_says(
            &session.outcome.stderr,
            &[
                "the fence is in force: connections to 127.0.0.1:",
                "1 connection to branch my-debug-session, 1 of them aimed at the source and led here",
                "nothing got past the fence to 127.0.0.1:",
            ],
        )?;
    }
    // By the server's Unix socket as well.
    let directory = story.source.socket_directory();
    let url = format!(
        "host={} port={port} user={ROLE} password={PASSWORD} dbname={ROLE}",
        directory.display()
    );
    let session = run(&story, &file, &[], &words(&psql(&url, TAKE)?))?;
    ensure!(session.count(0, "redirected") == 1, "{}", session.report);
    assert_eq!(
        stock(&story.source_url())?,
        (100, 0),
        "the source is untouched"
    );
    story.end()
}

/// The name of a database that no branch stands in for.
const PLAIN: &str = "plain";

/// Registers a target with two databases of one server, beside a third, and gives a file that branches both. The target
/// has the second one's URL as `url_of_orders` has it.
fn deploy_two(story: &Story, url_of_orders: &str) -> Result<PathBuf> {
    for name in ["orders", PLAIN] {
        let made = format!("CREATE DATABASE {name} OWNER {ROLE}");
        story.source.execute("postgres", &made)?;
    }
    let words = [
        "local",
        "run",
        "deployment/inventory",
        "-n",
        "metalmart",
        "--",
        "sleep",
        "100000",
    ];
    let mut command = story.env.command(words);
    command.env("DATABASE_URL", story.source_url());
    command.env("ORDERS_URL", url_of_orders);
    story.env.start(command)?.finish(LIMIT)?.success()?;
    story.branch_file(|file| {
        let branches = file["db_branches"].as_array_mut();
        branches.into_iter().for_each(|branches| {
            let mut second = branches[0].clone();
            second["id"] = json!("orders-too");
            second["name"] = json!("orders");
            second["connection"]["url"]["variable"] = json!("ORDERS_URL");
            branches.push(second);
        });
    })
}

/// A shell's script that asks these databases, by their URLs, who they are.
fn ask_each(url_of: impl Fn(&str) -> String, databases: &[&str]) -> Result<String> {
    let quote = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
    let asked = databases.iter().map(|name| {
        let statement = "SELECT current_database() || ' in ' || current_setting('cluster_name')";
        let quoted: Vec<String> = psql(&url_of(name), statement)?.iter().map(quote).collect();
        anyhow::Ok(quoted.join(" "))
    });
    Ok(asked.collect::<Result<Vec<_>>>()?.join(" && "))
}

#[test]
fn two_branches_and_an_unbranched_database_share_a_server() -> Result<()> {
    let story = Story::begin()?;
    let file = deploy_two(&story, &story.source.url(ROLE, PASSWORD, "orders"))?;
    let script = ask_each(
        |name| story.source.url(ROLE, PASSWORD, name),
        &[ROLE, "orders", PLAIN],
    )?;
    let session = run(&story, &file, &[], &["sh", "-c", &script])?;
    let identity = |id: &str| -> Result<String> {
        let identity = &story.branch(id)?["identity"];
        Ok(identity
            .as_str()
            .context("a branch has an identity")?
            .to_owned())
    };
    let expected = [
        format!("{ROLE} in {}", identity(BRANCH)?),
        format!("orders in {}", identity("orders-too")?),
        format!("{PLAIN} in "),
    ];
    let said: Vec<&str> = session.outcome.stdout.lines().collect();
    assert_eq!(
        said,
        expected.iter().map(String::as_str).collect::<Vec<_>>()
    );
    ensure!(session.count(0, "redirected") == 1 && session.count(1, "redirected") == 1);
    ensure!(
        session.report["passed"][0]["database"] == PLAIN,
        "{}",
        session.report
    );
    // From there SQL leads to the branched ones: nobody says that it did not.
    ensure!(
        session.report["branched_databases_untouched"].is_null()
            && session.report["not_said"] == json!([{"why": "other_databases", "sessions": 1}]),
        "{}",
        session.report
    );
    assert_says(
        &session.outcome.stderr,
        &[
            "is not said: 1 session with other databases of the same server: what they did there, Bough did not see",
        ],
    )?;
    ensure!(!session.outcome.stderr.contains("nothing got past"));

    // Asserted, the third is refused, and that is the session's end.
    let session = run(
        &story,
        &file,
        &["--assert-isolated"],
        &["sh", "-c", &format!("{script}; exit 0")],
    )?;
    let session_code = session.outcome.status.code();
    ensure!(
        session_code == Some(4),
        "{session_code:?}: {}",
        session.outcome.stderr
    );
    assert_says(
        &session.outcome.stderr,
        &["the session was not isolated: it was refused plain at 127.0.0.1"],
    )?;
    ensure!(
        session.report["refused"][0]["database"] == PLAIN,
        "{}",
        session.report
    );
    story.end()
}

#[test]
fn two_branches_of_one_server_are_found_by_the_addresses_of_both() -> Result<()> {
    let story = Story::begin()?;
    let directory = story.source.socket_directory();
    let (port, directory) = (story.source.port(), directory.display());
    let by_socket =
        |name: &str| format!("postgres://{ROLE}:{PASSWORD}@/{name}?host={directory}&port={port}");
    let file = deploy_two(&story, &by_socket("orders"))?;
    let by_address = |name: &str| story.source.url(ROLE, PASSWORD, name);
    let databases = [ROLE, "orders"];
    let asked = [
        ask_each(by_socket, &databases)?,
        ask_each(by_address, &databases)?,
    ];
    let session = run(&story, &file, &[], &["sh", "-c", &asked.join(" && ")])?;
    let mut expected = Vec::new();
    for (name, id) in [(ROLE, BRANCH), ("orders", "orders-too")] {
        let identity = &story.branch(id)?["identity"];
        let identity = identity.as_str().context("a branch has an identity")?;
        expected.push(format!("{name} in {identity}"));
    }
    let said: Vec<&str> = session.outcome.stdout.lines().collect();
    assert_eq!(said, [expected.clone(), expected].concat());
    ensure!(session.report["branched_databases_untouched"] == true);
    ensure!(session.report["passed"] == json!([]), "{}", session.report);
    story.end()
}

#[test]
fn a_source_connection_is_refused_or_allowed_where_that_is_asked_for() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let file = story.branch_file(|_| {})?;
    let asked = psql(&story.source_url(), TAKE)?;
    let refused = run(
        &story,
        &file,
        &["--on-source-connection=refuse"],
        &words(&asked),
    )?;
    ensure!(
        refused.outcome.status.code() == Some(2),
        "psql's own code: {:?}",
        refused.outcome
    );
    assert_says(
        &refused.outcome.stderr,
        &["bough: branch my-debug-session stands in for database"],
    )?;
    // sslmode=prefer comes again without TLS.
    ensure!(refused.count(0, "refused") >= 1, "{}", refused.report);
    assert_eq!(
        stock(&story.source_url())?,
        (100, 0),
        "the source is untouched"
    );

    let allowed = run(
        &story,
        &file,
        &["--on-source-connection=allow"],
        &words(&asked),
    )?;
    ensure!(allowed.report["allowed"] == 1, "{}", allowed.report);
    ensure!(
        allowed.report["branched_databases_untouched"].is_null(),
        "{}",
        allowed.report
    );
    assert_eq!(stock(&story.source_url())?, (99, 0), "that was allowed");
    story.end()
}

#[test]
fn a_killed_session_leaves_no_program_behind_that_could_reach_the_source() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let file = story.branch_file(|_| {})?;
    let script =
        "sleep 100000 & echo pid=$!; (setsid sleep 100000 & echo pid=$!); echo pid=$$; wait";
    let mut session = story.env.start(story.exec(&file, &["sh", "-c", script]))?;
    session.wait_for(LIMIT, |stdout, _| stdout.lines().count() == 3)?;
    let pids: Vec<String> = session
        .stdout()?
        .lines()
        .filter_map(|line| Some(format!("/proc/{}", line.strip_prefix("pid=")?)))
        .collect();
    session.signal(fixtures::Signal::KILL)?;
    fixtures::eventually("the end of the session's programs", LIMIT, || {
        let living = pids.iter().filter(|path| is_alive(path));
        Ok((living.count() == 0).then_some(()))
    })?;
    drop(session);
    story.end()
}

/// Whether a process runs: a zombie's program is gone.
fn is_alive(proc_path: &str) -> bool {
    let stat = fs::read_to_string(format!("{proc_path}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
