//! The program `bough`: arguments, settings, one command, its exit code.

mod agent_words;
mod args;
mod branch_door;
mod branch_words;
mod clock;
mod commands;
mod config_flags;
mod contexts;
mod diagnostics;
mod doctor;
mod engine_client;
mod engine_start;
mod engine_words;
mod error;
mod growing_file;
mod habits;
mod readiness;
#[cfg(test)]
mod samples;
mod session;
mod session_file;
mod settings;
mod source_arg;
mod source_words;
mod ui;
mod volume_file;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command, GlobalArgs};
use crate::error::CommandError;
use crate::settings::{Environment, Settings};
use crate::ui::Ui;

fn main() -> ExitCode {
    let environment = Environment::read();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(message) => {
            let ui = Ui::new(Settings::look(&GlobalArgs::default(), &environment));
            if let Some(error) = habits::refusal(&message) {
                ui.error(&error);
                return error.exit().into();
            }
            ui.usage(&message);
            // The parser has 0 for help and version, 2 for usage: the same as ours.
            return u8::try_from(message.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let ui = Ui::new(Settings::look(&args.global, &environment));
    match run(&args, environment, &ui) {
        Ok(code) => code.into(),
        Err(error) => {
            ui.error(&error);
            error.exit().into()
        }
    }
}

fn run(args: &Args, environment: Environment, ui: &Ui) -> Result<u8, CommandError> {
    if let Command::Probe(args) = &args.command {
        // Before anything makes a second thread.
        return commands::probe::run(args).map(u8::from);
    }
    if let Command::WatchSession(args) = &args.command {
        // Without settings: its environment is empty, and it needs no runtime.
        return commands::watch_session::run(args).map(u8::from);
    }
    if let Command::Agent(args) = &args.command {
        // It may have to enter namespaces first, with one thread, and has a runtime of its own then.
        return commands::agent::run(args).map(u8::from);
    }
    let settings = Settings::resolve(&args.global, environment)?;
    if !args.command.keeps_log() {
        ui::start_log(&settings);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CommandError::runtime)?;
    let result = runtime.block_on(commands::run(&args.command, &settings, ui));
    // Nothing that a command left behind may hold up its end.
    runtime.shutdown_background();
    result
}
