//! The smallest program around the supervisor, for its tests: `supervise [--stop MS | --drop | FENCE] PROGRAM [ARG...]`.
//!
//! Runs the program with its own environment and ends as it ended; errors go to standard error as `Debug` text.
//! `--stop`: a line on standard input ends the program's tree with that grace; `--drop`: it drops the child, says
//! `dropped`, and waits for the end of standard input.
//!
//! `FENCE` is `--fence HOST:PORT/DATABASE=DOOR` as often as wanted, `--refuse`, `--allow` and `--assert-isolated`; the
//! program then runs guarded, each event is a line on standard error, and the report the last one.
//! With `TARGET_AGENT=SOCKET` in the environment it runs in the network of the agent there; `TARGET_PLAN` has words for
//! what of it: `tcp udp dns mirror steal`.
//! `--watch ID` is the watcher of such a run, `--dial ADDRESS DATABASE` a static program that begins a session of
//! PostgreSQL and says what the server answers, `--dial-forever ADDRESS` one that does not end by
//! itself, `--time ADDRESS` one that times its calls.

mod dial;
mod stopwatch;
mod target;

use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use model::pg_url::Address;
use supervisor::{
    Child, Command, FencePlan, FencedDatabase, FencedServer, GuardPlan, KnownHosts, NetworkThread,
    OnSource, Output, Signals, StopReason, WatcherProgram, remote_of,
};

enum Mode {
    Wait,
    Stop(Duration),
    Drop,
    Fence(FencePlan),
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|arg| arg.to_str()) {
        Some("--watch") => {
            supervisor::watch(&args[1]).expect("the supervisor started it");
            return ExitCode::SUCCESS;
        }
        Some("--dial") => return dial::dial(&args[1..]),
        Some("--time") => return stopwatch::time(&args[1..]),
        Some("--dial-forever") => return dial::dial_forever(&args[1..]),
        Some(_) | None => {}
    }
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
    if let Mode::Fence(plan) = mode {
        return run_fenced(plan, command, &mut signals).await;
    }
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
        Mode::Fence(_) => unreachable!("handled above"),
    }
}

async fn run_fenced(fence: FencePlan, command: Command, signals: &mut Signals) -> u8 {
    let thread = NetworkThread::start().expect("there are threads");
    let network = target::join(&thread).await;
    let remote = remote_of(network.as_ref().map(|(network, _)| network));
    let addresses = fence.servers.iter().flat_map(|server| &server.addresses);
    let hosts = KnownHosts::look_up(&remote, addresses).await;
    let plan = GuardPlan {
        id: format!("test-{}", std::process::id()),
        fence,
        hosts,
        network,
        thread,
        watcher: WatcherProgram {
            program: "/proc/self/exe".into(),
            args: vec!["--watch".into()],
        },
    };
    let prepared = match supervisor::guard::prepare(plan) {
        Ok(prepared) => prepared,
        Err(error) => {
            say(&format!("{error:?}"));
            return 4;
        }
    };
    let (mut child, mut guard) = match prepared.spawn(command, signals) {
        Ok(spawned) => spawned,
        Err(error) => {
            say(&format!("{error:?}"));
            return error.exit_code().into();
        }
    };
    let end = loop {
        tokio::select! {
            end = child.wait(signals) => break end,
            event = guard.event() => say(&format!("{event:?}")),
        }
    };
    child
        .end_remains(signals, Duration::from_secs(5))
        .await
        .expect("there are descriptors");
    for event in guard.last_events().await {
        say(&format!("{event:?}"));
    }
    say(&format!("{:?}", guard.finish()));
    end.exit_code()
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
        Some("--fence" | "--assert-isolated" | "--refuse" | "--allow") => {
            let mut plan = FencePlan {
                servers: Vec::new(),
                on_source: OnSource::Redirect,
                assert_isolated: false,
            };
            loop {
                match program.to_str() {
                    Some("--fence") => {
                        let rule = next().expect("a rule is given");
                        plan.servers
                            .push(parse_rule(rule.to_str().expect("a rule is text")));
                    }
                    Some("--assert-isolated") => plan.assert_isolated = true,
                    Some("--refuse") => plan.on_source = OnSource::Refuse,
                    Some("--allow") => plan.on_source = OnSource::Allow,
                    Some(_) | None => break,
                }
                program = next().expect("a program is given");
            }
            Mode::Fence(plan)
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

/// `HOST:PORT/DATABASE=DOOR`; the branch is called as its database.
fn parse_rule(rule: &str) -> FencedServer {
    let (place, door) = rule.split_once('=').expect("a rule has a door");
    let (address, database) = place.rsplit_once('/').expect("a rule has a database");
    let (host, port) = address.rsplit_once(':').expect("an address has a port");
    FencedServer {
        addresses: vec![Address {
            host: host.to_owned(),
            port: port.parse().expect("a port is a number"),
        }],
        databases: vec![FencedDatabase {
            names: vec![database.to_owned()],
            branch: database.to_owned(),
            door: door.parse().expect("a door is an address"),
            database: format!("{database}_branch"),
            needs_tls: false,
        }],
    }
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

fn print(line: &str) {
    writeln!(io::stdout(), "{line}").expect("standard output can be written");
}
