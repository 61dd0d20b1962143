//! PgBouncer, where people have it: started by the program itself, with the shared database's address in its file; and
//! before the shared database, where it answers at the address that the target's connection string has.
//!
//! In transaction mode whoever comes next has the server's session: a copy made through it would not be of one moment,
//! and would leave its settings to others. So it is made at the server's own address, or not.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use fixtures::{Pooler, PoolerFile, Pooling, sql};
use serde_json::json;

use super::{TAKE, psql, run, words};
use crate::story::{BRANCH, LIMIT, NAMESPACE, PASSWORD, ROLE, Story, TARGET, assert_says, stock};

const MODES: [Pooling; 2] = [Pooling::Session, Pooling::Transaction];

/// A file for a pooler before the story's source, with a pool of `size`.
fn pooler_file(story: &Story, pooling: Pooling, size: u8) -> Result<PoolerFile> {
    let size = format!("default_pool_size = {size}");
    PoolerFile::write(story.source.port(), pooling, &[(ROLE, PASSWORD)], &[&size])
}

/// The application's URL by way of the pooler on this port.
fn through(port: u16) -> String {
    format!("postgres://{ROLE}:{PASSWORD}@127.0.0.1:{port}/{ROLE}")
}

/// Registers the target with this URL in its environment, and gives the file that branches what it names.
fn deploy(story: &Story, url: &str) -> Result<PathBuf> {
    let words = ["local", "run", TARGET, "-n", NAMESPACE, "--"];
    let mut command = story
        .env
        .command([&words[..], &["sleep", "100000"]].concat());
    command.env("DATABASE_URL", url);
    story.env.start(command)?.finish(LIMIT)?.success()?;
    story.branch_file(|_| {})
}

fn identity(story: &Story) -> Result<String> {
    let branch = story.branch(BRANCH)?;
    let identity = branch["identity"].as_str();
    Ok(identity.context("a branch has an identity")?.to_owned())
}

/// A shell's words for a command.
fn quoted(words: &[String]) -> String {
    let quote = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_goes_through_a_pooler_of_the_program_is_in_the_branch() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let file = story.branch_file(|_| {})?;
    for (before, pooling) in MODES.into_iter().enumerate() {
        // One connection to the server: in transaction mode three clients share it.
        let size = if pooling == Pooling::Transaction {
            1
        } else {
            3
        };
        let pooler = pooler_file(&story, pooling, size)?;
        let url = through(pooler.port);
        let (start, ask) = (quoted(&pooler.words()), quoted(&psql(&url, TAKE)?));
        let script = format!(
            "{start} & pooler=$!; tries=0\n\
             until {} 2>/dev/null; do tries=$((tries + 1)); [ $tries -lt 300 ] || exit 9; sleep 0.1; done\n\
             {ask} & one=$!; {ask} & two=$!; {ask}\n\
             wait $one && wait $two && kill $pooler; wait",
            quoted(&psql(&url, "SELECT")?)
        );
        let session = run(&story, &file, &[], &["sh", "-c", &script])?;
        let expected = format!("in {}\n", identity(&story)?).repeat(3);
        ensure!(
            session.outcome.stdout == expected,
            "{pooling:?}: {:?}",
            session.outcome
        );
        let led = session.count(0, "redirected");
        ensure!((1..=4).contains(&led), "{pooling:?}: {}", session.report);
        ensure!(session.report["branched_databases_untouched"] == true);
        let branch = story.branch(BRANCH)?["endpoint"].clone();
        let branch = branch.as_str().context("a branch has an address")?;
        let branch = format!("postgres://{ROLE}:{PASSWORD}@{branch}/{ROLE}");
        let taken = 3 * (i64::try_from(before)? + 1);
        assert_eq!(stock(&branch)?.0, 100 - taken, "{pooling:?}");
    }
    assert_eq!(
        stock(&story.source_url())?,
        (100, 0),
        "the source is untouched"
    );
    story.end()
}

