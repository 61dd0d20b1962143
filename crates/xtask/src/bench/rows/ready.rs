//! Ready: from the request to the engine until a new connection by the branch's URL has read and updated the last row
//! of the largest table. The same steps on an ordinary running server take turns with it, and a goal is about what a
//! branch takes beyond them.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fixtures::{Program, Signal};

use super::first_copy::by_name;
use super::{BUSY_TRANSACTIONS_PER_SECOND, pairs, timed};
use crate::bench::engine::{Keeping, Sample, by_url, steps};
use crate::bench::place::Place;
use crate::bench::row::Row;
use crate::bench::source::DATABASE;
use crate::bench::stage::Scene;
use crate::bench::stopwatch::{median, p95, time_ms};
use crate::command::capture;

/// What a ready row is beside.
const ORDINARY: &str = "the same steps on an ordinary running server";

/// What a branch by plain copy may take of the copying's time: a start of its server and the machine's noise beside it.
const DISK_SPEED_RATIO_MAX: f64 = 1.25;

/// How long a busy source's writer may run: longer than its row.
const WRITER_SECONDS: u32 = 3 * 3600;

/// Each takes as long as a branch takes to fall asleep.
const WAKE_RUNS_MAX: u32 = 9;

/// How often a warm clone may be gone before it is taken.
const MISSES_MAX: u32 = 5;

/// What waits for a request of a source that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum Waiting {
    /// A follower.
    Follower,
    /// Nobody: one is made on the spot.
    Nobody,
}

impl Waiting {
    /// What the engine keeps for it.
    pub(in crate::bench) fn keeping(self) -> Keeping {
        match self {
            Self::Follower => Keeping::Followers,
            Self::Nobody => Keeping::Branches,
        }
    }

    fn bound(self) -> Bound {
        match self {
            Self::Follower => Bound {
                text: "p50 <= 100 ms, p95 <= 300 ms",
                p50_max: 100.0,
                p95_max: 300.0,
            },
            Self::Nobody => Bound {
                text: "p50 <= 700 ms",
                p50_max: 700.0,
                p95_max: f64::INFINITY,
            },
        }
    }
}

/// Goals of one quantile each, in milliseconds over the ordinary server.
struct Bound {
    text: &'static str,
    p50_max: f64,
    p95_max: f64,
}

/// A new branch of an unmoved source without a pool.
pub(super) fn cold(scene: &mut Scene<'_>, name: &str, runs: u32) -> Result<Row> {
    let place = scene.engine.place;
    let cp = Cp::beside(place);
    let once = |scene: &mut Scene<'_>| {
        // The first one has the snapshot made that is copied.
        let sample = once_cold(scene)?;
        if let Some(cp) = &cp {
            cp.take_turn(scene)?;
        }
        Ok(sample)
    };
    let (samples, theirs) = ready_pairs(scene, runs, once)?;
    let stale = samples.iter().find(|sample| freshness(sample) != "unmoved");
    ensure!(stale.is_none(), "the source has moved in mid-measurement");
    let row = about(scene, ready_row(name, &samples, &theirs))?;
    let over = row.value.unwrap_or(f64::NAN);
    if let Some(cp) = cp {
        let copy = median(&cp.times.into_inner());
        return Ok(row
            .goal(cp.goal, over <= cp.ratio_max * copy)
            .against(cp.what, copy));
    }
    let (goal, max) = match place {
        Place::OverlayXfs => ("p50 <= 30 ms", 30.0),
        Place::OverlayXfsRootless => ("p50 <= 65 ms", 65.0),
        Place::SubvolumeBtrfs => ("p50 <= 60 ms", 60.0),
        Place::ReflinkXfs | Place::OverlayCopies | Place::Plain => return Ok(row),
    };
    Ok(row.goal(goal, over <= max))
}

/// `cp` of the snapshot's files, which takes turns with branches that are such copies.
struct Cp {
    argument: &'static str,
    what: &'static str,
    goal: &'static str,
    /// What a branch may take of its time.
    ratio_max: f64,
    /// Milliseconds.
    times: RefCell<Vec<f64>>,
}

