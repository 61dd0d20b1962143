//! A session whose network is guarded: set up, run, and told of.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use model::ExitCode;
use supervisor::{
    Child, Command, Event, FencePlan, Guard, GuardPlan, KnownHosts, Prepared, Remote, Report,
    STOP_GRACE, Signals, SpawnError, WatcherProgram,
};

use super::membership::Membership;
use super::{Made, Request, end_lost, fence};
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
    prepared: Prepared,
    opening: Vec<String>,
}

/// A session that runs.
pub(super) struct Running {
    child: Child,
    guard: Guard,
    fence: FencePlan,
}

impl Guarded {
    /// Sets everything up but the program.
    ///
    /// # Errors
    /// With the exit code for branches: what cannot be guarded does not run.
    pub(super) fn prepare(
        request: &Request<'_>,
        made: &Made,
        hosts: KnownHosts,
        remote: Arc<dyn Remote>,
    ) -> Result<Self, CommandError> {
        let (on_source, asserts) = (request.on_source, request.assert_isolated);
        let fence = fence::plan_fence(&made.branches, &made.tls, on_source, asserts)
            .map_err(|error| CommandError::new(ExitCode::Branch, error))?;
        let opening = fence::describe(&fence, &hosts);
        let prepared = supervisor::guard::prepare(GuardPlan {
            id: format!("{:016x}", rand::random::<u64>()),
            fence: fence.clone(),
            hosts,
            remote,
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
        let mut keeping = std::pin::pin!(membership.keep());
        let loss = loop {
            tokio::select! {
                end = self.child.wait(signals) => return Ok(end.exit_code()),
                loss = &mut keeping, if holds => break loss,
                event = self.guard.event() => tell(&event, ui),
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
        (self.fence, self.guard.finish())
    }
}

fn tell(event: &Event, ui: &Ui) {
    match event {
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
            "a connection of {program} was refused: it may be executed and not read, so the fence cannot look into it"
        )),
    }
}
