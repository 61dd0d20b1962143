//! `bough watch-session`: stands by while a session runs, and ends its programs if the session's supervisor is killed.
//! `exec` starts it.

use std::ffi::OsString;

use clap::Args;
use model::ExitCode;

use crate::error::CommandError;

/// End a session's programs if its supervisor is killed
#[derive(Debug, Args)]
pub(crate) struct WatchSessionArgs {
    /// The session's id
    id: OsString,
}

/// Watches to the end of either.
pub(crate) fn run(args: &WatchSessionArgs) -> Result<ExitCode, CommandError> {
    match supervisor::watch(&args.id) {
        Ok(()) => Ok(ExitCode::Success),
        Err(error) => Err(CommandError::new(ExitCode::Internal, error)),
    }
}
