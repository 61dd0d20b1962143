//! `cargo xtask reliability`: as many random schedules as wanted, from any seed on, in parts that several machines share.
//!
//! Owns which seeds. Leaves what a schedule is to the test binary `reliability`, which is told by its environment.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::debian::{self, Requirement};
use crate::places::{Places, workspace};
use crate::test::{Profile, build};
use crate::{command, console, postgres, tools};

/// Which schedules to run.
#[derive(Debug, Args)]
pub(crate) struct ReliabilityArgs {
    /// Schedules in all
    #[arg(long, value_name = "N", default_value_t = 300)]
    schedules: u64,
    /// The first one's seed; the next ones count up
    #[arg(long, value_name = "S", default_value_t = 1000)]
    seed: u64,
    /// Only the I-th of N equal parts, counted from 1
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// One schedule as a failure prints it, shortened at will, instead of seeds
    #[arg(long, value_name = "FILE", conflicts_with_all = ["schedules", "seed", "shard"])]
    schedule: Option<PathBuf>,
}

/// One of several equal parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shard {
    number: u64,
    of: u64,
}

impl FromStr for Shard {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (number, of) = text.split_once('/').context("such as 1/4")?;
        let shard = Self {
            number: number.parse().context("such as 1/4")?,
            of: of.parse().context("such as 1/4")?,
        };
        ensure!(
            (1..=shard.of).contains(&shard.number),
            "parts are counted from 1 to {}",
            shard.of
        );
        Ok(shard)
    }
}

impl Shard {
    /// The first seed of this part, and how many follow.
    fn part(self, seed: u64, schedules: u64) -> (u64, u64) {
        let begin = |number: u64| {
            let share = u128::from(schedules) * u128::from(number) / u128::from(self.of);
            u64::try_from(share).unwrap_or(schedules)
        };
        let (first, last) = (begin(self.number - 1), begin(self.number));
        (seed.saturating_add(first), last - first)
    }
}

/// Runs the schedules.
///
/// # Errors
/// When something cannot be got or built, or a promise was broken: with the seeds.
pub(crate) fn run(places: &Places, args: &ReliabilityArgs) -> Result<()> {
    let root = postgres::ensure(places, &postgres::all_majors())?;
    let path = postgres::search_path(root, std::env::var_os(postgres::PATH_VARIABLE))?;
    if rustix::process::geteuid().is_root() {
        debian::require(&[Requirement::Xfs])?;
    }
    console::note("building the engine");
    let bough = build("bough", "bough", Profile::Debug)?;
    let mut command = tools::cargo();
    command
        .args(["test", "--workspace", "--test", "reliability", "--"])
        .arg("every_answer_stays_true_whatever_goes_wrong")
        .current_dir(workspace())
        .env(postgres::PATH_VARIABLE, path)
        .env(tools::ERROR_BACKTRACES, "0")
        .env("BOUGH_BIN", bough);
    command.envs(wanted(args)?);
    command::run(&mut command)
}

/// What the test binary is told.
fn wanted(args: &ReliabilityArgs) -> Result<Vec<(&'static str, OsString)>> {
    if let Some(file) = &args.schedule {
        let file = std::fs::canonicalize(file).context("find the schedule's file")?;
        return Ok(vec![("BOUGH_RELIABILITY_SCHEDULE", file.into())]);
    }
    let whole = Shard { number: 1, of: 1 };
    let (seed, schedules) = args.shard.unwrap_or(whole).part(args.seed, args.schedules);
    console::note(&format!(
        "{schedules} schedules from seed {seed} on, two at the same time"
    ));
    Ok(vec![
        ("BOUGH_RELIABILITY_SEED", seed.to_string().into()),
        ("BOUGH_RELIABILITY_SCHEDULES", schedules.to_string().into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_every_seed_once() {
        let parts = (1..=7).map(|number| Shard { number, of: 7 }.part(1000, 5000));
        let mut next = 1000;
        for (first, count) in parts {
            assert_eq!(first, next);
            next = first + count;
        }
        assert_eq!(next, 6000);
    }

    #[test]
    fn a_part_that_is_none_is_refused() {
        for text in ["0/4", "5/4", "1", "a/b", "1/0"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
        assert_eq!(
            "2/4".parse::<Shard>().ok(),
            Some(Shard { number: 2, of: 4 })
        );
    }
}
