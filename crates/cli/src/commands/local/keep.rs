//! `local keep`: this process keeps a target until it ends. Started by `local run` alone.

use clap::Args;
use model::ExitCode;

use crate::clock;
use crate::contexts::local;
use crate::error::CommandError;

/// Keep a target
#[derive(Debug, Args)]
pub(super) struct KeepArgs {}

pub(super) async fn run(_: &KeepArgs) -> Result<(), CommandError> {
    local::keep(clock::now)
        .await
        .map_err(|error| CommandError::new(ExitCode::Internal, error))
}
