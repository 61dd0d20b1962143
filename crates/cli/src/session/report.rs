//! The closing report: what the program connected to, in lines, as JSON and as Markdown.
//!
//! It claims no more than was guarded: counts are of connections that were begun, and what is said of the branched
//! databases is [`Claim`]'s.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use model::ExitCode;
use serde::Serialize;
use supervisor::fence::{DatabaseCount, DestinationCount};
use supervisor::{FencePlan, OnSource, Report};

use super::branches::ReadyBranch;
use super::claim::{Claim, Why};
use super::prepare::Plan;
use super::{Counted, Request};
use crate::branch_words;
use crate::error::CommandError;
use crate::ui::words::{self, plain};

/// Destinations in a closing line; the report's file has more.
const DESTINATIONS_SHOWN: usize = 6;

/// The form of a report's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FileFormat {
    /// One JSON document.
    Json,
    /// A page for a pull request or an issue.
    Markdown,
}

impl FileFormat {
    /// What the ending of a file's name says: JSON for `.json`, else Markdown.
    fn of(path: &Path) -> Self {
        match path.extension() {
            Some(ending) if ending.eq_ignore_ascii_case("json") => Self::Json,
            Some(_) | None => Self::Markdown,
        }
    }
}

/// Why a session that ran is a failure all the same.
#[derive(Debug, thiserror::Error)]
enum ReportError {
    /// The file cannot be written.
    #[error("cannot write the report to {path:?}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Isolation was asserted and did not hold.
    #[error("the session was not isolated: {0}")]
    NotIsolated(String),
}

/// Tries whether the report can be written where `request` wants it, before anything runs.
///
/// # Errors
/// When it cannot.
pub(super) fn try_place(request: &Request<'_>) -> Result<(), CommandError> {
    let Some(path) = &request.report else {
        return Ok(());
    };
    // A pipe or a device is not opened twice.
    if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return Ok(());
    }
    let opened = fs::File::options().append(true).create(true).open(path);
    opened.map(drop).map_err(|source| unwritable(path, source))
}

fn unwritable(path: &Path, source: io::Error) -> CommandError {
    let path = path.to_path_buf();
    CommandError::new(ExitCode::Internal, ReportError::Write { path, source })
}

/// Writes the report where `request` wants one.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(
    request: &Request<'_>,
    plan: &Plan,
    counted: &Counted,
) -> Result<(), CommandError> {
    let Some(path) = &request.report else {
        return Ok(());
    };
    let document = Document::new(plan, &counted.fence, &counted.report);
    let text = match request
        .report_format
        .unwrap_or_else(|| FileFormat::of(path))
    {
        FileFormat::Markdown => document.markdown(),
        FileFormat::Json => {
            let text = serde_json::to_string_pretty(&document);
            text.expect("a report has no keys that are not text") + "\n"
        }
    };
    fs::write(path, text).map_err(|source| unwritable(path, source))
}

/// Whether isolation held, where `request` asserts it.
///
/// # Errors
/// With the exit code for branches, which replaces the program's.
pub(super) fn assert(request: &Request<'_>, counted: &Counted) -> Result<(), CommandError> {
    if !request.assert_isolated || counted.report.is_isolated() {
        return Ok(());
    }
    let list = counted
        .report
        .refused
        .iter()
        .map(|one| format!("{} at {}", plain(&one.database), plain(&one.address)));
    let branches = counted
        .report
        .branches
        .iter()
        .filter(|branch| branch.refused > 0);
    let branches = branches.map(|branch| format!("the source of branch {}", branch.branch));
    let all: Vec<String> = list.chain(branches).collect();
    let what = format!("it was refused {}", all.join(", "));
    let error = ReportError::NotIsolated(what);
    Err(CommandError::new(ExitCode::Branch, error)
        .with_hint("a branch for each database of the file, or no such connection in the program"))
}

/// A report as programs read it.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    /// Where the target lives.
    context: &'a str,
    /// Its namespace.
    namespace: &'a str,
    /// The target.
    target: Option<String>,
    /// The sources that were fenced.
    sources: Vec<Source>,
    /// What became of connections to them: `redirect`, `refuse` or `allow`.
    on_source_connection: &'static str,
    /// Whether isolation was asserted.
    isolation_asserted: bool,
    /// Whether every session with PostgreSQL that was looked into ended in a branch.
    isolated: bool,
    /// Whether no branched database was reached; none where that is not said.
    branched_databases_untouched: Option<bool>,
    /// Why it is not said.
    not_said: Vec<Why>,
    /// The counts.
    #[serde(flatten)]
    counts: &'a Report,
}

#[derive(Debug, Serialize)]
struct Source {
    branch: String,
    database: String,
    addresses: Vec<String>,
}

