//! The engine as a whole: what its parts share, in which order they start, and how they end.
//!
//! Owns composition. `run` is the one entry: lock, catalogue, volume, servers found, branches brought back, API served
//! until a signal or a request ends it. The branches' servers go on; the next engine adopts them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use model::chain;
use model::engine_api::{ENGINE_END_TIME_MAX, EngineView, PassedOverKind, Problem};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::base::store::Bases;
use crate::branch::registry::Registry;
use crate::catalogue::{Catalogue, CatalogueError, RepairError, Repaired};
use crate::clock::Clock;
use crate::clock_jump;
use crate::door::{DoorKey, Encryption, EncryptionError, KeyError};
use crate::layout::{Layout, LayoutError, Passage};
use crate::leftovers::{LeftoversError, remove_leftovers};
use crate::machine::Machine;
use crate::named_sources::NamedSources;
use crate::pool::Pool;
use crate::postgres::account::{AccountError, ServerAccount};
use crate::postgres::binaries::{Installation, Installations, Lookup};
use crate::postgres::server::check_confinement;
use crate::refresh::Refresher;
use crate::settings::Settings;
use crate::threads::waits;
use crate::upkeep::Upkeep;
use crate::volume::{Usages, Volume, VolumeError};

/// How long what came to nothing may take to be cleared once the engine is ending.
const CLEARING_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// How long answers under way may take once the engine is ending.
const FAREWELL_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// How long each part of the end may take that only tidies up.
const WIND_DOWN_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(20);

