//! `local run`: a program becomes a target, and stays one when this command has ended.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::{Args, ValueEnum};
use model::{ExitCode, Namespace, TargetRef};

use crate::contexts::local::{
    self, KeeperProgram, NetworkChoice, PublishedPort, RunError, RunProgress, RunReport,
    RunRequest, TargetNetwork,
};
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::{Format, Page, Report, Ui};

/// Variables of the caller that speak of the caller's shell or of `bough`: no target has them.
const NOT_THE_TARGETS: [&str; 4] = ["_", "OLDPWD", "PWD", "SHLVL"];

/// What the names of variables that are meant for `bough` begin with.
const OURS: [&[u8]; 2] = [b"BOUGH_", b"MIRRORD_"];

const EXAMPLES: &str = "\
Examples:
  bough local run deployment/inventory -n metalmart --port 18082 -- inventory --port 18082
  bough local run deployment/inventory -n metalmart --publish 18082:8082 -- inventory --port 8082
  DATABASE_URL=postgres://... bough local run deployment/inventory -n metalmart -- inventory

The target has the caller's environment. A secret given by --env is in this command's arguments, for every account of
the machine to see; one of the environment is not.";

/// Start a target, and wait until its ports answer
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RunArgs {
    /// What it is called: KIND/NAME
    target: TargetRef,

    /// A variable for it, over the caller's; may be given several times
    #[arg(short = 'e', long = "env", value_name = "NAME=VALUE", value_parser = parse_variable)]
    variables: Vec<(String, String)>,

    /// A port that it listens on, which is waited for; the same port of 127.0.0.1 leads to it unless --publish names
    /// another; may be given several times
    #[arg(short = 'p', long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    ports: Vec<u16>,

    /// A port of this machine that leads to one of the target's: HOST_PORT:PORT on 127.0.0.1, or ADDRESS:HOST_PORT:PORT;
    /// may be given several times
    #[arg(long, value_name = "HOST_PORT:PORT", value_parser = parse_published)]
    publish: Vec<PublishedPort>,

    /// The target's network
    #[arg(long, value_name = "WHICH", value_enum, default_value_t)]
    network: NetworkFlag,

    /// Seconds to wait for the ports at most; 0 not to wait
    #[arg(long, value_name = "SECS", default_value = "30")]
    wait: u64,

    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,

    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Which network a target gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum NetworkFlag {
    /// One of its own where the machine allows it, else the machine's
    #[default]
    Auto,
    /// One of its own, or nothing is started
    Own,
    /// The machine's
    Machine,
}

impl From<NetworkFlag> for NetworkChoice {
    fn from(flag: NetworkFlag) -> Self {
        match flag {
            NetworkFlag::Auto => Self::Auto,
            NetworkFlag::Own => Self::Own,
            NetworkFlag::Machine => Self::Machine,
        }
    }
}

fn parse_published(text: &str) -> Result<PublishedPort, String> {
    let parse = || {
        let (host, port) = text.rsplit_once(':')?;
        let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
        let host: SocketAddr = match host.parse::<u16>() {
            Ok(host) => (Ipv4Addr::LOCALHOST, host).into(),
            Err(_) => host.parse().ok()?,
        };
        (host.port() != 0).then_some(PublishedPort { host, port })
    };
    parse().ok_or_else(|| {
        "expected HOST_PORT:PORT or ADDRESS:HOST_PORT:PORT, as 18082:8082".to_owned()
    })
}

/// The ports that are waited for, and what leads to them.
fn ports_of(args: &RunArgs) -> (Vec<u16>, Vec<PublishedPort>) {
    let mut ports = args.ports.clone();
    let mut published = args.publish.clone();
    for port in args.publish.iter().map(|published| published.port) {
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    for port in &ports {
        if published.iter().all(|published| published.port != *port) {
            let host = (Ipv4Addr::LOCALHOST, *port).into();
            published.push(PublishedPort { host, port: *port });
        }
    }
    (ports, published)
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("expected NAME=VALUE".to_owned()),
    }
}

pub(super) async fn run(
    args: &RunArgs,
    namespace: Namespace,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let is_in_session = |(name, _): (&OsStr, &OsStr)| name == supervisor::SESSION_VARIABLE;
    if settings.environment.iter().any(is_in_session) {
        return Err(RunError::InSession.into());
    }
    let keeper = KeeperProgram::this_program(&settings.data_dir).map_err(RunError::Keeper)?;
    let (program, arguments) = args
        .command
        .split_first()
        .expect("the argument parser demands a program");
    let (ports, published) = ports_of(args);
    let request = RunRequest {
        data_dir: settings.data_dir.clone(),
        keeper,
        target: args.target.clone(),
        namespace,
        ports,
        published,
        network: args.network.into(),
        program: program.clone(),
        args: arguments.to_vec(),
        environment: target_environment(settings, &args.variables),
        directory: settings.directory.clone().unwrap_or_else(|| "/".into()),
        wait: Duration::from_secs(args.wait),
    };
    let mut tell = |progress| match progress {
        RunProgress::Waiting { ports } => {
            let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
            ui.note(&format!("waiting until it listens on {}", ports.join(", ")));
        }
        RunProgress::Started { .. } | RunProgress::Listening { .. } => {}
    };
    let report = local::run(request, &mut tell).await?;
    ui.report(&report, args.output)?;
    Ok(())
}

impl From<RunError> for CommandError {
    fn from(error: RunError) -> Self {
        let code = error.exit_code();
        let known = [
            ExitCode::Usage,
            ExitCode::Target,
            ExitCode::NotExecutable,
            ExitCode::NotFound,
        ];
        let mut known = known.into_iter();
        let exit = known.find(|exit| u8::from(*exit) == code);
        let details: Vec<_> = error
            .details()
            .iter()
            .map(|line| format!("  {line}"))
            .collect();
        let hint = error.hint();
        let failure = Self::new(exit.unwrap_or(ExitCode::Internal), error).with_details(details);
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

fn target_environment(
    settings: &Settings,
    given: &[(String, String)],
) -> BTreeMap<OsString, OsString> {
    let callers = settings.environment.iter().filter(|(name, _)| {
        let is_ours = |prefix: &&[u8]| name.as_encoded_bytes().starts_with(prefix);
        !NOT_THE_TARGETS.iter().any(|other| name == other) && !OURS.iter().any(is_ours)
    });
    let callers = callers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let given = given
        .iter()
        .map(|(name, value)| (name.into(), value.into()));
    callers.chain(given).collect()
}

impl Report for RunReport {
    fn text(&self, _: Page) -> String {
        let Self {
            target,
            namespace,
            pid,
            ports,
            network,
            log,
        } = self;
        let mut text = format!("Target {target} (namespace {namespace}) runs as process {pid}");
        if !ports.is_empty() {
            let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
            text.push_str(&format!(", port {}", ports.join(", ")));
        }
        text.push_str(".\n");
        match network {
            TargetNetwork::Own { published } => {
                let published = published.iter();
                let published: Vec<_> = published
                    .map(|PublishedPort { host, port }| format!("; {host} leads to its port {port}"))
                    .collect();
                text.push_str(&format!("  network  its own{}\n", published.concat()));
            }
            TargetNetwork::Shared { why: Some(why) } => text.push_str(&format!(
                "  network  the machine's, so that no session mirrors or steals its traffic: {why}\n"
            )),
            TargetNetwork::Shared { why: None } => text.push_str("  network  the machine's, as asked\n"),
        }
        text.push_str(&format!("  log      {}\n", log.display()));
        text
    }
}
