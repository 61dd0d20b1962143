//! Running servers: started directly (never by `pg_ctl`), known to be ready, adopted after an engine's end, ended.
//!
//! ```text
//!            postmaster.pid says "ready"
//!  start ──▶ starting ─────────────────▶ running ──stop──▶ ended
//!               │ exit, or the limit         ▲  │ exit
//!               ▼                            │  ▼
//!             ended, with the log's end    adopt ended (exited() returns)
//! ```
//!
//! Owns the process: its group, its descriptor (a pidfd, so that no other process is ever meant), its end, and the end
//! of every process that works in a data directory. A server outlives the engine: dropping its handle leaves it
//! running. Leaves its configuration to `settings`, who may connect to `connect`, and what it may reach to `confine`.

mod confine;
mod gate;
mod log_tail;
mod pid_file;
mod processes;
mod ready;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};

use self::confine::confine;
pub use self::confine::{ConfineError, check_confinement};
use self::gate::Gate;
use super::account::ServerAccount;
use super::binaries::Installation;
use super::settings::{Purpose, ServerSettings, SettingsError, socket_path};
use crate::volume::{DataDir, Prepared, StartFailure, VolumeError};

/// How long a server may take until it is ready: tens of milliseconds are usual, and a first start after a crash of the
/// machine replays at most what `max_wal_size` allows.
pub const START_TIME_MAX: Duration = Duration::from_secs(60);

/// How long a copy of a source may replay WAL until it is consistent: as much as the source writes between two
/// checkpoints. Whoever waits may give up before.
pub const RECOVERY_TIME_MAX: Duration = Duration::from_secs(3600);

/// How long a fast stop may take: it writes what is still in memory.
const FAST_STOP_TIME_MAX: Duration = Duration::from_secs(60);

/// How long an immediate stop may take: PostgreSQL itself kills what is left of it after 5 s.
const IMMEDIATE_STOP_TIME_MAX: Duration = Duration::from_secs(7);

/// How long a data directory may be held by what is about to let it go.
const ENTER_TIME_MAX: Duration = Duration::from_secs(2);

/// How long to wait before a held data directory is asked for again.
const ENTER_PAUSE: Duration = Duration::from_millis(10);

/// How a server is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Ends sessions, writes everything and says so in `pg_control`.
    Fast,
    /// Ends at once; the next start recovers. For what is going to be removed.
    Immediate,
}

/// Why a running server cannot be looked at or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The machine refused a call about the process.
    #[error("cannot {what} the server process {pid}")]
    Process {
        /// What was tried.
        what: &'static str,
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `/proc` or the data directory cannot be read.
    #[error("cannot look for processes that work in {data}")]
    Look {
        /// The data directory.
        data: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Processes are left that even SIGKILL did not end, as in a disk that does not answer.
    #[error("processes that work in {data} do not end: {pids:?}")]
    Unkillable {
        /// The data directory.
        data: PathBuf,
        /// The processes.
        pids: Vec<u32>,
    },
}

/// Why a server did not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its configuration could not be written.
    #[error("cannot configure the server in {data}")]
    Settings {
        /// The data directory.
        data: PathBuf,
        /// Why.
        #[source]
        source: SettingsError,
    },
    /// Its log or its files could not be prepared.
    #[error("cannot prepare {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its data directory could not be made ready, or entered.
    #[error("cannot bring a server into {data}")]
    Enter {
        /// The data directory.
        data: PathBuf,
        /// Why.
        #[source]
        source: VolumeError,
    },
    /// A server works in the directory already.
    #[error("a server works in {data} already, as process {pid}")]
    Running {
        /// The data directory.
        data: PathBuf,
        /// The process.
        pid: u32,
    },
    /// It could not be kept from the network.
    #[error("the server in {data} is not started: it could reach more than its clients")]
    Confine {
        /// The data directory.
        data: PathBuf,
        /// Why.
        #[source]
        source: ConfineError,
    },
    /// Its program could not be run.
    #[error("cannot run {program} as the account {account}")]
    Run {
        /// The program.
        program: PathBuf,
        /// The account.
        account: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It could not be watched.
    #[error("cannot watch the server in {data}")]
    Watch {
        /// The data directory.
        data: PathBuf,
        /// Why.
        #[source]
        source: ServerError,
    },
    /// It ended by itself.
    #[error("the server in {data} ended while it started: {log}")]
    Ended {
        /// The data directory.
        data: PathBuf,
        /// The last lines of its log that say why.
        log: String,
    },
    /// It was not ready in time.
    #[error("the server in {data} was not ready within {seconds} s: {log}")]
    TimedOut {
        /// The data directory.
        data: PathBuf,
        /// How long was waited.
        seconds: u64,
        /// The last lines of its log.
        log: String,
    },
}

impl StartError {
    /// One thing to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Confine { source, .. } => Some(source.hint()),
            Self::Settings { .. }
            | Self::File { .. }
            | Self::Enter { .. }
            | Self::Running { .. }
            | Self::Run { .. }
            | Self::Watch { .. }
            | Self::Ended { .. }
            | Self::TimedOut { .. } => None,
        }
    }
}

