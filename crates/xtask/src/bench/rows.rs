//! The rows: what each one times, and against what. One file a subject.

mod baseline;
mod door;
mod exec;
mod first_copy;
mod freshness;
mod many;
mod network;
mod ready;
mod restart;

use anyhow::Result;

use super::BenchArgs;
use super::engine::Keeping;
use super::place::Place;
use super::row::Row;
use super::source::Data;
use super::stage::Stage;
use super::stopwatch::{Stopwatch, median, p95};
pub(super) use baseline::Way;
use exec::Session;
pub(super) use first_copy::Copies;
use network::Traffic;
use ready::Waiting;

/// Runs that are not counted, first.
const WARM_UP_RUNS: u32 = 1;

/// How long pairs may go on, in milliseconds, once there are [`PAIRS_MIN`]: a median of slow things needs fewer of them.
const PAIRS_MS_MAX: f64 = 60_000.0;
const PAIRS_MIN: usize = 3;

/// Pairs of a row that copies everything: each takes as long as the data is large.
const COPY_RUNS_MAX: u32 = 3;

/// The rate at which a busy source is written.
pub(super) const BUSY_TRANSACTIONS_PER_SECOND: u32 = 500;

/// The age of data that a request accepts: older than any row.
const ACCEPTED_AGE_SECONDS: u32 = 6 * 3600;

/// Branches of which a restarted engine has to bring back all.
const RESTART_BRANCHES_MAX: u32 = 200;

/// Branches that are asked for at once.
const BURST: u32 = 50;

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    ReadyCold(Place, Data),
    ReadyWarm(Data),
    ReadyAccepted(Data),
    /// Of a source that is being written.
    ReadyFresh(Waiting, Data),
    WakeAtDoor(Data),
    FreshnessCheck(Data),
    FirstCopyLogical(Data),
    FirstCopyPhysical(Data),
    Baseline(Way, Data),
    IdleBranches(Data),
    Burst(Data),
    ExecOverhead(Session, Data),
    EngineRestart(Data),
    DoorThroughput(Data),
    Network(Traffic, Data),
}

impl Subject {
    /// The names of the rows that it gives.
    pub(super) fn names(self) -> Vec<String> {
        let one = |name: String| vec![name];
        match self {
            Self::ReadyCold(place, data) => one(format!(
                "ready_cold_unmoved_{}_{}",
                place.word(),
                data.word()
            )),
            Self::ReadyWarm(data) => one(format!("ready_warm_unmoved_{}", data.word())),
            Self::ReadyAccepted(data) => one(format!("ready_warm_max_age_{}", data.word())),
            Self::WakeAtDoor(_) => one("wake_at_door".to_owned()),
            Self::ReadyFresh(Waiting::Follower, data) => {
                one(format!("ready_fresh_follower_{}", data.word()))
            }
            Self::ReadyFresh(Waiting::Nobody, data) => {
                one(format!("ready_fresh_no_follower_{}", data.word()))
            }
            Self::FreshnessCheck(_) => one("freshness_check".to_owned()),
            Self::FirstCopyLogical(data) => one(format!("first_copy_logical_{}", data.word())),
            Self::FirstCopyPhysical(data) => one(format!("first_copy_physical_{}", data.word())),
            Self::Baseline(way, data) => one(format!("baseline_{}_{}", way.word(), data.word())),
            Self::IdleBranches(_) => many::IDLE_NAMES.map(str::to_owned).to_vec(),
            Self::Burst(_) => one(format!("create_{BURST}_at_once")),
            Self::ExecOverhead(Session::Another, _) => one("exec_overhead".to_owned()),
            Self::ExecOverhead(Session::Own, _) => one("exec_overhead_new_branch".to_owned()),
            Self::EngineRestart(_) => one("engine_restart".to_owned()),
            Self::DoorThroughput(_) => one("door_throughput".to_owned()),
            Self::Network(traffic, _) => one(traffic.name().to_owned()),
        }
    }

