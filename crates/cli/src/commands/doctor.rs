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
  bough doctor --apparmor-profile | sudo tee /etc/apparmor.d/bough

Exits with 1 where something is missing without which no branch can be made.";

/// Show what this machine can do, and what to do about the rest
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,

    /// Print an AppArmor profile for this program, for systems that restrict user namespaces, and look at nothing
    #[arg(long)]
    apparmor_profile: bool,
}

/// The profile, with a place for the program's path.
const PROFILE: &str = include_str!("../../../../packaging/apparmor/bough");

/// A profile that names no program would be every program's.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell where this program is")]
struct NoProgram(#[source] std::io::Error);

/// Looks at the machine.
pub(crate) async fn run(
    args: &DoctorArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<ExitCode, CommandError> {
    if args.apparmor_profile {
        let program = std::env::current_exe();
        let program =
            program.map_err(|error| CommandError::new(ExitCode::Internal, NoProgram(error)))?;
        // In quotes, a path may hold spaces (apparmor.d(5)).
        let path = format!("\"{}\"", program.display());
        ui.raw(PROFILE.replace("@PROGRAM@", &path).as_bytes())?;
        return Ok(ExitCode::Success);
    }
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
