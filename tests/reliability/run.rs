//! Many schedules, in four worlds at the same time: each replayed from its seed, judged, and told where it went wrong.
//!
//! Owns which seeds run where, and the report. A world in which a promise was broken is not used again.

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

use crate::actions::{Outcome, SourceCount, perform};
use crate::checks::{check_at_rest, check_promises, check_source, check_traces};
use crate::clock;
use crate::faults::strike;
use crate::model::Model;
use crate::schedule::{Fault, Round, Schedule, Strike};
use crate::world::{Ground, World};

/// Schedules of a world between two stops of its engine with all servers.
const REST_EVERY: u64 = 20;

/// Failures after which a run ends: the first few tell enough.
const FAILURES_MAX: usize = 6;

/// What a run came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) schedules: AtomicU64,
    pub(crate) actions: AtomicU64,
    pub(crate) strikes: AtomicU64,
    /// Strikes that met nothing, or need a volume of its own where this process may mount none.
    pub(crate) misses: AtomicU64,
    pub(crate) failures: Mutex<Vec<String>>,
}

impl Report {
    fn fail(&self, text: String) {
        tell(&text);
        self.failures
            .lock()
            .expect("no thread of a run panics")
            .push(text);
    }

    fn is_over(&self) -> bool {
        self.failures
            .lock()
            .expect("no thread of a run panics")
            .len()
            >= FAILURES_MAX
    }

    /// What it comes to.
    ///
    /// # Errors
    /// Names the schedules that failed.
    pub(crate) fn verdict(self) -> Result<()> {
        let failures = self
            .failures
            .into_inner()
            .expect("no thread of a run panics");
        // Told again, in short: the whole account is far above where a run ends.
        anyhow::ensure!(
            failures.is_empty(),
            "{} schedules failed\n{}",
            failures.len(),
            failures
                .iter()
                .map(|failure| headline(failure))
                .collect::<Vec<_>>()
                .join("\n")
        );
        Ok(())
    }

    /// One line that sums it up.
    pub(crate) fn line(&self) -> String {
        format!(
            "reliability: {} schedules, {} actions, {} faults ({} met nothing), {} failures, in {} s",
            self.schedules.load(Ordering::SeqCst),
            self.actions.load(Ordering::SeqCst),
            self.strikes.load(Ordering::SeqCst),
            self.misses.load(Ordering::SeqCst),
            self.failures
                .lock()
                .expect("no thread of a run panics")
                .len(),
            clock::now().as_secs()
        )
    }
}

