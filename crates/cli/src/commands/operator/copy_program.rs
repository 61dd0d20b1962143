//! `bough operator copy-program`: this very program copied to where a branch host finds it. An image of ours has no `cp`.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::Args;
use model::ExitCode;

use crate::error::CommandError;

/// Copy this program
#[derive(Debug, Args)]
pub(super) struct CopyProgramArgs {
    /// Where to
    destination: PathBuf,
}

/// It cannot be copied.
#[derive(Debug, thiserror::Error)]
#[error("cannot copy this program to {destination:?}")]
struct CopyError {
    destination: PathBuf,
    #[source]
    source: io::Error,
}

/// Copies it, with the right to be executed.
pub(super) fn run(args: &CopyProgramArgs) -> Result<(), CommandError> {
    let copied = std::env::current_exe().and_then(|program| fs::copy(program, &args.destination));
    copied.map(drop).map_err(|source| {
        let destination = args.destination.clone();
        CommandError::new(
            ExitCode::Internal,
            CopyError {
                destination,
                source,
            },
        )
    })
}
