//! `session ls`: the sessions that hold branches, each with these; in a cluster those that have resources as well.

use std::collections::BTreeMap;

use clap::Args;
use jiff::Timestamp;
use model::engine_api::{BranchView, SessionId, SessionView};
use model::{BranchId, Namespace};
use operator::SessionStanding;
use serde::Serialize;

use crate::commands::engines::{self, Engines, Whose};
use crate::commands::select::{self, Scope};
use crate::contexts::SessionList;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::{Format, Page, Report, Table, Ui, words};

const EXAMPLES: &str = "\
Examples:
  bough session ls                        those of the context's own namespace
  bough session -n metalmart ls -o json   for a program";

/// List sessions
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
    let known = Known::read(whose, settings, ui).await?;
    let report = SessionsReport {
        sessions: known.sessions(&whose.scope),
        scope: &whose.scope,
    };
    ui.report(&report, args.output)?;
    Ok(())
}

/// Who knows of sessions.
pub(super) struct Known {
    /// Those that hold branches.
    pub(super) engines: Engines,
    /// Those of a cluster that have resources.
    pub(super) resources: Option<SessionList>,
}

impl Known {
    /// Asks all of them that the user may ask; who may not be asked is told.
    ///
    /// # Errors
    /// When one that there is does not answer.
    pub(super) async fn read(
        whose: &Whose,
        settings: &Settings,
        ui: &Ui,
    ) -> Result<Self, CommandError> {
        let engines = engines::connect_to_any(whose, settings, ui).await?;
        let resources = match &whose.context.kubeconfig {
            None => None,
            Some(kubeconfig) => {
                match SessionList::read(kubeconfig, whose.scope.namespace()).await {
                    Err(error) if error.is_forbidden() => {
                        let why = CommandError::from(error).message();
                        ui.warn(&format!("sessions that have resources are left out: {why}"));
                        None
                    }
                    list => Some(list?),
                }
            }
        };
        Ok(Self { engines, resources })
    }

    /// Each session once, in the order of their ids.
    pub(super) fn sessions(&self, scope: &Scope) -> Vec<SessionRow> {
        let branches = select::within(scope, &self.engines.branches);
        let resources = self.resources.iter().flat_map(SessionList::by_id);
        sessions(&branches, resources)
    }
}

/// One session, and what it has.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SessionRow {
    pub(super) id: SessionId,
    /// Who runs it: `user@host`, else as the API server knows him.
    pub(super) owner: String,
    /// The process that runs it; of a session without branches nobody knows.
    pub(super) pid: Option<u32>,
    /// The program that it runs; the same.
    pub(super) program: Option<String>,
    pub(super) joined_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stopped_by: Option<String>,
    pub(super) branches: Vec<HeldBranch>,
    /// The session as its cluster knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resource: Option<SessionStanding>,
}

impl SessionRow {
    fn held(session: &SessionView) -> Self {
        Self {
            id: session.id.clone(),
            owner: session.owner.clone(),
            pid: Some(session.pid),
            program: Some(session.program.clone()),
            joined_at: Some(session.joined_at),
            stopped_by: session.stopped_by.clone(),
            branches: Vec::new(),
            resource: None,
        }
    }

    fn begun(id: SessionId, session: &SessionStanding) -> Self {
        Self {
            id,
            owner: session.requester.clone().unwrap_or_default(),
            pid: None,
            program: None,
            joined_at: session.begun_at,
            stopped_by: session.stopped_by.clone(),
            branches: Vec::new(),
            resource: None,
        }
    }
}

/// A branch that a session holds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct HeldBranch {
    id: BranchId,
    namespace: Namespace,
}

/// Every session of these branches and resources once, in the order of their ids.
pub(super) fn sessions<'a>(
    branches: &[&BranchView],
    resources: impl Iterator<Item = (SessionId, &'a SessionStanding)>,
) -> Vec<SessionRow> {
    let mut rows: BTreeMap<SessionId, SessionRow> = BTreeMap::new();
    for branch in branches {
        for session in &branch.sessions {
            let row = rows.entry(session.id.clone());
            let row = row.or_insert_with(|| SessionRow::held(session));
            row.branches.push(HeldBranch {
                id: branch.id.clone(),
                namespace: branch.namespace.clone(),
            });
        }
    }
    for (id, session) in resources {
        let row = rows.entry(id.clone());
        let row = row.or_insert_with(|| SessionRow::begun(id, session));
        row.resource = Some(session.clone());
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
            return format!("No session is known in {place}.\n");
        }
        let header = [
            "SESSION",
            "OWNER",
            "PID",
            "PROGRAM",
            "JOINED",
            "NAMESPACE",
            "TARGET",
            "BRANCHES",
            "STOPPED BY",
        ];
        let mut table = Table::new(page, &header);
        for row in &self.sessions {
            let ids: Vec<_> = row.branches.iter().map(|it| it.id.as_str()).collect();
            let resource = row.resource.as_ref();
            let held = row.branches.first().map(|it| it.namespace.to_string());
            let namespace = held.or_else(|| resource.map(|it| it.namespace.clone()));
            let joined = row.joined_at.map(|at| words::ago(at, page.now));
            table.row([
                row.id.to_string(),
                row.owner.clone(),
                row.pid.map(|pid| pid.to_string()).unwrap_or_default(),
                row.program.clone().unwrap_or_default(),
                joined.unwrap_or_default(),
                namespace.unwrap_or_default(),
                resource.map(|it| it.target.clone()).unwrap_or_default(),
                ids.join(", "),
                row.stopped_by.clone().unwrap_or_default(),
            ]);
        }
        table.text()
    }
}
