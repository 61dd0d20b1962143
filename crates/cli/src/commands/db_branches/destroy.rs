//! `db-branches destroy`, also `stop`: branches deleted, with their files.

use clap::Args;
use model::engine_api::BranchView;
use serde::Serialize;

use crate::commands::engines::{self, Whose};
use crate::commands::select::{self, Scope};
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::{Format, Page, Report, Ui, words};

const EXAMPLES: &str = "\
Examples:
  bough db-branches -n metalmart destroy my-session
  bough db-branches destroy a b pg-0123456789abcdef
  bough db-branches -A destroy --all

With an unknown name among them, none is touched.";

/// Delete branches with their data; their sessions end
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DestroyArgs {
    /// Ids or names of branches
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,

    /// Every branch of the namespace, or with -A of all
    #[arg(long, conflicts_with = "names")]
    all: bool,

    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) async fn run(
    args: &DestroyArgs,
    whose: &Whose,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let engines = engines::connect(whose, settings, ui).await?;
    let doomed = if args.all {
        select::within(&whose.scope, &engines.branches)
    } else {
        select::select(&args.names, &whose.scope, &engines.branches)?
    };
    for branch in &doomed {
        match engines
            .of(branch)
            .client()
            .delete_branch(&branch.name)
            .await
        {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            // Gone is what was asked for, by whomever.
            Ok(()) | Err(_) => {}
        }
    }
    let report = DestroyReport {
        destroyed: doomed,
        scope: &whose.scope,
    };
    ui.report(&report, args.output)?;
    Ok(())
}

#[derive(Serialize)]
struct DestroyReport<'a> {
    destroyed: Vec<&'a BranchView>,
    #[serde(skip)]
    scope: &'a Scope,
}

impl Report for DestroyReport<'_> {
    fn text(&self, _: Page) -> String {
        if self.destroyed.is_empty() {
            return format!("No branch in {}.\n", self.scope.describe());
        }
        let lines = self.destroyed.iter().map(|branch| {
            let held = match branch.sessions.len() {
                0 => String::new(),
                n => format!(", {} held it", words::things(n, "session")),
            };
            let (id, name, namespace) = (&branch.id, &branch.name, &branch.namespace);
            format!("Branch {id} ({name}, namespace {namespace}) is deleted{held}.\n")
        });
        lines.collect()
    }
}
