//! The engine under random schedules: whatever clients do at the same time and whatever goes wrong meanwhile, every
//! answer that was given stays true, the source stays untouched, and nothing is left that nobody explains.
//!
//! ```text
//! schedule (pure, from a seed) --> actions, faults (in a world) --> outcomes --> model (pure) --> violations
//!                                                                           `--> checks (source, traces)
//! ```
//!
//! `cargo xtask reliability` runs as many as wanted, from any seed on, in parts. `hostile` is what schedules have not:
//! requests and files of somebody who means no good; `jumps` are schedules that were made by hand.

mod actions;
mod checks;
mod clock;
mod engine;
mod faults;
mod hostile;
mod jumps;
mod model;
mod run;
mod schedule;
mod world;

use anyhow::{Context, Result};

use run::{Report, run_schedules, run_seeds};
use schedule::Schedule;

/// Schedules where nobody asks for more: two minutes of a busy machine. `cargo xtask reliability` runs more.
const SCHEDULES: u64 = 24;

/// The first seed where nobody names one.
const FIRST_SEED: u64 = 1000;

/// A number that the caller sets.
fn number(variable: &str) -> Result<Option<u64>> {
    let Some(text) = std::env::var_os(variable) else {
        return Ok(None);
    };
    let text = text.to_string_lossy();
    let number = text.parse();
    number
        .map(Some)
        .with_context(|| format!("{variable}={text} is no number"))
}

#[test]
fn every_answer_stays_true_whatever_goes_wrong() -> Result<()> {
    clock::now();
    let report = match std::env::var_os("BOUGH_RELIABILITY_SCHEDULE") {
        Some(path) => {
            let text = std::fs::read_to_string(&path).context("read a schedule")?;
            let report = Report::default();
            run_schedules(&report, std::iter::once(Schedule::parse(&text)?));
            report
        }
        None => {
            let first = number("BOUGH_RELIABILITY_SEED")?.unwrap_or(FIRST_SEED);
            let count = number("BOUGH_RELIABILITY_SCHEDULES")?.unwrap_or(SCHEDULES);
            run_seeds(first..first + count)
        }
    };
    run::tell(&report.line());
    report.verdict()
}
