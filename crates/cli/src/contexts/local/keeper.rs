//! The keeper: a daemon that starts one target's process, stays its parent, and writes down how it ended.
//!
//! Its own session, so that neither the terminal nor the shell that `run` was started from takes it along. Signals
//! that it gets go on to the process; TERM ends the process with all that descends from it, and then the keeper.
//! When the process ends by itself, what it left behind is ended too: nobody could find it again.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use model::chain;
use rustix::process::{Signal, setsid};
use supervisor::{
    Child, Command, Output, Process, STOP_GRACE, Signals, SignalsError, SpawnError, StopReason,
};
use tokio::signal::unix::{SignalKind, signal};

use super::companions::Companions;
use super::ground::Ground;
use super::handover::{Answer, Order, Refusal, give_answer, take_order};
use super::names;
use super::place::Place;
use super::registry::{Record, RecordedEnd, Registry, RegistryError, Started, TargetLock};

/// Why a keeper could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// Nobody ordered anything on standard input.
    #[error("cannot take an order: this command is for `bough local run` to start")]
    Order(#[source] io::Error),
    /// The session cannot be left.
    #[error("cannot leave the session of the caller")]
    Session(#[source] io::Error),
    /// TERM cannot be waited for.
    #[error("cannot wait for signals")]
    Terminate(#[source] io::Error),
    /// The end of the target could not be written down. It is in the target's log as well.
    #[error("cannot record how the target ended")]
    Record(#[source] RegistryError),
}

/// Does a keeper's work: takes an order from standard input, answers, and returns when the target has ended.
/// `now` tells the time. For the hidden verb `local keep`; needs nothing from the environment.
///
/// # Errors
/// [`KeepError`]; that a target could not be started is no error here, it is the answer to whoever asked.
pub(crate) async fn keep(now: fn() -> Timestamp) -> Result<(), KeepError> {
    let mut socket = standard_input().map_err(KeepError::Order)?;
    let order = take_order(&mut socket).map_err(KeepError::Order)?;
    leave_session().map_err(KeepError::Session)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(KeepError::Terminate)?;
    let mut kept = match Kept::start(order, now()) {
        Ok(kept) => kept,
        Err(refusal) => {
            // Whoever asked is gone, then nobody is left to tell.
            let _gone = give_answer(&mut socket, &Answer::Refused(refusal));
            return Ok(());
        }
    };
    let process = kept.child.process();
    let started = Answer::Started {
        pid: process.pid(),
        start_ticks: process.start_ticks(),
        network: kept.record.network.clone(),
        place: kept.record.place.clone(),
    };
    // The target outlives whoever asked for it: it is registered, and can be found.
    let _gone = give_answer(&mut socket, &started);
    let end = loop {
        tokio::select! {
            end = kept.child.wait(&mut kept.signals) => break end,
            _ = terminate.recv() => {
                kept.child.stop_handle().stop(StopReason::Asked, STOP_GRACE);
                break kept.child.wait(&mut kept.signals).await;
            }
            () = look_after(&mut kept.companions) => {}
        }
    };
    if let Some(companions) = kept.companions.take() {
        companions.end();
    }
    // What cannot be ended stays, and is no reason to be silent about the end.
    let _remains = kept.child.end_remains(&mut kept.signals, STOP_GRACE).await;
    kept.record.place = None;
    kept.record.end = Some(RecordedEnd {
        at: now(),
        end: end.into(),
    });
    let written = kept.write_record();
    if kept.record.has_own_network() {
        // Where it fails, others see a name that leads to nobody until the next target starts.
        let _stale = names::refresh(&kept.data_dir, &kept.registry);
    }
    written
}

async fn look_after(companions: &mut Option<Companions>) {
    match companions {
        Some(companions) => companions.look_after().await,
        None => std::future::pending().await,
    }
}

/// The socket that is this process's standard input.
fn standard_input() -> io::Result<UnixStream> {
    let input: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    Ok(UnixStream::from(input))
}

fn leave_session() -> io::Result<()> {
    match setsid() {
        // It leads a group of its own, which no session of a shell holds: started by hand, for a test.
        Ok(_) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A target that runs.
struct Kept {
    child: Child,
    signals: Signals,
    registry: Registry,
    record: Record,
    lock: TargetLock,
    log: File,
    companions: Option<Companions>,
    data_dir: PathBuf,
}

/// What can go wrong at the start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("cannot tell who this process is")]
    Keeper(#[source] io::Error),
    #[error("cannot open the log for the process")]
    Log(#[source] io::Error),
    #[error("cannot make a folder for the target's agent")]
    Place(#[source] io::Error),
    #[error("cannot start in the network that was made for it")]
    Relay(#[source] io::Error),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Signals(#[from] SignalsError),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Self {
        let message = chain(&error);
        match error {
            StartError::Spawn(spawn) => Self::Program {
                message,
                exit_code: spawn.exit_code().into(),
            },
            StartError::Keeper(_)
            | StartError::Log(_)
            | StartError::Place(_)
            | StartError::Relay(_)
            | StartError::Registry(_)
            | StartError::Signals(_) => Self::Register { message },
        }
    }
}

impl Kept {
    /// Starts and registers the target, unless it runs.
    fn start(order: Order, at: Timestamp) -> Result<Self, Refusal> {
        let registry = Registry::of(&order.data_dir);
        let (namespace, target) = (&order.namespace, &order.target);
        let lock = registry.lock(namespace, target).map_err(StartError::from)?;
        let record = registry.read(namespace, target).map_err(StartError::from)?;
        if let Some(record) = record.as_ref().filter(|record| record.state().runs()) {
            return Err(Refusal::Running {
                pid: record.process.identity().pid(),
            });
        }
        let lock = lock.ok_or(Refusal::Busy)?;
        // One of a time that nobody looked after.
        if let Some(folder) = record.and_then(|record| record.place) {
            Place::of(folder).remove();
        }
        let ground = Ground::prepare(&order)?;
        Ok(Self::spawn(registry, lock, order, ground, at)?)
    }

    fn spawn(
        registry: Registry,
        lock: TargetLock,
        order: Order,
        ground: Ground,
        at: Timestamp,
    ) -> Result<Self, StartError> {
        let Order {
            target, namespace, ..
        } = &order;
        let keeper = Process::current().map_err(StartError::Keeper)?;
        let log = registry.create_log(namespace, target, &lock)?;
        // TERM is for the keeper itself.
        let mut signals = Signals::install_without(&[Signal::TERM.as_raw()])?;
        let command = Command {
            program: order.program.clone(),
            args: order.args.clone(),
            env: order.environment.iter().cloned().collect(),
            cwd: order.directory.clone(),
            output: Output::File(log.try_clone().map_err(StartError::Log)?),
        };
        // Dropped by a failure below, it takes its process along.
        let child = ground.spawn(command, &mut signals)?;
        let process = child.process();
        let Ground {
            place,
            relay,
            network,
        } = ground;
        let folder = place.as_ref().map(|place| place.path().to_owned());
        let companions = place.map(|place| {
            let (companions, started) = Companions::start(place, process, relay);
            if let Err(error) = started {
                // The target is of use without; sessions say what they lack.
                let _full = writeln!(&log, "bough: the target's agent does not start: {error}");
            }
            companions
        });
        let record = Record::new(&Started {
            target,
            namespace,
            place: folder.as_deref(),
            network: &network,
            ports: &order.ports,
            program: Path::new(&order.program),
            keeper,
            process,
            at,
        })?;
        registry.write(&record, &lock)?;
        if record.has_own_network()
            && let Err(error) = names::refresh(&order.data_dir, &registry)
        {
            let _full = writeln!(&log, "bough: other targets do not know this one: {error}");
        }
        Ok(Self {
            data_dir: order.data_dir.clone(),
            child,
            signals,
            registry,
            record,
            lock,
            log,
            companions,
        })
    }

    fn write_record(&mut self) -> Result<(), KeepError> {
        let written = self.registry.write(&self.record, &self.lock);
        written.map_err(|error| {
            // Nobody reads what this process says; the log is where they look. It may be on the same full disk.
            let _full = writeln!(self.log, "bough: cannot record the end: {}", chain(&error));
            KeepError::Record(error)
        })
    }
}
