//! `db-branches connections`: who holds which branch, and where it is reached; no passwords.

use clap::Args;
use model::engine_api::{BranchPhase, BranchView, SessionView};
use model::{BranchId, BranchName, Namespace, PgUrl};
use serde::Serialize;

use crate::commands::engines::{self, Whose};
use crate::commands::select::{self, Scope};
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::{Format, Page, Report, Table, Ui, words};

const EXAMPLES: &str = "\
Examples:
  bough db-branches connections
  bough db-branches -A connections -o json";

/// List branches with their sessions and URLs, without passwords
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ConnectionsArgs {
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) async fn run(
    args: &ConnectionsArgs,
    whose: &Whose,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let engines = engines::connect(whose, settings, ui).await?;
    let mut rows = Vec::new();
    for branch in select::within(&whose.scope, &engines.branches) {
        let url = if branch.phase == BranchPhase::Ready {
            let connection = engines
                .of(branch)
                .client()
                .connection(&branch.name, None)
                .await?;
            PgUrl::parse(connection.url.reveal())
                .ok()
                .map(|url| url.redacted())
        } else {
            None
        };
        rows.push(ConnectionRow::new(branch, url));
    }
    let report = ConnectionsReport {
        rows,
        scope: &whose.scope,
    };
    ui.report(&report, args.output)?;
    Ok(())
}

#[derive(Serialize)]
struct ConnectionRow<'a> {
    id: &'a BranchId,
    name: &'a BranchName,
    namespace: &'a Namespace,
    phase: BranchPhase,
    /// The connection string, password hidden; none unless the branch is ready.
    url: Option<String>,
    connections: u32,
    connections_total: u64,
    sessions: &'a [SessionView],
}

impl<'a> ConnectionRow<'a> {
    fn new(branch: &'a BranchView, url: Option<String>) -> Self {
        Self {
            id: &branch.id,
            name: &branch.name,
            namespace: &branch.namespace,
            phase: branch.phase,
            url,
            connections: branch.connections,
            connections_total: branch.connections_total,
            sessions: &branch.sessions,
        }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct ConnectionsReport<'a> {
    rows: Vec<ConnectionRow<'a>>,
    #[serde(skip)]
    scope: &'a Scope,
}

impl Report for ConnectionsReport<'_> {
    fn text(&self, page: Page) -> String {
        if self.rows.is_empty() {
            return format!("No branch in {}.\n", self.scope.describe());
        }
        let header = [
            "ID",
            "NAMESPACE",
            "SESSION",
            "OWNER",
            "PID",
            "PROGRAM",
            "JOINED",
            "CONNECTIONS",
            "URL",
        ];
        let mut table = Table::new(page, &header);
        for row in &self.rows {
            let url = row.url.clone().unwrap_or_default();
            let of_branch = |session: [String; 5]| {
                let [id, owner, pid, program, joined] = session;
                let connections = row.connections.to_string();
                let (branch, namespace) = (row.id.to_string(), row.namespace.to_string());
                let url = url.clone();
                [
                    branch,
                    namespace,
                    id,
                    owner,
                    pid,
                    program,
                    joined,
                    connections,
                    url,
                ]
            };
            for session in row.sessions {
                table.row(of_branch([
                    session.id.to_string(),
                    session.owner.clone(),
                    session.pid.to_string(),
                    session.program.clone(),
                    words::ago(session.joined_at, page.now),
                ]));
            }
            if row.sessions.is_empty() {
                table.row(of_branch(Default::default()));
            }
        }
        table.text()
    }
}
