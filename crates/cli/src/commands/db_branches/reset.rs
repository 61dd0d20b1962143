//! `db-branches reset`: fresh data under the same URL.

use std::time::Duration;

use clap::Args;
use model::engine_api::BranchView;
use model::{BranchId, ExitCode};

use super::status::BranchesDone;
use crate::commands::engines::{self, Engines, Whose};
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

/// In a cluster a branch's source may be reached through a session's target alone.
#[derive(Debug, thiserror::Error)]
#[error(
    "branch {id} is a copy that went through {network}, and only a session in its place leads there: nothing was reset"
)]
struct NoWay {
    id: BranchId,
    network: String,
}

pub(super) async fn run(
    args: &ResetArgs,
    whose: &Whose,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let engines = engines::connect(whose, settings, ui).await?;
    let meant = select::select(&args.names, &whose.scope, &engines.branches)?;
    meant
        .iter()
        .try_for_each(|branch| require_way(branch, &engines))?;
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

/// Refuses what would lose its data and get no other: a branch host has no way of its own into a target's network.
fn require_way(branch: &BranchView, engines: &Engines) -> Result<(), CommandError> {
    let (Some(network), Some(_)) = (&branch.spec.network, &engines.of(branch).host) else {
        return Ok(());
    };
    let (id, network) = (branch.id.clone(), network.clone());
    let hint = format!(
        "`bough db-branches destroy {id}`, and the session's command again, makes a new one"
    );
    Err(CommandError::new(ExitCode::Branch, NoWay { id, network }).with_hint(hint))
}