impl<'a> Document<'a> {
    /// The report of a session.
    pub(super) fn new(plan: &'a Plan, fence: &FencePlan, counts: &'a Report) -> Self {
        let claim = Claim::of(fence, counts);
        let sources = fence.servers.iter().flat_map(|server| {
            server.databases.iter().map(|database| Source {
                branch: database.branch.clone(),
                database: database.names[0].clone(),
                addresses: server.addresses.iter().map(ToString::to_string).collect(),
            })
        });
        Self {
            context: &plan.context.name,
            namespace: plan.namespace.as_str(),
            target: plan.target().map(ToString::to_string),
            sources: sources.collect(),
            on_source_connection: word(fence.on_source),
            isolation_asserted: fence.assert_isolated,
            isolated: counts.is_isolated(),
            branched_databases_untouched: claim.untouched(),
            not_said: claim.ways().to_vec(),
            counts,
        }
    }

    /// As Markdown.
    pub(super) fn markdown(&self) -> String {
        let mut page = Page(String::from("# Bough session\n\n"));
        self.write_head(&mut page);
        self.write_branches(&mut page);
        let counts = self.counts;
        let passed = ("reached", &counts.passed, counts.passed_untold);
        let refused = ("refused", &counts.refused, counts.refused_untold);
        for (became, list, untold) in [passed, refused] {
            if list.is_empty() {
                continue;
            }
            page.line(format_args!(
                "\n## Databases that no branch stands in for, {became}\n"
            ));
            for one in list {
                let (database, address) = (code(&one.database), plain(&one.address));
                page.line(format_args!(
                    "- {database} at {address}: {}",
                    one.connections
                ));
            }
            page.untold(untold);
        }
        self.write_others(&mut page);
        page.0
    }

    fn write_head(&self, page: &mut Page) {
        let target = self.target.as_deref().unwrap_or("none");
        let (context, namespace) = (self.context, self.namespace);
        page.line(format_args!(
            "- context: {context}, namespace `{namespace}`, target: {target}"
        ));
        let untouched = if self.not_said.is_empty() {
            "yes"
        } else {
            "not said"
        };
        page.line(format_args!("- branched databases untouched: {untouched}"));
        for why in &self.not_said {
            page.line(format_args!("  - {why}"));
        }
        let isolated = if self.isolated { "yes" } else { "no" };
        page.line(format_args!(
            "- every session with PostgreSQL that was looked into ended in a branch: {isolated}"
        ));
        for source in &self.sources {
            let addresses = source.addresses.join(", ");
            let (database, branch) = (code(&source.database), &source.branch);
            page.line(format_args!(
                "- {database} at {} is branch `{branch}`",
                plain(&addresses)
            ));
        }
    }

    fn write_branches(&self, page: &mut Page) {
        page.line(format_args!(
            "\n| branch | by its address | had aimed at the source, led here | refused |"
        ));
        page.line(format_args!("|---|---|---|---|"));
        for branch in &self.counts.branches {
            page.line(format_args!(
                "| `{}` | {} | {} | {} |",
                branch.branch, branch.direct, branch.redirected, branch.refused
            ));
        }
    }

    fn write_others(&self, page: &mut Page) {
        page.line(format_args!("\n## Other destinations\n"));
        if self.counts.others.is_empty() {
            page.line(format_args!("none"));
        }
        for other in &self.counts.others {
            page.line(format_args!("- {}", told(other)));
        }
        page.untold(self.counts.others_untold);
        let sockets = (
            "Unix sockets of other programs",
            &self.counts.sockets,
            self.counts.sockets_untold,
        );
        let datagrams = (
            "Destinations of UDP, not looked into",
            &self.counts.datagrams,
            self.counts.datagrams_untold,
        );
        for (title, list, untold) in [sockets, datagrams] {
            if list.is_empty() {
                continue;
            }
            page.line(format_args!("\n## {title}\n"));
            for other in list {
                page.line(format_args!("- {}", told(other)));
            }
            page.untold(untold);
        }
        if self.counts.inherited.is_empty() {
            return;
        }
        page.line(format_args!(
            "\n## Connections that the program inherited\n"
        ));
        for one in &self.counts.inherited {
            page.line(format_args!(
                "- {}: descriptor {}",
                plain(&one.address),
                one.descriptor
            ));
        }
    }
}

/// A destination and how often it was reached.
fn told(one: &DestinationCount) -> String {
    let (address, all) = (plain(&one.address), one.connections);
    match one.through_target {
        0 => format!("{address}: {all}"),
        through if through == all => format!("{address}: {all}, through the target"),
        through => format!("{address}: {all}, {through} of them through the target"),
    }
}

/// A page as it is written.
struct Page(String);

impl Page {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a string takes all");
    }

    /// What is in no list, where there is any.
    fn untold(&mut self, number: u64) {
        if number > 0 {
            self.line(format_args!("- others: {number}"));
        }
    }
}