/// How long a lock is waited for that nobody who answers holds, which an engine does until its end is over; and how often
/// it is tried meanwhile.
const LOCK_TIME_MAX: std::time::Duration =
    std::time::Duration::from_secs(ENGINE_END_TIME_MAX.as_secs() + 5);
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Why an engine could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The data directory cannot be used.
    #[error("cannot use the data directory")]
    Layout(#[from] LayoutError),
    /// Another engine serves this data directory.
    #[error("another engine serves {path}")]
    Running {
        /// The data directory.
        path: PathBuf,
    },
    /// A file of the engine's own cannot be used.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The catalogue cannot be opened.
    #[error("cannot read what branches there are")]
    Catalogue(#[from] CatalogueError),
    /// The catalogue cannot be made anew.
    #[error("cannot repair the catalogue")]
    Repair(#[source] RepairError),
    /// The volume cannot be used.
    #[error("cannot use the volume")]
    Volume(#[from] VolumeError),
    /// Its doors cannot be guarded.
    #[error("cannot guard the doors of branches")]
    DoorKey(#[from] KeyError),
    /// Its doors cannot speak TLS.
    #[error("cannot open the doors of branches")]
    Encryption(#[from] EncryptionError),
    /// What an earlier engine left cannot be removed.
    #[error("cannot tidy up after an earlier engine")]
    Leftovers(#[from] LeftoversError),
    /// There is nobody to run servers as.
    #[error("cannot run servers")]
    Account(#[from] AccountError),
    /// The branches cannot be brought back.
    #[error("cannot bring back the branches: {}", .0.detail)]
    Recovery(Box<Problem>),
    /// The API cannot be served.
    #[error("cannot serve the API on {path}")]
    Serve {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What every part of the engine may use.
#[derive(Debug)]
pub struct Shared {
    /// The machine.
    pub machine: Arc<Machine>,
    /// The copies of sources.
    pub bases: Bases,
    /// The clones that run already.
    pub pool: Pool,
    /// The sources that have names.
    pub sources: NamedSources,
    /// Who looks after them.
    pub refresher: Refresher,
    /// Who looks after their bases.
    pub upkeep: Upkeep,
}

/// A running engine.
#[derive(Debug)]
pub struct App {
    /// What its parts share.
    pub shared: Arc<Shared>,
    /// The branches.
    pub branches: Registry,
    started_at: Timestamp,
    passed_over: Vec<PassedOverKind>,
    egress_open: Option<String>,
    lock: Arc<File>,
}

impl App {
    /// Starts everything but the API.
    ///
    /// # Errors
    /// [`EngineError`]; nothing of the data directory is changed when it is `Running` or `Catalogue`.
    pub async fn start(settings: Settings) -> Result<Self, EngineError> {
        let account = ServerAccount::choose(settings.server_account.as_deref())?;
        let passage = if account.is_switched() {
            Passage::ServerAccount
        } else {
            Passage::Nobody
        };
        crate::volume::check_mounted(&settings.data_dir.join("volume"))?;
        let layout = Layout::make(&settings.data_dir, passage)?;
        let lock = take_lock(&layout).await?;
        let clock = Clock::of_engine(&settings.data_dir);
        let boot_id = read_boot_id()?;
        check_catalogue(&layout)?;
        let catalogue = Arc::new(Catalogue::open(&layout.catalogue())?);
        clock_jump::follow(&catalogue, clock, &boot_id)?;
        let door_key = DoorKey::of(&layout.door_key(), settings.doors)?;
        let door_encryption = Encryption::draw()?;
        let installations = Arc::new(Installations::discover(&lookup(&settings)).await);
        let probed = crate::volume::probe(&layout.volume())?;
        let (volume, passed_over) = (Arc::<dyn Volume>::from(probed.volume), probed.passed_over);
        let volume_mount = crate::volume::mount_identity(&layout.volume())?;
        tracing::info!(volume = %volume.kind(), account = ?account, "starting");
        let egress_open = try_confinement().await;
        remove_leftovers(&layout, &catalogue).await?;
        let machine = Arc::new(Machine {
            layout,
            limits: settings.limits,
            catalogue,
            clock,
            account,
            installations,
            volume,
            ledger: Arc::default(),
            clone_turns: Arc::default(),
            door_key,
            door_encryption,
            boot_id,
            volume_mount,
            usages: Usages::default(),
            clearing: TaskTracker::new(),
            ending: CancellationToken::new(),
        });
        let shared = Arc::new(Shared {
            bases: Bases::open(Arc::clone(&machine))?,
            pool: Pool::new(Arc::clone(&machine)),
            sources: NamedSources::open(Arc::clone(&machine))?,
            refresher: Refresher::default(),
            upkeep: Upkeep::default(),
            machine,
        });
        // Before the branches: some wait for a base.
        crate::upkeep::start(&shared);
        let branches = Registry::new(Arc::clone(&shared));
        branches
            .recover()
            .await
            .map_err(|problem| EngineError::Recovery(Box::new(problem)))?;
        shared.machine.catalogue.start_backing_up(clock);
        shared.bases.start_dropping_idle();
        shared.pool.start();
        crate::clone::logs::start_bounding(shared.machine.layout.clones());
        crate::refresh::start(&shared);
        Ok(Self {
            shared,
            branches,
            started_at: clock.now(),
            passed_over,
            egress_open,
            lock: Arc::new(lock),
        })
    }

    /// What is told of this engine.
    ///
    /// # Errors
    /// [`Problem`] when the volume cannot be asked.
    pub fn view(&self) -> Result<EngineView, Problem> {
        let shared = &self.shared;
        let volume_dir = shared.machine.layout.volume();
        let volume = crate::volume::view(
            &*shared.machine.volume,
            &self.passed_over,
            &volume_dir,
            shared.machine.limits.free_floor_bytes,
        );
        let volume = volume.map_err(|error| Problem::internal(&error))?;
        let installations = shared
            .machine
            .installations
            .found
            .iter()
            .map(Installation::view);
        let (superseded, superseded_bytes) = shared.bases.superseded();
        Ok(EngineView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: self.started_at,
            data_dir: shared.machine.layout.root().display().to_string(),
            server_account: shared
                .machine
                .account
                .is_switched()
                .then(|| shared.machine.account.name.clone()),
            egress_open: self.egress_open.clone(),
            volume,
            installations: installations.collect(),
            ttl_max_seconds: shared.machine.limits.ttl_max_seconds,
            branches: u32::try_from(self.branches.count()).unwrap_or(u32::MAX),
            branches_max: shared.machine.limits.branches_max,
            bases: u32::try_from(shared.bases.count()).unwrap_or(u32::MAX),
            superseded_bases: u32::try_from(superseded).unwrap_or(u32::MAX),
            superseded_bytes,
            warm_clones: u32::try_from(shared.pool.count()).unwrap_or(u32::MAX),
            followers: u32::try_from(shared.pool.followers().count()).unwrap_or(u32::MAX),
            slots_left: shared.upkeep.slots.told(),
        })
    }
}

/// Runs an engine until SIGTERM, SIGINT or a request ends it.
///
/// # Errors
/// [`EngineError`] says what could not be had.
pub async fn run(settings: Settings) -> Result<(), EngineError> {
    raise_open_files_max();
    let app = Arc::new(App::start(settings).await?);
    let socket = app.shared.machine.layout.api_socket();
    let serve = |source| EngineError::Serve {
        path: socket.clone(),
        source,
    };
    let listener = listen(&socket).await.map_err(serve)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(serve)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(serve)?;
    tracing::info!(socket = %socket.display(), "ready");
    let stopping = Arc::clone(&app);
    let ended = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = stopping.shared.machine.ending.cancelled() => {}
        }
        tracing::info!("ending; the branches' servers go on");
        end_in_time();
        stopping.shared.machine.ending.cancel();
    };
    // Until the process has ended, whatever of it still uses the catalogue.
    std::mem::forget(Arc::clone(&app.lock));
    let (ending, pool) = (app.shared.machine.ending.clone(), app.shared.pool.clone());
    let shared = Arc::clone(&app.shared);
    tokio::spawn(ended);
    tokio::select! {
        () = crate::http::serve::serve(listener, crate::http::router(app), ending.clone()) => {}
        () = async { ending.cancelled().await; tokio::time::sleep(FAREWELL_TIME_MAX).await } => {}
    }
    // What nobody asked for does not outlive the engine.
    wind_down("clones and followers that wait", pool.drain()).await;
    wind_down("looking after sources", crate::upkeep::rest(&shared)).await;
    shared.bases.gateways().close();
    let machine = &shared.machine;
    machine.clearing.close();
    if tokio::time::timeout(CLEARING_TIME_MAX, machine.clearing.wait())
        .await
        .is_err()
    {
        tracing::warn!("what came to nothing is not cleared yet: the next engine does it");
    }
    if let Err(error) = machine.catalogue.back_up(machine.clock.now()) {
        tracing::error!(%error, "the backup of the catalogue is an older one");
    }
    std::fs::remove_file(&socket).map_err(|source| EngineError::Serve {
        path: socket.clone(),
        source,
    })
}

/// Kills this process where its end takes longer than [`ENGINE_END_TIME_MAX`], whatever holds it up: the next engine clears what is
/// left, as after any kill. By a thread of its own, for no task runs where a call does not return.
fn end_in_time() {
    let watch = || {
        let (_never_tx, never_rx) = std::sync::mpsc::channel::<()>();
        let _late = never_rx.recv_timeout(ENGINE_END_TIME_MAX);
        let threads = waits();
        tracing::error!(threads, "the engine does not end by itself, and is killed");
        let own = rustix::process::getpid();
        let _gone = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    };
    let thread = std::thread::Builder::new().name("end".to_owned());
    if let Err(error) = thread.spawn(watch) {
        tracing::warn!(%error, "nothing watches over the engine's end");
    }
}

/// Waits for one part of the end, and no longer than [`WIND_DOWN_TIME_MAX`]: what it leaves the next engine removes, as after
/// a kill.
async fn wind_down(what: &str, ending: impl Future<Output = ()>) {
    let ended = tokio::time::timeout(WIND_DOWN_TIME_MAX, ending).await;
    if ended.is_err() {
        tracing::error!(
            what,
            "this does not end: the next engine clears what is left"
        );
    }
}

/// A door takes a descriptor, and each connection through it two more: the usual 1024 do not last.
fn raise_open_files_max() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot open more files than usual");
    }
}

/// Listens on `socket`, 0600 from its first moment. The lock is held, so a file that is there is a dead engine's.
async fn listen(socket: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(socket).await.is_ok() {
        return Err(io::Error::from(io::ErrorKind::AddrInUse));
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let nascent = socket.with_extension("sock.new");
    match std::fs::remove_file(&nascent) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&nascent)?;
    std::fs::set_permissions(&nascent, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&nascent, socket)?;
    Ok(listener)
}

/// The lock once it is free, or at once that another engine holds it where one answers. An engine that is ending has it and
/// answers no more; a server that a killed engine was starting has it as well, until it is executed.
async fn take_lock(layout: &Layout) -> Result<File, EngineError> {
    let waited = tokio::time::timeout(LOCK_TIME_MAX, async {
        loop {
            match lock(layout) {
                Err(EngineError::Running { .. })
                    if UnixStream::connect(layout.api_socket()).await.is_err() =>
                {
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                decided => return decided,
            }
        }
    });
    waited.await.unwrap_or_else(|_| lock(layout))
}

/// Takes the lock that makes this engine the only one of its data directory. It ends with the process.
fn lock(layout: &Layout) -> Result<File, EngineError> {
    lock_file(&layout.lock(), layout.root())
}

fn lock_file(path: &Path, root: &Path) -> Result<File, EngineError> {
    let path = path.to_owned();
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let file = file.map_err(|source| EngineError::File {
        path: path.clone(),
        source,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(EngineError::Running {
            path: root.to_owned(),
        }),
        Err(std::fs::TryLockError::Error(source)) => Err(EngineError::File { path, source }),
    }
}

/// An empty catalogue beside a volume that is not would be the end of everything on it.
fn check_catalogue(layout: &Layout) -> Result<(), EngineError> {
    let path = layout.catalogue();
    if std::fs::metadata(&path).is_ok_and(|found| found.len() > 0) {
        return Ok(());
    }
    let count = |directory: PathBuf| match std::fs::read_dir(&directory) {
        Ok(entries) => Ok(entries.count()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(source) => Err(EngineError::File {
            path: directory,
            source,
        }),
    };
    let trees = count(layout.bases())? + count(layout.snapshots())? + count(layout.clones())?;
    if trees == 0 {
        return Ok(());
    }
    Err(EngineError::Catalogue(CatalogueError::Gone {
        path,
        volume: layout.volume(),
        trees,
    }))
}

/// Makes the catalogue of `data_dir` anew of its backup, once no engine serves it.
///
/// # Errors
/// [`EngineError::Running`], or [`EngineError::Repair`] with the reason; nothing is changed then.
pub fn repair(data_dir: &Path) -> Result<Repaired, EngineError> {
    let path = data_dir.join("engine.lock");
    let _lock = lock_file(&path, data_dir)?;
    let now = Clock::start().now();
    crate::catalogue::repair(&data_dir.join("catalogue.redb"), now).map_err(EngineError::Repair)
}

/// Why servers cannot be kept from the network here: none of a branch will start then.
async fn try_confinement() -> Option<String> {
    let tried = tokio::task::spawn_blocking(check_confinement).await;
    let error = tried.expect("trying does not panic").err()?;
    tracing::error!(
        error = chain(&error),
        "servers of branches cannot be kept from the network, and none starts"
    );
    Some(chain(&error))
}

fn lookup(settings: &Settings) -> Lookup {
    let data_dir = Some(settings.data_dir.clone());
    Lookup {
        roots: settings.postgres_path.clone(),
        data_dir,
        path: settings.path.clone(),
    }
}

fn read_boot_id() -> Result<String, EngineError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| EngineError::File {
        path: path.to_owned(),
        source,
    })?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::make(home.path(), Passage::Nobody).unwrap();
        (home, layout)
    }

    #[tokio::test]
    async fn a_lock_that_is_held_by_what_a_killed_engine_began_is_waited_for() {
        let (_home, layout) = layout();
        let held = lock(&layout).unwrap();
        let let_go = async {
            tokio::time::sleep(5 * LOCK_PAUSE).await;
            drop(held);
        };
        let (taken, ()) = tokio::join!(take_lock(&layout), let_go);
        taken.unwrap();
    }

    #[tokio::test]
    async fn an_engine_that_answers_is_told_of_at_once() {
        let (_home, layout) = layout();
        let _held = lock(&layout).unwrap();
        let _engine = UnixListener::bind(layout.api_socket()).unwrap();
        let told = tokio::time::timeout(LOCK_TIME_MAX / 2, take_lock(&layout)).await;
        assert!(matches!(told.unwrap(), Err(EngineError::Running { .. })));
    }
}
