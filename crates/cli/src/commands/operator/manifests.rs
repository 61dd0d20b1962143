//! `bough operator manifests`: the definitions of Bough's resources, as one list that `kubectl apply` takes.

use clap::Args;
use resources::CustomResourceDefinition;
use serde::Serialize;

use crate::error::CommandError;
use crate::ui::{Format, Page, Report, Ui};

const EXAMPLES: &str = "\
Examples:
  bough operator manifests | kubectl apply -f -
  bough operator manifests | kubectl diff -f -";

/// Write the definitions of Bough's resources
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ManifestsArgs {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    api_version: &'static str,
    kind: &'static str,
    items: Vec<CustomResourceDefinition>,
}

impl Report for List {
    fn text(&self, _: Page) -> String {
        String::new()
    }
}

/// Writes them to standard output.
pub(super) fn run(_: &ManifestsArgs, ui: &Ui) -> Result<(), CommandError> {
    let list = List {
        api_version: "v1",
        kind: "List",
        items: resources::definitions(),
    };
    ui.report(&list, Format::Json)?;
    Ok(())
}