/// Tells while the run goes on, and whether or not the test passes: past what the test harness keeps back.
pub(crate) fn tell(text: &str) {
    // Whoever closed it does not want to know.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What a failure says before the schedule that it happened in.
fn headline(failure: &str) -> &str {
    failure
        .split_once("\n\nthe schedule:")
        .map_or(failure, |(headline, _)| headline)
}

/// Worlds at the same time, one a ground.
const WORLDS: u64 = 4;

/// The ground that the schedule of a seed takes place on.
fn ground_of(seed: u64) -> Ground {
    match seed % WORLDS {
        0 => Ground::Followed,
        1 if rustix::process::geteuid().is_root() => Ground::LoopVolume,
        2 => Ground::Subscribed,
        _ => Ground::Directory,
    }
}

/// Runs the schedules of `seeds`, those of each ground beside the others'.
pub(crate) fn run_seeds(seeds: Range<u64>) -> Report {
    let report = Report::default();
    std::thread::scope(|scope| {
        for remainder in 0..WORLDS {
            let (report, seeds) = (&report, seeds.clone());
            scope.spawn(move || {
                run_schedules(
                    report,
                    seeds
                        .filter(move |seed| seed % WORLDS == remainder)
                        .map(Schedule::of),
                );
            });
        }
    });
    report
}

/// Runs schedules one after another, in one world for as long as every promise is kept there.
pub(crate) fn run_schedules(report: &Report, schedules: impl Iterator<Item = Schedule>) {
    let mut stage: Option<Stage> = None;
    for schedule in schedules {
        if report.is_over() {
            return;
        }
        let current = match stage
            .take()
            .map_or_else(|| Stage::begin(ground_of(schedule.seed)), Ok)
        {
            Ok(current) => current,
            Err(error) => return report.fail(format!("no world: {error:#}")),
        };
        let mut told = String::new();
        match current.run(&schedule, report, &mut told) {
            Ok(()) => stage = Some(current.grown()),
            Err(error) => report.fail(format!(
                "FAILED: seed {seed}: {error:#}\n\nthe schedule:\n{schedule}\nwhat was told:\n{told}\nthe engine's log:\n{log}\n\nreplay: cargo xtask reliability --seed {seed} --schedules 1\n",
                seed = schedule.seed,
                log = current.world.log_tail(),
            )),
        }
        report.schedules.fetch_add(1, Ordering::SeqCst);
    }
    if let Some(stage) = stage
        && let Err(error) = stage.rest()
    {
        report.fail(format!(
            "FAILED: the end of a world: {error:#}\n{}",
            stage.world.log_tail()
        ));
    }
}

/// A world and what its schedules share.
struct Stage {
    world: World,
    count: SourceCount,
    schedules: u64,
}

impl Stage {
    fn begin(ground: Ground) -> Result<Self> {
        Ok(Self {
            world: World::begin(ground)?,
            count: SourceCount::default(),
            schedules: 0,
        })
    }

    fn grown(mut self) -> Self {
        self.schedules += 1;
        self
    }

    fn run(&self, schedule: &Schedule, report: &Report, told: &mut String) -> Result<()> {
        let mut model = Model::new();
        for (number, round) in schedule.rounds.iter().enumerate() {
            let (outcomes, faults) = self.run_round(round, report)?;
            let _ = writeln!(told, "round {number}, struck by {faults:?}");
            for outcome in &outcomes {
                let _ = writeln!(
                    told,
                    "  {:.3} to {:.3}: {:?}\n    {:?}",
                    outcome.began.as_secs_f64(),
                    outcome.ended.as_secs_f64(),
                    outcome.action,
                    outcome.told
                );
            }
            model.take(&outcomes, &faults, self.count.begun.load(Ordering::SeqCst));
            // The numbers of the source's transactions go on from what it holds.
            self.count.settle(&self.world)?;
            judge(&model)?;
        }
        check_promises(&self.world, &self.count, &mut model)?;
        judge(&model)?;
        check_source(&self.world, &self.count)?;
        check_traces(&self.world)?;
        if self.schedules % REST_EVERY == REST_EVERY - 1 {
            self.rest()?;
            self.world.start_engine()?;
            check_traces(&self.world)?;
        }
        Ok(())
    }

    /// What is done at the same time, and what strikes meanwhile.
    fn run_round(&self, round: &Round, report: &Report) -> Result<(Vec<Outcome>, Vec<Fault>)> {
        let is_possible =
            |strike: &&Strike| !strike.fault.needs_volume() || self.world.volume().is_some();
        let possible: Vec<&Strike> = round.strikes.iter().filter(is_possible).collect();
        let (world, count) = (&self.world, &self.count);
        let (outcomes, struck) = std::thread::scope(|scope| {
            let actions: Vec<_> = round
                .actions
                .iter()
                .map(|action| scope.spawn(move || perform(world, count, action)))
                .collect();
            let strikes: Vec<_> = possible
                .iter()
                .map(|one| scope.spawn(move || strike(world, one)))
                .collect();
            let struck: Vec<Result<bool>> = strikes
                .into_iter()
                .map(|strike| strike.join().expect("a strike does not panic"))
                .collect();
            let outcomes: Vec<Outcome> = actions
                .into_iter()
                .map(|action| action.join().expect("an action does not panic"))
                .collect();
            (outcomes, struck)
        });
        let struck: Vec<bool> = struck
            .into_iter()
            .collect::<Result<_>>()
            .with_context(|| format!("{:?}", round.strikes))?;
        let met = struck.into_iter().filter(|met| *met).count();
        report
            .actions
            .fetch_add(u64::try_from(outcomes.len())?, Ordering::SeqCst);
        let missed = round.strikes.len() - met;
        report
            .strikes
            .fetch_add(u64::try_from(met)?, Ordering::SeqCst);
        report
            .misses
            .fetch_add(u64::try_from(missed)?, Ordering::SeqCst);
        Ok((outcomes, possible.iter().map(|one| one.fault).collect()))
    }

    /// Stops everything and looks for what is left.
    fn rest(&self) -> Result<()> {
        self.world.stop_engine(true)?;
        check_at_rest(&self.world)
    }
}

fn judge(model: &Model) -> Result<()> {
    anyhow::ensure!(
        model.violations().is_empty(),
        "{}",
        model.violations().join("\n\n")
    );
    Ok(())
}
