//! `engine logs`: what the engine wrote about itself.

use std::io;
use std::path::PathBuf;

use clap::Args;
use model::ExitCode;

use crate::error::CommandError;
use crate::growing_file::GrowingFile;
use crate::settings::Settings;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  bough engine logs
  bough engine logs -f    go on until Ctrl-C";

/// Show the engine's log
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct LogsArgs {
    /// Go on with what is added, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

/// The log cannot be shown.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the engine's log {path}")]
struct LogError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

pub(super) fn run(args: &LogsArgs, settings: &Settings, ui: &Ui) -> Result<(), CommandError> {
    let path = settings.engine_log();
    let failed = |source: io::Error| {
        let path = path.clone();
        let is_absent = source.kind() == io::ErrorKind::NotFound;
        let failure = CommandError::new(ExitCode::Internal, LogError { path, source });
        if is_absent {
            failure.with_hint("no engine has run with this data directory yet")
        } else {
            failure
        }
    };
    let mut log = GrowingFile::open(&path).map_err(failed)?;
    loop {
        for bytes in std::iter::from_fn(|| log.read().transpose()) {
            if !ui.raw_while_read(&bytes.map_err(failed)?)? {
                return Ok(());
            }
        }
        if !(args.follow && log.wait_for_change(io::stdout()).map_err(failed)?) {
            return Ok(());
        }
    }
}
