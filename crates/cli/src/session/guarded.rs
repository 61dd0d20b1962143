//! A session whose network is guarded: set up, run, and told of.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use model::ExitCode;
use supervisor::{
    Child, Command, Event, FencePlan, Guard, GuardError, GuardPlan, KnownHosts, NetworkPlan,
    NetworkThread, Prepared, Report, STOP_GRACE, Signals, SpawnError, TargetNetwork,
    WatcherProgram, network as plans,
};
use wire::SubscribeFailure;

use super::follow::follow;
use super::membership::Membership;
use super::network::{self, Joined, NetworkLoss};
use super::prepare::Plan;
use super::{Made, Request, end_lost, fence};
use crate::agent_words;
use crate::contexts::PodFollower;
use crate::error::CommandError;
use crate::ui::{Ui, words};

/// This very program, also where its file was replaced meanwhile.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// The hidden command that stands by.
const WATCH_COMMAND: &str = "watch-session";

/// The certificate cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the session's certificate to {path:?}")]
struct CaFileError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A session that is ready to be started.
pub(super) struct Guarded {
    fence: FencePlan,
    network: Option<Arc<TargetNetwork>>,
    follower: Option<PodFollower>,
    prepared: Prepared,
    opening: Vec<String>,
}

/// A session that runs.
pub(super) struct Running {
    child: Child,
    guard: Guard,
    fence: FencePlan,
    network: Option<Arc<TargetNetwork>>,
    follower: Option<PodFollower>,
}

impl Guarded {
    /// Sets everything up but the program.
    ///
    /// # Errors
    /// With the exit code for branches: what cannot be guarded does not run.
    pub(super) fn prepare(
        request: &Request<'_>,
        plan: &Plan,
        made: &Made,
        hosts: KnownHosts,
        joined: Option<Joined>,
    ) -> Result<Self, CommandError> {
        let (on_source, asserts) = (request.on_source, request.assert_isolated);
        let fence = fence::plan_fence(&made.branches, &made.tls, on_source, asserts)
            .map_err(|error| CommandError::new(ExitCode::Branch, error))?;
        let network = joined.as_ref().map(|joined| Arc::clone(&joined.network));
        let mut opening = network::describe(plan, network.as_deref());
        opening.extend(fence::describe(&fence, &hosts));
        let thread = match &joined {
            Some(joined) => joined.thread.clone(),
            None => NetworkThread::start().map_err(GuardError::Setup)?,
        };
        let prepared = supervisor::guard::prepare(GuardPlan {
            id: format!("{:016x}", rand::random::<u64>()),
            fence: fence.clone(),
            hosts,
            network: joined.map(|joined| (joined.network, joined.inbox)),
            thread,
            watcher: WatcherProgram {
                program: OWN_PROGRAM.into(),
                args: vec![WATCH_COMMAND.into()],
            },
        })?;
        if let Some(path) = &request.ca_file {
            fs::write(path, prepared.certificate()).map_err(|source| {
                let path = path.clone();
                CommandError::new(ExitCode::Usage, CaFileError { path, source })
            })?;
        }
        Ok(Self {
            fence,
            network,
            follower: plan.follower().cloned(),
            prepared,
            opening,
        })
    }

    /// What is in force, for the opening line.
    pub(super) fn opening(&self) -> &[String] {
        &self.opening
    }

    /// Starts the program.
    ///
    /// # Errors
    /// [`SpawnError`].
    pub(super) fn spawn(
        self,
        command: Command,
        signals: &mut Signals,
    ) -> Result<Running, SpawnError> {
        let (child, guard) = self.prepared.spawn(command, signals)?;
        Ok(Running {
            child,
            guard,
            fence: self.fence,
            network: self.network,
            follower: self.follower,
        })
    }
}

