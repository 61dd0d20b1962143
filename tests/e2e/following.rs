//! A source that grants replication is followed: its branches hold everything that was committed before they were asked
//! for, whatever it is doing, and what becomes of its base is told.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{Options, eventually, sql};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::limits::limit;
use crate::story::{PASSWORD, ROLE, Story, assert_says, stock};
use crate::traces::{entries, working_in};

/// A seed, a snapshot, a reconnection, on a busy machine.
const BACKGROUND_LIMIT: Duration = Duration::from_secs(120);

/// A shop whose role may replicate.
pub(crate) fn granting() -> Result<Story> {
    granting_with(Options::new(16))
}

fn granting_with(options: Options) -> Result<Story> {
    let story = Story::over(options)?;
    story.source.execute(
        "postgres",
        &format!(
            "ALTER ROLE {ROLE} REPLICATION; GRANT pg_monitor, pg_checkpoint TO {ROLE}; \
             GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint() TO {ROLE}"
        ),
    )?;
    // In the shop's database as well: functions of pg_catalog are each database's own.
    story.source.execute(
        ROLE,
        &format!(
            "GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint() TO {ROLE}"
        ),
    )?;
    Ok(story)
}

/// The shop by name, followed.
pub(crate) fn follow(story: &Story, flags: &[&str]) -> Result<()> {
    let words = ["source", "add", "--name", "shop", "--mode", "physical"];
    story.bough(&[&words, flags].concat())?.success()?;
    follows(story)?;
    Ok(())
}

fn source(story: &Story) -> Result<Value> {
    let sources = story.json(&["source", "ls"])?;
    let found = sources.as_array().and_then(|sources| sources.first());
    found.cloned().context("the shop is named")
}

/// Waits for something in the background; says what the engine did where it does not come.
pub(crate) fn wait<T>(
    story: &Story,
    what: &str,
    look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    eventually(what, BACKGROUND_LIMIT, look).with_context(|| {
        let told = source(story).map(|source| source["base"].to_string());
        let log = story
            .bough(&["engine", "logs"])
            .map(|outcome| outcome.stdout);
        format!("{}\n{}", told.unwrap_or_default(), log.unwrap_or_default())
    })
}

/// Waits until the shop's changes arrive and a snapshot of them is there; gives what is told of it.
fn follows(story: &Story) -> Result<Value> {
    wait(story, "a base that follows", || {
        let source = source(story)?;
        let is_there = source["base"]["activity"] == "following" && !source["copied_at"].is_null();
        Ok(is_there.then_some(source))
    })
}

fn freshness(story: &Story, id: &str) -> Result<String> {
    let branch = story.branch(id)?;
    let word = branch["base"]["freshness"].as_str();
    Ok(word.context("a branch says how fresh it is")?.to_owned())
}

/// Sells until one product is left at `stock`, and makes a branch at once: the sale is in it.
pub(crate) fn sell_and_branch(
    story: &Story,
    id: &str,
    stock_left: i64,
    before: &str,
) -> Result<()> {
    let sale =
        format!("{before}UPDATE products SET stock_quantity = {stock_left} WHERE product_id = '1'");
    sql::execute(&story.source_url(), &sale)?;
    let url = story.create(id, &[])?;
    ensure!(stock(&url)?.0 == stock_left, "{id} lacks the sale");
    sql::execute(&url, "UPDATE products SET stock_quantity = 1")?;
    story.bough(&["db-branches", "destroy", id])?.success()?;
    Ok(())
}

/// Writers that do not rest until they are dropped.
struct Load {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<()>>,
}

impl Load {
    fn on(story: &Story) -> Result<Self> {
        let url = story.source_url();
        sql::execute(
            &url,
            "CREATE TABLE log (id bigserial PRIMARY KEY, at timestamptz DEFAULT now(), text text)",
        )?;
        let stop = Arc::new(AtomicBool::new(false));
        let writer = |_| {
            let (url, stop) = (url.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let some = "INSERT INTO log (text) SELECT repeat('x', 100) FROM generate_series(1, 10); \
                                DELETE FROM log WHERE id < (SELECT max(id) - 1000 FROM log)";
                    sql::execute(&url, some).expect("the source takes writes");
                }
            })
        };
        Ok(Self {
            writers: (0..2).map(writer).collect(),
            stop,
        })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers.drain(..) {
            // A writer that failed has said so already.
            let _ = writer.join();
        }
    }
}