    /// Measures; as many rows as names, in their order.
    ///
    /// # Errors
    /// [`super::stage::Unmeasurable`] when this machine or engine cannot do it; others when it fails.
    pub(super) fn measure(self, stage: &mut Stage, args: &BenchArgs) -> Result<Vec<Row>> {
        let name = &self.names()[0];
        let runs = args.runs;
        let one = |row: Result<Row>| row.map(|row| vec![row]);
        match self {
            Self::ReadyCold(place, data) => one(ready::cold(
                &mut stage.scene(place, data, Keeping::Branches)?,
                name,
                runs,
            )),
            Self::ReadyWarm(data) => one(ready::warm(
                &mut stage.best_scene(data, Keeping::WarmClones)?,
                name,
                runs,
                None,
            )),
            Self::ReadyAccepted(data) => one(ready::warm(
                &mut stage.best_scene(data, Keeping::WarmClones)?,
                name,
                runs,
                Some(ACCEPTED_AGE_SECONDS),
            )),
            Self::WakeAtDoor(data) => one(ready::wake(
                &mut stage.best_scene(data, Keeping::UsedBranches)?,
                name,
                runs,
            )),
            Self::ReadyFresh(waiting, data) => {
                let scene = &mut stage.best_scene(data, waiting.keeping())?;
                one(ready::fresh(scene, name, runs, waiting))
            }
            Self::FreshnessCheck(data) => one(freshness::check(
                &mut stage.best_scene(data, Keeping::WarmClones)?,
                name,
                runs,
            )),
            Self::FirstCopyLogical(data) => one(first_copy::logical(stage, data, name, runs)),
            Self::FirstCopyPhysical(data) => one(first_copy::physical(stage, data, name, runs)),
            Self::Baseline(way, data) => one(baseline::measure(stage, way, data, name, runs)),
            Self::IdleBranches(data) => many::idle(
                &mut stage.best_scene(data, Keeping::Branches)?,
                args.branches,
            ),
            Self::Burst(data) => one(many::burst(
                &mut stage.best_scene(data, Keeping::Branches)?,
                name,
                BURST,
            )),
            Self::ExecOverhead(session, data) => one(exec::overhead(
                &mut stage.best_scene(data, Keeping::WarmClones)?,
                name,
                runs,
                session,
            )),
            Self::EngineRestart(data) => {
                let branches = args.branches.min(RESTART_BRANCHES_MAX);
                let scene = &mut stage.best_scene(data, Keeping::Branches)?;
                one(restart::all_answer(scene, name, branches, runs))
            }
            Self::DoorThroughput(data) => one(door::throughput(
                &mut stage.best_scene(data, Keeping::Branches)?,
                name,
                runs,
            )),
            Self::Network(traffic, data) => one(network::measure(
                &mut stage.best_scene(data, Keeping::Branches)?,
                traffic,
                runs,
            )),
        }
    }
}

/// Every row for these sources, in an order in which one stands on what the one before it made.
pub(super) fn plan(args: &BenchArgs) -> Vec<Subject> {
    let sizes = args.size.iter().map(|size| Data::Megabytes(*size));
    let by_tables = args.tables.iter().map(|count| Data::Tables(*count));
    let small = Data::Megabytes(args.size.iter().copied().min().unwrap_or(100));
    let copied = Data::Megabytes(
        args.size
            .iter()
            .copied()
            .filter(|size| *size <= 1_000)
            .max()
            .unwrap_or(100),
    );
    let mut plan = Vec::new();
    for data in sizes.chain(by_tables) {
        plan.extend(Place::ALL.map(|place| Subject::ReadyCold(place, data)));
        plan.push(Subject::ReadyWarm(data));
        if matches!(data, Data::Tables(_)) || data == copied {
            plan.push(Subject::FirstCopyLogical(data));
            plan.push(Subject::FirstCopyPhysical(data));
        }
        // As fast at any size: at every size from the one that is copied on.
        if matches!(data, Data::Megabytes(_)) && data.megabytes() >= copied.megabytes() {
            plan.push(Subject::ReadyFresh(Waiting::Follower, data));
            plan.push(Subject::ReadyFresh(Waiting::Nobody, data));
        }
        if data == small {
            plan.extend([
                Subject::ReadyAccepted(data),
                Subject::FreshnessCheck(data),
                Subject::ExecOverhead(Session::Another, data),
                Subject::ExecOverhead(Session::Own, data),
                Subject::DoorThroughput(data),
            ]);
            plan.extend(Traffic::ALL.map(|traffic| Subject::Network(traffic, data)));
            plan.extend([
                Subject::Burst(data),
                Subject::EngineRestart(data),
                Subject::IdleBranches(data),
                Subject::WakeAtDoor(data),
            ]);
        }
        plan.extend(Way::ALL.map(|way| Subject::Baseline(way, data)));
    }
    plan
}

/// Runs pairs of ours and theirs in turn; the first pair is not counted, and pairs that take long are fewer. Each gets
/// the number of its run.
fn pairs<T>(
    runs: u32,
    mut ours: impl FnMut(u32) -> Result<T>,
    mut theirs: impl FnMut(u32) -> Result<f64>,
) -> Result<(Vec<T>, Vec<f64>)> {
    let (mut our_samples, mut their_times) = (Vec::new(), Vec::new());
    let mut watch = Stopwatch::start();
    for run in 0..WARM_UP_RUNS + runs {
        // What comes before may have copied the whole source.
        if run == WARM_UP_RUNS {
            watch = Stopwatch::start();
        }
        let (our_sample, their_time) = (ours(run)?, theirs(run)?);
        if run >= WARM_UP_RUNS {
            our_samples.push(our_sample);
            their_times.push(their_time);
        }
        if watch.total() > PAIRS_MS_MAX && our_samples.len() >= PAIRS_MIN {
            break;
        }
    }
    Ok((our_samples, their_times))
}

/// A row in milliseconds with both ways' medians.
fn timed(name: &str, ours: &[f64], against: &str, theirs: &[f64]) -> Row {
    let row = Row {
        p50: Some(median(ours)),
        p95: Some(p95(ours)),
        runs: u32::try_from(ours.len()).ok(),
        ..Row::new(name, "ms").value(median(ours))
    };
    row.against(against, median(theirs))
}
