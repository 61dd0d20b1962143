//! `bough verify-config`: what a file says once every default is in place, or every reason why it cannot be used.

use std::path::{Path, PathBuf};

use clap::Args;
use config::{
    Config, Diagnostic, Json, ReadError, Rejected, STANDARD_INPUT, TargetChoice, Unsupported,
    Weight,
};
use model::{ExitCode, TargetKind};
use serde::Serialize;

use crate::diagnostics;
use crate::error::CommandError;
use crate::session_file;
use crate::settings::Settings;
use crate::ui::{Format, Page, Report, Ui};

const EXAMPLES: &str = "\
Examples:
  bough verify-config .mirrord/inventory.json
  bough verify-config --resolved .mirrord/inventory.json    with every default in place
  bough verify-config .mirrord/inventory.json -o json
  render | bough verify-config -

Exits with 0, or with 2 where the file has errors. What `exec` would refuse as not supported is a warning here.";

/// Check a configuration file: every error with its place, and what `exec` would refuse or leave out
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VerifyConfigArgs {
    /// The file; `-` is standard input
    file: PathBuf,

    /// Write the whole configuration, with every default in place and secrets masked
    #[arg(long)]
    resolved: bool,

    /// A missing target is no error yet: an editor will ask for one
    #[arg(long)]
    ide: bool,

    /// Form of the result [default: text; json where the program is called as `mirrord`]
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// Reads the file as `exec` would.
pub(crate) fn run(
    args: &VerifyConfigArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<ExitCode, CommandError> {
    let mut surroundings = session_file::surroundings(settings)?;
    surroundings.is_target_final = !args.ide;
    let read = config::read(&args.file, &surroundings);
    let habitual = if settings.is_called_mirrord {
        Format::Json
    } else {
        Format::Text
    };
    match args.output.unwrap_or(habitual) {
        Format::Text => {
            let config = read.map_err(|error| diagnostics::rejection(&args.file, error))?;
            show_text(args, &config, ui)?;
            Ok(ExitCode::Success)
        }
        Format::Json => {
            let (document, exit) = match read {
                Ok(config) => (Document::success(args, &config), ExitCode::Success),
                Err(ReadError::Rejected(rejected)) => (Document::fail(&rejected), ExitCode::Usage),
                Err(error) => {
                    let said = diagnostics::rejection(&args.file, error).message();
                    (Document::unread(said), ExitCode::Usage)
                }
            };
            ui.report(&document, Format::Json)?;
            Ok(exit)
        }
    }
}

fn show_text(args: &VerifyConfigArgs, config: &Config, ui: &Ui) -> Result<(), CommandError> {
    if args.resolved {
        // Alone on standard output, so that it can be kept.
        for line in remarks(&args.file, config) {
            ui.warn(&line);
        }
        ui.report(&Resolved(&config.resolved), Format::Json)?;
    } else {
        ui.report(
            &Verified {
                file: &args.file,
                config,
            },
            Format::Text,
        )?;
    }
    Ok(())
}

/// Everything to say of a file that can be used.
fn remarks(file: &Path, config: &Config) -> Vec<String> {
    let warnings = config
        .warnings
        .iter()
        .map(|warning| diagnostics::describe(warning).join("\n"));
    let lacking = config.unsupported.iter().map(|lack| remark_on(file, lack));
    warnings.chain(lacking).collect()
}

fn remark_on(file: &Path, lack: &Unsupported) -> String {
    let said = diagnostics::describe_unsupported(file, lack);
    match lack.weight {
        Weight::Refused => format!("`exec` refuses this file: {said}"),
        Weight::Told => said,
    }
}

/// The whole configuration.
#[derive(Serialize)]
#[serde(transparent)]
struct Resolved<'c>(&'c Json);

impl Report for Resolved<'_> {
    fn text(&self, _: Page) -> String {
        String::new()
    }
}

/// A file that can be used, for people.
#[derive(Serialize)]
struct Verified<'c> {
    #[serde(skip)]
    file: &'c Path,
    #[serde(skip)]
    config: &'c Config,
}

impl Report for Verified<'_> {
    fn text(&self, _: Page) -> String {
        let mut text = if self.file == Path::new(STANDARD_INPUT) {
            "Standard input is valid.\n".to_owned()
        } else {
            format!("{} is valid.\n", self.file.display())
        };
        for warning in &self.config.warnings {
            let lines = diagnostics::describe(warning).join("\n");
            text.push_str(&format!("warning: {lines}\n"));
        }
        for lack in &self.config.unsupported {
            let label = match lack.weight {
                Weight::Refused => "refused by `exec`",
                Weight::Told => "not supported",
            };
            let said = diagnostics::describe_unsupported(self.file, lack);
            text.push_str(&format!("{label}: {said}\n"));
        }
        text
    }
}

