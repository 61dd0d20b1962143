//! What goes wrong, told so that a user can do something about it, and leaving nothing behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{Binaries, Outcome, TempDir, eventually, sql};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::json;

use crate::engine_api::{self, Watch};
use crate::story::{BRANCH, PASSWORD, ROLE, Story, assert_says, stock};
use crate::traces::{entries, working_in};

/// That a command failed as documented: this exit code, an error and a hint, these words, and no password.
fn assert_refused(outcome: Outcome, code: i32, words: &[&str]) -> Result<()> {
    let outcome = outcome.exit_code(code)?;
    assert_says(&outcome.stderr, &["error:", "hint:"])?;
    assert_says(&outcome.stderr, words)?;
    ensure!(
        !outcome.stderr.contains(PASSWORD),
        "the password is shown:\n{}",
        outcome.stderr
    );
    Ok(())
}

/// What a daemon ends or removes is gone within a moment.
const MOMENT: Duration = Duration::from_secs(20);

/// That a failed branch holds nothing: no server, no directory, no socket.
fn assert_nothing_made(story: &Story) -> Result<()> {
    let data = story.data();
    let left = || -> Result<Vec<String>> {
        let mut left: Vec<String> = Vec::new();
        for (pid, name) in working_in(&data.join("volume"))? {
            left.push(format!("{name} ({pid})"));
        }
        for directory in ["volume/clones", "volume/making", "run"] {
            let entries = entries(&data.join(directory))?;
            left.extend(entries.iter().map(|name| format!("{directory}/{name}")));
        }
        Ok(left)
    };
    eventually("that nothing is left", MOMENT, || {
        Ok(left()?.is_empty().then_some(()))
    })
    .with_context(|| format!("{:?}", left()))
}

/// `create` with a URL in the environment, where no process list shows it.
fn create_from(story: &Story, id: &str, url: &str) -> Result<Outcome> {
    let mut command = story.env.command(["db-branches", "create", id]);
    command.env("BOUGH_SOURCE_URL", url);
    story.env.start(command)?.finish(crate::story::LIMIT)
}

fn write_limits(story: &Story, text: &str) -> Result<()> {
    fs::write(story.data().join("engine.toml"), text).context("write engine.toml")
}

#[test]
fn too_little_room_is_told_before_anything_is_copied() -> Result<()> {
    let story = Story::begin()?;
    // 1 EiB: no disk of a test has it free.
    write_limits(&story, "free_floor_bytes = 1152921504606846976\n")?;
    let refused = story.bough(&["db-branches", "create", "full"])?;
    assert_refused(refused, 4, &["full", "free"])?;
    assert_nothing_made(&story)?;
    story.end()
}

/// A filesystem of its own, taken away when dropped.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_disk_that_fills_up_ends_the_copy_and_leaves_nothing() -> Result<()> {
    let mut story = Story::begin()?;
    sql::execute(
        &story.source_url(),
        "CREATE TABLE ballast AS SELECT n, repeat(md5(n::text), 16) AS text FROM generate_series(1, 100000) n",
    )?;
    let directory = story.env.root().join("small");
    fs::create_dir(&directory)?;
    let size = c"size=300m,mode=0755";
    if mount("tmpfs", &directory, "tmpfs", MountFlags::empty(), size).is_err() {
        // Only root may mount: to others a disk is full where it has less than the copy needs above the floor.
        ensure!(!rustix::process::geteuid().is_root(), "root may mount");
        return refuse_nearly_full(story);
    }
    let mounted = Mounted(directory.clone());
    story.env.set("BOUGH_DATA_DIR", &directory);
    fs::write(
        directory.join("engine.toml"),
        "free_floor_bytes = 0\nwarm_per_source_max = 0\n",
    )?;
    story.bough(&["db-branches", "status"])?.success()?;
    let name = engine_api::ensure_branch(&directory, "full", &story.source_url())?;
    let mut watch = Watch::open(&directory, &name)?;
    watch.until(|view| view["progress"]["disk_needed_bytes"].is_number())?;
    fill(&directory.join("filler"))?;
    let failed = loop {
        let view = watch.next()?.context("the branch lives")?;
        if view["phase"] == "failed" {
            break view;
        }
        ensure!(view["phase"] != "ready", "there was room: {view}");
    };
    let told = format!("{} {}", failed["message"], failed["hint"]);
    ensure!(
        failed["hint"].is_string() && !told.contains(PASSWORD),
        "{told}"
    );
    assert_says(&told.to_lowercase(), &["space"])?;
    for name in ["volume/clones", "volume/making", "run"] {
        ensure!(
            entries(&directory.join(name))?.is_empty(),
            "{name} is not empty"
        );
    }
    // With room again the same request makes it.
    fs::remove_file(directory.join("filler"))?;
    let url = story.create("full", &[])?;
    assert_eq!(stock(&url)?, (100, 0));
    story
        .bough(&["db-branches", "destroy", "full"])?
        .success()?;
    story.bough(&["engine", "stop", "--servers"])?.success()?;
    eventually("the end of all processes", MOMENT, || {
        Ok(story.env.processes().is_empty().then_some(()))
    })?;
    drop(mounted);
    Ok(())
}

