//! The rows: what each one times, and against what.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use fixtures::tool;

use super::stage::{DATABASE, PROGRAM_TIME_MAX, Stage};
use super::stopwatch::{median, time_ms};
use super::{MAJOR_OF_CLIENTS, Row};

/// How a row is measured, given the number of counted pairs.
type Measure = fn(&Stage, u32) -> Result<Row>;

/// Every row by its name. The first one also makes the base that the others stand on.
pub(super) const ROWS: [(&str, Measure); 3] = [
    ("first_copy", first_copy),
    ("ready_cold_unmoved", ready_cold_unmoved),
    ("exec_overhead", exec_overhead),
];

/// Pairs of a row that copies everything: each takes as long as the data is large.
const COPY_RUNS_MAX: u32 = 3;

/// Runs that are not counted, first.
const WARM_UP_RUNS: u32 = 1;

/// Runs pairs of ours and theirs in turn and gives both medians in milliseconds. Each gets the number of its run.
fn pairs(
    runs: u32,
    mut ours: impl FnMut(u32) -> Result<f64>,
    mut theirs: impl FnMut(u32) -> Result<f64>,
) -> Result<(f64, f64)> {
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    for run in 0..WARM_UP_RUNS + runs {
        let (our_time, their_time) = (ours(run)?, theirs(run)?);
        if run >= WARM_UP_RUNS {
            our_times.push(our_time);
            their_times.push(their_time);
        }
    }
    Ok((median(&our_times), median(&their_times)))
}

/// From nothing to a branch that is used, against a parallel dump and restore into an ordinary server.
fn first_copy(stage: &Stage, runs: u32) -> Result<Row> {
    let ours = |run: u32| {
        // Another filter is another base: each run copies anew.
        let id = format!("first-{run}");
        let time = time_ms(|| stage.use_last_row(&copy_anew(stage, &id)?))?;
        stage.destroy(&id)?;
        Ok(time)
    };
    let theirs = |run: u32| {
        let database = format!("restored_{run}");
        let time = time_ms(|| {
            dump_and_restore(stage, &database)?;
            stage.use_last_row(&stage.ordinary_url(&database))
        })?;
        drop_database(stage, &database)?;
        Ok(time)
    };
    let (value, baseline) = pairs(runs.min(COPY_RUNS_MAX), ours, theirs)?;
    let ratio = value / baseline;
    Ok(Row {
        name: "first_copy",
        value,
        unit: "ms",
        goal: Some("1.3 times as fast at 1 GB and more"),
        met: Some(ratio <= 1.0 / 1.3),
        baseline: Some(baseline),
        against: "pg_dump -j2 | pg_restore -j2",
        ratio: Some(ratio),
    })
}

fn copy_anew(stage: &Stage, id: &str) -> Result<String> {
    // The source moves, so that no base of an earlier run will do.
    stage
        .source
        .execute(DATABASE, "SELECT pg_current_xact_id()")?;
    stage.create(id)
}

fn dump_and_restore(stage: &Stage, database: &str) -> Result<()> {
    stage.ordinary.execute(
        "postgres",
        &format!("CREATE DATABASE {database} OWNER bench"),
    )?;
    let directory = stage.files.path().join(database);
    let dump = tool(MAJOR_OF_CLIENTS, "pg_dump")?;
    let directory_text = directory.display().to_string();
    succeed(Command::new(dump).args(["-Fd", "-j2", "-f", &directory_text, "-d", &stage.url()]))?;
    let restore = tool(MAJOR_OF_CLIENTS, "pg_restore")?;
    let url = stage.ordinary_url(database);
    // A 17 client names a setting that a 16 server does not know; everything else is restored.
    let restored = Command::new(restore)
        .args(["-j2", "--no-owner", "-d", &url, &directory_text])
        .output();
    let errors = String::from_utf8_lossy(&restored.context("run pg_restore")?.stderr).into_owned();
    let unexpected = errors
        .lines()
        .find(|line| line.contains("error:") && !line.contains("transaction_timeout"));
    ensure!(unexpected.is_none(), "pg_restore: {errors}");
    std::fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))
}

fn drop_database(stage: &Stage, database: &str) -> Result<()> {
    stage
        .ordinary
        .execute("postgres", &format!("DROP DATABASE {database}"))
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().context("run a client")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// A new branch of an unmoved source, by the command, until it is used; against a database made from a template.
fn ready_cold_unmoved(stage: &Stage, runs: u32) -> Result<Row> {
    dump_and_restore(stage, "template_of_bench")?;
    let ours = |run: u32| {
        let id = format!("cold-{run}");
        let time = time_ms(|| stage.use_last_row(&stage.create(&id)?))?;
        stage.destroy(&id)?;
        Ok(time)
    };
    let theirs = |run: u32| {
        let database = format!("from_template_{run}");
        let time = time_ms(|| {
            let create =
                format!("CREATE DATABASE {database} TEMPLATE template_of_bench OWNER bench");
            stage.ordinary.execute("postgres", &create)?;
            stage.use_last_row(&stage.ordinary_url(&database))
        })?;
        drop_database(stage, &database)?;
        Ok(time)
    };
    let (value, baseline) = pairs(runs, ours, theirs)?;
    drop_database(stage, "template_of_bench")?;
    Ok(Row {
        name: "ready_cold_unmoved",
        value,
        unit: "ms",
        goal: None,
        met: None,
        baseline: Some(baseline),
        against: "CREATE DATABASE ... TEMPLATE",
        ratio: Some(value / baseline),
    })
}

/// `bough exec -- /bin/true` with a living branch, against `/bin/true`.
fn exec_overhead(stage: &Stage, runs: u32) -> Result<Row> {
    let config = stage.file(
        "bench.json",
        r#"{"target":"targetless","operator":true,"feature":{"network":false,"fs":"local","db_branches":[
            {"id":"exec","type":"pg","ttl_secs":900,"connection":{"url":"DATABASE_URL"},"copy":{"mode":"all"}}]}}"#,
    )?;
    let config = config.display().to_string();
    let ours = |_| {
        let mut command = stage
            .bough
            .command(["exec", "-q", "-f", &config, "--", "/bin/true"]);
        command.env("DATABASE_URL", stage.url());
        time_ms(|| {
            stage
                .bough
                .start(command)?
                .finish(PROGRAM_TIME_MAX)?
                .success()
                .map(drop)
        })
    };
    let theirs = |_| time_ms(|| succeed(&mut Command::new("/bin/true")));
    let (value, baseline) = pairs(runs, ours, theirs)?;
    stage.destroy("exec")?;
    let overhead = value - baseline;
    Ok(Row {
        name: "exec_overhead",
        value: overhead,
        unit: "ms",
        goal: Some("<= 25 ms over the bare command"),
        met: Some(overhead <= 25.0),
        baseline: Some(baseline),
        against: "the bare command",
        ratio: Some(value / baseline),
    })
}
