//! `local run`: a process of this machine becomes a target.
//!
//! Owns the starting of a keeper and the waiting for the target's ports. Leaves the process to the keeper.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use model::{ExitCode, Namespace, TargetKind, TargetRef};
use serde::Serialize;
use supervisor::{Process, descriptors};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::companions::PublishedPort;
use super::handover::{self, Answer, NetworkChoice, Order, Refusal};
use super::log::last_lines;
use super::place::Place;
use super::registry::{Registry, RegistryError, TargetNetwork, is_kind, is_name};
use super::state::TargetState;

/// How often a port is tried. Nothing tells of another process's listening.
const PORT_INTERVAL: Duration = Duration::from_millis(20);

/// How long the keeper of a process that ended may take to write it down, before the end is told without its code.
const RECORD_WAIT: Duration = Duration::from_secs(2);

/// Lines of the log that tell why a process ended at its start.
const LAST_LINES: usize = 10;

/// What is to be a target.
pub(crate) struct RunRequest {
    /// The data directory.
    pub(crate) data_dir: PathBuf,
    /// How a keeper is started.
    pub(crate) keeper: KeeperProgram,
    /// The target's name.
    pub(crate) target: TargetRef,
    /// Its namespace.
    pub(crate) namespace: Namespace,
    /// TCP ports that it is to listen on.
    pub(crate) ports: Vec<u16>,
    /// What of this machine is to lead to its ports, where it has a network of its own.
    pub(crate) published: Vec<PublishedPort>,
    /// Which network it is to have.
    pub(crate) network: NetworkChoice,
    /// The program, a path or searched along the `PATH` of `environment`.
    pub(crate) program: OsString,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
    /// Its whole environment.
    pub(crate) environment: BTreeMap<OsString, OsString>,
    /// Its working directory.
    pub(crate) directory: PathBuf,
    /// How long to wait for the ports; zero not to wait.
    pub(crate) wait: Duration,
}

/// The command that is a keeper: it must come to [`super::keep`].
#[derive(Debug, Clone)]
pub(crate) struct KeeperProgram {
    /// The program.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
    /// Its environment. The target's is another.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Whether it is `bough`, and so the target's agent as well.
    pub(crate) has_companions: bool,
}

impl KeeperProgram {
    /// This very program's `local keep`. The data directory is there for people who look at the processes.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub(crate) fn this_program(data_dir: &Path) -> io::Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            args: vec![
                "local".into(),
                "keep".into(),
                "--data-dir".into(),
                data_dir.into(),
            ],
            environment: Vec::new(),
            has_companions: true,
        })
    }
}

/// How far a start has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunProgress {
    /// The process runs and is registered.
    Started {
        /// Its pid.
        pid: i32,
    },
    /// These ports do not answer yet.
    Waiting {
        /// Which.
        ports: Vec<u16>,
    },
    /// This one does.
    Listening {
        /// Which.
        port: u16,
    },
}

/// A target that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RunReport {
    /// The target.
    pub(crate) target: TargetRef,
    /// Its namespace.
    pub(crate) namespace: Namespace,
    /// The pid of its process.
    pub(crate) pid: i32,
    /// TCP ports that it listens on; when nobody waited, is to listen on.
    pub(crate) ports: Vec<u16>,
    /// Its network.
    #[serde(flatten)]
    pub(crate) network: TargetNetwork,
    /// Where it writes.
    pub(crate) log: PathBuf,
}