#[test]
fn a_row_that_was_committed_right_before_is_there() -> Result<()> {
    let story = granting()?;
    follow(&story, &[])?;
    let first = story.create("first", &[])?;
    ensure!(stock(&first)? == (100, 0));
    ensure!(
        freshness(&story, "first")? == "unmoved",
        "nobody has written"
    );

    sell_and_branch(&story, "sold", 90, "")?;
    sell_and_branch(&story, "unsynced", 89, "SET synchronous_commit = off; ")?;
    let switch = "SELECT pg_switch_wal()";
    story.source.execute(ROLE, switch)?;
    sell_and_branch(&story, "switched", 88, "")?;
    story.source.execute(ROLE, switch)?;
    ensure!(stock(&story.create("right-after-a-switch", &[])?)?.0 == 88);

    // A sequence moves and nothing else does.
    let url = story.source_url();
    sql::execute(&url, "CREATE SEQUENCE bills")?;
    story.create("before-a-bill", &[])?;
    let next = "SELECT nextval('bills')";
    let drawn: i64 = sql::query_value(&url, next)?.parse()?;
    let branch = story.create("bill", &[])?;
    let there: i64 = sql::query_value(&branch, next)?.parse()?;
    ensure!(there > drawn, "{there} was drawn already: {drawn}");

    // A transaction that was open before the snapshot commits after it.
    sql::execute(&url, "CREATE TABLE gate (open bool)")?;
    let open = std::thread::spawn(move || {
        sql::execute(
            &url,
            "BEGIN; UPDATE products SET stock_quantity = 77 WHERE product_id = '1'; \
             DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.02); END LOOP; END $$; COMMIT",
        )
    });
    eventually("the transaction", BACKGROUND_LIMIT, || {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%gate%' AND wait_event = 'PgSleep'";
        Ok((story.source.query_value(ROLE, waits)? == "1").then_some(()))
    })?;
    ensure!(stock(&story.create("while-it-runs", &[])?)?.0 == 88);
    sql::execute(&story.source_url(), "INSERT INTO gate VALUES (true)")?;
    open.join().expect("the transaction's thread ends")?;
    ensure!(stock(&story.create("once-it-is-done", &[])?)?.0 == 77);
    story.end()
}

#[test]
fn a_source_that_never_rests_gives_branches_of_this_moment() -> Result<()> {
    let story = granting()?;
    follow(&story, &[])?;
    let load = Load::on(&story)?;
    for round in 0..8 {
        sell_and_branch(&story, &format!("busy-{round}"), 50 - round, "")?;
    }
    let url = story.create("caught", &[])?;
    ensure!(freshness(&story, "caught")? == "replayed");
    let told = story
        .bough(&["db-branches", "status", "caught"])?
        .success()?;
    assert_says(
        &told,
        &[
            "the base follows the source and had everything",
            " ms after",
        ],
    )?;
    wait(&story, "a follower that waits", || {
        let status = story.json(&["engine", "status"])?;
        let waiting = status["engine"]["followers"].as_u64();
        Ok((waiting.context("a count")? > 0).then_some(()))
    })?;
    // One that waits in the pool runs in a directory before anybody asks.
    let before = entries(&story.data().join("volume/clones"))?;
    let late = story.create("late", &[])?;
    let identity = story.branch("late")?["identity"].clone();
    let identity = identity.as_str().context("an identity")?;
    let waited = before
        .iter()
        .any(|clone| identity.ends_with(clone.as_str()));
    ensure!(waited, "{identity} is none of {before:?}");
    drop(load);
    // What was written there is no branch's, and what a branch writes is its own.
    for branch in [&url, &late] {
        sql::execute(branch, "UPDATE products SET stock_quantity = 1")?;
    }
    ensure!(stock(&story.source_url())?.0 == 43);
    story.end()
}

