//! `bough agent`: what runs beside a target, started by its keeper or by its cluster. Hidden: nobody starts them by hand.
//!
//! Owns their runtime, their log and the word by which they say that they are ready. They are entered before this
//! process has a second thread, since namespaces are.

mod invite;
mod pod;
mod relay;
mod run;
mod source_version;

use std::io::{self, Write};

use clap::{Args, Subcommand};
use model::ExitCode;
use tokio::runtime::Runtime;

use crate::error::CommandError;
use crate::ui;

/// Records of a helper's log.
const LOG_FILTER: &str = "warn";

/// Be the agent of a target, or its relay
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::RunArgs),
    Relay(relay::RelayArgs),
    Pod(pod::PodArgs),
    Invite(invite::InviteArgs),
    SourceVersion(source_version::SourceVersionArgs),
}

/// Serves until the target ends. Must be called while this process has one thread.
pub(crate) fn run(args: &AgentArgs) -> Result<ExitCode, CommandError> {
    ui::start_log_of(LOG_FILTER, ui::LogForm::Text);
    match &args.verb {
        Verb::Run(args) => run::run(args)?,
        Verb::Relay(args) => relay::run(args)?,
        Verb::Pod(args) => pod::run(args)?,
        Verb::Invite(args) => invite::run(args)?,
        Verb::SourceVersion(args) => source_version::run(args)?,
    }
    Ok(ExitCode::Success)
}

fn runtime() -> Result<Runtime, CommandError> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().map_err(CommandError::runtime)
}

/// Says a line to whoever started this, who may have closed his end.
fn say(line: &str) {
    let mut output = io::stdout();
    let said = writeln!(output, "{line}");
    let _nobody_waits = said.and_then(|()| output.flush());
}