/// Why a process did not become a target that listens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// Its name is none.
    #[error(
        "cannot register {0:?}: a name has at most 253 of a-z, 0-9, '-' and '.', as Kubernetes has it for workloads"
    )]
    Name(String),
    /// Its kind names nothing.
    #[error("cannot register a target by label")]
    Kind,
    /// This program runs in a guarded session, whose filter every process below it has for good.
    #[error(
        "a target is not started from within a session: it would be behind its fence, and without a network at its end"
    )]
    InSession,
    /// Somebody else listens there.
    #[error("port {0} is taken: something on this machine answers on it already")]
    PortTaken(u16),
    /// A port cannot be published.
    #[error("cannot publish a port of the target: {message}")]
    Publish {
        /// Why.
        message: String,
    },
    /// It was to have a network of its own.
    #[error("cannot give the target a network of its own: {message}")]
    Network {
        /// Why.
        message: String,
    },
    /// No keeper could be started.
    #[error("cannot start the target's keeper")]
    Keeper(#[source] io::Error),
    /// It runs already.
    #[error("{target} in namespace {namespace} runs already (process {pid})")]
    Running {
        /// The target.
        target: TargetRef,
        /// Its namespace.
        namespace: Namespace,
        /// The pid of its process.
        pid: i32,
    },
    /// Somebody is starting or stopping it.
    #[error("another command is starting or stopping {target} in namespace {namespace}")]
    Busy {
        /// The target.
        target: TargetRef,
        /// Its namespace.
        namespace: Namespace,
    },
    /// The program cannot be started.
    #[error("cannot run the target: {message}")]
    Program {
        /// What was tried and why it failed.
        message: String,
        /// The exit code that shells have for it, or ours.
        exit_code: u8,
    },
    /// It cannot be registered.
    #[error("cannot register the target: {message}")]
    Register {
        /// What was tried and why it failed.
        message: String,
    },
    /// Its process ended before it listened.
    #[error("the target ended before it listened on {}: {state}", list_of(.ports))]
    Ended {
        /// What became of it.
        state: TargetState,
        /// The ports that did not answer.
        ports: Vec<u16>,
        /// The end of its log.
        last_lines: Vec<String>,
        /// Its log.
        log: PathBuf,
    },
    /// Its process runs, and does not listen.
    #[error(
        "the target runs (process {pid}) and does not listen on {} after {} s",
        list_of(.ports),
        .waited.as_secs()
    )]
    Silent {
        /// The pid of its process, which runs on.
        pid: i32,
        /// The ports that did not answer.
        ports: Vec<u16>,
        /// How long it was waited for.
        waited: Duration,
        /// Its log.
        log: PathBuf,
    },
    /// Its record cannot be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

fn list_of(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    ports.join(", ")
}

impl RunError {
    /// The exit code of a command that fails by it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Name(_) | Self::Kind => ExitCode::Usage.into(),
            Self::Program { exit_code, .. } => *exit_code,
            Self::Keeper(_) | Self::Register { .. } | Self::Registry(_) => {
                ExitCode::Internal.into()
            }
            Self::InSession
            | Self::PortTaken(_)
            | Self::Publish { .. }
            | Self::Network { .. }
            | Self::Running { .. }
            | Self::Busy { .. }
            | Self::Ended { .. }
            | Self::Silent { .. } => ExitCode::Target.into(),
        }
    }

    /// Lines that show what the message speaks of.
    pub(crate) fn details(&self) -> &[String] {
        match self {
            Self::Ended { last_lines, .. } => last_lines,
            Self::Name(_)
            | Self::Kind
            | Self::InSession
            | Self::PortTaken(_)
            | Self::Publish { .. }
            | Self::Network { .. }
            | Self::Keeper(_)
            | Self::Running { .. }
            | Self::Busy { .. }
            | Self::Program { .. }
            | Self::Register { .. }
            | Self::Silent { .. }
            | Self::Registry(_) => &[],
        }
    }

    /// What can be done.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Kind => {
                let kinds: Vec<_> = TargetKind::words()
                    .filter(|kind| *kind != "label")
                    .collect();
                Some(format!(
                    "name it as KIND/NAME, with KIND one of {}",
                    kinds.join(", ")
                ))
            }
            Self::InSession => Some("start it outside of the session".to_owned()),
            Self::PortTaken(port) => Some(format!(
                "`ss -ltnp 'sport = :{port}'` shows who listens there"
            )),
            Self::Publish { .. } => Some(
                "--publish HOST_PORT:PORT takes another port of this machine; without a network of its own, the \
                 target itself must listen on it"
                    .to_owned(),
            ),
            Self::Network { .. } => Some(
                "`bough doctor` shows what this machine lacks; without --network own the target shares its network"
                    .to_owned(),
            ),
            Self::Running {
                target, namespace, ..
            } => Some(format!(
                "`bough local stop {target} -n {namespace}` ends it"
            )),
            Self::Busy { .. } => Some("try again in a moment".to_owned()),
            Self::Ended { log, .. } => {
                Some(format!("these are the last lines of {}", log.display()))
            }
            Self::Silent { log, .. } => Some(format!(
                "it is left running: {} has what it wrote, `bough local stop` ends it, --wait SECONDS waits longer",
                log.display()
            )),
            Self::Name(_)
            | Self::Keeper(_)
            | Self::Program { .. }
            | Self::Register { .. }
            | Self::Registry(_) => None,
        }
    }
}

