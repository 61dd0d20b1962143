//! `engine pipe`: standard input and output as a connection to the engine, for whoever may run a program where it lives.

use std::io;

use clap::Args;
use model::ExitCode;
use tokio::io::{AsyncWriteExt, copy, stdin, stdout};
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
        let engine = UnixStream::connect(settings.engine_socket()).await?;
        let (mut from_engine, mut to_engine) = engine.into_split();
        let (mut stdin, mut stdout) = (stdin(), stdout());
        // Neither side closes one direction alone: what has ended has ended whole.
        tokio::select! {
            told = copy(&mut from_engine, &mut stdout) => told?,
            asked = copy(&mut stdin, &mut to_engine) => asked?,
        };
        stdout.flush().await
    };
    let piped: io::Result<()> = piped.await;
    piped.map_err(|error| CommandError::new(ExitCode::Internal, PipeError(error)))
}