/// A disk with a little room above the floor, and less than the copy needs.
fn refuse_nearly_full(story: Story) -> Result<()> {
    story.bough(&["db-branches", "status"])?.success()?;
    let engine = story.json(&["engine", "status"])?;
    let free = &engine["engine"]["volume"]["free_bytes"];
    let free = free.as_u64().context("the volume has free space")?;
    story.bough(&["engine", "stop"])?.success()?;
    write_limits(
        &story,
        &format!("free_floor_bytes = {}\n", free - (20 << 20)),
    )?;
    let refused = story.bough(&["db-branches", "create", "full"])?;
    assert_refused(refused, 4, &["full", "free"])?;
    assert_nothing_made(&story)?;
    story.end()
}

/// Writes until no byte fits.
fn fill(path: &Path) -> Result<()> {
    use std::io::Write;
    let mut file = fs::File::create(path)?;
    let mut piece = vec![7_u8; 1 << 20];
    while !piece.is_empty() {
        match file.write(&piece) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                piece.truncate(piece.len() / 2)
            }
            Err(error) => return Err(error).context("fill the disk"),
        }
    }
    Ok(())
}

#[test]
fn a_source_that_dies_ends_the_copy_and_a_living_one_brings_it_back() -> Result<()> {
    let mut story = Story::begin()?;
    sql::execute(
        &story.source_url(),
        "CREATE TABLE ballast AS SELECT n, repeat(md5(n::text), 8) AS text FROM generate_series(1, 400000) n",
    )?;
    story.branches()?;
    let name = engine_api::ensure_branch(&story.data(), "orphan", &story.source_url())?;
    let mut watch = Watch::open(&story.data(), &name)?;
    let begun = watch.until(|view| {
        view["progress"]["copied_bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes > 0)
    })?;
    assert_eq!(begun["phase"], "copying");
    story.source.kill()?;
    let refused = story.bough(&["db-branches", "create", "orphan"])?;
    assert_refused(refused, 4, &["orphan", "127.0.0.1"])?;
    assert_nothing_made(&story)?;
    story.source.restart()?;
    let url = story.create("orphan", &[])?;
    assert_eq!(stock(&url)?, (100, 0));
    assert_eq!(
        sql::query_value(&url, "SELECT count(*) FROM ballast")?,
        "400000"
    );
    story.end()
}

#[test]
fn a_wrong_password_is_told_without_showing_it() -> Result<()> {
    let story = Story::begin()?;
    let url = story.source.url(ROLE, "wr0ng-word", ROLE);
    let refused = create_from(&story, "locked", &url)?;
    ensure!(!refused.stderr.contains("wr0ng-word"), "{}", refused.stderr);
    assert_refused(refused, 4, &["locked", "password", ROLE])?;
    assert_nothing_made(&story)?;
    let nobody = story.source.url(ROLE, PASSWORD, "no_such_database");
    assert_refused(
        create_from(&story, "nowhere", &nobody)?,
        4,
        &["nowhere", "no_such_database"],
    )?;
    assert_nothing_made(&story)?;
    story.end()
}

/// A root of PostgreSQL installations for the engine alone: the server of 16 without the files of `extension`, and the
/// clients of 17, which dump it.
fn poorer_installation(extension: &str) -> Result<TempDir> {
    let directory = TempDir::new()?;
    let bin = Binaries::find(16)?.bin().canonicalize()?;
    let from = bin.parent().context("bin is in a directory")?;
    let to = directory.path().join("16");
    let copied = Command::new("cp")
        .args(["-r", "--reflink=auto"])
        .arg(from)
        .arg(&to)
        .status()?;
    ensure!(copied.success(), "cp {}", from.display());
    let client = fixtures::tool(16, "pg_dump")?;
    let newer = client.ancestors().nth(2).context("MAJOR/bin/pg_dump")?;
    let major = newer.file_name().context("a major version")?;
    std::os::unix::fs::symlink(newer, directory.path().join(major))?;
    let mut removed = 0;
    for file in crate::traces::all_files(&to)? {
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.starts_with(&format!("{extension}-")) || name.starts_with(&format!("{extension}."))
        {
            fs::remove_file(&file)?;
            removed += 1;
        }
    }
    ensure!(removed > 1, "{extension} was there");
    Ok(directory)
}

#[test]
fn an_extension_that_our_servers_lack_is_named() -> Result<()> {
    let mut story = Story::begin()?;
    story.source.execute(ROLE, "CREATE EXTENSION hstore")?;
    let poorer = poorer_installation("hstore")?;
    story.env.set("BOUGH_POSTGRES_PATH", poorer.path());
    let refused = story.bough(&["db-branches", "create", "poor"])?;
    assert_refused(refused, 4, &["poor", "hstore"])?;
    assert_nothing_made(&story)?;
    story.end()
}

#[test]
fn a_version_without_binaries_says_where_was_looked() -> Result<()> {
    let mut story = Story::begin()?;
    let poorer = poorer_installation("hstore")?;
    story.env.set("BOUGH_POSTGRES_PATH", poorer.path());
    let refused = story.bough(&["db-branches", "create", "newer", "--version", "18"])?;
    let place = poorer.path().display().to_string();
    assert_refused(refused, 4, &["newer", "18", &place])?;
    assert_nothing_made(&story)?;
    story.end()
}

/// A session that must not start: exit code and words.
fn assert_not_run(story: &Story, file: &Path, code: i32, words: &[&str]) -> Result<()> {
    let refused = story.run_session(file, &["touch", "ran"])?;
    assert_refused(refused, code, words)?;
    ensure!(!story.env.home().join("ran").exists(), "nothing may run");
    Ok(())
}

#[test]
fn a_target_without_the_variable_is_refused() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let file = story.branch_file(|file| {
        file["db_branches"][0]["connection"]["url"]["variable"] = json!("SHOP_DATABASE")
    })?;
    assert_not_run(&story, &file, 4, &[BRANCH, "SHOP_DATABASE"])?;
    ensure!(story.branches()?.is_empty(), "nothing was made");
    story.end()
}

