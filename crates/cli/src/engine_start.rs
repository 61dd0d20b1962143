//! The engine on demand: found on its socket, or started and waited for.
//!
//! Owns how the engine is started and what a caller waits for. Leaves being the only one of a data directory to the
//! engine's own lock: of two that start at once one ends, and both callers reach the other.

mod log_tail;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use model::engine_api::EngineView;
use rustix::fs::{MemfdFlags, memfd_create};
use tokio::sync::oneshot;

use crate::clock;
use crate::engine_client::{ClientError, EngineClient};
use crate::settings::Settings;
use log_tail::read_tail;

pub(crate) use log_tail::LogTail;

/// How long a started engine has until it answers: it may have to wait for the end of the one before it, and to recover
/// hundreds of branches. One that fails ends, which is told at once.
const START_WAIT_MAX: Duration = Duration::from_secs(90);

/// How often a starting engine's socket is tried.
const CONNECT_INTERVAL: Duration = Duration::from_millis(5);

/// Bytes of a failed engine's words that are shown.
const WORDS_BYTES_MAX: u64 = 8 << 10;

/// Variables of the caller that reach the engine: it serves many sessions, so it knows no session's secrets.
const ENGINE_VARIABLES: [&str; 9] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "TZ",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "BOUGH_SERVER_ACCOUNT",
];

