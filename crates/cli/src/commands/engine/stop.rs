//! `engine stop`: the engine ended, its branches' servers with it or not.

use std::time::Duration;

use clap::Args;
use model::ExitCode;
use model::engine_api::StopEngine;
use supervisor::Process;

use crate::clock;
use crate::engine_start;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;

/// How long the engine has to end: hundreds of servers may be stopped.
const STOP_WAIT_MAX: Duration = Duration::from_secs(120);

/// How often its socket is tried meanwhile.
const TRY_INTERVAL: Duration = Duration::from_millis(20);

/// How long an engine that answers no more may take to end: longer than it gives itself.
const EXIT_WAIT_MAX: Duration = Duration::from_secs(80);

/// How long nothing is said of that.
const QUIET_TIME: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  bough engine stop              branches' servers run on; their doors open again with the engine, by the next command
  bough engine stop --servers    their servers stop too, and start again with the engine";

/// Stop the engine; branches keep their data
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StopArgs {
    /// Stop the branches' servers as well
    #[arg(long)]
    servers: bool,
}

/// The engine goes on.
#[derive(Debug, thiserror::Error)]
enum StillThere {
    #[error("the engine (pid {pid}) still answers {} s after it was told to stop", STOP_WAIT_MAX.as_secs())]
    Answers { pid: u32 },
    #[error("the engine (pid {pid}) answers no more, and has not ended within {} s", EXIT_WAIT_MAX.as_secs())]
    Ends { pid: u32 },
}

impl From<StillThere> for CommandError {
    fn from(error: StillThere) -> Self {
        Self::new(ExitCode::Internal, error).with_hint("`bough engine logs` shows what it does")
    }
}

pub(super) async fn run(args: &StopArgs, settings: &Settings, ui: &Ui) -> Result<(), CommandError> {
    let Some(engine) = engine_start::find(settings).await? else {
        ui.note("the engine is not running");
        return Ok(());
    };
    let stop = StopEngine {
        servers: args.servers,
    };
    // Found before it is told to end, so that its number cannot be another process's by then.
    let process = i32::try_from(engine.view.pid).ok().and_then(Process::of);
    engine.client.stop(stop).await?;
    let deadline = clock::monotonic() + STOP_WAIT_MAX;
    // Another process with another pid is an engine that somebody started meanwhile.
    while let Some(there) = engine_start::find(settings).await?
        && there.view.pid == engine.view.pid
    {
        if clock::monotonic() >= deadline {
            let pid = engine.view.pid;
            return Err(StillThere::Answers { pid }.into());
        }
        tokio::time::sleep(TRY_INTERVAL).await;
    }
    if let Some(process) = process {
        // An engine in another pid namespace has another number here; its socket has said enough.
        wait_for_end(process, engine.view.pid, ui).await?;
    }
    ui.note("the engine has stopped");
    Ok(())
}

/// Waits until the process has ended: it may still clear what it was making.
async fn wait_for_end(process: Process, pid: u32, ui: &Ui) -> Result<(), StillThere> {
    let mut ended = std::pin::pin!(process.ended());
    if tokio::time::timeout(QUIET_TIME, &mut ended).await.is_ok() {
        return Ok(());
    }
    ui.note("the engine clears what it was making");
    let late = tokio::time::timeout(EXIT_WAIT_MAX, ended).await;
    late.map_err(|_| StillThere::Ends { pid }).map(drop)
}