/// One that is dead would be taken by the next request, in vain, and its files would stay for as long as it was to wait.
#[test]
fn a_follower_that_was_killed_is_replaced() -> Result<()> {
    let story = granting()?;
    follow(&story, &[])?;
    let load = Load::on(&story)?;
    story.create("first", &[])?;
    let clones = story.data().join("volume/clones");
    let of_first = story.branch("first")?["identity"].clone();
    let of_first = of_first.as_str().context("an identity")?.to_owned();
    let waiting = wait(&story, "a follower that waits", || {
        let count = story.json(&["engine", "status"])?["engine"]["followers"].as_u64();
        let nameless = entries(&clones)?
            .into_iter()
            .find(|clone| !of_first.ends_with(clone.as_str()));
        Ok(nameless.filter(|_| count.is_some_and(|count| count > 0)))
    })?;
    let servers = working_in(&clones.join(&waiting))?;
    ensure!(!servers.is_empty(), "nobody works in {waiting}");
    for (pid, _) in servers {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        // Some end by themselves when the first one does.
        let _ = kill_process(pid.context("a pid")?, Signal::KILL);
    }
    wait(&story, "the end of what it left", || {
        Ok((!entries(&clones)?.contains(&waiting)).then_some(()))
    })?;
    story.create("second", &[])?;
    ensure!(freshness(&story, "second")? == "replayed");
    drop(load);
    story.end()
}

/// Nothing is to be learned of a server that somebody killed, and whoever asked has done nothing wrong.
#[test]
fn a_follower_that_is_killed_while_it_is_made_fails_no_branch() -> Result<()> {
    let story = granting()?;
    limit(&story, "followers_per_source_max = 0\n")?;
    follow(&story, &[])?;
    let clones = story.data().join("volume/clones");
    for round in 0..5 {
        let theirs = clones.clone();
        let killer = std::thread::spawn(move || kill_first(&theirs));
        sell_and_branch(&story, &format!("sold-{round}"), 50 - round, "")?;
        killer.join().expect("the killer's thread ends")?;
    }
    story.end()
}

/// Kills the first server that works in a clone.
fn kill_first(clones: &Path) -> Result<()> {
    eventually("a server of a clone", BACKGROUND_LIMIT, || {
        for clone in entries(clones)? {
            let file = clones.join(clone).join("data/postmaster.pid");
            let text = std::fs::read_to_string(file).unwrap_or_default();
            if let Some(Ok(pid)) = text.lines().next().map(str::parse) {
                return kill(pid).map(Some);
            }
        }
        Ok(None)
    })
}

#[test]
fn what_a_source_does_not_grant_is_said_and_it_is_dumped_until_it_does() -> Result<()> {
    let story = Story::begin()?;
    let added = story
        .bough(&["source", "add", "--name", "shop"])?
        .success()?;
    let grant = format!("ALTER ROLE \"{ROLE}\" REPLICATION");
    assert_says(&added, &["logical", "dumped and not followed", &grant])?;
    ensure!(stock(&story.create("dumped", &[])?)?.0 == 100);
    ensure!(freshness(&story, "dumped")? == "copied");
    let words = ["source", "add", "--name", "shop", "--mode", "physical"];
    let refused = story.bough(&words)?.exit_code(4)?;
    assert_says(&refused.stderr, &["error:", &grant, "hint:", "--mode auto"])?;

    // Another role may; its password is shown nowhere.
    let secret = "pa55-of-the-replicator";
    let role = format!("CREATE ROLE rep LOGIN REPLICATION PASSWORD '{secret}'");
    story.source.execute("postgres", &role)?;
    let replication_url = story.source.url("rep", secret, "postgres");
    let mut command = story.env.command(words);
    command.env("BOUGH_REPLICATION_URL", &replication_url);
    let shown = story.env.start(command)?.finish(BACKGROUND_LIMIT)?;
    let mut shown = shown.success()?;
    let told = follows(&story)?;
    assert_says(&shown, &["physical"])?;
    shown.push_str(&told.to_string());
    shown.push_str(&story.bough(&["source", "ls"])?.success()?);
    shown.push_str(&story.bough(&["engine", "logs"])?.success()?);
    ensure!(!shown.contains(secret), "a secret is shown: {shown}");
    let url = story.create("followed", &[])?;
    ensure!(stock(&url)?.0 == 100);
    story.bough(&["source", "rm", "shop"])?.success()?;
    ensure!(entries(&story.data().join("volume/bases"))?.is_empty());
    ensure!(stock(&url)?.0 == 100, "its branches stay");
    story.end()
}

