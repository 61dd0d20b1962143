//! `bough verify-config`: whether `exec` would take a file, and every reason why not.

use std::path::{Path, PathBuf};

use clap::Args;
use config::{Config, Diagnostic, ReadError, Unsupported, Weight};
use model::ExitCode;
use serde::Serialize;

use crate::diagnostics;
use crate::error::CommandError;
use crate::session::surroundings;
use crate::settings::Settings;
use crate::ui::{Format, Page, Report, Ui};

const EXAMPLES: &str = "\
Examples:
  bough verify-config .mirrord/inventory.json
  bough verify-config .mirrord/inventory.json -o json

Exits with 0 where `exec` would take the file, with 2 where it would not.";

/// Say whether `exec` would take a configuration file, and every reason why not
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VerifyConfigArgs {
    /// The file
    file: PathBuf,

    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Reads the file as `exec` would.
pub(crate) fn run(
    args: &VerifyConfigArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<ExitCode, CommandError> {
    let read = config::read(&args.file, &surroundings(settings)?);
    match args.output {
        Format::Text => {
            let config = read.map_err(|error| diagnostics::rejection(&args.file, error))?;
            if let Some(refusal) = diagnostics::refusal(&args.file, &config) {
                return Err(refusal);
            }
            ui.report(&Verified::of(&args.file, &config), Format::Text)?;
            Ok(ExitCode::Success)
        }
        Format::Json => {
            let verified = match read {
                Ok(config) => Verified::of(&args.file, &config),
                Err(ReadError::Rejected(rejected)) => Verified {
                    file: args.file.display().to_string(),
                    valid: false,
                    errors: rejected.errors.iter().map(Finding::of).collect(),
                    warnings: rejected.warnings.iter().map(Finding::of).collect(),
                    unsupported: Vec::new(),
                },
                Err(error) => return Err(diagnostics::rejection(&args.file, error)),
            };
            ui.report(&verified, Format::Json)?;
            Ok(if verified.valid {
                ExitCode::Success
            } else {
                ExitCode::Usage
            })
        }
    }
}

/// What was found in a file.
#[derive(Serialize)]
struct Verified {
    file: String,
    /// Whether `exec` would take it.
    valid: bool,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    unsupported: Vec<Lack>,
}

impl Verified {
    fn of(file: &Path, config: &Config) -> Self {
        Self {
            file: file.display().to_string(),
            valid: config.refused().next().is_none(),
            errors: Vec::new(),
            warnings: config.warnings.iter().map(Finding::of).collect(),
            unsupported: config
                .unsupported
                .iter()
                .map(|lack| Lack::of(file, lack))
                .collect(),
        }
    }
}

/// An error or a warning, with its place.
#[derive(Serialize)]
struct Finding {
    line: usize,
    column: usize,
    path: String,
    text: String,
    hint: Option<String>,
    /// Place and text, the line with the place marked, and the hint.
    #[serde(skip)]
    lines: Vec<String>,
}

impl Finding {
    fn of(diagnostic: &Diagnostic) -> Self {
        Self {
            line: diagnostic.place.line,
            column: diagnostic.place.column,
            path: diagnostic.path.clone(),
            text: diagnostic.text.clone(),
            hint: diagnostic.hint.clone(),
            lines: diagnostics::describe(diagnostic),
        }
    }
}

/// What this version cannot do.
#[derive(Serialize)]
struct Lack {
    path: String,
    line: Option<usize>,
    column: Option<usize>,
    effect: String,
    /// Whether `exec` refuses; otherwise it says so and goes on.
    refused: bool,
    #[serde(skip)]
    shown: String,
}

impl Lack {
    fn of(file: &Path, lack: &Unsupported) -> Self {
        Self {
            path: lack.path.clone(),
            line: lack.place.map(|place| place.line),
            column: lack.place.map(|place| place.column),
            effect: lack.effect.clone(),
            refused: lack.weight == Weight::Refused,
            shown: diagnostics::describe_unsupported(file, lack),
        }
    }
}

impl Report for Verified {
    fn text(&self, _: Page) -> String {
        let mut text = format!("{} is valid.\n", self.file);
        for warning in &self.warnings {
            text.push_str(&format!("warning: {}\n", warning.lines.join("\n")));
        }
        for lack in &self.unsupported {
            text.push_str(&format!("not supported: {}\n", lack.shown));
        }
        text
    }
}
