//! A killed engine's successor: how long until every branch answers again.

use anyhow::Result;

use super::{COPY_RUNS_MAX, timed};
use crate::bench::engine::by_url;
use crate::bench::row::Row;
use crate::bench::stage::{Scene, Unmeasurable};
use crate::bench::stopwatch::{Stopwatch, median};

/// What the goal is about.
const BRANCHES_WANTED: u32 = 200;

/// From SIGKILL until a new connection to each of so many branches has read and updated a row.
pub(super) fn all_answer(
    scene: &mut Scene<'_>,
    name: &str,
    branches: u32,
    runs: u32,
) -> Result<Row> {
    let place = scene.engine.place;
    if !place.shares_blocks() {
        return Err(Unmeasurable::because(format!(
            "each of {branches} branches is a copy of everything here ({})",
            place.description()
        )));
    }
    let source = by_url(&scene.source.url());
    let (mut made, mut urls) = (Vec::new(), Vec::new());
    for _ in 0..branches {
        let id = scene.engine.new_id();
        let branch = scene.engine.api.ensure(&id, &source, None)?;
        let branch = scene.engine.api.wait_until_ready(branch)?;
        urls.push(scene.engine.api.url(&branch)?);
        made.push(branch);
    }
    let row = scene.source.last_row;
    // Every server has been asked before: what is measured is the engine.
    scene.client.use_all(&urls, row)?;
    let mut answering = Vec::new();
    let mut failed = 0;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..runs.min(COPY_RUNS_MAX) {
        let mut watch = Stopwatch::start();
        scene.client.use_all(&urls, row)?;
        theirs.push(watch.lap());
        let mut watch = Stopwatch::start();
        scene.engine.kill()?;
        scene.engine.run()?;
        answering.push(watch.lap());
        failed += scene.client.use_all(&urls, row)?;
        ours.push(watch.total());
    }
    // The next row's branches are not among others.
    for branch in &made {
        scene.engine.api.delete(branch)?;
    }
    let row = timed(name, &ours, "all asked at once without a kill", &theirs);
    let goal = "<= 2 s with 200 branches";
    let row = if branches < BRANCHES_WANTED {
        row.goal_elsewhere(goal)
    } else {
        row.goal(goal, median(&ours) <= 2_000.0)
    };
    Ok(row.note(format!(
        "{branches} branches, all asked at once; the API answers after {:.0} ms; {failed} attempts failed; {}",
        median(&answering),
        place.description()
    )))
}
