//! `bough doctor`: what this machine can do, and what to do about the rest.

use clap::Args;
use model::ExitCode;
use serde::Serialize;

use crate::doctor::{self, Check, Verdict};
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::{Format, Page, Report, Ui};

const EXAMPLES: &str = "\
Examples:
  bough doctor
  bough doctor -o json

Exits with 1 where something is missing without which no branch can be made.";

/// Show what this machine can do, and what to do about the rest
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Looks at the machine.
pub(crate) async fn run(
    args: &DoctorArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<ExitCode, CommandError> {
    let checks = doctor::examine(settings).await;
    let is_missing = |check: &Check| check.verdict == Verdict::Missing;
    let exit = if checks.iter().any(is_missing) {
        ExitCode::Internal
    } else {
        ExitCode::Success
    };
    ui.report(&DoctorReport { checks }, args.output)?;
    Ok(exit)
}

#[derive(Serialize)]
struct DoctorReport {
    checks: Vec<Check>,
}

impl Report for DoctorReport {
    fn text(&self, _: Page) -> String {
        let width = self.checks.iter().map(|check| check.name.len()).max();
        let width = width.unwrap_or_default();
        let mut text = String::new();
        for check in &self.checks {
            let mark = match check.verdict {
                Verdict::Good => "ok      ",
                Verdict::Limited => "limited ",
                Verdict::Missing => "MISSING ",
            };
            let indent = format!("\n        {:width$}  ", "");
            let found = check.found.replace('\n', &indent);
            text.push_str(&format!("{mark}{:width$}  {found}\n", check.name));
            if let Some(advice) = &check.advice {
                text.push_str(&format!("        {:width$}  -> {advice}\n", ""));
            }
        }
        text
    }
}