/// The result for programs: what mirrord's editor plugins read, and `findings` with the parts of each line.
#[derive(Serialize)]
#[serde(tag = "type")]
enum Document {
    Success {
        config: VerifiedTarget,
        warnings: Vec<String>,
        compatible_target_types: Vec<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        resolved_config: Option<Json>,
        findings: Vec<Finding>,
    },
    Fail {
        errors: Vec<String>,
        warnings: Vec<String>,
        findings: Vec<Finding>,
    },
}

/// The target, as far as the file says one.
#[derive(Serialize)]
struct VerifiedTarget {
    path: Json,
    namespace: Option<String>,
}

impl Document {
    fn success(args: &VerifyConfigArgs, config: &Config) -> Self {
        // What only a default chose is nothing to tell somebody each time a file is saved.
        let chosen = || config.unsupported.iter().filter(|lack| lack.is_chosen());
        let path = match &config.target.choice {
            TargetChoice::Unset => Json::Null,
            TargetChoice::Targetless | TargetChoice::Workload(_) => {
                let target = config.resolved.get("target");
                target
                    .and_then(|target| target.get("path"))
                    .cloned()
                    .unwrap_or(Json::Null)
            }
        };
        Self::Success {
            config: VerifiedTarget {
                path,
                namespace: config.target.namespace.as_ref().map(ToString::to_string),
            },
            warnings: config
                .warnings
                .iter()
                .map(say)
                .chain(chosen().map(|lack| remark_on(&args.file, lack)))
                .collect(),
            compatible_target_types: config
                .compatible_targets()
                .into_iter()
                .map(|kind| kind.map_or("targetless", TargetKind::as_str))
                .collect(),
            resolved_config: args.resolved.then(|| config.resolved.clone()),
            findings: config
                .warnings
                .iter()
                .map(|warning| Finding::of("warning", warning))
                .chain(config.unsupported.iter().map(Finding::of_lack))
                .collect(),
        }
    }

    fn fail(rejected: &Rejected) -> Self {
        let errors = rejected
            .errors
            .iter()
            .map(|error| Finding::of("error", error));
        let warnings = rejected
            .warnings
            .iter()
            .map(|warning| Finding::of("warning", warning));
        Self::Fail {
            errors: rejected.errors.iter().map(say).collect(),
            warnings: rejected.warnings.iter().map(say).collect(),
            findings: errors.chain(warnings).collect(),
        }
    }

    fn unread(said: String) -> Self {
        Self::Fail {
            errors: vec![said],
            warnings: Vec::new(),
            findings: Vec::new(),
        }
    }
}

impl Report for Document {
    fn text(&self, _: Page) -> String {
        String::new()
    }
}

/// One line, with what to do.
fn say(diagnostic: &Diagnostic) -> String {
    match &diagnostic.hint {
        Some(hint) => format!("{diagnostic} ({hint})"),
        None => diagnostic.to_string(),
    }
}

/// An error, a warning, or what is not supported, in parts.
#[derive(Serialize)]
struct Finding {
    /// `error`, `warning`, `refused` (by `exec`) or `unsupported`.
    severity: &'static str,
    path: String,
    /// The file, or the variable or flag that said it.
    file: Option<String>,
    line: Option<usize>,
    column: Option<usize>,
    text: String,
    hint: Option<String>,
}

impl Finding {
    fn of(severity: &'static str, diagnostic: &Diagnostic) -> Self {
        Self {
            severity,
            path: diagnostic.path.clone(),
            file: Some(diagnostic.file.clone()),
            line: Some(diagnostic.place.line),
            column: Some(diagnostic.place.column),
            text: diagnostic.text.clone(),
            hint: diagnostic.hint.clone(),
        }
    }

    fn of_lack(lack: &Unsupported) -> Self {
        Self {
            severity: match lack.weight {
                Weight::Refused => "refused",
                Weight::Told => "unsupported",
            },
            path: lack.path.clone(),
            file: lack.file.clone(),
            line: lack.place.map(|place| place.line),
            column: lack.place.map(|place| place.column),
            text: lack.effect.clone(),
            hint: None,
        }
    }
}
