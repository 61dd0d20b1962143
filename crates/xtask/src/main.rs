//! `cargo xtask check|demo|test|reliability|bench|cluster|image`: everything a developer runs here, in one place and one language.
//!
//! - `check` (`check.rs`): format, spelling, licences, lints, repository rules, unit tests; needs no server, so that
//!   those in a module `on_a_server` are left to `test`.
//! - `demo` (`demo.rs`): the walk-through of the README, from nothing.
//! - `test` (`test.rs`): gets the real PostgreSQL servers that tests need, then lints and every test.
//! - `reliability` (`reliability.rs`): random schedules of what clients do and what goes wrong.
//! - `bench` (`bench.rs`): speeds as numbers beside baselines of the same run.
//! - `cluster` (`cluster.rs`): a real Kubernetes of one node.
//! - `image` (`image.rs`): container images, without a container engine.
//!
//! What a step needs is fetched by ordinary package clients at pinned versions (`postgres.rs`, `tools.rs`,
//! `python.rs`, `drivers.rs`) into the places of `places.rs`; what only the system's package manager has is named (`debian.rs`).
//! Nothing runs unless a verb asks for it, and no program started here outlives its step
//! but the node of `cluster up`.

mod bench;
mod check;
mod cluster;
mod command;
mod console;
mod debian;
mod demo;
mod drivers;
mod image;
mod lock;
mod places;
mod postgres;
mod python;
mod reliability;
mod tally;
mod test;
mod tools;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use places::Places;

/// Developer commands of Bough.
#[derive(Debug, Parser)]
#[command(
    name = "xtask",
    bin_name = "cargo xtask",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Format, spelling, licences, lints, repository rules and unit tests
    Check,
    /// The walk-through: a session on the shared database, and one on a branch of it
    Demo(demo::DemoArgs),
    /// Everything, with real PostgreSQL servers, which are installed where missing
    Test {
        /// Only the tests whose name contains this, and no lints
        #[arg(long, value_name = "FILTER")]
        only: Option<String>,

        /// The stories on a real Kubernetes instead
        #[arg(long)]
        cluster: bool,

        /// The stories on a real Kubernetes as well, after everything
        #[arg(long, conflicts_with_all = ["cluster", "only"])]
        all: bool,
    },
    /// Random schedules of what clients do and what goes wrong, each from a seed
    Reliability(reliability::ReliabilityArgs),
    /// Speeds beside baselines of the same run
    Bench(bench::BenchArgs),
    /// A real Kubernetes of one node on this machine
    Cluster(cluster::ClusterArgs),
    /// A container image of a program, as one file
    Image(image::ImageArgs),
    /// What a bench has measured in sessions
    #[command(hide = true)]
    Probe(bench::probe::ProbeArgs),
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::note(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    let places = Places::detect()?;
    match verb {
        Verb::Check => check::run(&places),
        Verb::Demo(args) => demo::run(&places, &args),
        Verb::Test { all, .. } if all => test::run_all(&places),
        Verb::Test { only, cluster, .. } if cluster => {
            test::run_on_cluster(&places, only.as_deref())
        }
        Verb::Test { only, .. } => test::run(&places, only.as_deref()),
        Verb::Reliability(args) => reliability::run(&places, &args),
        Verb::Bench(args) => bench::run(&places, &args),
        Verb::Cluster(args) => cluster::run(&places, &args),
        Verb::Image(args) => image::run(&args),
        Verb::Probe(args) => bench::probe::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        Arguments::command().debug_assert();
    }
}
