//! `cargo xtask bench`: speeds as numbers, each beside a baseline that ran in the same minutes on the same machine.
//!
//! Owns the stage (`bench/stage.rs`), the rows (`bench/rows.rs`) and how they are shown. A row times whole programs, as
//! a user waits for them; ours and the baseline take turns, and the medians are compared. Nothing is judged but by the
//! goal that stands beside it.

mod rows;
mod stage;
mod stopwatch;

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::places::Places;
use crate::{console, postgres};
use rows::ROWS;
use stage::Stage;

/// The major version that is measured.
const MAJOR: u16 = 16;
/// Whose clients serve it.
const MAJOR_OF_CLIENTS: u16 = 17;

/// What the bench is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// Only the rows whose name contains this
    #[arg(long, value_name = "NAME")]
    only: Option<String>,

    /// Write machine and rows to this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Size of the source in MB
    #[arg(long, value_name = "MB", default_value_t = 100)]
    size: u32,

    /// Counted runs of each pair
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
}

/// One measured number.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    name: &'static str,
    /// The median of ours.
    value: f64,
    /// Of value and baseline.
    unit: &'static str,
    /// What design and issues ask for, in words; none where nothing is asked.
    goal: Option<&'static str>,
    /// Whether it is reached.
    met: Option<bool>,
    /// The median of the other way.
    baseline: Option<f64>,
    /// What the other way is.
    against: &'static str,
    /// Value over baseline.
    ratio: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Machine {
    processors: usize,
    kernel: String,
    filesystem: String,
    source_mb: u32,
    runs: u32,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    rows: Vec<Row>,
}

/// Measures and shows.
///
/// # Errors
/// When something cannot be got, built, started or measured, or no row has such a name.
pub(crate) fn run(places: &Places, args: &BenchArgs) -> Result<()> {
    let wanted = |name: &str| args.only.as_deref().is_none_or(|only| name.contains(only));
    let chosen: Vec<_> = ROWS.iter().filter(|(name, _)| wanted(name)).collect();
    let names: Vec<_> = ROWS.iter().map(|(name, _)| *name).collect();
    ensure!(
        !chosen.is_empty(),
        "no row has that name; there are {}",
        names.join(", ")
    );
    let root = postgres::ensure(places, &[MAJOR, MAJOR_OF_CLIENTS])?;
    let path = postgres::search_path(root, std::env::var_os(postgres::PATH_VARIABLE))?;
    console::note("building bough as it is released");
    let stage = Stage::set(path, args.size)?;
    let mut rows = Vec::new();
    for (name, measure) in chosen {
        console::note(&format!("measuring {name}"));
        let row = measure(&stage, args.runs).with_context(|| format!("measure {name}"))?;
        console::result(&line(&row))?;
        rows.push(row);
    }
    let report = Report {
        machine: machine(&stage, args)?,
        rows,
    };
    if let Some(path) = &args.json {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        serde_json::to_writer_pretty(file, &report)
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn machine(stage: &Stage, args: &BenchArgs) -> Result<Machine> {
    let kernel =
        fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
    Ok(Machine {
        processors: std::thread::available_parallelism()?.get(),
        kernel: kernel.trim().to_owned(),
        filesystem: stage.volume()?,
        source_mb: args.size,
        runs: args.runs,
    })
}

fn line(row: &Row) -> String {
    let against = match (row.baseline, row.ratio) {
        (Some(baseline), Some(ratio)) => format!(
            " against {baseline:.1} {} of {} (x {ratio:.2})",
            row.unit, row.against
        ),
        (_, _) => String::new(),
    };
    let verdict = match (row.goal, row.met) {
        (Some(goal), Some(true)) => format!("; goal {goal}: met"),
        (Some(goal), _) => format!("; goal {goal}: not met"),
        (None, _) => String::new(),
    };
    format!(
        "{}: {:.1} {}{against}{verdict}",
        row.name, row.value, row.unit
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_one_line_with_its_verdict() {
        let row = Row {
            name: "a",
            value: 12.345,
            unit: "ms",
            goal: Some("<= 20 ms"),
            met: Some(true),
            baseline: Some(24.0),
            against: "the other way",
            ratio: Some(0.514),
        };
        assert_eq!(
            line(&row),
            "a: 12.3 ms against 24.0 ms of the other way (x 0.51); goal <= 20 ms: met"
        );
        let bare = Row {
            goal: None,
            met: None,
            baseline: None,
            ratio: None,
            ..row
        };
        assert_eq!(line(&bare), "a: 12.3 ms");
    }
}
