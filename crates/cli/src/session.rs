//! One `exec`, start to end: prepared, its branches had and proven, its program run, its end told.
//!
//! Owns the order of the steps and that nothing runs unless each has succeeded. `prepare` reads file, context and
//! target; `source_way` and `branches` ask for what the file names and wait; `environment` makes the program's; `proof` logs in by
//! it; `fence` says which sources are fenced; `network` joins the target's, `follow` goes along with its pods; `membership` holds the branches meanwhile; `lines` and `report` say it
//! all. Leaves the program and its network to `supervisor`.

mod branches;
mod claim;
mod environment;
mod fence;
mod follow;
mod guarded;
mod lines;
mod membership;
mod network;
mod pods;
mod prepare;
mod proof;
mod report;
mod source_way;

use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::{Environment, TargetChoice};
use model::{ExitCode, Namespace};
use supervisor::{
    Child, Command, FencePlan, GuardError, KnownHosts, OnSource, Output, Report, STOP_GRACE,
    Signals, SignalsError, SpawnError, StopReason, TargetNetwork,
};

use crate::contexts::Leftovers;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;
use branches::ReadyBranch;
use guarded::Guarded;
use membership::{Membership, SessionLoss};
use network::Joined;
use prepare::{Asked, Plan};

pub(crate) use proof::ProofError;
pub(crate) use report::FileFormat;

/// What shells add to a signal's number (POSIX, Shell Command Language, 2.8.2).
pub(crate) const SIGNAL_BASE: i32 = 128;

/// What the command line says of a session.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// The configuration file.
    pub(crate) file: Option<PathBuf>,
    /// The target, in place of the file's.
    pub(crate) target: Option<TargetChoice>,
    /// The namespace, in place of the file's.
    pub(crate) namespace: Option<Namespace>,
    /// The context, in place of the file's.
    pub(crate) context: Option<String>,
    /// The session's key, in place of the file's.
    pub(crate) key: Option<String>,
    /// Further flags, in place of what the file says.
    pub(crate) flags: Vec<config::Flag>,
    /// The age of data that will do for every branch, in place of the file's.
    pub(crate) max_age: Option<Duration>,
    /// What becomes of connections to a source's own address.
    pub(crate) on_source: OnSource,
    /// Whether PostgreSQL that is no branch is refused, everywhere.
    pub(crate) assert_isolated: bool,
    /// Where the closing report is written.
    pub(crate) report: Option<PathBuf>,
    /// In which form; none: as the file's name ends.
    pub(crate) report_format: Option<FileFormat>,
    /// Where the certificate of the session's authority is written.
    pub(crate) ca_file: Option<PathBuf>,
    /// The program and its arguments.
    pub(crate) command: &'a [OsString],
}

impl Request<'_> {
    /// Whether something is asked for that only a guarded session has.
    fn wants_guard(&self) -> bool {
        self.assert_isolated || self.report.is_some() || self.ca_file.is_some()
    }

    /// Whether the session may go without a guard where there can be none.
    fn waives_guard(&self) -> bool {
        self.on_source == OnSource::Allow && !self.wants_guard()
    }
}

/// The program could not be started or stood in for.
#[derive(Debug, thiserror::Error)]
#[error("cannot stand between the program and its signals")]
struct SignalsFailure(#[source] SignalsError);

impl From<SpawnError> for CommandError {
    fn from(error: SpawnError) -> Self {
        let exit = error.exit_code();
        Self::new(exit, error)
    }
}

impl From<GuardError> for CommandError {
    fn from(error: GuardError) -> Self {
        let hint = error.hint();
        let failure = Self::new(ExitCode::Branch, error);
        let failure = match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        };
        failure.with_hint("`--on-source-connection=allow` runs the program without a fence")
    }
}

/// How a session's program ended, and what was counted while it ran.
struct Ran {
    result: Result<u8, CommandError>,
    counted: Option<Counted>,
}

/// The counts of a guarded session, with what they are about.
struct Counted {
    fence: FencePlan,
    branches: Vec<ReadyBranch>,
    report: Report,
}

