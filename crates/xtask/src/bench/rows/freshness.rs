//! How long the engine asks an unmoved source whether it has moved: seen from outside, by a relay between the two.

use anyhow::Result;

use super::{WARM_UP_RUNS, timed};
use crate::bench::engine::by_url;
use crate::bench::relay::Tap;
use crate::bench::row::Row;
use crate::bench::stage::Scene;
use crate::bench::stopwatch::{median, p95};

/// From the first byte that the engine sends until the last that the source answers, for one branch.
pub(super) fn check(scene: &mut Scene<'_>, name: &str, runs: u32) -> Result<Row> {
    let tap = Tap::open(scene.source.server.port())?;
    // Another address is another base: it is copied through the tap first.
    let source = by_url(&scene.source.url_through(tap.port()));
    let mut times = Vec::new();
    for run in 0..=WARM_UP_RUNS + runs {
        let id = scene.engine.new_id();
        tap.reset();
        let branch = scene.engine.api.ensure(&id, &source, None)?;
        let branch = scene.engine.api.wait_until_ready(branch)?;
        if run > WARM_UP_RUNS {
            times.extend(tap.busy_ms());
        }
        scene.engine.api.delete(&branch)?;
    }
    let row = timed(name, &times, "", &[]);
    let row = Row {
        against: None,
        baseline: None,
        ratio: None,
        ..row.value(p95(&times))
    };
    let row = row.goal("p95 <= 3 ms", p95(&times) <= 3.0);
    Ok(row.note(format!(
        "derived: from the engine's first byte to the source until the source's last, seen by a relay between them, on the engine's kept connection; median {:.2} ms",
        median(&times)
    )))
}
