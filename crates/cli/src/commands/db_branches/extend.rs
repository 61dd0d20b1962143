//! `db-branches extend`: more time.

use clap::Args;
use model::engine_api::ExtendBranch;
use model::{ExitCode, Ttl};

use super::status::BranchesDone;
use crate::commands::engines::{self, Whose};
use crate::commands::select;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::{Format, Ui};

const EXAMPLES: &str = "\
Examples:
  bough db-branches extend try-it              its TTL once more, from now
  bough db-branches extend try-it --ttl 900    another TTL, from now

The engine's maximum is shown by `bough engine status`; in a cluster its administrator's limits hold.";

/// Give branches more time
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ExtendArgs {
    /// Ids or names of branches
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,

    /// The new TTL in seconds, counted from now [default: the branch's own]
    #[arg(long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..))]
    ttl: Option<u64>,

    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) async fn run(
    args: &ExtendArgs,
    whose: &Whose,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let engines = engines::connect(whose, settings, ui).await?;
    let mut extended = Vec::with_capacity(args.names.len());
    for branch in select::select(&args.names, &whose.scope, &engines.branches)? {
        let engine = engines.of(branch);
        let ttl = args.ttl.map_or(branch.ttl_seconds, Ttl);
        if let Some(host) = &engine.host {
            let asked = host.ask_for_time(&branch.name, ttl).await;
            asked.map_err(|error| CommandError::from(error).with_exit(ExitCode::Branch))?;
        }
        let extend = ExtendBranch { ttl };
        let view = engine.client().extend_branch(&branch.name, extend).await?;
        extended.push(view);
    }
    ui.report(&BranchesDone::new("has more time", extended), args.output)?;
    Ok(())
}
