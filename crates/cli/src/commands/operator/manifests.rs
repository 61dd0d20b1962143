//! `bough operator manifests`: Bough's resources and their operator, as one list that `kubectl apply` takes.

use clap::Args;
use model::ExitCode;
use serde::Serialize;
use serde_json::Value;

use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::{Format, Page, Report, Ui};

const EXAMPLES: &str = "\
Examples:
  bough operator manifests | kubectl apply -f -
  bough operator manifests | kubectl diff -f -";

/// Write the definitions of Bough's resources, and the operator that acts on them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ManifestsArgs {
    /// The definitions alone
    #[arg(long)]
    only_definitions: bool,

    /// The image that operator, branch hosts and agents run [default: BOUGH_AGENT_IMAGE, else this version's]
    #[arg(long)]
    image: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    api_version: &'static str,
    kind: &'static str,
    items: Vec<Value>,
}

impl Report for List {
    fn text(&self, _: Page) -> String {
        String::new()
    }
}

/// Writes them to standard output.
pub(super) fn run(args: &ManifestsArgs, settings: &Settings, ui: &Ui) -> Result<(), CommandError> {
    let definitions = resources::definitions();
    let written = definitions.iter().map(serde_json::to_value);
    let written: Result<Vec<Value>, _> = written.collect();
    let mut items = written.map_err(|error| CommandError::new(ExitCode::Internal, error))?;
    if !args.only_definitions {
        let image = args.image.as_deref().unwrap_or(&settings.agent_image);
        items.extend(operator::manifests(image));
    }
    let list = List {
        api_version: "v1",
        kind: "List",
        items,
    };
    ui.report(&list, Format::Json)?;
    Ok(())
}
