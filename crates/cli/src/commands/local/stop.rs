//! `local stop`: targets ended and forgotten.

use clap::Args;
use model::{ExitCode, Namespace, TargetRef};
use serde::Serialize;

use crate::contexts::local::{self, StopError, StopOutcome, StopReport, Which};
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::{Format, Page, Report, Ui};

const EXAMPLES: &str = "\
Examples:
  bough local stop deployment/inventory -n metalmart
  bough local stop --all -n metalmart

With an unknown name among them, none is stopped.";

/// Stop targets with all that they started, and forget them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StopArgs {
    /// Their KIND/NAME
    #[arg(value_name = "TARGET", required_unless_present = "all")]
    targets: Vec<TargetRef>,

    /// Every target of the namespace
    #[arg(long, conflicts_with = "targets")]
    all: bool,

    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Answers with the exit code: of what is still there, nobody is to believe that it is gone.
pub(super) async fn run(
    args: &StopArgs,
    namespace: &Namespace,
    settings: &Settings,
    ui: &Ui,
) -> Result<ExitCode, CommandError> {
    let which = if args.all {
        Which::All
    } else {
        Which::Named(args.targets.clone())
    };
    let reports = local::stop(&settings.data_dir, namespace, &which).await?;
    let is_left = |report: &StopReport| match report.outcome {
        StopOutcome::Stopped | StopOutcome::Forgotten { .. } => false,
        StopOutcome::Remains { .. } | StopOutcome::Busy => true,
    };
    let exit = if reports.iter().any(is_left) {
        ExitCode::Internal
    } else {
        ExitCode::Success
    };
    let namespace = namespace.clone();
    ui.report(&StopList { reports, namespace }, args.output)?;
    Ok(exit)
}

impl From<StopError> for CommandError {
    fn from(error: StopError) -> Self {
        let exit = error.exit_code();
        match error {
            StopError::Find(error) => Self::from(error).with_exit(exit),
            StopError::Registry(_) | StopError::Process { .. } => Self::new(exit, error),
        }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct StopList {
    reports: Vec<StopReport>,
    #[serde(skip)]
    namespace: Namespace,
}

impl Report for StopList {
    fn text(&self, _: Page) -> String {
        if self.reports.is_empty() {
            return format!("No target in namespace {}.\n", self.namespace);
        }
        let lines = self.reports.iter().map(|report| {
            let (target, namespace) = (&report.target, &report.namespace);
            let what = match &report.outcome {
                StopOutcome::Stopped => "is stopped".to_owned(),
                StopOutcome::Forgotten { was } => format!("had ended ({was}) and is forgotten"),
                StopOutcome::Remains { pids } => {
                    format!("is still there: its processes {pids:?} cannot be ended")
                }
                StopOutcome::Busy => "is being started or stopped by another command".to_owned(),
            };
            format!("Target {target} (namespace {namespace}) {what}.\n")
        });
        lines.collect()
    }
}
