//! `source rm`: a name forgotten. Its branches stay.

use clap::Args;
use model::ExitCode;
use model::engine_api::SourceName;

use crate::commands::connect_engine;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  bough source rm inventory";

/// Forget a database's name; branches stay
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RemoveArgs {
    /// The name
    name: SourceName,
}

/// No source has this name.
#[derive(Debug, thiserror::Error)]
#[error("no source {name}: {}", existing(.known))]
struct Unknown {
    name: SourceName,
    known: Vec<String>,
}

fn existing(known: &[String]) -> String {
    match known {
        [] => "there is none".to_owned(),
        [one] => format!("there is {one}"),
        several => format!("there are {}", several.join(", ")),
    }
}

pub(super) async fn run(
    args: &RemoveArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let engine = connect_engine(settings, ui).await?;
    match engine.client.remove_source(&args.name).await {
        Ok(()) => {}
        Err(error) if error.is_not_found() => {
            let sources = engine.client.sources().await?;
            let unknown = Unknown {
                name: args.name.clone(),
                known: sources.iter().map(|s| s.name.to_string()).collect(),
            };
            return Err(CommandError::new(ExitCode::Internal, unknown));
        }
        Err(error) => return Err(error.into()),
    }
    ui.note(&format!("source {} is forgotten", args.name));
    Ok(())
}