/// Runs a session to its end; answers with the exit code, which is the program's own.
///
/// # Errors
/// [`CommandError`] when nothing ran, when the session lost a branch and ended the program for it, or when it was not
/// isolated and had to be.
pub(crate) async fn run(
    request: &Request<'_>,
    settings: &Settings,
    ui: &Ui,
) -> Result<u8, CommandError> {
    // Before anything is made that a refusal would have to take back.
    report::try_place(request)?;
    let asked = prepare::read(request, settings, ui)?;
    let mut signals = Signals::install()
        .map_err(|error| CommandError::new(ExitCode::Internal, SignalsFailure(error)))?;
    let plan = match prepare_or_stop(asked, settings, &mut signals, ui).await? {
        Planned::Whole(plan) => plan,
        Planned::Interrupted(signal) => return Ok(code_of(signal)),
    };
    let (owner, engines) = (settings.owner.clone(), plan.engines(settings));
    let program = program_name(request.command);
    let (id, resource) = (plan.id.clone(), plan.resource().cloned());
    let mut membership = Membership::new(id, owner, engines, program, resource);
    let ran = live(&plan, request, &mut membership, &mut signals, ui).await;
    // Whatever happened, the session is over: its branches' TTL starts.
    let left = membership.leave().await;
    if let Some(resource) = plan.resource() {
        resource.end().await;
    }
    if let Some(pod) = &plan.own_pod
        && !pod.remove().await
    {
        let (name, namespace) = (pod.name(), &plan.namespace);
        ui.warn(&format!(
            "the session's pod is not deleted: `kubectl -n {namespace} delete pod {name}` does it"
        ));
    }
    let Ran { result, counted } = ran?;
    if let Some(Counted {
        fence,
        branches,
        report,
    }) = &counted
    {
        let lines = report::lines(fence, branches, report);
        lines.iter().for_each(|line| ui.note(line));
    }
    if result.is_ok() {
        lines::closing(&plan, left.as_deref(), crate::clock::now())
            .iter()
            .for_each(|line| ui.note(line));
    }
    let Some(counted) = counted else {
        return result;
    };
    let written = report::write(request, &plan, &counted);
    // That isolation did not hold, and what the program says of itself, goes before that nobody can read of it.
    report::assert(request, &counted)?;
    match (result, written) {
        (Ok(0), Err(unwritten)) => Err(unwritten),
        (result, Err(unwritten)) => {
            ui.warn(&unwritten.message());
            result
        }
        (result, Ok(())) => result,
    }
}

/// What planning came to.
enum Planned {
    /// A plan.
    Whole(Box<Plan>),
    /// Somebody ended it by this signal.
    Interrupted(i32),
}

/// Plans the session; where nothing comes of it, nothing of it stays in its cluster.
async fn prepare_or_stop(
    asked: Asked,
    settings: &Settings,
    signals: &mut Signals,
    ui: &Ui,
) -> Result<Planned, CommandError> {
    let leftovers = Leftovers::default();
    let planned = tokio::select! {
        planned = prepare::prepare(asked, settings, &leftovers, ui) => {
            planned.map(|plan| Planned::Whole(Box::new(plan)))
        }
        signal = signals.interrupted() => Ok(Planned::Interrupted(signal)),
    };
    match &planned {
        Ok(Planned::Whole(_)) => leftovers.keep(),
        Ok(Planned::Interrupted(_)) | Err(_) => leftovers.take_back().await,
    }
    planned
}

/// As a shell tells the end by a signal.
fn code_of(signal: i32) -> u8 {
    u8::try_from(SIGNAL_BASE + signal).unwrap_or(u8::MAX)
}

async fn live(
    plan: &Plan,
    request: &Request<'_>,
    membership: &mut Membership<'_>,
    signals: &mut Signals,
    ui: &Ui,
) -> Result<Ran, CommandError> {
    let joined = network::join(plan).await?;
    let kept = joined.as_ref().map(|joined| {
        // The last words of the links are carried as everything before.
        (Arc::clone(&joined.network), joined.thread.clone())
    });
    let ran = live_joined(plan, request, joined, membership, signals, ui).await;
    let leaving = async {
        if let Some((network, _thread)) = &kept {
            network::leave(network).await;
        }
    };
    // A link that is away may take its time, and the program has ended. The network's thread stays until both are done: it
    // carries connections with the API server that were made when a pod was joined, and that others use after that.
    let ending = async {
        if let Some(resource) = plan.resource() {
            resource.end().await;
        }
    };
    tokio::join!(leaving, ending);
    ran
}

