//! `source refresh`: a source is looked at again, and copied where it has moved.

use std::time::Duration;

use clap::Args;
use model::ExitCode;
use model::engine_api::{SourceName, SourceView};

use super::list::SourceList;
use crate::clock;
use crate::commands::connect_engine;
use crate::error::CommandError;
use crate::readiness::describe_copy;
use crate::settings::Settings;
use crate::ui::{Format, Ui};

const EXAMPLES: &str = "\
Examples:
  bough source refresh inventory
  bough source refresh inventory --wait-timeout 3600";

/// How often the engine is asked how far it is.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Copy a named database again where it has moved, before anybody asks for a branch
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RefreshArgs {
    /// The source's name
    name: SourceName,

    /// Seconds to wait at most; the copy goes on without us
    #[arg(long, value_name = "SECS", default_value_t = 3600)]
    wait_timeout: u64,

    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Why a source was not refreshed.
#[derive(Debug, thiserror::Error)]
enum RefreshError {
    /// The engine could not ask or copy it.
    #[error("the source {name} could not be copied: {why}")]
    Failed {
        /// The source.
        name: SourceName,
        /// What the engine says.
        why: String,
    },
    /// It takes longer than we wait.
    #[error("the source {name} is not copied after {seconds} s")]
    TimedOut {
        /// The source.
        name: SourceName,
        /// How long was waited.
        seconds: u64,
    },
    /// It was removed meanwhile.
    #[error("the source {0} is gone")]
    Gone(SourceName),
}

impl From<RefreshError> for CommandError {
    fn from(error: RefreshError) -> Self {
        let hint = match &error {
            RefreshError::Failed { .. } => "`bough engine logs` may say more",
            RefreshError::TimedOut { .. } => {
                "the copy goes on: `bough source ls` says when it is done"
            }
            RefreshError::Gone(_) => "`bough source ls` shows what there is",
        };
        Self::new(ExitCode::Branch, error).with_hint(hint)
    }
}

pub(super) async fn run(
    args: &RefreshArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let engine = connect_engine(settings, ui).await?;
    engine.client.refresh_source(&args.name).await?;
    let mut progress = ui.progress();
    let refreshed = async {
        loop {
            let sources = engine.client.sources().await?;
            let found = sources.into_iter().find(|source| source.name == args.name);
            let source = found.ok_or_else(|| RefreshError::Gone(args.name.clone()))?;
            if source.looked_at.is_some() {
                return Ok::<SourceView, CommandError>(source);
            }
            if let Some(copy) = &source.progress {
                let line = describe_copy(args.name.as_str(), copy, clock::now());
                progress.show(args.name.as_str(), line, clock::monotonic());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(args.wait_timeout), refreshed).await;
    let source = waited.map_err(|_| RefreshError::TimedOut {
        name: args.name.clone(),
        seconds: args.wait_timeout,
    })??;
    progress.finish(args.name.as_str());
    if let Some(why) = source.failure {
        let name = args.name.clone();
        return Err(RefreshError::Failed { name, why }.into());
    }
    ui.report(&SourceList(vec![source]), args.output)?;
    Ok(())
}
