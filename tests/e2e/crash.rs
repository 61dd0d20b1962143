//! The engine is killed at every change of a branch, and at moments of no meaning: whoever was promised a branch has it
//! under the same address, and nothing runs or lies there that belongs to none.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{eventually, let_pass, sql};
use serde_json::{Value, json};

use crate::engine_api::{self, Watch};
use crate::story::{Story, stock};
use crate::traces::{entries, working_in};

/// From the restart of a killed engine to branches that answer: a copy may have to begin anew.
const RECOVERY: Duration = Duration::from_secs(120);

/// More changes than a creation, a reset or a deletion has: a bound on the rounds.
const CHANGES_MAX: usize = 30;

/// Kills at moments of no meaning.
const STRIKES: u32 = 20;
/// Their spread: from the request to past the end of what it asks for.
const STRIKE_SPREAD_MS: u32 = 3_000;

/// Some thousands of rows, so that a copy takes longer than a moment.
const ROWS: &str = "CREATE TABLE ballast AS SELECT n, repeat(md5(n::text), 8) AS text FROM generate_series(1, 20000) n";

fn begin() -> Result<Story> {
    let story = Story::begin()?;
    sql::execute(&story.source_url(), ROWS)?;
    // What nobody asked for would be found among what is left.
    let settings = story.data().join("engine.toml");
    std::fs::create_dir_all(story.data())?;
    std::fs::write(settings, "warm_per_source_max = 0\n")?;
    Ok(story)
}

/// Makes the source move, so that the next branch needs a new copy.
fn move_source(story: &Story) -> Result<()> {
    sql::execute(
        &story.source_url(),
        "UPDATE ballast SET text = text WHERE n = 1",
    )
}

/// Starts the engine again and waits until every branch is ready and everything on the machine belongs to one; gives
/// the branches.
fn recover(story: &Story) -> Result<Vec<Value>> {
    // Any command that needs the engine starts it.
    story.branches()?;
    let mut branches = Vec::new();
    eventually("branches that are all ready", RECOVERY, || {
        // Asked without a program each time, which would take the time that the engine needs.
        branches = engine_api::branches(&story.data())?;
        for branch in &branches {
            ensure!(branch["phase"] != "failed", "a branch was lost: {branch}");
        }
        let are_ready = branches.iter().all(|branch| branch["phase"] == "ready");
        Ok(are_ready.then_some(()))
    })?;
    let names: BTreeSet<String> = branches.iter().filter_map(clone_of).collect();
    eventually("a machine without orphans", RECOVERY, || {
        Ok(orphans(&story.data(), &names)?.is_empty().then_some(()))
    })
    .with_context(|| format!("orphans: {:?}", orphans(&story.data(), &names)))?;
    Ok(branches)
}

/// Servers, directories and sockets that belong to none of the branches, and what a branch lacks of them.
fn orphans(data: &Path, names: &BTreeSet<String>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let clones = data.join("volume/clones");
    for directory in [&clones, &data.join("run")] {
        let there: BTreeSet<String> = entries(directory)?.into_iter().collect();
        found.extend(
            there
                .symmetric_difference(names)
                .map(|name| format!("{}/{name}", directory.display())),
        );
    }
    found.extend(
        entries(&data.join("volume/making"))?
            .iter()
            .map(|name| format!("making/{name}")),
    );
    // Every process of a server works in its data directory; its own children do so too.
    let servers: BTreeSet<String> = server_directories(data)?;
    let expected: BTreeSet<String> = names
        .iter()
        .map(|name| clones.join(name).join("data").display().to_string())
        .collect();
    found.extend(
        servers
            .symmetric_difference(&expected)
            .map(|directory| format!("server of {directory}")),
    );
    Ok(found)
}

/// The directories below the volume that some process works in.
fn server_directories(data: &Path) -> Result<BTreeSet<String>> {
    let mut directories = BTreeSet::new();
    for (pid, _) in working_in(&data.join("volume"))? {
        // Ended meanwhile.
        let Ok(directory) = std::fs::read_link(format!("/proc/{pid}/cwd")) else {
            continue;
        };
        directories.insert(directory.display().to_string());
    }
    Ok(directories)
}

/// Follows a branch until it is ready, or stands otherwise than before for the `count`-th time. That a copy has come
/// some rows further is no other standing.
fn follow(watch: &mut Watch, count: usize) -> Result<Value> {
    let mut stages: Vec<[Value; 2]> = Vec::new();
    loop {
        let view = watch.next()?.context("the branch lives")?;
        let stage = [view["phase"].clone(), view["progress"]["phase"].clone()];
        if stages.last() != Some(&stage) {
            stages.push(stage);
        }
        if view["phase"] == "ready" || stages.len() == count {
            return Ok(view);
        }
    }
}

