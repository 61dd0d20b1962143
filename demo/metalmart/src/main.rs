//! `inventory`: the inventory service of the Metalmart shop, over PostgreSQL.
//!
//! The composition: settings, log, database, migrations, HTTP, stop. Depends on nothing of Bough, since it stands for
//! any service that Bough runs.

mod clock;
mod database;
mod failure;
mod http;
mod inventory;
mod migrations;
mod order;
mod settings;
mod stop;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use tokio::runtime;
use tracing::info;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::failure::{Failure, explain};
use crate::inventory::Inventory;
use crate::settings::{Arguments, DATABASE_URL};
use crate::stop::StopSignals;

/// The exit status of a wrong command line, as clap and most programs have it.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            // A closed stream is no reason to fail: the status says the same.
            let _ = message.print();
            return if message.use_stderr() {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    start_log();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(
                io::stderr(),
                "error: {}\nhint: {}",
                explain(&failure),
                failure.hint()
            );
            ExitCode::FAILURE
        }
    }
}

/// Sends the log to stderr; `RUST_LOG` says what of it, by default `info` and above.
fn start_log() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    let ansi = io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi)
        .with_writer(io::stderr)
        .init();
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::Process)?;
    let ended = runtime.block_on(async {
        let mut stop = StopSignals::catch().map_err(Failure::Process)?;
        let (listener, router) = tokio::select! {
            started = start(arguments) => started?,
            signal = stop.next() => {
                info!(signal, "stopped before the start was complete");
                return Ok(());
            }
        };
        http::serve(listener, router, &mut stop).await?;
        Ok(())
    });
    // A name look-up that is still going on would hold up an ordinary end of the runtime.
    runtime.shutdown_background();
    ended
}

/// Everything up to the open port, which opens last: who can connect can be served.
async fn start(arguments: &Arguments) -> Result<(tokio::net::TcpListener, axum::Router), Failure> {
    let mut config = settings::read_database_url(std::env::var(DATABASE_URL))?;
    if config.get_application_name().is_none() {
        config.application_name("inventory");
    }
    let place = database::describe(&config);
    let client = database::connect(&config, arguments.database_wait()).await?;
    info!(database = place, "connected");
    migrations::apply(client).await?;
    let router = http::router(Inventory::new(database::pool(&config)));
    let listener = http::listen(&arguments.host, arguments.port).await?;
    let address = listener.local_addr().map_err(Failure::Process)?;
    info!(%address, "listening");
    Ok((listener, router))
}