/// A name in a line of Markdown, as code that it does not end.
fn code(name: &str) -> String {
    format!("`{}`", plain(name).replace('`', "\\u{60}"))
}

fn word(on_source: OnSource) -> &'static str {
    match on_source {
        OnSource::Redirect => "redirect",
        OnSource::Refuse => "refuse",
        OnSource::Allow => "allow",
    }
}

/// The closing lines.
pub(super) fn lines(fence: &FencePlan, branches: &[ReadyBranch], counts: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for (count, branch) in counts.branches.iter().zip(branches) {
        let made = count.direct + count.redirected;
        let mut line = format!("bough: {} to branch {}", connections(made), count.branch);
        if count.redirected > 0 {
            line += &format!(
                ", {} of them aimed at the source and led here",
                count.redirected
            );
        }
        if count.refused > 0 {
            let source = branch_words::source(&branch.view);
            line += &format!("; {} to {source} refused", connections(count.refused));
        }
        lines.push(line);
    }
    let passed = ("reached", &counts.passed, counts.passed_untold);
    let refused = ("refused", &counts.refused, counts.refused_untold);
    for (became, list, untold) in [passed, refused] {
        lines.extend(databases(became, list, untold));
    }
    lines.extend(destinations(
        "other destinations",
        &counts.others,
        counts.others_untold,
    ));
    lines.extend(destinations(
        "UDP, not looked into, to",
        &counts.datagrams,
        counts.datagrams_untold,
    ));
    lines.extend(destinations(
        "Unix sockets of other programs",
        &counts.sockets,
        counts.sockets_untold,
    ));
    for program in &counts.unreadable {
        lines.push(format!(
            "bough: {} of {} refused: the fence could not look into it",
            connections(program.refused),
            plain(&program.program)
        ));
    }
    if counts.unreadable_untold > 0 {
        lines.push(format!(
            "bough: {} of further programs refused: the fence could not look into them",
            connections(counts.unreadable_untold)
        ));
    }
    for one in &counts.inherited {
        lines.push(format!(
            "bough: the program inherited a connection to {} (descriptor {}), which was not looked into",
            plain(&one.address),
            one.descriptor
        ));
    }
    if counts.unseen > 0 {
        lines.push(format!(
            "bough: {} from network namespaces of the program's own were not looked into",
            connections(counts.unseen)
        ));
    }
    lines.extend(claim(fence, branches, counts));
    lines
}

fn databases(became: &str, list: &[DatabaseCount], untold: u64) -> Option<String> {
    if list.is_empty() {
        return None;
    }
    let told = list.iter().map(|one| {
        let (database, address) = (plain(&one.database), plain(&one.address));
        format!("{database} at {address} ({})", one.connections)
    });
    let further = (untold > 0).then(|| format!("and further ones ({untold})"));
    let all: Vec<String> = told.chain(further).collect();
    Some(format!(
        "bough: databases that no branch stands in for were {became}: {}",
        all.join(", ")
    ))
}

fn destinations(what: &str, list: &[DestinationCount], untold: u64) -> Option<String> {
    if list.is_empty() {
        return None;
    }
    let shown = list.iter().take(DESTINATIONS_SHOWN);
    let shown: Vec<String> = shown
        .map(|one| format!("{} ({})", plain(&one.address), one.connections))
        .collect();
    let rest = list.len().saturating_sub(DESTINATIONS_SHOWN);
    let more = match (rest, untold) {
        (0, 0) => String::new(),
        (rest, 0) => format!(" and {} more", words::things(rest, "destination")),
        (_, _) => " and many more".to_owned(),
    };
    let through: u64 = list.iter().map(|one| one.through_target).sum();
    let all: u64 = list.iter().map(|one| one.connections).sum();
    let way = match through {
        0 => "",
        through if through == all => ", all through the target",
        _ => ", some through the target",
    };
    Some(format!("bough: {what}: {}{more}{way}", shown.join(", ")))
}

fn claim(fence: &FencePlan, branches: &[ReadyBranch], counts: &Report) -> Option<String> {
    if branches.is_empty() {
        return None;
    }
    let sources: Vec<String> = branches
        .iter()
        .map(|branch| branch_words::source(&branch.view))
        .collect();
    let words = Claim::of(fence, counts).words(&sources.join(" or "));
    Some(format!("bough: {words}"))
}

fn connections(number: u64) -> String {
    words::things(number, "connection")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_forges_no_line_and_no_heading() {
        let one = |database: &str| DatabaseCount {
            address: "db:5432".to_owned(),
            database: database.to_owned(),
            connections: 1,
        };
        assert_eq!(
            databases("reached", &[one("x\nbough: forged")], 4).as_deref(),
            Some(
                "bough: databases that no branch stands in for were reached: x\\nbough: forged at db:5432 (1), and further \
                 ones (4)"
            )
        );
        assert_eq!(code("a`\n# b"), "`a\\u{60}\\n# b`");
    }
}