/// The name of a branch's clone, with which its server answers.
fn clone_of(branch: &Value) -> Option<String> {
    let name = branch["identity"].as_str()?.strip_prefix("bough-")?;
    Some(name.to_owned())
}

/// The server's own process of a clone.
fn postmaster(data: &Path, name: &str) -> Result<String> {
    let file = data
        .join("volume/clones")
        .join(name)
        .join("data/postmaster.pid");
    let text =
        std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn url(story: &Story, id: &str) -> Result<String> {
    let url = story
        .bough(&["db-branches", "url", id, "--show-password"])?
        .success()?;
    Ok(url.trim().to_owned())
}

#[test]
fn an_engine_that_ends_amid_a_copy_takes_it_along_and_the_next_one_makes_it() -> Result<()> {
    let story = begin()?;
    let named = ["source", "add", "--name", "shop", "--max-rate", "20kB"];
    // Nobody's request: it is copied because it is looked after.
    story
        .bough(&[&named[..], &["--warm", "1"]].concat())?
        .success()?;
    let slow = engine_api::ensure_branch(&story.data(), "slow", &story.source_url())?;
    let is_copying = |branch: &Value| branch["progress"]["phase"] == "copying";
    Watch::open(&story.data(), &slow)?.until(is_copying)?;
    let making = story.data().join("volume/making");
    ensure!(!working_in(&making)?.is_empty(), "it is made in a server");
    story.bough(&["engine", "stop"])?.success()?;
    ensure!(entries(&making)?.is_empty(), "{:?}", entries(&making)?);
    ensure!(working_in(&making)?.is_empty());

    ensure!(story.branch("slow")?["phase"] == "copying");
    Watch::open(&story.data(), &slow)?.until(is_copying)?;
    story.end()
}

#[test]
fn a_running_branch_outlives_its_engine() -> Result<()> {
    let story = begin()?;
    let url_before = story.create("steady", &[])?;
    sql::execute(
        &url_before,
        "UPDATE products SET stock_quantity = 3 WHERE product_id = '1'",
    )?;
    let clone = clone_of(&story.branch("steady")?).context("a clone")?;
    let server = postmaster(&story.data(), &clone)?;
    let first = engine_api::kill_engine(&story.data())?;
    recover(&story)?;
    let second = engine_api::kill_engine(&story.data())?;
    assert_ne!(first, second, "another engine");
    recover(&story)?;
    assert_eq!(url(&story, "steady")?, url_before);
    assert_eq!(stock(&url_before)?.0, 3, "the same data");
    assert_eq!(
        postmaster(&story.data(), &clone)?,
        server,
        "the same server, never stopped"
    );
    story.end()
}

#[test]
fn killed_at_every_change_of_a_creation() -> Result<()> {
    let story = begin()?;
    for round in 1..CHANGES_MAX {
        move_source(&story)?;
        story.branches()?;
        let name = engine_api::ensure_branch(&story.data(), "born", &story.source_url())?;
        let mut watch = Watch::open(&story.data(), &name)?;
        let last = follow(&mut watch, round)?;
        let was_ready = last["phase"] == "ready";
        engine_api::kill_engine(&story.data())?;
        let branches = recover(&story)?;
        assert_eq!(
            branches.len(),
            1,
            "what was promised is there, in round {round}: {branches:?}"
        );
        assert_eq!(branches[0]["name"], name.as_str());
        if last["endpoint"].is_string() {
            assert_eq!(branches[0]["endpoint"], last["endpoint"], "round {round}");
        }
        assert_eq!(stock(&url(&story, "born")?)?, (100, 0), "round {round}");
        story
            .bough(&["db-branches", "destroy", "born"])?
            .success()?;
        if was_ready {
            ensure!(round > 4, "a creation has more changes than {round}");
            return story.end();
        }
    }
    anyhow::bail!("a creation never came to its end");
}

#[test]
fn killed_at_every_change_of_a_reset() -> Result<()> {
    let story = begin()?;
    let url_before = story.create("renewed", &[])?;
    let name = story.branch("renewed")?["name"]
        .as_str()
        .context("a name")?
        .to_owned();
    for round in 1..CHANGES_MAX {
        move_source(&story)?;
        sql::execute(
            &url_before,
            "UPDATE products SET stock_quantity = 3 WHERE product_id = '1'",
        )?;
        let path = format!("/v1/branches/{name}/reset");
        let (status, view) = engine_api::request(&story.data(), "POST", &path, &Value::Null)?;
        ensure!(status == 202, "{status} {view}");
        let mut watch = Watch::open(&story.data(), &name)?;
        let last = follow(&mut watch, round)?;
        let was_ready = last["phase"] == "ready";
        engine_api::kill_engine(&story.data())?;
        let branches = recover(&story)?;
        assert_eq!(branches.len(), 1, "round {round}: {branches:?}");
        assert_eq!(url(&story, "renewed")?, url_before, "round {round}");
        assert_eq!(
            stock(&url_before)?,
            (100, 0),
            "fresh data under the same address, in round {round}"
        );
        if was_ready {
            ensure!(round > 4, "a reset has more changes than {round}");
            return story.end();
        }
    }
    anyhow::bail!("a reset never came to its end");
}

#[test]
fn killed_at_every_change_of_a_deletion() -> Result<()> {
    let story = begin()?;
    for round in 1..CHANGES_MAX {
        // No other story's branch has this name: its port is sought from the name on, and would be taken at once.
        let url_before = story.create("ended", &[])?;
        let name = story.branch("ended")?["name"]
            .as_str()
            .context("a name")?
            .to_owned();
        let mut watch = Watch::open(&story.data(), &name)?;
        // The first line is how it stands before the deletion.
        let mut last = watch.next()?;
        let destroy = story
            .env
            .start(story.env.command(["db-branches", "destroy", "ended"]))?;
        for _ in 0..round {
            if last.is_some() {
                last = watch.next()?;
            }
        }
        let was_gone = last.is_none();
        engine_api::kill_engine(&story.data())?;
        // It may have been told that the branch is gone, or have lost its engine.
        let _ = destroy.finish(RECOVERY)?;
        // A deletion that began goes on in the next engine.
        story.branches()?;
        eventually("the end of the branch", RECOVERY, || {
            let left = engine_api::branches(&story.data())?;
            Ok(left.is_empty().then_some(()))
        })?;
        let left = recover(&story)?;
        ensure!(left.is_empty(), "round {round}: {left:?}");
        ensure!(
            sql::query(&url_before, "SELECT 1").is_err(),
            "its door is closed, in round {round}"
        );
        if was_gone {
            return story.end();
        }
    }
    anyhow::bail!("a deletion never came to its end");
}

/// A small generator (MMIX's, by Knuth): the same moments in every run.
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> Duration {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let high = u32::try_from(self.0 >> 33).unwrap_or_default();
        Duration::from_millis(u64::from(high % STRIKE_SPREAD_MS))
    }
}

