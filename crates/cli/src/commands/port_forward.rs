//! `bough port-forward`: ports of this machine that lead through a target's network, and ports of a target that lead
//! here.
//!
//! Owns arguments and the order of the steps: everything that was asked for stands before anything is said to. `mapping`
//! reads the mappings, `forward` carries connections.

mod forward;
mod mapping;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use config::TargetChoice;
use model::{ExitCode, IncomingMode, Namespace};
use resources::NetworkWish;
use supervisor::{Signals, SignalsError};
use wire::CloseReason;
use wire::pump::{ConnectError, Inbox, Session};

use crate::agent_words;
use crate::contexts::{self, AgentLink, ClusterSession, Leftovers, TargetWish};
use crate::error::CommandError;
use crate::session_file;
use crate::settings::Settings;
use crate::ui::{Ui, words};
use forward::{ForwardError, Forwards};
use mapping::{From, To};

/// For how long a lost link is tried again, before the forwarding is over.
const GRACE: Duration = Duration::from_secs(60);

const EXAMPLES: &str = "\
Examples:
  bough port-forward -t deployment/inventory -n metalmart -L 5433:db:5432
  bough port-forward -t deployment/inventory -n metalmart -L 127.0.0.1:8082 -L 9090:cart:9090
  bough port-forward -t deployment/inventory -n metalmart -R 8082:18000
  bough port-forward -t deployment/inventory -n metalmart -R 8082:18000 --copy
  bough port-forward -f .mirrord/inventory.json -L db:5432

Names are looked up, and connections made, in the target's network, at the time of each connection. -R takes the
target's port whole, unless --copy leaves it to the target: its own listener gets nothing until this command ends. It
runs until Ctrl-C.";

/// Lead ports of this machine through a target's network, or a target's ports to this machine
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PortForwardArgs {
    /// A port of this machine that leads to a host and port as the target reaches them: HOST:PORT, or LOCAL_PORT:HOST:PORT
    /// where it is not the same; may be given several times
    #[arg(
        short = 'L',
        long = "local",
        value_name = "[PORT:]HOST:PORT",
        required_unless_present = "from"
    )]
    to: Vec<To>,

    /// A port of the target that leads to one of this machine's 127.0.0.1: LOCAL_PORT, or TARGET_PORT:LOCAL_PORT where it is
    /// not the same; may be given several times
    #[arg(short = 'R', long = "reverse", value_name = "[PORT:]PORT")]
    from: Vec<From>,

    /// With -R: bring copies alone; the target goes on answering, and what is answered here goes nowhere
    #[arg(long, requires = "from")]
    copy: bool,

    /// Through whose network: KIND/NAME [default: MIRRORD_IMPERSONATED_TARGET, else the file's]
    #[arg(short, long)]
    target: Option<TargetChoice>,

    /// The target's namespace [default: MIRRORD_TARGET_NAMESPACE, else the file's, else the context's own, else `default`]
    #[arg(short, long, visible_alias = "target-namespace", value_name = "NS")]
    namespace: Option<Namespace>,

    /// Where targets live [default: MIRRORD_KUBE_CONTEXT, else the file's kube_context]
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,

    /// Configuration file whose target it is, - for standard input
    #[arg(short = 'f', long, value_name = "FILE")]
    config_file: Option<PathBuf>,
}