/// Starts a target, which outlives this process, and waits until it listens on its ports.
///
/// # Errors
/// [`RunError`]. After `Silent` the target runs on, after every other it does not.
pub(crate) async fn run(
    request: RunRequest,
    progress: &mut (dyn FnMut(RunProgress) + Send),
) -> Result<RunReport, RunError> {
    if !is_kind(request.target.kind) {
        return Err(RunError::Kind);
    }
    if !is_name(&request.target.name) {
        return Err(RunError::Name(request.target.name));
    }
    let registry = Registry::of(&request.data_dir);
    check_target(&registry, &request)?;
    let wait = request.wait;
    let (target, namespace) = (request.target.clone(), request.namespace.clone());
    let ports = request.ports.clone();
    let Running {
        process,
        network,
        door,
    } = start(request).await?;
    progress(RunProgress::Started { pid: process.pid() });
    let report = RunReport {
        log: registry.log_path(&namespace, &target),
        target,
        namespace,
        pid: process.pid(),
        ports,
        network,
    };
    if wait.is_zero() || report.ports.is_empty() {
        return Ok(report);
    }
    let mut silent = report.ports.clone();
    progress(RunProgress::Waiting {
        ports: silent.clone(),
    });
    tokio::select! {
        listening = timeout(wait, all_listening(&door, &mut silent, progress)) => match listening {
            Ok(()) => Ok(report),
            Err(_) => Err(RunError::Silent { pid: report.pid, ports: silent, waited: wait, log: report.log }),
        },
        _ended = process.ended() => Err(ended(&registry, report).await?),
    }
}

/// A target that runs is told of before anything else: its ports may be its own.
fn check_target(registry: &Registry, request: &RunRequest) -> Result<(), RunError> {
    let (namespace, target) = (&request.namespace, &request.target);
    let record = registry.read(namespace, target)?;
    match record.filter(|record| record.state().runs()) {
        Some(record) => Err(RunError::Running {
            target: record.target,
            namespace: record.namespace,
            pid: record.process.identity().pid(),
        }),
        None => Ok(()),
    }
}

/// Those of `ports` that somebody answers on already: in the machine's network he would pass for the target.
async fn taken(ports: &[u16]) -> Vec<u16> {
    let mut taken = Vec::new();
    for port in ports {
        if Door::Machine.answers(*port).await {
            taken.push(*port);
        }
    }
    taken
}

/// A target as its keeper tells of it.
struct Running {
    process: Process,
    network: TargetNetwork,
    door: Door,
}

async fn start(request: RunRequest) -> Result<Running, RunError> {
    let (target, namespace) = (request.target.clone(), request.namespace.clone());
    let taken = taken(&request.ports).await;
    // The conversation blocks; it is as short as the start of a process.
    let answer = tokio::task::spawn_blocking(move || converse(request, taken))
        .await
        .map_err(io::Error::other)
        .and_then(|answer| answer)
        .map_err(RunError::Keeper)?;
    match answer {
        Answer::Started {
            pid,
            start_ticks,
            network,
            place,
        } => Ok(Running {
            process: Process::from_parts(pid, start_ticks),
            door: Door::of(&network, place),
            network,
        }),
        Answer::Refused(refusal) => Err(refused(refusal, target, namespace)),
    }
}

