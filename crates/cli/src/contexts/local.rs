//! The context `local`: targets are processes of this machine, started by `bough local run`.
//!
//! ```text
//!   run --order--> keeper (a daemon, one a target) --spawns--> the target's process
//!       <-answer--    | holds the target's lock while it lives, writes its record:
//!                     |   started ......... target.json says who runs
//!                     |   the process ended: target.json says how
//! ```
//!
//! Owns the register of targets (`registry`), their keepers (`keeper`) and agents (`companions`), and what the commands `local run|ls|logs|stop`
//! do, as functions that return reports. Leaves arguments and printing to those commands, signals and process trees to
//! `supervisor`.
//!
//! A target is the keeper's one direct child: its environment is that process's own. A command line that wraps the
//! program in a shell that stays (`sh -c 'a; b'`) makes the shell the target; one that ends with `exec` does not.

mod companions;
mod ground;
mod handover;
mod keeper;
mod list;
mod log;
mod names;
mod own_network;
mod place;
mod registry;
mod run;
mod state;
mod stop;
#[cfg(test)]
mod tests;

use std::path::Path;

use model::{Namespace, TargetKind, TargetRef};

use super::{FindError, FoundTarget, OtherTargets, Targets, environ};
use place::Place;
use registry::{Record, Registry};

pub(crate) use companions::{FORBIDDEN, PublishedPort, READY, TAKEN};
pub(crate) use handover::NetworkChoice;
pub(crate) use keeper::keep;
pub(crate) use list::{TargetReport, list};
pub(crate) use log::{log_path, open_at_last_lines};
pub(crate) use own_network::OwnNetwork;
pub(crate) use registry::{RegistryError, TargetNetwork};
pub(crate) use run::{KeeperProgram, RunError, RunProgress, RunReport, RunRequest, run};
pub(crate) use state::TargetState;
pub(crate) use stop::{StopError, StopOutcome, StopReport, Which, stop};

/// The targets that are registered in one data directory.
#[derive(Debug, Clone)]
pub(crate) struct LocalTargets {
    registry: Registry,
}

impl LocalTargets {
    /// The targets of `data_dir`.
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self {
            registry: Registry::of(data_dir),
        }
    }

    /// The record of `target`, whatever its state.
    fn look_up(&self, namespace: &Namespace, target: &TargetRef) -> Result<Record, FindError> {
        if target.kind == TargetKind::Label {
            return Err(FindError::Label(target.clone()));
        }
        let Some(record) = self.registry.read(namespace, target)? else {
            return Err(self.not_found(namespace, target));
        };
        match &target.container {
            Some(asked) if record.target.container.as_ref() != Some(asked) => {
                Err(FindError::Container {
                    target: record.target,
                    namespace: namespace.clone(),
                    asked: asked.clone(),
                })
            }
            Some(_) | None => Ok(record),
        }
    }

    fn not_found(&self, namespace: &Namespace, target: &TargetRef) -> FindError {
        let records = match self.registry.all(None) {
            Ok(records) => records,
            Err(error) => return error.into(),
        };
        let mut others = OtherTargets::default();
        for record in records {
            if record.namespace == *namespace {
                others.here.push(record.target.to_string());
            } else {
                let elsewhere = format!("{} -n {}", record.target, record.namespace);
                others.elsewhere.push(elsewhere);
            }
        }
        FindError::NotFound {
            target: target.clone(),
            namespace: namespace.clone(),
            others: Box::new(others),
        }
    }
}

impl Targets for LocalTargets {
    async fn find(
        &self,
        namespace: &Namespace,
        target: &TargetRef,
    ) -> Result<FoundTarget, FindError> {
        self.find_registered(namespace, target)
    }
}

impl LocalTargets {
    /// Finds a running target, and reads its environment.
    ///
    /// # Errors
    /// [`FindError`] when it is not there, does not run, or cannot be read.
    fn find_registered(
        &self,
        namespace: &Namespace,
        target: &TargetRef,
    ) -> Result<FoundTarget, FindError> {
        let record = self.look_up(namespace, target)?;
        let not_running = |state| FindError::NotRunning {
            target: target.clone(),
            namespace: namespace.clone(),
            state,
        };
        let state = record.state();
        if !state.runs() {
            return Err(not_running(state));
        }
        let process = record.process.identity();
        let environ = match environ::read(process) {
            Ok(environ) => environ,
            // It ended since the look above.
            Err(_) if !process.is_alive() => return Err(not_running(TargetState::Ending)),
            Err(source) => {
                return Err(FindError::Environment {
                    target: target.clone(),
                    pid: process.pid(),
                    source,
                });
            }
        };
        Ok(FoundTarget {
            reference: target.clone(),
            namespace: namespace.clone(),
            own_network: OwnNetwork::of(&record),
            follower: None,
            session: None,
            container: record.target.container,
            environment: environ.variables,
            skipped: environ.skipped,
            remarks: Vec::new(),
            ports: record.ports,
            agent: record
                .place
                .and_then(|folder| Place::of(folder).agent_link()),
        })
    }
}