/// A server to start.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// Whose `postgres`.
    pub installation: &'a Installation,
    /// As whom.
    pub account: &'a ServerAccount,
    /// Its data directory, which belongs to that account.
    pub data: &'a Path,
    /// The file that its standard error is appended to; made with mode 0600.
    pub log: &'a Path,
    /// Its configuration, written at every start.
    pub settings: &'a ServerSettings,
}

/// A server that runs, or ran. Dropping it leaves the server running.
#[derive(Debug)]
pub struct Server {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    data: DataDir,
    /// Ours to reap, unless another engine started it. A child that is dropped is reaped by the runtime.
    child: Mutex<Option<Child>>,
    /// What lets it reach its base, until it is sealed.
    gate: Mutex<Option<Gate>>,
}

/// Writes the configuration, starts the server and waits until it is ready. A future that is dropped before that ends
/// the server.
///
/// # Errors
/// [`StartError`]; nothing of the server is left running.
pub async fn start(launch: &Launch<'_>) -> Result<Server, StartError> {
    let data = launch.data;
    let watch_failed = |source| StartError::Watch {
        data: data.to_owned(),
        source,
    };
    let home = DataDir::at(data);
    let prepared = enter(&home).await.map_err(|source| StartError::Enter {
        data: data.to_owned(),
        source,
    })?;
    let files = prepared.files();
    clear_lock_files(&home, files, &launch.settings.socket_dir)?;
    let major = launch.installation.major;
    let written = launch.settings.write(files, major, launch.account);
    written.map_err(|source| StartError::Settings {
        data: data.to_owned(),
        source,
    })?;
    let log = log_tail::LogTail::open(launch.log).map_err(|source| StartError::File {
        path: launch.log.to_owned(),
        source,
    })?;
    let server = Unready(Some(spawn(launch, home, prepared, &log)?));
    let time_max = start_time_max(launch.settings.purpose);
    let outcome = ready::wait(server.server(), time_max).await;
    let outcome = outcome.map_err(watch_failed)?;
    let failed = match outcome {
        ready::Outcome::Ready => return Ok(server.ready()),
        ready::Outcome::Ended => StartError::Ended {
            data: data.to_owned(),
            log: log.read(),
        },
        ready::Outcome::TimedOut => StartError::TimedOut {
            data: data.to_owned(),
            seconds: time_max.as_secs(),
            log: log.read(),
        },
    };
    // Here and now: a task of its own would meet the directory's next server.
    server
        .stop(StopMode::Immediate)
        .await
        .map_err(watch_failed)?;
    Err(failed)
}

fn start_time_max(purpose: Purpose) -> Duration {
    match purpose {
        Purpose::Base | Purpose::Branch => START_TIME_MAX,
        Purpose::Standby | Purpose::Subscriber | Purpose::Follower | Purpose::Recovery => {
            RECOVERY_TIME_MAX
        }
    }
}

/// Makes a data directory ready for a server. One that is in use is asked for again for a while: a process that another
/// task is just starting holds every descriptor of ours until it runs its program, a branch's lock among them.
async fn enter(home: &DataDir) -> Result<Prepared, VolumeError> {
    let tries = ENTER_TIME_MAX.as_millis() / ENTER_PAUSE.as_millis();
    for _ in 1..tries {
        match home.prepare() {
            Err(VolumeError::InUse { .. }) => tokio::time::sleep(ENTER_PAUSE).await,
            other => return other,
        }
    }
    home.prepare()
}

/// The living server of a data directory, believed only when its process works in that directory. One that is not
/// ready in time is ended.
///
/// # Errors
/// [`ServerError`] when the machine does not let us look.
pub async fn adopt(data: &Path) -> Result<Option<Server>, ServerError> {
    let home = DataDir::at(data);
    let Some(pid) = pid_file::read(&home.written()).pid else {
        return Ok(None);
    };
    // The descriptor first: what is checked after it is about this process and no later one of its number.
    let Some(server) = Server::open(pid, &home, None)? else {
        return Ok(None);
    };
    if !processes::is_server_of(pid, &home) {
        return Ok(None);
    }
    match ready::wait(&server, RECOVERY_TIME_MAX).await? {
        ready::Outcome::Ready => Ok(Some(server)),
        ready::Outcome::Ended | ready::Outcome::TimedOut => {
            sweep(data).await?;
            Ok(None)
        }
    }
}