/// What a laptop's night leaves: without the slot, what the base lacks in the morning would be gone.
#[test]
fn an_administrators_slot_is_followed_by_and_outlives_engine_and_base() -> Result<()> {
    let source_options = Options::new(16).setting("max_slot_wal_keep_size", "256MB");
    let story = granting_with(source_options.setting("wal_level", "logical"))?;
    let make = "SELECT pg_create_physical_replication_slot('for_bough'), \
         pg_create_logical_replication_slot('of_others', 'pgoutput')";
    story.source.execute(ROLE, make)?;
    for wrong in ["nobodys", "of_others"] {
        let words = ["source", "add", "--name", "shop", "--slot", wrong];
        let refused = story.bough(&words)?.exit_code(4)?;
        let named = format!("no physical replication slot \"{wrong}\"");
        assert_says(&refused.stderr, &["error:", &named, "hint:", "--slot"])?;
    }
    let added = ["source", "add", "--name", "shop", "--slot", "for_bough"];
    story.bough(&added)?.success()?;
    let first = follows(&story)?;
    ensure!(first["slot"] == "for_bough" && first["base"]["asked"] == "physical");
    let slots = |wanted: &str| {
        let slots = "SELECT string_agg(concat(active, ' ', temporary, ' ', restart_lsn IS NOT NULL), ',') \
             FROM pg_replication_slots WHERE slot_type = 'physical'";
        let found = story.source.query_value(ROLE, slots)?;
        Ok((found == wanted).then_some(()))
    };
    wait(&story, "its use", || slots("t f t"))?;

    story.bough(&["engine", "stop", "--servers"])?.success()?;
    wait(&story, "what it keeps for nobody", || slots("f f t"))?;
    for _ in 0..4 {
        story.source.execute(ROLE, "SELECT pg_switch_wal()")?;
        story.source.execute(ROLE, "CHECKPOINT")?;
    }
    sell_and_branch(&story, "morning", 90, "")?;
    let now = follows(&story)?;
    ensure!(
        now["base"]["seeded_at"] == first["base"]["seeded_at"],
        "it was copied again: {now}"
    );
    wait(&story, "its use again", || slots("t f t"))?;

    story.bough(&["source", "rm", "shop"])?.success()?;
    wait(&story, "the slot without its base", || slots("f f t"))?;
    story.end()
}

#[test]
fn an_engine_that_is_killed_comes_back_to_its_base() -> Result<()> {
    let story = granting()?;
    follow(&story, &[])?;
    let standby = standby(&story)?;
    crate::engine_api::kill_engine(&story.data())?;
    sell_and_branch(&story, "adopted", 90, "")?;
    ensure!(self::standby(&story)? == standby, "its server was adopted");

    // The base's server dies with the engine, as in a crash of the machine.
    crate::engine_api::kill_engine(&story.data())?;
    kill(standby)?;
    sell_and_branch(&story, "restarted", 80, "")?;
    ensure!(self::standby(&story)? != standby, "it is another server");
    let bases = entries(&story.data().join("volume/bases"))?;
    ensure!(bases.len() == 1, "it was not copied again: {bases:?}");
    story.end()
}

#[test]
fn a_base_is_kept_whose_server_cannot_be_started_just_now() -> Result<()> {
    let mut story = granting()?;
    follow(&story, &[])?;
    let bases = story.data().join("volume/bases");
    let first = entries(&bases)?;
    crate::engine_api::kill_engine(&story.data())?;
    kill(standby(&story)?)?;
    // As while a package is being replaced.
    let servers = std::env::var_os(SERVERS).context("the tests' servers")?;
    story.env.set(SERVERS, story.env.home());
    wait(&story, "what is the matter", || {
        let listed = story.bough(&["source", "ls"])?.success()?;
        Ok(listed.contains("cannot be taken up again").then_some(()))
    })?;
    ensure!(entries(&bases)? == first, "it is kept");
    crate::engine_api::kill_engine(&story.data())?;
    story.env.set(SERVERS, servers);
    sell_and_branch(&story, "after", 90, "")?;
    ensure!(entries(&bases)? == first, "it was not copied again");
    story.end()
}

/// Where an engine looks for servers.
const SERVERS: &str = "BOUGH_POSTGRES_PATH";

fn kill(pid: u32) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.context("a process id")?, Signal::KILL).context("kill the base's server")
}

