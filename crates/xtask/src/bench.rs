//! `cargo xtask bench`: speeds as numbers, each beside a baseline that ran in the same minutes on the same machine.
//!
//! ```text
//!   plan of subjects (rows.rs) -> stage: source, ordinary server, engine in a place -> rows
//!                                 (stage, source, engine, place)      |
//!                 lines on the terminal, JSON (report), Markdown (page) with an SVG (plot)
//! ```
//!
//! Owns the order and what becomes of a row that cannot be measured: it is printed and listed with its reason. Nothing
//! is judged but by the goal that stands beside it. The program that measures is built as it is released, since a
//! client's own arithmetic (SCRAM) would else be most of a login.

mod api;
mod client;
mod engine;
mod log;
mod page;
mod place;
mod plot;
pub(crate) mod probe;
mod relay;
mod report;
mod row;
mod rows;
mod source;
mod stage;
pub(crate) mod stopwatch;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::places::Places;
use crate::test::{self, Profile};
use crate::{console, postgres};
use report::Report;
use row::Row;
use rows::{Subject, plan};
use stage::{Stage, Unmeasurable};

/// The major version that is measured.
const MAJOR: u16 = 16;
/// Whose clients serve it.
const MAJOR_OF_CLIENTS: u16 = 17;
/// Whose server clones templates.
const MAJOR_OF_CLONES: u16 = 18;

/// What the bench is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// Only the rows whose name contains this; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// Write machine and rows to this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write a page about them to this file, and its plot to a directory of the same name beside it
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Show where the time goes in the rows whose name contains this
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,

    /// Sizes of sources in MB
    #[arg(long, value_name = "MB", value_delimiter = ',', default_value = "100,1000", value_parser = clap::value_parser!(u32).range(15..=100_000))]
    size: Vec<u32>,

    /// Sources with this many small tables, for many files
    #[arg(long, value_name = "COUNT", value_delimiter = ',', default_value = "500,1200", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    tables: Vec<u32>,

    /// Counted runs of each pair
    #[arg(long, value_name = "N", default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    runs: u32,

    /// Idle branches at once
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    branches: u32,

    /// Measure this program instead of building one
    #[arg(long, value_name = "FILE")]
    bough: Option<PathBuf>,

    /// Only tell the names of the rows
    #[arg(long)]
    list: bool,
}

/// Measures and shows.
///
/// # Errors
/// When something cannot be got, built or started, no row has such a name, or a row failed: the others are measured
/// and written before that.
pub(crate) fn run(places: &Places, args: &BenchArgs) -> Result<()> {
    let chosen = choose(args)?;
    if args.list {
        for name in chosen.iter().flat_map(|subject| subject.names()) {
            console::result(&name)?;
        }
        return Ok(());
    }
    if cfg!(debug_assertions) {
        return run_released();
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .context("listen to signals")?;
    }
    let majors = [MAJOR, MAJOR_OF_CLIENTS, MAJOR_OF_CLONES];
    let root = postgres::ensure(places, &majors)?;
    let path = postgres::search_path(root, std::env::var_os(postgres::PATH_VARIABLE))?;
    let program = match &args.bough {
        Some(program) => program.clone(),
        None => {
            console::note("building bough as it is released");
            test::build("bough", "bough", Profile::Release)?
        }
    };
    let mut stage = Stage::set(&program, path, interrupted)?;
    let failed = measure(&mut stage, args, &chosen)?;
    ensure!(failed == 0, "{failed} measurements failed");
    Ok(())
}

/// This program as it is released, with the same arguments, in place of this one.
fn run_released() -> Result<()> {
    console::note("building the program that measures as a released one");
    let program = test::build("xtask", "xtask", Profile::Release)?;
    let error = Command::new(&program)
        .args(std::env::args_os().skip(1))
        .exec();
    Err(error).with_context(|| format!("run {}", program.display()))
}

fn choose(args: &BenchArgs) -> Result<Vec<Subject>> {
    let named = |name: &String| args.only.iter().any(|only| name.contains(only));
    let wanted = |name: &String| args.only.is_empty() || named(name);
    let plan = plan(args);
    let chosen: Vec<Subject> = plan
        .iter()
        .copied()
        .filter(|subject| subject.names().iter().any(wanted))
        .collect();
    let names: Vec<String> = plan.iter().flat_map(|subject| subject.names()).collect();
    ensure!(
        !chosen.is_empty(),
        "no row has that name; there are {}",
        names.join(", ")
    );
    Ok(chosen)
}

/// Shows and writes every row, measured or with the reason why not; gives how many failed.
fn measure(stage: &mut Stage, args: &BenchArgs, chosen: &[Subject]) -> Result<u32> {
    let (mut rows, mut failed) = (Vec::new(), 0);
    for subject in chosen {
        stage.check_interrupt()?;
        let names = subject.names();
        console::note(&format!("measuring {}", names.join(", ")));
        let measured = subject.measure(stage, args).unwrap_or_else(|error| {
            let why = match error.downcast_ref::<Unmeasurable>() {
                Some(unmeasurable) => unmeasurable.to_string(),
                None => {
                    failed += 1;
                    for line in stage.complaints() {
                        console::note(&format!("the engine: {line}"));
                    }
                    // What it left running would be in the next row's way.
                    stage.clear_engine();
                    format!("it failed: {error:#}")
                }
            };
            names
                .iter()
                .map(|name| Row::not_measured(name, why.clone()))
                .collect()
        });
        for row in measured {
            console::result(&row.line())?;
            show_steps(args, &row)?;
            rows.push(row);
        }
        // Each time, so that what was measured outlives an interrupted run.
        let report = Report::of(args, &rows)?;
        report.write(args.json.as_deref(), args.markdown.as_deref())?;
    }
    for row in report::growth(&rows) {
        console::result(&row.line())?;
    }
    Ok(failed)
}

fn show_steps(args: &BenchArgs, row: &Row) -> Result<()> {
    let wanted = args
        .profile
        .as_ref()
        .is_some_and(|name| row.name.contains(name.as_str()));
    if wanted {
        for step in &row.steps {
            console::result(&format!("    {:>9.2} ms  {}", step.ms, step.name))?;
        }
    }
    Ok(())
}