#[test]
fn rules_that_would_drop_the_variable_are_refused() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let rules = [
        json!({"exclude": "DATABASE_URL"}),
        json!({"include": "OTHER_*"}),
        json!({"unset": ["DATABASE_URL"]}),
        json!(false),
    ];
    for rule in rules {
        let file = story.branch_file(|file| file["feature"]["env"] = rule.clone())?;
        let refused = story.run_session(&file, &["sh", "-c", "touch ran; echo $DATABASE_URL"])?;
        ensure!(
            !refused.status.success(),
            "with {rule} it ran: {}",
            refused.stdout
        );
        assert_refused(refused, 2, &["DATABASE_URL"]).with_context(|| format!("with {rule}"))?;
        ensure!(
            !story.env.home().join("ran").exists(),
            "nothing may run, with {rule}"
        );
    }
    story.end()
}

#[test]
fn a_target_that_does_not_run_is_told_with_those_that_do() -> Result<()> {
    let story = Story::begin()?;
    let file = story.branch_file(|_| {})?;
    assert_not_run(&story, &file, 3, &["deployment/inventory", "metalmart"])?;
    story.deploy_idle()?;
    let other =
        story.branch_file(|file| file["target"]["path"]["deployment"] = json!("inventory-9"))?;
    assert_not_run(&story, &other, 3, &["inventory-9", "deployment/inventory"])?;
    story.end()
}