/// The process of the base's server.
pub(crate) fn standby(story: &Story) -> Result<u32> {
    let bases = story.data().join("volume/bases");
    let name = entries(&bases)?.pop().context("there is a base")?;
    eventually("the base's server", BACKGROUND_LIMIT, || {
        let file = bases.join(&name).join("data/postmaster.pid");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        Ok(text.lines().next().and_then(|line| line.parse().ok()))
    })
}

#[test]
fn an_outage_is_told_and_what_is_here_stays_as_good_as_it_was() -> Result<()> {
    let mut story = granting()?;
    follow(&story, &[])?;
    story.source.stop()?;
    wait(&story, "an outage that is told", || {
        Ok((source(&story)?["base"]["activity"] == "waiting").then_some(()))
    })?;
    let listed = story.bough(&["source", "ls"])?.success()?;
    assert_says(
        &listed,
        &["physical, waiting", "nothing arrives from the source since"],
    )?;
    let old = story.create("old", &["--max-age", "3600"])?;
    ensure!(stock(&old)?.0 == 100);
    ensure!(freshness(&story, "old")? == "accepted");
    let refused = story
        .bough(&["db-branches", "create", "now"])?
        .exit_code(4)?;
    assert_says(&refused.stderr, &["error:", "hint:"])?;

    story.source.restart()?;
    sell_and_branch(&story, "back", 90, "")?;
    follows(&story)?;
    story.end()
}

#[test]
fn a_source_that_fails_over_is_followed_to_its_new_timeline() -> Result<()> {
    let mut story = granting()?;
    follow(&story, &[])?;
    let first = source(&story)?["base"]["seeded_at"].clone();
    // The server that takes over has everything that the old one had: it is the old one, promoted.
    let data = story.source.data_directory();
    story.source.stop()?;
    std::fs::write(data.join("standby.signal"), "")?;
    copy_owner(&data, &data.join("standby.signal"))?;
    story.source.restart()?;
    story.source.execute("postgres", "SELECT pg_promote()")?;
    let timeline = "SELECT timeline_id FROM pg_control_checkpoint()";
    wait(&story, "the new timeline", || {
        story.source.execute("postgres", "CHECKPOINT")?;
        Ok((story.source.query_value("postgres", timeline)? == "2").then_some(()))
    })?;
    sell_and_branch(&story, "taken-over", 90, "")?;
    let base = follows(&story)?["base"].clone();
    ensure!(base["seeded_at"] == first, "it was copied again: {base}");
    story.end()
}

#[test]
fn a_source_that_was_restored_is_copied_again_and_that_is_told() -> Result<()> {
    let mut story = granting()?;
    follow(&story, &[])?;
    let data = story.source.data_directory();
    let kept = story.env.home().join("kept");
    story.source.stop()?;
    copy(&data, &kept)?;
    story.source.restart()?;
    sell_and_branch(&story, "sold", 90, "")?;
    let first = source(&story)?["base"]["seeded_at"].clone();
    story.source.stop()?;
    std::fs::remove_dir_all(&data)?;
    copy(&kept, &data)?;
    story.source.restart()?;
    wait(&story, "another base", || {
        let base = source(&story)?["base"].clone();
        Ok((base["seeded_at"] != first && base["activity"] == "following").then_some(()))
    })?;
    let listed = story.bough(&["source", "ls"])?.success()?;
    assert_says(&listed, &["copied again:", "restored"])?;
    let url = story.create("restored", &[])?;
    ensure!(stock(&url)?.0 == 100, "the sale never was");
    story.end()
}

/// Owners and modes as well.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status()?;
    ensure!(copied.success(), "cp ended with {copied}");
    Ok(())
}

#[test]
fn a_tablespace_that_appears_ends_the_following_and_a_dump_takes_its_place() -> Result<()> {
    let story = granting()?;
    story
        .bough(&["source", "add", "--name", "shop"])?
        .success()?;
    follows(&story)?;
    let place = story.source.data_directory().join("../elsewhere");
    std::fs::create_dir(&place)?;
    copy_owner(&story.source.data_directory(), &place)?;
    let place = place.canonicalize()?;
    let make = format!("CREATE TABLESPACE elsewhere LOCATION '{}'", place.display());
    story.source.execute("postgres", &make)?;
    wait(&story, "a dump instead", || {
        Ok((source(&story)?["base"]["activity"] == "dumping").then_some(()))
    })?;
    let listed = story.bough(&["source", "ls"])?.success()?;
    assert_says(
        &listed,
        &[
            "copied again: the source has a tablespace",
            "dumped and not followed",
            "elsewhere",
        ],
    )?;
    let url = story.create("dumped", &[])?;
    ensure!(stock(&url)?.0 == 100);
    ensure!(freshness(&story, "dumped")? == "copied");
    ensure!(
        std::fs::read_dir(&place)?.count() == 1,
        "only the source's own directory is there"
    );

    story
        .source
        .execute("postgres", "DROP TABLESPACE elsewhere")?;
    story.bough(&["source", "refresh", "shop"])?.success()?;
    follows(&story)?;
    story.end()
}