#[test]
fn a_source_behind_a_pooler_that_keeps_sessions_is_branched() -> Result<()> {
    let story = Story::begin()?;
    let pooler = Pooler::start(pooler_file(&story, Pooling::Session, 20)?)?;
    let url = through(pooler.port());
    let file = deploy(&story, &url)?;
    let session = run(&story, &file, &[], &words(&psql(&url, TAKE)?))?;
    let expected = format!("in {}\n", identity(&story)?);
    ensure!(session.count(0, "redirected") == 1, "{}", session.report);
    assert_eq!(session.outcome.success()?, expected);
    assert_eq!(stock(&url)?, (100, 0), "the source is untouched");
    drop(pooler);

    // One that is told to pass over what it does not know would have another tenant's rows copied.
    let deaf = "ignore_startup_parameters = options";
    let pooler = PoolerFile::write(
        story.source.port(),
        Pooling::Session,
        &[(ROLE, PASSWORD)],
        &[deaf],
    )?;
    let pooler = Pooler::start(pooler)?;
    let url = through(pooler.port());
    story
        .bough(&["local", "stop", TARGET, "-n", NAMESPACE])?
        .success()?;
    deploy(&story, &url)?;
    let file = story.branch_file(|file| {
        file["db_branches"][0]["id"] = json!("of-a-tenant");
        file["db_branches"][0]["connection_settings"] = json!({"app.tenant": "7"});
    })?;
    let refused = story.run_session(&file, &["true"])?.exit_code(4)?;
    let place = format!("127.0.0.1:{}", pooler.port());
    let why = "the settings of a connection do not reach the server";
    assert_says(&refused.stderr, &[why, &place, "hint:"])?;
    story.end()
}

/// What a session of the server has that the next client of a pool must not find.
const LEFT: &str = "SELECT string_agg(name || ' = ' || setting, '; ' ORDER BY name) FROM pg_settings \
     WHERE source = 'session' AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', \
       'IntervalStyle', 'TimeZone', 'standard_conforming_strings') \
     UNION ALL SELECT 'prepared ' || name FROM pg_prepared_statements";

#[test]
fn a_source_behind_a_pooler_that_keeps_no_sessions_is_copied_at_its_own_address_or_not()
-> Result<()> {
    let story = Story::begin()?;
    let pooler = Pooler::start(pooler_file(&story, Pooling::Transaction, 1)?)?;
    let url = through(pooler.port());
    let place = format!("127.0.0.1:{}", pooler.port());
    let file = deploy(&story, &url)?;
    let asked = psql(&url, TAKE)?;

    // Neither a session nor a name for it: nothing has run.
    let refused = story.run_session(&file, &words(&asked))?.exit_code(4)?;
    let hint = format!("--address {place}");
    assert_says(
        &refused.stderr,
        &["a pooler", &place, "hint:", "bough source add", &hint],
    )?;
    ensure!(refused.stdout.is_empty(), "{refused:?}");
    let mut add = story.env.command(["source", "add", "--name", "shop"]);
    add.env("BOUGH_SOURCE_URL", &url);
    let refused = story.env.start(add)?.finish(LIMIT)?.exit_code(4)?;
    assert_says(&refused.stderr, &["a pooler", &place, "hint:", &hint])?;
    let left = sql::query(&url, LEFT)?;
    let left: Vec<_> = left.into_iter().flatten().flatten().collect();
    ensure!(left.is_empty(), "the pool's one session has {left:?}");

    // The administrator says where the server itself is, and that the pooler's address is the same database.
    story
        .bough(&["source", "add", "--name", "shop", "--address", &place])?
        .success()?;
    for by in [&url, &story.source_url()] {
        let session = run(&story, &file, &[], &words(&psql(by, TAKE)?))?;
        let expected = format!("in {}\n", identity(&story)?);
        ensure!(session.count(0, "redirected") == 1, "{}", session.report);
        assert_says(&session.outcome.stderr, &["the fence is in force", &place])?;
        assert_eq!(session.outcome.success()?, expected, "{by}");
    }
    // So for a target that has the server's own address.
    story
        .bough(&["local", "stop", TARGET, "-n", NAMESPACE])?
        .success()?;
    story
        .bough(&["db-branches", "-n", NAMESPACE, "destroy", BRANCH])?
        .success()?;
    let direct = deploy(&story, &story.source_url())?;
    let session = run(&story, &direct, &[], &words(&asked))?;
    ensure!(session.count(0, "redirected") == 1, "{}", session.report);
    assert_eq!(
        stock(&url)?,
        (100, 0),
        "the source is untouched, by either address"
    );
    story.end()
}