/// Why no engine answers.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The path of this program is unknown.
    #[error("cannot find the program that is running")]
    Program(#[source] io::Error),
    /// This program runs in a guarded session, whose fence the engine would sit behind.
    #[error(
        "an engine is not started from within a session: it would be fenced off from its sources"
    )]
    InSession,
    /// It is no engine of this machine, and nobody here starts it.
    #[error("the engine of {0} does not answer")]
    Elsewhere(String),
    /// There is nothing to keep its first words in.
    #[error("cannot make a place for what the engine says at its start")]
    Words(#[source] io::Error),
    /// The engine's process could not be made.
    #[error("cannot start the engine with {0}")]
    Spawn(PathBuf, #[source] io::Error),
    /// It ended before it answered.
    #[error("the engine of {data_dir} ended at its start ({status})")]
    Ended {
        /// The data directory.
        data_dir: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What it said, on standard error.
        words: String,
        /// Its log.
        log: PathBuf,
    },
    /// It did not answer in time.
    #[error("the engine of {data_dir} did not answer within {} s", START_WAIT_MAX.as_secs())]
    Silent {
        /// The data directory.
        data_dir: PathBuf,
        /// The end of its log.
        log: LogTail,
        /// The last attempt.
        #[source]
        source: ClientError,
    },
    /// Its socket cannot be used, or who answers there is no engine.
    #[error("cannot use the engine of {data_dir}")]
    Unusable {
        /// The data directory.
        data_dir: PathBuf,
        /// Why.
        #[source]
        source: ClientError,
    },
}

/// An engine that answered.
#[derive(Debug, Clone)]
pub(crate) struct RunningEngine {
    /// To speak to it.
    pub(crate) client: EngineClient,
    /// What it said of itself.
    pub(crate) view: EngineView,
    /// Whose it is where it is none of this machine's.
    place: Option<String>,
}

impl RunningEngine {
    /// Says where the engine's version is not this program's.
    pub(crate) fn version_notice(&self) -> Option<String> {
        let ours = env!("CARGO_PKG_VERSION");
        let theirs = self.view.version.as_str();
        (theirs != ours).then(|| other_version(theirs, ours, self.place.as_deref()))
    }
}

/// That an engine has another version, and who changes that: an engine in a `place` of its own is not its user's to end.
fn other_version(theirs: &str, ours: &str, place: Option<&str>) -> String {
    match place {
        None => format!(
            "the engine is bough {theirs}, this is {ours}: `bough engine stop` ends it, and the next command starts this \
             version; branches stay"
        ),
        Some(place) => format!(
            "the engine of {place} is bough {theirs}, this is {ours}: which one runs there is for whoever installs the \
             operator to say"
        ),
    }
}

/// The engine of `settings`' data directory, if one answers.
///
/// # Errors
/// [`ClientError`] when somebody is there who does not answer as an engine.
pub(crate) async fn find(settings: &Settings) -> Result<Option<RunningEngine>, ClientError> {
    let client = EngineClient::new(settings.engine_socket());
    match client.engine().await {
        Ok(view) => Ok(Some(RunningEngine {
            client,
            view,
            place: settings.engine_elsewhere.clone(),
        })),
        Err(error) if error.is_absence() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The engine of `settings`' data directory, started where none answers.
///
/// # Errors
/// [`StartError`] tells why there is none, with the end of its log.
pub(crate) async fn connect(settings: &Settings) -> Result<RunningEngine, StartError> {
    match find(settings).await {
        Ok(Some(engine)) => return Ok(engine),
        Ok(None) => {}
        Err(source) => return Err(unusable(settings, source)),
    }
    if let Some(place) = &settings.engine_elsewhere {
        return Err(StartError::Elsewhere(place.clone()));
    }
    tracing::info!(data_dir = %settings.data_dir.display(), "starting the engine");
    let started = spawn(settings)?;
    wait_for_answer(settings, started).await
}

fn unusable(settings: &Settings, source: ClientError) -> StartError {
    StartError::Unusable {
        data_dir: settings.data_dir.clone(),
        source,
    }
}

/// An engine's process that may still fail.
struct StartedEngine {
    /// Told how it ended, if it does while this program runs.
    ended_rx: oneshot::Receiver<ExitStatus>,
    /// Its standard error: memory that goes when both processes have let go of it.
    words: File,
}

impl StartedEngine {
    /// The first of what it said.
    fn read_words(&mut self) -> String {
        let mut words = Vec::new();
        let read = self
            .words
            .rewind()
            .and_then(|()| (&self.words).take(WORDS_BYTES_MAX).read_to_end(&mut words));
        // What cannot be read is missing from an error that says enough without.
        read.map_or_else(
            |_| String::new(),
            |_| String::from_utf8_lossy(&words).into_owned(),
        )
    }
}

/// Starts the engine's process, which opens a session of its own first of all: Ctrl-C at the caller's terminal is not
/// for it, and whoever ends a session's processes knows it by that.
fn spawn(settings: &Settings) -> Result<StartedEngine, StartError> {
    let is_in_session = |(name, _): (&OsStr, &OsStr)| name == supervisor::SESSION_VARIABLE;
    if settings.environment.iter().any(is_in_session) {
        return Err(StartError::InSession);
    }
    let program = std::env::current_exe().map_err(StartError::Program)?;
    let program = standing(program);
    let words = memfd_create("engine-words", MemfdFlags::CLOEXEC)
        .map(File::from)
        .map_err(|error| StartError::Words(error.into()))?;
    let stderr = words.try_clone().map_err(StartError::Words)?;
    let mut command = Command::new(&program);
    command
        // Named in its arguments for people who look at the processes.
        .args(["engine", "run", "--data-dir"])
        .arg(&settings.data_dir)
        .env_clear()
        .envs(engine_environment(settings))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr);
    let mut child = command
        .spawn()
        .map_err(|error| StartError::Spawn(program, error))?;
    let (ended_tx, ended_rx) = oneshot::channel();
    // Reaps an engine that ends while this program still runs.
    std::thread::spawn(move || {
        if let Ok(status) = child.wait() {
            // The one who waited may have its answer already.
            let _ = ended_tx.send(status);
        }
    });
    Ok(StartedEngine { ended_rx, words })
}

/// Where this program is to be started from: its file, after an upgrade the one that took its place, and where none did
/// what runs here.
fn standing(program: PathBuf) -> PathBuf {
    // proc(5), of a file that has lost its name.
    let before = program.as_os_str().as_bytes().strip_suffix(b" (deleted)");
    let before = before.map(|path| PathBuf::from(OsStr::from_bytes(path)));
    match before {
        Some(_) if program.exists() => program,
        Some(replaced) if replaced.is_file() => replaced,
        Some(_) => PathBuf::from("/proc/self/exe"),
        None => program,
    }
}

fn engine_environment(settings: &Settings) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<_> = settings
        .environment
        .iter()
        .filter(|(name, _)| ENGINE_VARIABLES.iter().any(|known| name == known))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if let Ok(list) = std::env::join_paths(&settings.postgres_path)
        && !list.is_empty()
    {
        variables.push(("BOUGH_POSTGRES_PATH".into(), list));
    }
    variables
}

/// Tries the socket until the engine answers, ends, or has had its time.
///
/// An engine that ends at once may have lost to another one: that one has the rest of the time to answer.
async fn wait_for_answer(
    settings: &Settings,
    mut started: StartedEngine,
) -> Result<RunningEngine, StartError> {
    let client = EngineClient::new(settings.engine_socket());
    let deadline = clock::monotonic() + START_WAIT_MAX;
    let data_dir = || settings.data_dir.clone();
    loop {
        let failure = match client.engine().await {
            Ok(view) => {
                return Ok(RunningEngine {
                    client,
                    view,
                    place: None,
                });
            }
            Err(error) if error.is_absence() => error,
            Err(source) => return Err(unusable(settings, source)),
        };
        match started.ended_rx.try_recv() {
            Ok(status) if !status.success() => {
                return Err(StartError::Ended {
                    data_dir: data_dir(),
                    status,
                    words: started.read_words(),
                    log: settings.engine_log(),
                });
            }
            Ok(_) | Err(_) if clock::monotonic() >= deadline => {
                return Err(StartError::Silent {
                    data_dir: data_dir(),
                    log: read_tail(&settings.engine_log()),
                    source: failure,
                });
            }
            Ok(_) | Err(_) => tokio::time::sleep(CONNECT_INTERVAL).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_stop_an_engine_that_is_not_his() {
        let own = other_version("0.1.0", "0.2.0", None);
        assert!(own.contains("`bough engine stop`"), "{own}");
        let elsewhere = other_version("0.1.0", "0.2.0", Some("the pod p of namespace n"));
        assert_eq!(
            elsewhere,
            "the engine of the pod p of namespace n is bough 0.1.0, this is 0.2.0: which one runs there is for whoever \
             installs the operator to say"
        );
    }

    #[test]
    fn a_program_whose_file_was_replaced_is_started_from_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bough");
        let deleted = dir.path().join("bough (deleted)");
        assert_eq!(standing(deleted.clone()), PathBuf::from("/proc/self/exe"));
        std::fs::write(&path, "").unwrap();
        assert_eq!(standing(deleted.clone()), path);
        assert_eq!(standing(path.clone()), path);
        std::fs::write(&deleted, "").unwrap();
        assert_eq!(standing(deleted.clone()), deleted);
    }
}