impl Running {
    /// Waits for the program's end, and tells what happens meanwhile.
    ///
    /// # Errors
    /// When the session lost a branch and ended the program for it.
    pub(super) async fn supervise(
        &mut self,
        holds: bool,
        membership: &Membership<'_>,
        signals: &mut Signals,
        ui: &Ui,
    ) -> Result<u8, CommandError> {
        let mut keeping = std::pin::pin!(membership.keep(ui));
        let (network, follower) = (self.network.clone(), self.follower.clone());
        let thread = self.guard.thread().clone();
        let losing = follow(network.as_ref(), follower.as_ref(), &thread, ui);
        let mut losing = std::pin::pin!(losing);
        let loss = loop {
            tokio::select! {
                end = self.child.wait(signals) => return Ok(end.exit_code()),
                loss = &mut keeping, if holds => {
                    return Err(end_lost(&mut self.child, loss, signals, ui).await);
                }
                loss = &mut losing => break loss,
                event = self.guard.event() => {
                    let incoming = network.as_ref().map(|network| network.plan());
                    if let Some(loss) = tell(&event, incoming, ui) {
                        break loss;
                    }
                }
            }
        };
        Err(end_lost(&mut self.child, loss, signals, ui).await)
    }

    /// Ends what the program left behind, which nobody would guard, and the guard.
    pub(super) async fn finish(mut self, signals: &mut Signals, ui: &Ui) -> (FencePlan, Report) {
        let left = self.child.members().len();
        if left > 0 {
            let left = words::things(left, "program");
            ui.note(&format!(
                "bough: ending {left} that it left behind: the fence ends with the session"
            ));
            // What cannot be ended gets no further into the network: its calls have nobody left to ask.
            let _stuck = self.child.end_remains(signals, STOP_GRACE).await;
        }
        let incoming = self.network.as_ref().map(|network| network.plan());
        for event in self.guard.last_events().await {
            // The session is over: none of them ends it.
            let _loss = tell(&event, incoming, ui);
        }
        (self.fence, self.guard.finish())
    }
}

/// Tells an event; what it says may be the end of the session.
fn tell(event: &Event, plan: Option<&NetworkPlan>, ui: &Ui) -> Option<NetworkLoss> {
    match event {
        Event::Subscribed {
            asked,
            real,
            port,
            is_copy,
            left_established,
        } => {
            let what = if *is_copy { "copies of" } else { "stolen" };
            let at = if asked.port() == *real {
                format!("port {real}")
            } else {
                format!("port {} (here {real})", asked.port())
            };
            ui.note(&format!(
                "bough: {what} connections to port {port} of the target come to {at}"
            ));
            if *left_established > 0 {
                let left = words::things(*left_established as usize, "connection");
                ui.note(&format!("bough:   {left} from before stay with the target"));
            }
        }
        Event::NotSubscribed { port, why } => {
            let aborts = plan.is_some_and(|plan| {
                plan.incoming.on_concurrent_steal == plans::OnConcurrentSteal::Abort
            });
            if *why == SubscribeFailure::Taken && aborts {
                return Some(NetworkLoss::Taken(*port));
            }
            let why = agent_words::refusal(why);
            ui.warn(&format!(
                "connections to port {port} of the target do not come here: {why}"
            ));
        }
        Event::SubscriptionEnded { port, why } => ui.warn(&format!(
            "connections to port {port} of the target come no longer: {why}"
        )),
        Event::CopiesDropped(connections) => {
            let dropped =
                words::things(usize::try_from(*connections).unwrap_or(usize::MAX), "copy");
            ui.warn(&format!(
                "{dropped} of connections ended early: the program read too slowly; the target got every byte"
            ));
        }
        Event::PortTaken(taken) => {
            let port = taken.asked.port();
            let why = match &taken.holder {
                Some(holder) => format!("{holder} has it"),
                None => "it is not to be had".to_owned(),
            };
            ui.note(&format!(
                "bough: {} asked for port {port} and listens on {}: {why}",
                taken.program, taken.real
            ));
        }
        Event::CertificateRefused(place) => {
            ui.warn(&format!(
                "a program that verifies certificates refused the fence's own for {place}"
            ));
            ui.hint("sslmode=require does without; for verify-ca and verify-full, `exec --ca-file FILE` writes what \
                     sslrootcert=FILE needs");
        }
        Event::Unreadable(program) => ui.warn(&format!(
            "a connection of {program} was refused: the fence could not look into it"
        )),
    }
    None
}
