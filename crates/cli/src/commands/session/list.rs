//! `session ls`: the sessions that hold branches, each with these.

use std::collections::BTreeMap;

use clap::Args;
use model::engine_api::{BranchView, SessionId, SessionView};
use model::{BranchId, Namespace};
use serde::Serialize;

use crate::commands::engines::{self, Whose};
use crate::commands::select::{self, Scope};
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::{Format, Page, Report, Table, Ui, words};

const EXAMPLES: &str = "\
Examples:
  bough session ls                        those of the context's own namespace
  bough session -n metalmart ls -o json   for a program";

/// List sessions that hold branches
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListArgs {
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) async fn run(
    args: &ListArgs,
    whose: &Whose,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let engines = engines::connect(whose, settings, ui).await?;
    let branches = select::within(&whose.scope, &engines.branches);
    let report = SessionsReport {
        sessions: sessions(&branches),
        scope: &whose.scope,
    };
    ui.report(&report, args.output)?;
    Ok(())
}

/// One session, and what it holds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SessionRow {
    #[serde(flatten)]
    pub(super) session: SessionView,
    pub(super) branches: Vec<HeldBranch>,
}

/// A branch that a session holds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct HeldBranch {
    id: BranchId,
    namespace: Namespace,
}

/// Every session of these branches once, in the order of their ids.
pub(super) fn sessions(branches: &[&BranchView]) -> Vec<SessionRow> {
    let mut rows: BTreeMap<SessionId, SessionRow> = BTreeMap::new();
    for branch in branches {
        for session in &branch.sessions {
            let row = rows.entry(session.id.clone());
            let row = row.or_insert_with(|| SessionRow {
                session: session.clone(),
                branches: Vec::new(),
            });
            row.branches.push(HeldBranch {
                id: branch.id.clone(),
                namespace: branch.namespace.clone(),
            });
        }
    }
    rows.into_values().collect()
}

#[derive(Serialize)]
#[serde(transparent)]
struct SessionsReport<'a> {
    sessions: Vec<SessionRow>,
    #[serde(skip)]
    scope: &'a Scope,
}

impl Report for SessionsReport<'_> {
    fn text(&self, page: Page) -> String {
        if self.sessions.is_empty() {
            let place = self.scope.describe();
            return format!("No session holds a branch in {place}.\n");
        }
        let header = [
            "SESSION",
            "OWNER",
            "PID",
            "PROGRAM",
            "JOINED",
            "NAMESPACE",
            "BRANCHES",
            "STOPPED BY",
        ];
        let mut table = Table::new(page, &header);
        for SessionRow { session, branches } in &self.sessions {
            let ids: Vec<_> = branches.iter().map(|branch| branch.id.as_str()).collect();
            let namespace = branches.first().map(|branch| branch.namespace.to_string());
            table.row([
                session.id.to_string(),
                session.owner.clone(),
                session.pid.to_string(),
                session.program.clone(),
                words::ago(session.joined_at, page.now),
                namespace.unwrap_or_default(),
                ids.join(", "),
                session.stopped_by.clone().unwrap_or_default(),
            ]);
        }
        table.text()
    }
}