async fn live_joined(
    plan: &Plan,
    request: &Request<'_>,
    joined: Option<Joined>,
    membership: &mut Membership<'_>,
    signals: &mut Signals,
    ui: &Ui,
) -> Result<Ran, CommandError> {
    let network = joined.as_ref().map(|joined| &joined.network);
    let (made, hosts) = tokio::select! {
        made = make_and_look_up(plan, network, membership, ui) => made?,
        signal = signals.interrupted() => {
            return Ok(Ran { result: Ok(code_of(signal)), counted: None });
        }
    };
    let needs_guard = !made.branches.is_empty() || joined.is_some() || request.wants_guard();
    let guarded = if !needs_guard {
        None
    } else {
        match Guarded::prepare(request, plan, &made, hosts, joined) {
            Ok(guarded) => Some(guarded),
            Err(error) if request.waives_guard() => {
                ui.warn(&format!("no fence, as allowed: {}", error.message()));
                None
            }
            Err(error) => return Err(error),
        }
    };
    lines::opening(plan, &made.branches, guarded.as_ref(), crate::clock::now())
        .iter()
        .for_each(|line| ui.note(line));
    let command = Command {
        program: request.command[0].clone(),
        args: request.command[1..].to_vec(),
        env: made.environment,
        cwd: plan.directory.clone(),
        output: Output::Inherit,
    };
    let holds = membership.may_be_lost();
    match guarded {
        None => {
            let child = Child::spawn(command, signals)?;
            let result = supervise(child, holds, membership, signals, ui).await;
            Ok(Ran {
                result,
                counted: None,
            })
        }
        Some(guarded) => {
            let mut running = guarded.spawn(command, signals)?;
            let result = running.supervise(holds, membership, signals, ui).await;
            let (fence, report) = running.finish(signals, ui).await;
            let branches = made.branches;
            let counted = Counted {
                fence,
                branches,
                report,
            };
            Ok(Ran {
                result,
                counted: Some(counted),
            })
        }
    }
}

/// What a program needs to run: its branches, and an environment that is proven to lead to them.
struct Made {
    branches: Vec<ReadyBranch>,
    /// Branch by branch, whether the program insists on TLS there.
    tls: Vec<bool>,
    environment: Environment,
}

/// The same, and every address of the sources: names are looked up while branches are made, those that only the engine
/// knows once it has told them.
async fn make_and_look_up(
    plan: &Plan,
    network: Option<&Arc<TargetNetwork>>,
    membership: &mut Membership<'_>,
    ui: &Ui,
) -> Result<(Made, KnownHosts), CommandError> {
    let remote = supervisor::remote_of(network);
    let sources = fence::source_addresses(plan);
    let (made, hosts) = tokio::join!(
        make(plan, network, membership, ui),
        KnownHosts::look_up(&remote, &sources)
    );
    let made = made?;
    let further = fence::further_addresses(&made.branches)
        .map_err(|error| CommandError::new(ExitCode::Branch, error))?;
    if further.is_empty() {
        return Ok((made, hosts));
    }
    let all = sources.iter().chain(&further);
    Ok((made, KnownHosts::look_up(&remote, all).await))
}

async fn make(
    plan: &Plan,
    network: Option<&Arc<TargetNetwork>>,
    membership: &mut Membership<'_>,
    ui: &Ui,
) -> Result<Made, CommandError> {
    let branches = branches::obtain(plan, network, membership, ui).await?;
    let environment = environment::make(plan, &branches)?;
    let mut tls = Vec::with_capacity(branches.len());
    for branch in &branches {
        let id = branch.view.id.as_str();
        let connection = &branch.planned.wanted.connection;
        let identity = &branch.connection.identity;
        let insists = proof::prove(id, identity, connection, &environment).await?;
        // A program may insist by its code where its URL asked for a proof.
        let demand = branch.planned.source.url.tls_demand();
        tls.push(insists || demand.is_some());
    }
    Ok(Made {
        branches,
        tls,
        environment,
    })
}

async fn supervise(
    mut child: Child,
    holds: bool,
    membership: &Membership<'_>,
    signals: &mut Signals,
    ui: &Ui,
) -> Result<u8, CommandError> {
    let loss = tokio::select! {
        end = child.wait(signals) => return Ok(end.exit_code()),
        loss = membership.keep(ui), if holds => loss,
    };
    Err(end_lost(&mut child, loss, signals, ui).await)
}

/// Ends a program whose session is lost.
async fn end_lost(
    child: &mut Child,
    loss: impl Display + Into<CommandError>,
    signals: &mut Signals,
    ui: &Ui,
) -> CommandError {
    ui.warn(&format!("{loss}; ending the program"));
    child
        .stop_handle()
        .stop(StopReason::SessionLost, STOP_GRACE);
    child.wait(signals).await;
    loss.into()
}

impl From<SessionLoss> for CommandError {
    fn from(loss: SessionLoss) -> Self {
        let hint = match &loss {
            SessionLoss::Deleted(_) => "the same command makes it again",
            SessionLoss::Replaced(_) => "the same command asks again for a branch under that id",
            SessionLoss::Ended(_) => "the same command begins another one",
            SessionLoss::Stopped(_) => "its branches are there until their TTL is over",
            SessionLoss::Failed { .. } | SessionLoss::Engine { .. } => {
                "`bough engine logs` shows what the engine did"
            }
        };
        Self::new(ExitCode::Branch, loss).with_hint(hint)
    }
}

/// The program's own name, without its folder and arguments, which may hold secrets.
fn program_name(command: &[OsString]) -> String {
    let program = command.first().map(Path::new);
    let name = program.and_then(Path::file_name).unwrap_or_default();
    name.to_string_lossy().into_owned()
}
