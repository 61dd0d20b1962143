//! The smallest program around the supervisor, for its tests: `supervise [--stop MS | --drop] PROGRAM [ARG...]`.
//!
//! Runs the program with its own environment and ends as it ended; errors go to standard error as `Debug` text.
//! `--stop`: a line on standard input ends the program's tree with that grace; `--drop`: it drops the child, says
//! `dropped`, and waits for the end of standard input.

use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use supervisor::{Child, Command, Output, Signals, StopReason};

enum Mode {
    Wait,
    Stop(Duration),
    Drop,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built");
    let code = runtime.block_on(run());
    // A thread may still be reading standard input.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn run() -> u8 {
    let mut signals = Signals::install().expect("signals can be caught");
    let (mode, command) = parse(std::env::args_os().skip(1));
    let mut child = match Child::spawn(command, &mut signals) {
        Ok(child) => child,
        Err(error) => {
            say(&format!("{error:?}"));
            return error.exit_code().into();
        }
    };
    match mode {
        Mode::Wait => child.wait(&mut signals).await.exit_code(),
        Mode::Stop(grace) => {
            let stop = child.stop_handle();
            let line = read_line();
            let (end, ()) = tokio::join!(child.wait(&mut signals), async {
                line.await;
                stop.stop(StopReason::SessionLost, grace);
            });
            end.exit_code()
        }
        Mode::Drop => {
            tokio::select! {
                end = child.wait(&mut signals) => return end.exit_code(),
                () = read_line() => {}
            }
            drop(child);
            say("dropped");
            read_line().await;
            0
        }
    }
}

fn parse(mut words: impl Iterator<Item = OsString>) -> (Mode, Command) {
    let mut next = || words.next();
    let mut program = next().expect("a program is given");
    let mode = match program.to_str() {
        Some("--stop") => {
            let grace = next().expect("a grace is given");
            let milliseconds = grace.to_str().and_then(|text| text.parse().ok());
            program = next().expect("a program is given");
            Mode::Stop(Duration::from_millis(
                milliseconds.expect("a number of milliseconds"),
            ))
        }
        Some("--drop") => {
            program = next().expect("a program is given");
            Mode::Drop
        }
        _ => Mode::Wait,
    };
    let command = Command {
        program,
        args: words.collect(),
        env: std::env::vars_os().collect(),
        cwd: std::env::current_dir().expect("there is a working directory"),
        output: Output::Inherit,
    };
    (mode, command)
}

async fn read_line() {
    let read = tokio::task::spawn_blocking(|| io::stdin().lock().read_line(&mut String::new()));
    read.await
        .expect("the reader does not panic")
        .expect("standard input can be read");
}

fn say(line: &str) {
    writeln!(io::stderr(), "{line}").expect("standard error can be written");
}