impl Cp {
    fn beside(place: Place) -> Option<Self> {
        let (argument, what, goal, ratio_max) = match place {
            Place::ReflinkXfs => (
                "--reflink=always",
                "`cp -a --reflink=always` of the same files",
                "<= 2x the clone itself",
                2.0,
            ),
            Place::Plain => (
                "--reflink=never",
                "`cp -a --reflink=never` of the same files",
                "disk speed",
                DISK_SPEED_RATIO_MAX,
            ),
            Place::OverlayXfs
            | Place::OverlayXfsRootless
            | Place::SubvolumeBtrfs
            | Place::OverlayCopies => return None,
        };
        Some(Self {
            argument,
            what,
            goal,
            ratio_max,
            times: RefCell::default(),
        })
    }

    /// Copies, and leaves the disk at rest for who comes next, as it had been before.
    fn take_turn(&self, scene: &Scene<'_>) -> Result<()> {
        let from = scene.engine.snapshot()?;
        let to = scene.engine.data_dir().join("volume/making/bench-copy");
        let rest = || capture(Command::new("sync").arg("--file-system").arg(&from)).map(drop);
        rest()?;
        let mut copy = Command::new("cp");
        copy.args(["-a", self.argument]).arg(&from).arg(&to);
        let time = time_ms(|| capture(&mut copy).map(drop))?;
        self.times.borrow_mut().push(time);
        fs::remove_dir_all(&to).with_context(|| format!("remove {}", to.display()))?;
        rest()
    }
}

/// A new branch of an unmoved source, taken from the pool; with a `max_age` the source is not asked.
pub(super) fn warm(
    scene: &mut Scene<'_>,
    name: &str,
    runs: u32,
    max_age: Option<u32>,
) -> Result<Row> {
    // The pool keeps clones of what was asked for.
    let first = once(scene, None)?;
    scene.engine.api.delete(&first.branch)?;
    let taken = |scene: &mut Scene<'_>| once_warm(scene, max_age);
    let (samples, theirs) = ready_pairs(scene, runs, taken)?;
    let row = about(scene, ready_row(name, &samples, &theirs))?;
    let bound = Bound {
        text: "p95 <= 5 ms",
        p50_max: f64::INFINITY,
        p95_max: 5.0,
    };
    Ok(judged(row, &samples, &theirs, &bound))
}

/// A branch whose server sleeps, from a client's first byte on.
pub(super) fn wake(scene: &mut Scene<'_>, name: &str, runs: u32) -> Result<Row> {
    let branch = once(scene, None)?.branch;
    let url = scene.engine.api.url(&branch)?;
    let (client, ordinary, last_row) = (scene.client, scene.ordinary, scene.source.last_row);
    let engine = &scene.engine;
    let ours = |_| {
        engine.wait_until_asleep(&branch)?;
        Ok(client.use_last_row(&url, last_row)?.total())
    };
    let theirs = |_| {
        Ok(client
            .use_last_row(&ordinary.url(), ordinary.last_row)?
            .total())
    };
    let (ours, theirs) = pairs(runs.min(WAKE_RUNS_MAX), ours, theirs)?;
    scene.engine.api.delete(&branch)?;
    let over = median(&ours) - median(&theirs);
    about(scene, timed(name, &ours, ORDINARY, &theirs).value(over))
}

/// A new branch of a followed source that is being written, with or without a follower that waits for the request.
pub(super) fn fresh(scene: &mut Scene<'_>, name: &str, runs: u32, waiting: Waiting) -> Result<Row> {
    let source = by_name(scene.engine, scene.source)?;
    let row_of = scene.source.last_row;
    let first = scene.engine.ready(scene.client, &source, row_of, None)?;
    scene.engine.api.delete(&first.branch)?;
    let writer = Writer::start(scene)?;
    let asked = scene.engine.ready(scene.client, &source, row_of, None)?;
    scene.engine.api.delete(&asked.branch)?;
    let once = |scene: &mut Scene<'_>| {
        if waiting == Waiting::Follower {
            scene.engine.wait_until_followed()?;
        }
        scene.engine.ready(scene.client, &source, row_of, None)
    };
    let (samples, theirs) = ready_pairs(scene, runs, once)?;
    writer.stop()?;
    let other = samples
        .iter()
        .find(|sample| freshness(sample) != "replayed");
    ensure!(other.is_none(), "a branch is not of its moment: {other:?}");
    let lags = samples.iter().filter_map(|sample| {
        let base = sample.branch.base.as_ref();
        base.and_then(|base| base.lag_milliseconds)
    });
    let lags: Vec<f64> = lags.collect();
    let row = about(scene, ready_row(name, &samples, &theirs))?;
    let row = judged(row, &samples, &theirs, &waiting.bound());
    Ok(row.note(format!(
        "the source is written at {BUSY_TRANSACTIONS_PER_SECOND} tps; from the question to the source until everything \
         was there: median {} ms, p95 {} ms",
        median(&lags),
        p95(&lags)
    )))
}

