//! The thread that takes the filter, starts the program, and ends: a filtered thread that lived on would keep the
//! listener from ever saying that the session is over.

use std::io;
use std::sync::mpsc;

use rustix::process::Rlimit;

use super::GuardError;
use crate::command::{Command, SpawnError, Start};
use crate::process::Process;
use crate::seccomp::{self, InstallError, Listener, Scope};

/// A thread that waits for what it is to start.
#[derive(Debug)]
pub(super) struct Launcher {
    // One order and one answer, ever: launching takes the launcher.
    order_tx: mpsc::Sender<(Command, Rlimit)>,
    started_rx: mpsc::Receiver<Result<Process, SpawnError>>,
}

impl Launcher {
    /// Starts the thread and gives it the filter.
    ///
    /// # Errors
    /// [`GuardError`] when there can be no thread or no filter.
    pub(super) fn start(scope: Scope) -> Result<(Self, Listener), GuardError> {
        let (installed_tx, installed_rx) = mpsc::channel();
        let (order_tx, order_rx) = mpsc::channel::<(Command, Rlimit)>();
        let (started_tx, started_rx) = mpsc::channel();
        let thread = std::thread::Builder::new().name("launcher".to_owned());
        let run = move || {
            let filter = seccomp::build(scope);
            let installed = seccomp::install(&filter);
            let is_installed = installed.is_ok();
            // A receiver that is gone has given up on the session: so does this thread.
            if installed_tx.send(installed).is_err() || !is_installed {
                return;
            }
            if let Ok((command, limit)) = order_rx.recv() {
                let _given_up = started_tx.send(command.start(Start::Guarded(limit)));
            }
        };
        thread.spawn(run).map_err(GuardError::Setup)?;
        let gone = |_| InstallError::Filter(io::Error::other("the thread is gone"));
        let listener = installed_rx.recv().map_err(gone)??;
        let launcher = Self {
            order_tx,
            started_rx,
        };
        Ok((launcher, listener))
    }

    /// Starts `command` under the filter, with `limit` descriptors, and lets the thread end.
    ///
    /// # Errors
    /// [`SpawnError`].
    pub(super) fn launch(self, command: Command, limit: Rlimit) -> Result<Process, SpawnError> {
        let gone = |path| SpawnError::Start {
            path,
            source: io::Error::other("the thread that starts it is gone"),
        };
        let path = command.program.clone().into();
        let sent = self.order_tx.send((command, limit)).ok();
        let started = sent.and_then(|()| self.started_rx.recv().ok());
        started.unwrap_or_else(|| Err(gone(path)))
    }
}
