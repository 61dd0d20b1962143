//! `local run`: a program becomes a target, and stays one when this command has ended.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use model::{ExitCode, Namespace, TargetRef};

use crate::contexts::local::{self, KeeperProgram, RunError, RunProgress, RunReport, RunRequest};
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

    /// A port that it listens on; may be given several times
    #[arg(short = 'p', long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    ports: Vec<u16>,

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
    let keeper = KeeperProgram::this_program(&settings.data_dir).map_err(RunError::Keeper)?;
    let (program, arguments) = args
        .command
        .split_first()
        .expect("the argument parser demands a program");
    let request = RunRequest {
        data_dir: settings.data_dir.clone(),
        keeper,
        target: args.target.clone(),
        namespace,
        ports: args.ports.clone(),
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
            log,
        } = self;
        let mut text = format!("Target {target} (namespace {namespace}) runs as process {pid}");
        if !ports.is_empty() {
            let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
            text.push_str(&format!(", port {}", ports.join(", ")));
        }
        text.push_str(&format!(".\n  log  {}\n", log.display()));
        text
    }
}