fn ready_pairs(
    scene: &mut Scene<'_>,
    runs: u32,
    once: impl Fn(&mut Scene<'_>) -> Result<Sample>,
) -> Result<(Vec<Sample>, Vec<f64>)> {
    let (client, ordinary) = (scene.client, scene.ordinary);
    let ours = |_| {
        let sample = once(scene)?;
        scene.engine.api.delete(&sample.branch)?;
        Ok(sample)
    };
    let theirs = |_| {
        Ok(client
            .use_last_row(&ordinary.url(), ordinary.last_row)?
            .total())
    };
    pairs(runs, ours, theirs)
}

fn once(scene: &mut Scene<'_>, max_age: Option<u32>) -> Result<Sample> {
    let (url, row) = (by_url(&scene.source.url()), scene.source.last_row);
    scene.engine.ready(scene.client, &url, row, max_age)
}

fn once_cold(scene: &mut Scene<'_>) -> Result<Sample> {
    once(scene, None)
}

fn once_warm(scene: &mut Scene<'_>, max_age: Option<u32>) -> Result<Sample> {
    for _ in 0..MISSES_MAX {
        let warm = scene.engine.wait_until_warm()?;
        let sample = once(scene, max_age)?;
        let identity = sample.branch.identity.as_ref();
        if identity.is_some_and(|identity| warm.contains(identity)) {
            return Ok(sample);
        }
        scene.engine.api.delete(&sample.branch)?;
    }
    anyhow::bail!("{MISSES_MAX} requests in turn got no warm clone though there was one")
}

fn freshness(sample: &Sample) -> &str {
    sample
        .branch
        .base
        .as_ref()
        .map_or("", |base| &base.freshness)
}

/// The row's value is the median of ours less the ordinary server's.
fn ready_row(name: &str, samples: &[Sample], theirs: &[f64]) -> Row {
    let ours: Vec<f64> = samples.iter().map(|sample| sample.total).collect();
    let row = timed(name, &ours, ORDINARY, theirs);
    let steps = steps(samples);
    Row {
        steps,
        ..row.value(median(&ours) - median(theirs))
    }
}

/// The row beside its goal. Where the goal is about the 95th percentile alone, that is the row's value.
fn judged(row: Row, samples: &[Sample], theirs: &[f64], bound: &Bound) -> Row {
    let ours: Vec<f64> = samples.iter().map(|sample| sample.total).collect();
    let ordinary = median(theirs);
    let (half, most) = (median(&ours) - ordinary, p95(&ours) - ordinary);
    let value = if bound.p50_max.is_finite() {
        half
    } else {
        most
    };
    row.value(value)
        .goal(bound.text, half <= bound.p50_max && most <= bound.p95_max)
}

/// The row with what it is about.
fn about(scene: &Scene<'_>, row: Row) -> Result<Row> {
    let files = count_files(&scene.engine.snapshot()?)?;
    Ok(Row {
        size_mb: Some(scene.source.data.megabytes()),
        files: Some(files),
        note: Some(scene.engine.place.description().to_owned()),
        ..row
    })
}

fn count_files(directory: &Path) -> Result<u64> {
    let mut count = 0;
    for entry in fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() {
            count_files(&entry.path())?
        } else {
            1
        };
    }
    Ok(count)
}

/// Somebody who writes the source.
struct Writer(Program);

impl Writer {
    fn start(scene: &Scene<'_>) -> Result<Self> {
        let mut pgbench = scene.source.client("pgbench", DATABASE)?;
        let rate = BUSY_TRANSACTIONS_PER_SECOND.to_string();
        let seconds = WRITER_SECONDS.to_string();
        pgbench.args([
            "--no-vacuum",
            "--client=4",
            "--rate",
            &rate,
            "--time",
            &seconds,
            "--progress=1",
        ]);
        let mut program = Program::start(pgbench, scene.engine.home(), "writer")?;
        let patience = std::time::Duration::from_secs(60);
        program.wait_for(patience, |_, stderr| stderr.contains("progress: 2"))?;
        Ok(Self(program))
    }

    /// # Errors
    /// When it had ended: then nobody wrote.
    fn stop(mut self) -> Result<()> {
        self.0
            .signal(Signal::INT)
            .context("the source's writer ended early")
    }
}