/// Ends every process that works in a data directory: its server politely first, which frees the shared memory that
/// a killed one would leave behind, then whatever is left. Call it before a directory is removed.
///
/// # Errors
/// [`ServerError`] when the machine does not let us look, or when something does not end.
pub async fn sweep(data: &Path) -> Result<(), ServerError> {
    let home = DataDir::at(data);
    let found = pid_file::read(&home.written()).pid;
    if let Some(pid) = found.filter(|pid| processes::is_server_of(*pid, &home))
        && let Some(server) = Server::open(pid, &home, None)?
    {
        server.signal(Signal::QUIT)?;
        let ended = tokio::time::timeout(IMMEDIATE_STOP_TIME_MAX, server.exited());
        // Whether it ended or not, the rest is looked for below.
        drop(ended.await);
    }
    processes::kill_all(&home).await
}

impl Server {
    /// A handle of a living process; none when it ended.
    fn open(pid: Pid, data: &DataDir, child: Option<Child>) -> Result<Option<Self>, ServerError> {
        let failed = |source: io::Error| ServerError::Process {
            what: "open",
            pid: number(pid),
            source,
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(failed(errno.into())),
        };
        Ok(Some(Self {
            pid,
            pidfd: watched(pidfd).map_err(failed)?,
            data: data.clone(),
            child: Mutex::new(child),
            gate: Mutex::default(),
        }))
    }

    /// The postmaster's process id.
    pub fn pid(&self) -> u32 {
        number(self.pid)
    }

    /// The data directory, as the server knows it.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Waits until the postmaster has ended.
    pub async fn exited(&self) {
        // A pidfd is readable from its process's end on (pidfd_open(2)); an error would be the runtime's shutdown.
        drop(self.pidfd.readable().await);
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(child) = child.as_mut() {
            // Reaps it: a zombie keeps its socket's lock file valid.
            drop(child.try_wait());
        }
    }

    /// From here on it reaches nothing but its clients: for a server of [`Egress::UntilSealed`](super::settings::Egress),
    /// before anybody but the engine gets in.
    pub async fn seal(&self) {
        let gate = self
            .gate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(gate) = gate {
            gate.close().await;
        }
    }

    /// Ends the server and waits for it. A stop that takes too long becomes an immediate one, and that one a kill of
    /// everything that works in the data directory.
    ///
    /// # Errors
    /// [`ServerError`] when processes are left.
    pub async fn stop(&self, mode: StopMode) -> Result<(), ServerError> {
        let steps: &[(Signal, Duration)] = match mode {
            StopMode::Fast => &[
                (Signal::INT, FAST_STOP_TIME_MAX),
                (Signal::QUIT, IMMEDIATE_STOP_TIME_MAX),
            ],
            StopMode::Immediate => &[(Signal::QUIT, IMMEDIATE_STOP_TIME_MAX)],
        };
        for (signal, time_max) in steps {
            self.signal(*signal)?;
            let ended = tokio::time::timeout(*time_max, self.exited()).await;
            if ended.is_ok() {
                break;
            }
        }
        processes::kill_all(&self.data).await
    }

    /// Makes it read its configuration files again. Logins that begin after this are judged by the new `pg_hba.conf`.
    ///
    /// # Errors
    /// [`ServerError`] when it cannot be signalled.
    pub fn reload(&self) -> Result<(), ServerError> {
        self.signal(Signal::HUP)
    }

    /// Sends a signal; one to a process that has ended is no error.
    fn signal(&self, signal: Signal) -> Result<(), ServerError> {
        match pidfd_send_signal(self.pidfd.get_ref(), signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(ServerError::Process {
                what: "signal",
                pid: self.pid(),
                source: errno.into(),
            }),
        }
    }
}

/// A server that nobody holds yet: dropping it ends the server.
#[derive(Debug)]
pub struct Unready(Option<Server>);

impl Unready {
    /// Takes a running server into custody.
    pub fn new(server: Server) -> Self {
        Self(Some(server))
    }

