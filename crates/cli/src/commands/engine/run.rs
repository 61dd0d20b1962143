//! `engine run`: this process is the engine, until it is told to stop. Started by every command that needs one.
//!
//! Owns what surrounds the engine: a session of its own, and its log. Leaves the rest to the crate `engine`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use clap::{Args, ValueEnum};
use engine::{EngineError, Limits};
use model::{ExitCode, Ttl};

use crate::error::CommandError;
use crate::settings::{Settings, SettingsError};

/// The size from which on a starting engine puts its log aside; the one before it is dropped.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// Records of the engine's log unless RUST_LOG says otherwise.
const LOG_FILTER: &str = "info";

/// Be the engine
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Nothing was inherited but standard input, output and error
    #[arg(long)]
    clean: bool,

    /// Who is let in at branches' doors
    #[arg(long, value_enum, default_value_t)]
    doors: DoorsWord,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum DoorsWord {
    /// Whoever reaches them
    #[default]
    Open,
    /// Whoever the engine's API has given a pass to
    Guarded,
}

impl From<DoorsWord> for engine::Doors {
    fn from(word: DoorsWord) -> Self {
        match word {
            DoorsWord::Open => Self::Open,
            DoorsWord::Guarded => Self::Guarded,
        }
    }
}

/// Why this process cannot be the engine.
#[derive(Debug, thiserror::Error)]
enum RunError {
    /// Its caller's open files cannot be let go.
    #[error("cannot let go of the caller's open files")]
    Clean(#[source] io::Error),
    /// Its log cannot be written.
    #[error("cannot write the engine's log {0}")]
    Log(PathBuf, #[source] io::Error),
    /// The administrator's limits cannot be read.
    #[error("cannot run with the limits of this data directory")]
    Limits(#[source] engine::settings::SettingsError),
    /// The longest TTL that it is told is none.
    #[error("cannot run with the limits of this engine's environment")]
    TtlMax(#[source] SettingsError),
    /// The engine ended by itself.
    #[error("the engine cannot run")]
    Engine(#[source] EngineError),
}

/// Runs the engine to its end. One that finds another in its place has nothing to do, which is no failure.
pub(super) async fn run(args: &RunArgs, settings: &Settings) -> Result<ExitCode, CommandError> {
    if !args.clean {
        // Answers only when it fails.
        return Err(failed(RunError::Clean(start_clean(args, settings))));
    }
    // Fails where the process leads its group already, as under a shell with job control: then it is apart as it is.
    let _ = rustix::process::setsid();
    start_log(settings).map_err(failed)?;
    match serve(args, settings).await {
        Ok(()) => Ok(ExitCode::Success),
        Err(RunError::Engine(EngineError::Running { path })) => {
            tracing::info!(path = %path.display(), "another engine serves this data directory");
            Ok(ExitCode::Success)
        }
        Err(error) => {
            let error = failed(error);
            tracing::error!("{}", error.message());
            Err(error)
        }
    }
}

fn failed(error: RunError) -> CommandError {
    CommandError::new(ExitCode::Internal, error)
}

/// Executes this program again without what it inherited: a pipe of the caller's that an engine held open would keep its
/// reader waiting for as long as the engine lives.
fn start_clean(args: &RunArgs, settings: &Settings) -> io::Error {
    let program =
        supervisor::descriptors::keep_from_children().and_then(|()| std::env::current_exe());
    match program {
        Ok(program) => Command::new(program)
            .args(["engine", "run", "--clean", "--data-dir"])
            .arg(&settings.data_dir)
            .arg("--doors")
            .args(
                args.doors
                    .to_possible_value()
                    .map(|word| word.get_name().to_owned()),
            )
            .exec(),
        Err(error) => error,
    }
}

async fn serve(args: &RunArgs, settings: &Settings) -> Result<(), RunError> {
    let mut limits = Limits::read(&settings.data_dir).map_err(RunError::Limits)?;
    if let Some(seconds) = settings.ttl_max_seconds().map_err(RunError::TtlMax)? {
        limits.ttl_max_seconds = Ttl(seconds);
    }
    let engine = engine::Settings {
        data_dir: settings.data_dir.clone(),
        postgres_path: settings.postgres_path.clone(),
        path: settings.path().map(ToOwned::to_owned),
        server_account: settings.server_account.clone(),
        doors: args.doors.into(),
        limits,
    };
    engine::run(engine).await.map_err(RunError::Engine)
}

fn start_log(settings: &Settings) -> Result<(), RunError> {
    let path = settings.engine_log();
    let log = open_log(&settings.data_dir, &path);
    let log = log.map_err(|error| RunError::Log(path, error))?;
    let filter =
        tracing_subscriber::EnvFilter::new(settings.rust_log.as_deref().unwrap_or(LOG_FILTER));
    let records = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Mutex::new(log))
        .with_ansi(false)
        .finish();
    tracing::subscriber::set_global_default(records).expect("nothing else in this process logs");
    Ok(())
}

/// Opens the log for adding, readable by the engine's account alone, and puts a long one aside.
fn open_log(data_dir: &Path, path: &Path) -> io::Result<File> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(data_dir)?;
    if fs::metadata(path).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}
