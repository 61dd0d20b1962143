//! `local stop`: targets are ended, with all that descends from them, and forgotten.
//!
//! A keeper that lives does the ending. Where it was killed or does not react, this process does, from what `/proc`
//! tells of the target's tree and session.

use std::io;
use std::path::Path;
use std::time::Duration;

use model::{ExitCode, Namespace, TargetRef};
use rustix::process::Signal;
use serde::Serialize;
use supervisor::{STOP_GRACE, Tree};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::place::Place;
use super::registry::{Record, Registry, RegistryError};
use super::state::{TargetEnd, TargetState};
use super::{FindError, LocalTargets};

/// How long a keeper may take: TERM's grace twice, for the process and for what it leaves behind, and a little for KILL.
const KEEPER_WAIT: Duration = Duration::from_secs(2 * STOP_GRACE.as_secs() + 5);

/// Which targets are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// These.
    Named(Vec<TargetRef>),
    /// All of the namespace.
    All,
}

/// What became of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct StopReport {
    /// The target.
    pub(crate) target: TargetRef,
    /// Its namespace.
    pub(crate) namespace: Namespace,
    /// What was done.
    #[serde(flatten)]
    pub(crate) outcome: StopOutcome,
}

/// What was done about one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum StopOutcome {
    /// It ran, was ended, and is forgotten.
    Stopped,
    /// It had ended by then; it is forgotten.
    Forgotten {
        /// What had become of it.
        was: TargetState,
    },
    /// These of its processes cannot be ended; it is still registered.
    Remains {
        /// Their pids.
        pids: Vec<i32>,
    },
    /// Somebody else is starting or stopping it.
    Busy,
}

/// Why targets cannot be stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StopError {
    /// One that was named is not there; then none was touched.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The register cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A process cannot be signalled or waited for.
    #[error("cannot end {target} (process {pid})")]
    Process {
        /// The target.
        target: TargetRef,
        /// The pid of its process.
        pid: i32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl StopError {
    /// The exit code of a command that fails by it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            // As everywhere, an object that is not there to be deleted is 1.
            Self::Find(_) | Self::Registry(_) | Self::Process { .. } => ExitCode::Internal,
        }
    }
}

/// Ends and forgets targets of `namespace`, all at the same time. Also those that have ended: there is no other way to
/// be rid of their records.
///
/// # Errors
/// [`StopError::Find`] names the first that is not there, before anything is done; the others come after.
pub(crate) async fn stop(
    data_dir: &Path,
    namespace: &Namespace,
    which: &Which,
) -> Result<Vec<StopReport>, StopError> {
    let targets = LocalTargets::new(data_dir);
    let records = match which {
        Which::All => targets.registry.all(Some(namespace))?,
        Which::Named(names) => names
            .iter()
            .map(|name| targets.look_up(namespace, name))
            .collect::<Result<_, _>>()?,
    };
    let mut stopping = JoinSet::new();
    for record in records {
        let registry = targets.registry.clone();
        stopping.spawn(async move { stop_one(&registry, record).await });
    }
    let mut reports = Vec::new();
    for report in stopping.join_all().await {
        reports.push(report?);
    }
    reports.sort_by(|one, other| one.target.cmp(&other.target));
    Ok(reports)
}

async fn stop_one(registry: &Registry, record: Record) -> Result<StopReport, StopError> {
    let outcome = match record.state() {
        TargetState::Running | TargetState::Ending => end_by_keeper(registry, &record).await?,
        TargetState::Unkept => end_by_ourselves(registry, &record).await?,
        was @ (TargetState::Exited { .. }
        | TargetState::Signalled { .. }
        | TargetState::Stopped
        | TargetState::Lost) => forget(registry, &record, StopOutcome::Forgotten { was })?,
    };
    Ok(StopReport {
        target: record.target,
        namespace: record.namespace,
        outcome,
    })
}

async fn end_by_keeper(registry: &Registry, record: &Record) -> Result<StopOutcome, StopError> {
    let keeper = record.keeper.identity();
    keeper
        .signal(Signal::TERM)
        .map_err(|source| process_error(record, source))?;
    match timeout(KEEPER_WAIT, keeper.ended()).await {
        Ok(Ok(())) => {}
        Ok(Err(source)) => return Err(process_error(record, source)),
        Err(_) => return end_by_ourselves(registry, record).await,
    }
    if record.process.identity().is_alive() {
        // The keeper was killed, not ended.
        return end_by_ourselves(registry, record).await;
    }
    let end = registry
        .read(&record.namespace, &record.target)?
        .and_then(|record| record.end);
    let outcome = match end.map(|end| end.end) {
        Some(TargetEnd::Stopped) | None => StopOutcome::Stopped,
        // It was faster.
        Some(end @ (TargetEnd::Exited { .. } | TargetEnd::Signalled { .. })) => {
            StopOutcome::Forgotten {
                was: TargetState::of(Some(end), false, false),
            }
        }
    };
    forget(registry, record, outcome)
}

async fn end_by_ourselves(registry: &Registry, record: &Record) -> Result<StopOutcome, StopError> {
    let tree = Tree::in_session(record.process.identity(), record.keeper.identity());
    let remains = tree
        .end(STOP_GRACE)
        .await
        .map_err(|source| process_error(record, source))?;
    if remains.is_empty() {
        forget(registry, record, StopOutcome::Stopped)
    } else {
        let pids = remains.iter().map(|process| process.pid()).collect();
        Ok(StopOutcome::Remains { pids })
    }
}

/// Forgets the target, unless it was started anew meanwhile.
fn forget(
    registry: &Registry,
    record: &Record,
    outcome: StopOutcome,
) -> Result<StopOutcome, StopError> {
    let (namespace, target) = (&record.namespace, &record.target);
    let Some(lock) = registry.lock(namespace, target)? else {
        return Ok(StopOutcome::Busy);
    };
    let is_same = registry
        .read(namespace, target)?
        .is_some_and(|found| found.process == record.process);
    if is_same {
        registry.forget(namespace, target, &lock)?;
        if let Some(folder) = &record.place {
            Place::of(folder.clone()).remove();
        }
    }
    Ok(outcome)
}

fn process_error(record: &Record, source: io::Error) -> StopError {
    StopError::Process {
        target: record.target.clone(),
        pid: record.process.identity().pid(),
        source,
    }
}