    fn hold(&mut self, gate: Option<Gate>) {
        let server = self.0.as_mut().expect("only ready() takes the server out");
        *server
            .gate
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner) = gate;
    }

    /// The server.
    pub fn server(&self) -> &Server {
        self.0.as_ref().expect("only ready() takes the server out")
    }

    /// Stops it; what is dropped afterwards ends nothing.
    ///
    /// # Errors
    /// As [`Server::stop`].
    pub async fn stop(mut self, mode: StopMode) -> Result<(), ServerError> {
        self.server().stop(mode).await?;
        // A server that works in the directory from here on is another.
        drop(self.0.take());
        Ok(())
    }

    /// Lets the server out: from here on it outlives its handle.
    pub fn ready(mut self) -> Server {
        self.0.take().expect("only ready() takes the server out")
    }
}

impl Drop for Unready {
    fn drop(&mut self) {
        let Some(server) = self.0.take() else {
            return;
        };
        let asked = server.signal(Signal::QUIT);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if asked.is_ok() => drop(runtime.spawn(see_off(server))),
            // Nobody can wait any more.
            Ok(_) | Err(_) => drop(server.signal(Signal::KILL)),
        }
    }
}

/// Waits until a server that was told to quit has ended, its children before it. Only one that hangs is looked for in the
/// data directory: another may work there by now.
async fn see_off(server: Server) {
    let ended = tokio::time::timeout(IMMEDIATE_STOP_TIME_MAX, server.exited()).await;
    if ended.is_ok() {
        return;
    }
    if let Err(error) = processes::kill_all(&server.data).await {
        tracing::warn!(%error, data = %server.data().display(), "a server is left running");
    }
}

/// Removes what a server that is gone has left: its pid file, which would be taken for the new one's, and its socket's
/// lock, which counts for as long as nobody has reaped it. The socket's directory is this data directory's alone.
fn clear_lock_files(home: &DataDir, files: &Path, socket_dir: &Path) -> Result<(), StartError> {
    let found = pid_file::read(&home.written()).pid;
    if let Some(pid) = found.filter(|pid| processes::is_server_of(*pid, home)) {
        return Err(StartError::Running {
            data: home.path().to_owned(),
            pid: number(pid),
        });
    }
    let mut lock = socket_path(socket_dir).into_os_string();
    lock.push(".lock");
    for path in [files.join(pid_file::NAME), lock.into()] {
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StartError::File { path, source });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn spawn(
    launch: &Launch<'_>,
    home: DataDir,
    prepared: Prepared,
    log: &log_tail::LogTail,
) -> Result<Server, StartError> {
    let program = launch.installation.program("postgres");
    let run_failed = |source| StartError::Run {
        program: program.clone(),
        account: launch.account.name.clone(),
        source,
    };
    let [out, err] = [log.writer(), log.writer()];
    let mut command = Command::new(&program);
    command
        .arg("-D")
        .arg(home.path())
        .args(launch.settings.arguments())
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(out.map_err(run_failed)?)
        .stderr(err.map_err(run_failed)?)
        // The engine's terminal and its signals are not the server's.
        .process_group(0);
    launch.account.apply(&mut command);
    let enter_failed = |source| StartError::Enter {
        data: home.path().to_owned(),
        source,
    };
    let entering = prepared.apply(command.as_std_mut());
    let entering = entering.map_err(enter_failed)?;
    let confine_failed = |source| StartError::Confine {
        data: home.path().to_owned(),
        source,
    };
    let egress = launch.settings.purpose.egress();
    let confining = confine(command.as_std_mut(), egress).map_err(confine_failed)?;
    let spawned = command.spawn();
    let child = spawned.map_err(|error| match confining.explain(error) {
        Ok(why) => confine_failed(why),
        Err(error) => match entering.explain(error) {
            StartFailure::Program(error) => run_failed(error),
            StartFailure::Volume(error) => enter_failed(error),
        },
    })?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    let pid = pid
        .and_then(Pid::from_raw)
        .expect("a child that nobody has waited for has an id");
    let opened = Server::open(pid, &home, Some(child));
    let opened = opened.map_err(|source| StartError::Watch {
        data: launch.data.to_owned(),
        source,
    })?;
    let mut server =
        Unready::new(opened.expect("a child that nobody has waited for can be opened"));
    let gate = confining.gate().map_err(confine_failed)?;
    server.hold(gate);
    Ok(server.ready())
}

/// A descriptor that tasks can wait for.
#[expect(
    deprecated,
    reason = "its successor is unsafe, for types that may swap their descriptor; an OwnedFd never does"
)]
fn watched(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(descriptor)
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

/// Opens a log to append to, for its owner alone.
fn open_log(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.create(true).append(true).read(true).mode(0o600);
    options.open(path)
}