#[test]
fn killed_at_moments_of_no_meaning() -> Result<()> {
    let story = begin()?;
    let mut moments = Moments(3);
    let reset_url = story.create("reset", &[])?;
    let reset = story.branch("reset")?["name"]
        .as_str()
        .context("a name")?
        .to_owned();
    for strike in 0..STRIKES {
        // One of each is under way when it strikes.
        story.create("deleted", &[])?;
        let deleted = story.branch("deleted")?["name"]
            .as_str()
            .context("a name")?
            .to_owned();
        move_source(&story)?;
        let data = story.data();
        let created = engine_api::ensure_branch(&data, "created", &story.source_url())
            .with_context(|| format!("ask for a branch before strike {strike}"))?;
        let path = format!("/v1/branches/{reset}/reset");
        let (status, _) = engine_api::request(&data, "POST", &path, &json!({}))
            .with_context(|| format!("ask for a reset before strike {strike}"))?;
        ensure!(status == 202, "{status}");
        let delete = format!("/v1/branches/{deleted}");
        let after = moments.next();
        let (deleting, killed) = std::thread::scope(|scope| {
            let deleting =
                scope.spawn(|| engine_api::request(&data, "DELETE", &delete, &Value::Null));
            let_pass(after);
            let killed = engine_api::kill_engine(&data);
            (deleting.join().expect("no panic"), killed)
        });
        killed.with_context(|| format!("strike {strike}"))?;
        let branches =
            recover(&story).with_context(|| format!("strike {strike} after {after:?}"))?;
        let has = |name: &str| branches.iter().any(|branch| branch["name"] == name);
        ensure!(
            has(&reset) && has(&created),
            "strike {strike} after {after:?}: {branches:?}"
        );
        if deleting.is_ok_and(|(status, _)| status == 204) {
            ensure!(!has(&deleted), "strike {strike}: it was said to be gone");
        }
        assert_eq!(url(&story, "reset")?, reset_url, "strike {strike}");
        assert_eq!(stock(&reset_url)?, (100, 0), "strike {strike}");
        assert_eq!(
            stock(&url(&story, "created")?)?,
            (100, 0),
            "strike {strike}"
        );
        let ids: Vec<&str> = branches
            .iter()
            .filter_map(|branch| branch["id"].as_str())
            .filter(|id| *id != "reset")
            .collect();
        story
            .bough(&[&["db-branches", "destroy"], &ids[..]].concat())?
            .success()?;
    }
    story.end()
}
