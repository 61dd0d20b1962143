//! `local logs`: what a target wrote.

use std::io::{self, Read};
use std::path::PathBuf;

use clap::Args;
use model::{ExitCode, Namespace, TargetRef};

use crate::contexts::local;
use crate::error::CommandError;
use crate::growing_file::GrowingFile;
use crate::settings::Settings;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  bough local logs deployment/inventory -n metalmart
  bough local logs deployment/inventory -n metalmart --lines 20
  bough local logs deployment/inventory -n metalmart -f    go on until Ctrl-C";

/// Bytes that are shown at once.
const PIECE_BYTES: usize = 64 << 10;

/// Show what a target wrote to standard output and standard error
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct LogsArgs {
    /// Its KIND/NAME
    target: TargetRef,

    /// Go on with what is added, until Ctrl-C
    #[arg(short, long)]
    follow: bool,

    /// Only this many lines of its end
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    lines: Option<usize>,
}

/// The log cannot be shown.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the target's log {path}")]
struct LogError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

pub(super) fn run(
    args: &LogsArgs,
    namespace: &Namespace,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let path = local::log_path(&settings.data_dir, namespace, &args.target)
        // No such object, as for the other commands: nothing runs that lacks a target.
        .map_err(|error| CommandError::from(error).with_exit(ExitCode::Internal))?;
    let failed = |source| {
        let path = path.clone();
        CommandError::new(ExitCode::Internal, LogError { path, source })
    };
    if let Some(count) = args.lines {
        let mut log = local::open_at_last_lines(&path, count).map_err(failed)?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = log.read(&mut piece).map_err(failed)?;
            if read == 0 || !ui.raw_while_read(&piece[..read])? {
                return Ok(());
            }
        }
    }
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