fn copy_owner(from: &Path, to: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let owner = std::fs::metadata(from)?;
    std::os::unix::fs::chown(to, Some(owner.uid()), Some(owner.gid()))?;
    Ok(())
}

#[test]
fn every_branch_of_a_followed_source_is_prepared() -> Result<()> {
    let story = granting()?;
    let masks = story.env.home().join("masks.sql");
    std::fs::write(&masks, "UPDATE products SET reserved_quantity = 7")?;
    let file = masks.to_str().context("UTF-8")?.to_owned();
    follow(&story, &["--prepare", &file])?;
    let first = story.create("first", &[])?;
    ensure!(stock(&first)? == (100, 7));
    sql::execute(
        &story.source_url(),
        "UPDATE products SET stock_quantity = 55 WHERE product_id = '1'",
    )?;
    let moved = story.create("moved", &[])?;
    ensure!(freshness(&story, "moved")? == "replayed");
    ensure!(stock(&moved)? == (55, 7));
    ensure!(stock(&story.source_url())? == (55, 0));

    std::fs::write(&masks, "UPDATE products SET no_such_column = 1")?;
    let words = [
        "source",
        "add",
        "--name",
        "shop",
        "--mode",
        "physical",
        "--prepare",
        &file,
    ];
    story.bough(&words)?.success()?;
    let refused = story
        .bough(&["db-branches", "create", "late"])?
        .exit_code(4)?;
    assert_says(
        &refused.stderr,
        &["error:", "prepares", "no_such_column", "hint:", "--prepare"],
    )?;
    story.end()
}

#[test]
fn other_roles_other_databases_and_other_copies_are_what_they_ask_for() -> Result<()> {
    let story = granting()?;
    story.source.execute(
        ROLE,
        "CREATE ROLE clerk LOGIN PASSWORD 'of-the-clerk'; GRANT SELECT ON products TO clerk",
    )?;
    story.source.execute("postgres", "CREATE DATABASE ledger")?;
    story.source.execute(
        "ledger",
        "CREATE TABLE entry (id int); INSERT INTO entry VALUES (3)",
    )?;
    follow(&story, &[])?;
    sql::execute(
        &story.source_url(),
        "UPDATE products SET stock_quantity = 55 WHERE product_id = '1'",
    )?;
    // The clerk has the same branch with his own rights.
    let clerk = story.source.url("clerk", "of-the-clerk", ROLE);
    let url = story.create("clerk", &["--source", &clerk])?;
    ensure!(stock(&url)?.0 == 55);
    ensure!(sql::execute(&url, "UPDATE products SET stock_quantity = 1").is_err());
    ensure!(freshness(&story, "clerk")? == "replayed");
    // The shop's own role gets into the clerk's as into any.
    let (_, place) = url.rsplit_once('@').context("a URL has an address")?;
    let own = format!("postgres://{ROLE}:{PASSWORD}@{place}");
    sql::execute(&own, "UPDATE products SET stock_quantity = 1")?;
    let wrong = format!("postgres://{ROLE}:a-guess@{place}");
    ensure!(
        sql::execute(&wrong, "SELECT 1").is_err(),
        "a guess opens nothing"
    );

    let schema = story.create("schema", &["--copy", "schema"])?;
    ensure!(sql::query_value(&schema, "SELECT count(*) FROM products")? == "0");
    let empty = story.create("empty", &["--copy", "empty"])?;
    ensure!(sql::query_value(&empty, "SELECT to_regclass('products') IS NULL")? == "t");
    let ledger = story.source.superuser_url("ledger");
    let ledger = story.create("ledger", &["--source", &ledger])?;
    ensure!(sql::query_value(&ledger, "SELECT id FROM entry")? == "3");
    story.end()
}