fn refused(refusal: Refusal, target: TargetRef, namespace: Namespace) -> RunError {
    match refusal {
        Refusal::Running { pid } => RunError::Running {
            target,
            namespace,
            pid,
        },
        Refusal::Busy => RunError::Busy { target, namespace },
        Refusal::PortTaken { port } => RunError::PortTaken(port),
        Refusal::Publish { message } => RunError::Publish { message },
        Refusal::Network { message } => RunError::Network { message },
        Refusal::Program { message, exit_code } => RunError::Program { message, exit_code },
        Refusal::Register { message } => RunError::Register { message },
    }
}

fn converse(request: RunRequest, taken: Vec<u16>) -> io::Result<Answer> {
    let (ours, keepers) = UnixStream::pair()?;
    // A daemon that held a caller's pipe open would keep its reader waiting for ever.
    descriptors::keep_from_children()?;
    // It leads its own session soon, and is nobody's to wait for: this process ends long before it.
    let _daemon = Command::new(&request.keeper.program)
        .args(&request.keeper.args)
        .env_clear()
        .envs(request.keeper.environment)
        .current_dir("/")
        .stdin(OwnedFd::from(keepers))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let order = Order {
        data_dir: std::path::absolute(request.data_dir)?,
        target: request.target,
        namespace: request.namespace,
        ports: request.ports,
        program: request.program,
        args: request.args,
        environment: request.environment.into_iter().collect(),
        directory: request.directory,
        has_companions: request.keeper.has_companions,
        network: request.network,
        published: request.published,
        taken,
    };
    handover::ask(ours, &order)
}

/// Where a target's ports are tried.
enum Door {
    /// This machine's loopback.
    Machine,
    /// The socket of the relay of its own network.
    Relay(PathBuf),
}

impl Door {
    fn of(network: &TargetNetwork, place: Option<PathBuf>) -> Self {
        match (network, place) {
            (TargetNetwork::Own { .. }, Some(place)) => {
                Self::Relay(Place::of(place).relay_socket())
            }
            (TargetNetwork::Own { .. } | TargetNetwork::Shared { .. }, _) => Self::Machine,
        }
    }

    async fn answers(&self, port: u16) -> bool {
        match self {
            Self::Machine => TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .await
                .is_ok(),
            Self::Relay(socket) => agent::relay::visit(socket, port).await.is_ok(),
        }
    }
}

/// Waits until each of `silent` answers; takes those that do out of it.
async fn all_listening(
    door: &Door,
    silent: &mut Vec<u16>,
    progress: &mut (dyn FnMut(RunProgress) + Send),
) {
    let mut ticks = interval(PORT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Some(port) = silent.first().copied() {
        ticks.tick().await;
        if door.answers(port).await {
            silent.remove(0);
            progress(RunProgress::Listening { port });
        }
    }
}

/// The error of a target that ended while it was waited for.
async fn ended(registry: &Registry, report: RunReport) -> Result<RunError, RegistryError> {
    let record = registry.read(&report.namespace, &report.target)?;
    let mut state = TargetState::Lost;
    if let Some(record) = record {
        // The keeper ends when it has written how it ended. One that takes longer is ending what was left behind.
        let _written = timeout(RECORD_WAIT, record.keeper.identity().ended()).await;
        state = registry
            .read(&report.namespace, &report.target)?
            .map_or(state, |record| record.state());
    }
    Ok(RunError::Ended {
        state,
        ports: report.ports,
        last_lines: last_lines(&report.log, LAST_LINES).unwrap_or_default(),
        log: report.log,
    })
}