/// Why nothing is forwarded.
#[derive(Debug, thiserror::Error)]
enum PortForwardError {
    #[error("no target is named, and ports are forwarded through a target's network")]
    NoTarget,
    #[error("{0} has no agent, so its network cannot be reached")]
    NoAgent(String),
    #[error("cannot come to the agent of {target}")]
    Connect {
        target: String,
        #[source]
        source: ConnectError,
    },
    #[error("cannot wait for signals")]
    Signals(#[source] SignalsError),
    #[error("the forwarding is over: {0}")]
    Over(String),
}

impl std::convert::From<PortForwardError> for CommandError {
    fn from(error: PortForwardError) -> Self {
        let exit = match &error {
            PortForwardError::NoTarget => ExitCode::Usage,
            PortForwardError::NoAgent(_)
            | PortForwardError::Connect { .. }
            | PortForwardError::Over(_) => ExitCode::Target,
            PortForwardError::Signals(_) => ExitCode::Internal,
        };
        let hint = match &error {
            PortForwardError::NoTarget => "-t KIND/NAME names one; `bough local ls` shows them",
            PortForwardError::NoAgent(_) => "`bough local run` starts it again, with an agent",
            PortForwardError::Connect { .. }
            | PortForwardError::Over(_)
            | PortForwardError::Signals(_) => return Self::new(exit, error),
        };
        Self::new(exit, error).with_hint(hint)
    }
}

impl std::convert::From<ForwardError> for CommandError {
    fn from(error: ForwardError) -> Self {
        let exit = match &error {
            ForwardError::Listen { .. } => ExitCode::Internal,
            ForwardError::Subscribe { .. } | ForwardError::Call { .. } => ExitCode::Target,
        };
        let hint = error.hint();
        let failure = Self::new(exit, error);
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

/// Forwards until a signal, or until the target is gone.
pub(crate) async fn run(
    args: &PortForwardArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<ExitCode, CommandError> {
    let (name, link, resource) = find(args, settings, ui).await?;
    let led = lead(args, &name, &link, resource.as_ref(), ui).await;
    if let Some(resource) = resource {
        resource.end().await;
    }
    led
}

/// Forwards through the agent of the target `name`, for as long as nobody ends it.
async fn lead(
    args: &PortForwardArgs,
    name: &str,
    link: &AgentLink,
    resource: Option<&ClusterSession>,
    ui: &Ui,
) -> Result<ExitCode, CommandError> {
    let connected = link.connect(GRACE).await;
    let (session, inbox) = connected.map_err(|source| PortForwardError::Connect {
        target: name.to_owned(),
        source,
    })?;
    // Not before: a cluster may take its time, and until there is a session a signal may end this as it ends anything.
    let mut signals = Signals::install().map_err(PortForwardError::Signals)?;
    let ended = tokio::select! {
        ended = forward(args, &session, inbox, name, ui) => ended,
        why = ended(resource) => Err(PortForwardError::Over(why).into()),
        _ = signals.interrupted() => Ok(ExitCode::Success),
    };
    // The target's ports go back and connections end at once, not when the agent's patience is over.
    session.leave(CloseReason::Done).await;
    ended
}

/// Waits until somebody ends the session by its resource; says who.
async fn ended(resource: Option<&ClusterSession>) -> String {
    match resource {
        Some(resource) => resource.over().await,
        None => std::future::pending().await,
    }
}

/// Forwards until the session is over.
async fn forward(
    args: &PortForwardArgs,
    session: &Session,
    inbox: Inbox,
    name: &str,
    ui: &Ui,
) -> Result<ExitCode, CommandError> {
    let forwards = Forwards::open(session, inbox, args).await?;
    for line in forwards.describe(name) {
        ui.note(&line);
    }
    let reason = tokio::select! {
        () = forwards.serve(|line| ui.warn(line)) => session.closed().await,
        reason = session.closed() => reason,
    };
    let grace = words::span(GRACE.as_secs());
    Err(PortForwardError::Over(agent_words::end(&reason, &grace)).into())
}

/// The target and the way to its agent.
async fn find(
    args: &PortForwardArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<(String, AgentLink, Option<ClusterSession>), CommandError> {
    let mut surroundings = session_file::surroundings(settings)?;
    surroundings.target = args.target.clone();
    surroundings.namespace = args.namespace.clone();
    let config = session_file::read(args.config_file.as_deref(), settings, &surroundings)?;
    let context = session_file::choose_context(args.context.as_deref(), &config, settings)?;
    let namespace =
        settings.choose_namespace_of(config.target.namespace.as_ref(), context.namespace())?;
    let target = config.target.workload();
    let target = target.ok_or(PortForwardError::NoTarget)?;
    let wish = TargetWish {
        session: format!("{:016x}", rand::random::<u64>()),
        network: NetworkWish {
            incoming: match (args.from.is_empty(), args.copy) {
                (true, _) => IncomingMode::Off,
                (false, true) => IncomingMode::Mirror,
                (false, false) => IncomingMode::Steal,
            },
            outgoing: !args.to.is_empty(),
        },
        image: settings.agent_image.clone(),
        by_operator: config.operator != Some(false),
        leftovers: Leftovers::default(),
    };
    let found = contexts::find(&context, &namespace, target, wish, settings).await?;
    for remark in &found.remarks {
        ui.note(&format!("bough: {remark}"));
    }
    let name = found.reference.to_string();
    match found.agent {
        Some(link) => Ok((name, link, found.session)),
        None => Err(PortForwardError::NoAgent(name).into()),
    }
}
