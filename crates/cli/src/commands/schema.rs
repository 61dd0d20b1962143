//! `bough schema`: the JSON Schema of configuration files, for editors.

use clap::Args;
use config::Json;
use model::ExitCode;
use serde::Serialize;

use crate::error::CommandError;
use crate::ui::{Format, Page, Report, Ui};

const EXAMPLES: &str = "\
Examples:
  bough schema > .mirrord/bough.schema.json

A file that begins with {\"$schema\": \"./bough.schema.json\", ...} is then completed and checked while it is written.";

/// Write the JSON Schema of configuration files
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SchemaArgs {}

#[derive(Serialize)]
#[serde(transparent)]
struct Schema(Json);

impl Report for Schema {
    fn text(&self, _: Page) -> String {
        String::new()
    }
}

/// Writes it to standard output.
pub(crate) fn run(_: &SchemaArgs, ui: &Ui) -> Result<ExitCode, CommandError> {
    ui.report(&Schema(config::schema()), Format::Json)?;
    Ok(ExitCode::Success)
}
