//! `db-branches reset`: fresh data under the same URL.

use std::time::Duration;

use clap::Args;

use super::status::BranchesDone;
use crate::commands::engines::{self, Whose};
use crate::commands::select;
use crate::error::CommandError;
use crate::readiness;
use crate::settings::Settings;
use crate::ui::{Format, Ui};

const EXAMPLES: &str = "\
Examples:
  bough db-branches reset try-it
  bough db-branches -n metalmart reset a b

Connections end; the URL, the sessions and the TTL stay.";

/// Give branches fresh data under the same URL
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ResetArgs {
    /// Ids or names of branches
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,

    /// Seconds to wait for the branches at most; a copy goes on without us
    #[arg(long, value_name = "SECS", default_value = readiness::WAIT_DEFAULT)]
    wait_timeout: u64,

    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) async fn run(
    args: &ResetArgs,
    whose: &Whose,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let engines = engines::connect(whose, settings, ui).await?;
    let meant = select::select(&args.names, &whose.scope, &engines.branches)?;
    let mut resetting = Vec::with_capacity(meant.len());
    for branch in &meant {
        let engine = engines.of(branch);
        resetting.push(engine.client().reset_branch(&branch.name).await?);
    }
    let limit = Duration::from_secs(args.wait_timeout);
    let mut branches = Vec::with_capacity(meant.len());
    for (branch, resetting) in meant.iter().zip(resetting) {
        let settings = engines.of(branch).settings(settings);
        branches.extend(readiness::wait_until_ready(settings, ui, vec![resetting], limit).await?);
    }
    ui.report(&BranchesDone::new("has fresh data", branches), args.output)?;
    Ok(())
}
