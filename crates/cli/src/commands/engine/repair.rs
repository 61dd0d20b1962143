//! `engine repair`: a damaged catalogue made anew of its backup.

use clap::Args;
use model::ExitCode;

use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;

const ABOUT: &str = "\
The engine refuses to start on a catalogue that is damaged, empty or gone, and touches nothing. This makes a new one of
the backup that the engine wrote beside it, some seconds after the last change. The damaged file is kept under another
name. Branches and copies that the backup does not name are removed when the engine starts.";

const EXAMPLES: &str = "\
Examples:
  bough engine repair
  bough engine repair && bough db-branches -A status";

/// Make a damaged catalogue anew of its backup
#[derive(Debug, Args)]
#[command(long_about = ABOUT, after_help = EXAMPLES)]
pub(super) struct RepairArgs {}

pub(super) fn run(_: &RepairArgs, settings: &Settings, ui: &Ui) -> Result<(), CommandError> {
    let repaired = engine::repair(&settings.data_dir)
        .map_err(|error| CommandError::new(ExitCode::Internal, error))?;
    ui.note(&format!(
        "the catalogue was rebuilt from its backup of {}: {} records",
        repaired.taken_at, repaired.records
    ));
    if let Some(aside) = &repaired.aside {
        ui.note(&format!("the damaged one is kept as {}", aside.display()));
    }
    Ok(())
}
