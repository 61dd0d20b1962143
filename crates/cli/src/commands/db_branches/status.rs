//! `db-branches status`: what there is, and how it stands.

use clap::Args;
use model::engine_api::{BranchPhase, BranchView, SessionView};
use serde::Serialize;

use crate::branch_words;
use crate::commands::engines::{self, Whose};
use crate::commands::select::{self, Scope};
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::{Fields, Format, Page, Report, Table, Ui, words};

const EXAMPLES: &str = "\
Examples:
  bough db-branches status                         a table
  bough db-branches -n metalmart status my-session everything about one
  bough db-branches -A status -o json";

/// Show branches; everything about one when one is named
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StatusArgs {
    /// Ids or names of branches; none: all
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) async fn run(
    args: &StatusArgs,
    whose: &Whose,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let engines = engines::connect(whose, settings, ui).await?;
    let shown = if args.names.is_empty() {
        select::within(&whose.scope, &engines.branches)
    } else {
        select::select(&args.names, &whose.scope, &engines.branches)?
    };
    let report = StatusReport {
        scope: &whose.scope,
        one: args.names.len() == 1,
        branches: shown,
    };
    ui.report(&report, args.output)?;
    Ok(())
}

#[derive(Serialize)]
#[serde(transparent)]
struct StatusReport<'a> {
    branches: Vec<&'a BranchView>,
    #[serde(skip)]
    scope: &'a Scope,
    /// Whether one was asked for by name.
    #[serde(skip)]
    one: bool,
}

impl Report for StatusReport<'_> {
    fn text(&self, page: Page) -> String {
        match self.branches.as_slice() {
            [] => format!("No branch in {}.\n", self.scope.describe()),
            [branch] if self.one => describe(branch, page),
            branches => list(branches, page),
        }
    }
}

fn list(branches: &[&BranchView], page: Page) -> String {
    let header = [
        "NAME",
        "ID",
        "NAMESPACE",
        "PHASE",
        "SOURCE",
        "COPY",
        "VERSION",
        "SESSIONS",
        "CONNECTIONS",
        "DISK",
        "TTL",
        "EXPIRES",
    ];
    let mut table = Table::new(page, &header);
    for branch in branches {
        table.row([
            branch.name.to_string(),
            branch.id.to_string(),
            branch.namespace.to_string(),
            phase_word(branch).to_owned(),
            branch_words::source(branch),
            branch.spec.copy.mode.to_string(),
            branch
                .version
                .map(|major| major.to_string())
                .unwrap_or_default(),
            branch.sessions.len().to_string(),
            branch.connections.to_string(),
            branch
                .disk_bytes
                .map(|size| size.to_string())
                .unwrap_or_default(),
            words::span(branch.ttl_seconds.0),
            describe_expiry(branch, page),
        ]);
    }
    table.text()
}

/// What the branch costs, and what it would cost if it were a copy.
fn describe_disk(branch: &BranchView) -> Option<String> {
    let own = branch.disk_bytes?;
    Some(match branch.shared_bytes {
        Some(shared) if shared.0 > 0 => format!("{own} of its own, {shared} shared"),
        Some(_) | None => format!("{own} of its own"),
    })
}

fn describe_expiry(branch: &BranchView, page: Page) -> String {
    match branch.expires_at {
        Some(then) => words::ahead(then, page.now),
        None if branch.sessions.is_empty() => String::new(),
        None => "in use".to_owned(),
    }
}

fn describe(branch: &BranchView, page: Page) -> String {
    let mut fields = Fields::new();
    fields.field("Name", branch.name.as_str());
    fields.field("Id", branch.id.as_str());
    fields.field("Namespace", branch.namespace.as_str());
    fields.field("Phase", describe_phase(branch));
    fields.maybe("Hint", branch.hint.as_deref());
    fields.field(
        "Source",
        format!("{} as {}", branch_words::source(branch), branch.spec.user),
    );
    fields.field("Copy", branch.spec.copy.describe());
    fields.maybe("Version", branch.version.map(|major| major.to_string()));
    fields.maybe("Endpoint", branch.endpoint.as_deref());
    fields.field("Created", moment(branch.created_at, page));
    fields.maybe("Ready", branch.ready_at.map(|then| moment(then, page)));
    fields.field("TTL", words::span(branch.ttl_seconds.0));
    fields.field("Lives", branch_words::life(branch, page.now));
    let (open, total) = (branch.connections, branch.connections_total);
    fields.field(
        "Connections",
        format!("{open} now, {total} since the engine started"),
    );
    fields.maybe("Disk", describe_disk(branch));
    if let Some(base) = &branch.base {
        fields.field("Freshness", branch_words::freshness(base, page.now));
        fields.field("Source version", base.source_version.to_string());
        if !base.roles_without_password.is_empty() {
            fields.field("Cannot log in", base.roles_without_password.join(", "));
        }
        if !base.notes.is_empty() {
            fields.field("Notes", base.notes.join("\n"));
        }
    }
    fields.field("Sessions", describe_sessions(&branch.sessions, page));
    fields.text()
}

fn describe_sessions(sessions: &[SessionView], page: Page) -> String {
    if sessions.is_empty() {
        return "none".to_owned();
    }
    let lines = sessions.iter().map(|session| {
        let joined = words::ago(session.joined_at, page.now);
        let (id, owner, pid, program) =
            (&session.id, &session.owner, session.pid, &session.program);
        format!("{id}: {program} (pid {pid}) of {owner}, joined {joined}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The phase in one word; one that sleeps is ready to whoever connects, and looks like no process to whoever counts.
fn phase_word(branch: &BranchView) -> &'static str {
    if branch.asleep {
        "asleep"
    } else {
        branch.phase.as_str()
    }
}

fn describe_phase(branch: &BranchView) -> String {
    match (&branch.message, branch.phase) {
        (Some(message), _) => format!("{}: {message}", branch.phase.as_str()),
        (None, BranchPhase::Copying) => match &branch.progress {
            Some(progress) => format!("copying, {} so far", progress.copied_bytes),
            None => "copying".to_owned(),
        },
        (None, BranchPhase::Ready) if branch.asleep => {
            "asleep: its server starts with the next connection".to_owned()
        }
        (
            None,
            BranchPhase::Cloning
            | BranchPhase::Starting
            | BranchPhase::Ready
            | BranchPhase::Failed
            | BranchPhase::Deleting,
        ) => branch.phase.as_str().to_owned(),
    }
}

fn moment(then: jiff::Timestamp, page: Page) -> String {
    format!("{} ({})", words::ago(then, page.now), words::moment(then))
}

/// Branches that something was done to.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct BranchesDone {
    branches: Vec<BranchView>,
    #[serde(skip)]
    what: &'static str,
}

impl BranchesDone {
    /// `what` reads after `Branch ID`.
    pub(super) fn new(what: &'static str, branches: Vec<BranchView>) -> Self {
        Self { branches, what }
    }
}

impl Report for BranchesDone {
    fn text(&self, page: Page) -> String {
        let lines = self.branches.iter().map(|branch| {
            let life = branch_words::life(branch, page.now);
            format!("Branch {} {}; it lives {life}.\n", branch.id, self.what)
        });
        lines.collect()
    }
}
