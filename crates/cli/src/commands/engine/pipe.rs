//! `engine pipe`: standard input and output as a connection to the engine, for whoever may run a program where it lives.

use std::io;

use clap::Args;
use model::ExitCode;
use tokio::io::{copy_bidirectional, join, stdin, stdout};
use tokio::net::UnixStream;

use crate::error::CommandError;
use crate::settings::Settings;

/// Be a connection to the engine
#[derive(Debug, Args)]
pub(super) struct PipeArgs {}

/// The engine is not reached.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the engine")]
struct PipeError(#[source] io::Error);

/// Carries bytes until either side ends.
pub(super) async fn run(settings: &Settings) -> Result<(), CommandError> {
    let piped = async {
        let mut engine = UnixStream::connect(settings.engine_socket()).await?;
        copy_bidirectional(&mut engine, &mut join(stdin(), stdout())).await
    };
    let piped = piped.await.map(drop);
    piped.map_err(|error| CommandError::new(ExitCode::Internal, PipeError(error)))
}
