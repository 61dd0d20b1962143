//! How a command fails: the exit code, the message, what can be done about it.
//!
//! Owns the one mapping from every step's error to an exit code and hints. Leaves printing to `ui`.

use std::error::Error;
use std::io;

use model::ExitCode;
use model::engine_api::{Problem, ProblemKind, SpecView};

use crate::branch_words;
use crate::contexts::{ClusterError, ContextError, FindError};
use crate::engine_client::ClientError;
use crate::engine_start::StartError;
use crate::readiness::WaitError;
use crate::session::ProofError;
use crate::settings::SettingsError;
use crate::ui::{Page, Table, UiError};

/// The runtime does not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the runtime that commands run on")]
struct RuntimeError(#[source] io::Error);

/// What to do where two versions may have met.
const VERSION_HINT: &str = "the engine may be of another version: `bough engine stop` ends it, and the next command \
                            starts this version";

/// A failure as the caller of the program gets it.
#[derive(Debug)]
pub(crate) struct CommandError {
    exit: ExitCode,
    cause: Box<dyn Error + Send + Sync>,
    details: Vec<String>,
    hints: Vec<String>,
}

impl CommandError {
    /// A failure by `cause` that ends the program with `exit`.
    pub(crate) fn new(exit: ExitCode, cause: impl Error + Send + Sync + 'static) -> Self {
        Self {
            exit,
            cause: Box::new(cause),
            details: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// A failure of the runtime that every command runs on.
    pub(crate) fn runtime(error: io::Error) -> Self {
        Self::new(ExitCode::Internal, RuntimeError(error))
    }

    /// The same with another exit code.
    #[must_use]
    pub(crate) fn with_exit(mut self, exit: ExitCode) -> Self {
        self.exit = exit;
        self
    }

    /// The same with one more thing to do about it.
    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same with lines that show what the message speaks of.
    #[must_use]
    pub(crate) fn with_details(mut self, details: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(details);
        self
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> ExitCode {
        self.exit
    }

    /// What was tried, why it failed, and the root of it, apart by colons.
    pub(crate) fn message(&self) -> String {
        let mut text = self.cause.to_string();
        let mut next = self.cause.source();
        while let Some(error) = next {
            let why = error.to_string();
            // Some libraries repeat their source's text in their own.
            if !text.ends_with(&why) {
                text.push_str(": ");
                text.push_str(&why);
            }
            next = error.source();
        }
        text
    }

    /// Lines between the message and the hints.
    pub(crate) fn details(&self) -> &[String] {
        &self.details
    }

    /// What can be done, most promising first.
    pub(crate) fn hints(&self) -> &[String] {
        &self.hints
    }
}

impl From<SettingsError> for CommandError {
    fn from(error: SettingsError) -> Self {
        Self::new(ExitCode::Usage, error)
    }
}

impl From<UiError> for CommandError {
    fn from(error: UiError) -> Self {
        Self::new(ExitCode::Internal, error)
    }
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> Self {
        let Some(problem) = error.problem() else {
            let hint = client_hint(&error);
            let failure = Self::new(ExitCode::Internal, error);
            return match hint {
                Some(hint) => failure.with_hint(hint),
                None => failure,
            };
        };
        let exit = problem_exit(problem.kind);
        let details = spec_lines(problem);
        let hint = problem.hint.clone();
        let failure = Self::new(exit, error).with_details(details);
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

impl From<StartError> for CommandError {
    fn from(error: StartError) -> Self {
        let (details, hint) = match &error {
            StartError::Ended { words, log, .. } => {
                let hint = format!(
                    "its log {} may say more, and so may `bough doctor`",
                    log.display()
                );
                (indent(words.lines()), hint)
            }
            StartError::Silent { log, .. } => {
                let hint = format!("these are the last lines of its log {log}");
                (indent(log.lines().iter().map(String::as_str)), hint)
            }
            StartError::Unusable { source, .. } => (Vec::new(), unusable_hint(source).to_owned()),
            StartError::InSession => {
                let hint = "start it outside of the session: `bough engine status` does";
                (Vec::new(), hint.to_owned())
            }
            StartError::Elsewhere(_) => {
                let hint = "`kubectl logs` of that pod shows what it does; you need the right to create pods/exec there";
                (Vec::new(), hint.to_owned())
            }
            StartError::Program(_) | StartError::Words(_) | StartError::Spawn(..) => {
                let hint = "`bough doctor` says what this machine has and lacks";
                (Vec::new(), hint.to_owned())
            }
        };
        Self::new(ExitCode::Internal, error)
            .with_details(details)
            .with_hint(hint)
    }
}

fn unusable_hint(error: &ClientError) -> &'static str {
    match error {
        ClientError::Connect(_, error) if error.kind() == io::ErrorKind::PermissionDenied => {
            "is it another account's? --data-dir or BOUGH_DATA_DIR name one of your own"
        }
        ClientError::Connect(_, error) if error.kind() == io::ErrorKind::InvalidInput => {
            "a socket's path is short: --data-dir or BOUGH_DATA_DIR name a shorter one"
        }
        ClientError::Answer { .. } => VERSION_HINT,
        ClientError::Connect(..)
        | ClientError::Exchange { .. }
        | ClientError::TimedOut { .. }
        | ClientError::TooLong(_)
        | ClientError::Body(..)
        | ClientError::Refused(_) => "`bough engine logs` shows what the engine did",
    }
}

fn indent<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    lines.map(|line| format!("  {line}")).collect()
}

impl From<WaitError> for CommandError {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Watch { source, .. } if source.problem().is_some() => Self::from(source),
            WaitError::Engine(source) => Self::from(source),
            WaitError::Failed(ref branch) => {
                let hint = branch.hint.clone();
                let failure = Self::new(ExitCode::Branch, error);
                match hint {
                    Some(hint) => failure.with_hint(hint),
                    None => failure.with_hint("`bough engine logs` shows what was done"),
                }
            }
            WaitError::TimedOut { .. } => Self::new(ExitCode::Branch, error).with_hint(
                "the copy goes on in the engine: the same command waits on for it, and `bough db-branches status` \
                 shows how far it is",
            ),
            WaitError::Gone(_) | WaitError::Watch { .. } => Self::new(ExitCode::Branch, error),
        }
        .with_exit(ExitCode::Branch)
    }
}

impl From<ProofError> for CommandError {
    fn from(error: ProofError) -> Self {
        let hint = error.hint();
        let failure = Self::new(ExitCode::Branch, error);
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

impl From<ContextError> for CommandError {
    fn from(error: ContextError) -> Self {
        let hint = error.hint();
        Self::new(error.exit_code(), error).with_hint(hint)
    }
}

impl From<FindError> for CommandError {
    fn from(error: FindError) -> Self {
        let details: Vec<_> = error.details();
        let hint = error.hint();
        let details = indent(details.iter().map(String::as_str));
        let failure = Self::new(error.exit_code(), error).with_details(details);
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

impl From<ClusterError> for CommandError {
    fn from(error: ClusterError) -> Self {
        Self::from(FindError::from(error))
    }
}

fn problem_exit(kind: ProblemKind) -> ExitCode {
    match kind {
        ProblemKind::BadRequest => ExitCode::Usage,
        ProblemKind::NotFound | ProblemKind::Internal => ExitCode::Internal,
        ProblemKind::SpecDiffers
        | ProblemKind::Conflict
        | ProblemKind::LimitPassed
        | ProblemKind::SessionStopped
        | ProblemKind::Source => ExitCode::Branch,
    }
}

fn client_hint(error: &ClientError) -> Option<&'static str> {
    match error {
        ClientError::Answer { .. } => Some(VERSION_HINT),
        ClientError::Exchange { .. } | ClientError::TimedOut { .. } => {
            Some("`bough engine logs` shows what the engine did")
        }
        ClientError::Connect(..)
        | ClientError::TooLong(_)
        | ClientError::Body(..)
        | ClientError::Refused(_) => None,
    }
}

/// The asked and the living spec beside each other, where the problem has both.
fn spec_lines(problem: &Problem) -> Vec<String> {
    let (Some(asked), Some(existing)) = (&problem.asked, &problem.existing) else {
        return Vec::new();
    };
    let page = Page {
        width: None,
        now: crate::clock::now(),
    };
    let mut table = Table::new(page, &["", "ASKED FOR", "LIVING", ""]);
    let pairs = spec_fields(asked).into_iter().zip(spec_fields(existing));
    for ((name, asked), (_, existing)) in pairs {
        let mark = if asked == existing { "" } else { "differs" };
        table.row([name.to_owned(), asked, existing, mark.to_owned()]);
    }
    let text = table.text();
    // The last column has a word or nothing.
    let lines = text
        .lines()
        .map(|line| line.strip_suffix('-').unwrap_or(line).trim_end());
    lines.map(|line| format!("  {line}")).collect()
}

fn spec_fields(spec: &SpecView) -> [(&'static str, String); 7] {
    let SpecView {
        source,
        network,
        database,
        user,
        copy,
        version,
        connection_settings,
    } = spec;
    let tables = copy.tables.iter().map(|(table, rows)| match &rows.filter {
        Some(filter) => format!("{table} where {filter}"),
        None => table.clone(),
    });
    let settings = connection_settings
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let mut mode = vec![copy.mode.to_string()];
    mode.extend(copy.dump_args.iter().cloned());
    [
        ("source", branch_words::address(source, network.as_deref())),
        ("database", database.clone()),
        ("user", user.clone()),
        ("copy", mode.join(" ")),
        ("tables", tables.collect::<Vec<_>>().join(", ")),
        (
            "version",
            version.map(|major| major.to_string()).unwrap_or_default(),
        ),
        ("settings", settings.collect::<Vec<_>>().join(", ")),
    ]
}

#[cfg(test)]
mod tests {
    use model::{CopySpec, PgMajor};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open {0}")]
    struct Outer(&'static str, #[source] io::Error);

    #[test]
    fn a_message_goes_from_what_was_tried_to_the_root() {
        let root = io::Error::from_raw_os_error(2);
        let error = CommandError::new(ExitCode::Internal, Outer("x.json", root));
        assert_eq!(
            error.message(),
            "cannot open x.json: No such file or directory (os error 2)"
        );
    }

    fn spec(copy: CopySpec, version: Option<PgMajor>) -> Box<SpecView> {
        Box::new(SpecView {
            source: "db:5432".to_owned(),
            network: None,
            database: "inventory".to_owned(),
            user: "app".to_owned(),
            copy,
            version,
            connection_settings: std::collections::BTreeMap::new(),
        })
    }

    #[test]
    fn specs_that_differ_are_shown_beside_each_other() {
        let mut problem =
            Problem::new(ProblemKind::SpecDiffers, "branch x lives").with_hint("destroy it");
        problem.asked = Some(spec(CopySpec::all(), Some(PgMajor(16))));
        problem.existing = Some(spec(CopySpec::default(), Some(PgMajor(16))));
        let error = CommandError::from(ClientError::Refused(Box::new(problem)));
        assert_eq!(error.exit(), ExitCode::Branch);
        assert_eq!(error.hints(), ["destroy it"]);
        insta::assert_snapshot!(error.details().join("\n"), @r#"
                  ASKED FOR  LIVING
        source    db:5432    db:5432
        database  inventory  inventory
        user      app        app
        copy      all        empty      differs
        tables    -          -
        version   16         16
        settings  -          -
        "#);
    }
}
