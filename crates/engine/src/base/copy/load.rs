//! Loading a dump into the base, statement by statement, as it is written.
//!
//! Owns what of a dump is left out or done otherwise than it says: rows come frozen, so that no branch has to rewrite
//! them; settings that an older server does not know are passed over; credentials for foreign servers stay away; and
//! constraints that a selection of rows cannot meet are told rather than fatal. Leaves the lexical rules to `script`.

mod stream;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use model::CopyMode;
use model::engine_api::CopyPhase;
use tokio::io::AsyncReadExt as _;
use tokio::sync::oneshot;
use tokio_postgres::error::SqlState;

use super::error::{CopyError, is_full, is_refusal};
use super::late::Late;
use super::pace::Pace;
use super::progress::Progress;
use super::script::{Entry, Piece, ScriptError, Splitter};
use crate::postgres::connect::Session;
use stream::Rows;

/// Bytes asked of `pg_dump` at a time: what a pipe holds.
const READ_BYTES: usize = 64 * 1024;

/// Characters of a statement that stand for it where no comment names its object.
const SHOWN_CHARS: usize = 60;

/// Statements that are sent together: a commit and a round trip each would take longer than most of them.
const BATCH_STATEMENTS_MAX: usize = 64;
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// Kinds whose entries come after what rows need, in `pg_dump`'s words.
const OF_ROWS: [&str; 5] = [
    "BLOB",
    "BLOB METADATA",
    "BLOBS",
    "SEQUENCE SET",
    "TABLE DATA",
];

/// Kinds whose entries come after rows. One that is not known here would come before them, as in `pg_dump`'s own order it
/// cannot.
const AFTER_ROWS: [&str; 16] = [
    "CHECK CONSTRAINT",
    "CONSTRAINT",
    "EVENT TRIGGER",
    "FK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "MATERIALIZED VIEW DATA",
    "POLICY",
    "PUBLICATION",
    "PUBLICATION TABLE",
    "PUBLICATION TABLES IN SCHEMA",
    "ROW SECURITY",
    "RULE",
    "STATISTICS",
    "STATISTICS DATA",
    "TRIGGER",
];

/// What a load may pass over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leniency {
    /// The copy mode: an empty copy may lack what its tables refer to.
    pub(super) mode: CopyMode,
    /// Whether rows were selected, so that foreign keys may find no partner.
    pub(super) rows_selected: bool,
    /// Whether rows of partitions come through their root, which takes none frozen.
    pub(super) through_roots: bool,
}

/// Why a load ended early: the base's fault, or the dump's.
#[derive(Debug)]
pub(super) enum LoadError {
    /// `pg_dump` ended too early or its pipe broke; why, it says itself.
    Cut(ScriptError),
    /// Anything else.
    Failed(CopyError),
}

impl From<CopyError> for LoadError {
    fn from(error: CopyError) -> Self {
        Self::Failed(error)
    }
}

/// Loads dumps into one base.
pub(super) struct Loader<'a> {
    base: &'a Session,
    pace: Arc<Pace>,
    leniency: Leniency,
    /// Tables that this load made and that are therefore empty, as the dump writes their names.
    made: HashSet<String>,
    rows: Option<Rows>,
    entry: Option<Entry>,
    /// Statements that are not sent yet.
    batch: Vec<Late>,
    /// What the dump sets for its session, before its first object.
    preamble: Vec<String>,
    aside: Option<Aside>,
    /// What makes event triggers, which would notice whatever comes after them.
    event_triggers: Vec<Late>,
    pub(super) notes: Vec<String>,
}

/// Rows that come past the dump.
struct Aside {
    /// Told once everything is there that rows need.
    begin: Option<oneshot::Sender<()>>,
    /// What the dump makes after rows, which has to wait for them; none before its first.
    late: Option<Vec<Late>>,
}

impl<'a> Loader<'a> {
    pub(super) fn new(base: &'a Session, pace: Arc<Pace>, leniency: Leniency) -> Self {
        Self {
            base,
            pace,
            leniency,
            made: HashSet::new(),
            rows: None,
            entry: None,
            batch: Vec::new(),
            preamble: Vec::new(),
            aside: None,
            event_triggers: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Has what comes after rows kept for [`Loader::take_late`], for rows come past the dump. The answer is told when
    /// they may come.
    pub(super) fn set_aside(&mut self) -> oneshot::Receiver<()> {
        let (begin, may_begin) = oneshot::channel();
        self.aside = Some(Aside {
            begin: Some(begin),
            late: None,
        });
        may_begin
    }

    /// The rate that is kept.
    pub(super) fn pace(&self) -> Arc<Pace> {
        Arc::clone(&self.pace)
    }

    /// What was kept.
    pub(super) fn take_late(&mut self) -> Vec<Late> {
        let aside = self.aside.take();
        aside.and_then(|aside| aside.late).unwrap_or_default()
    }

    /// Makes the event triggers of what was loaded: the last of all, for from then on they act.
    ///
    /// # Errors
    /// [`CopyError`] of the first that fails.
    pub(super) async fn load_event_triggers(&mut self) -> Result<(), CopyError> {
        for late in std::mem::take(&mut self.event_triggers) {
            self.add(late).await?;
        }
        self.flush().await
    }

    /// What the dump sets for a session.
    pub(super) fn preamble(&self) -> &[String] {
        &self.preamble
    }

    /// Loads all that `dump` writes. `begun` is awaited once the first bytes are there: `pg_dump` holds all its locks
    /// by then.
    ///
    /// # Errors
    /// [`LoadError`].
    pub(super) async fn load(
        &mut self,
        dump: &mut (impl tokio::io::AsyncRead + Unpin),
        progress: &Progress<'_>,
        begun: impl Future<Output = Result<(), CopyError>>,
    ) -> Result<(), LoadError> {
        let mut splitter = Splitter::new();
        let mut begun = Some(begun);
        loop {
            splitter.input().reserve(READ_BYTES);
            let count = dump.read_buf(splitter.input()).await.unwrap_or(0);
            self.pace.take(count).await;
            if count == 0 {
                splitter.finish();
            } else if let Some(begun) = begun.take() {
                begun.await?;
            }
            while let Some(piece) = next(&mut splitter)? {
                self.take(piece, progress).await?;
            }
            if count == 0 {
                self.let_rows_begin().await?;
                return Ok(());
            }
        }
    }

    /// Everything that rows need is there.
    async fn let_rows_begin(&mut self) -> Result<(), CopyError> {
        self.flush().await?;
        let begin = self.aside.as_mut().and_then(|aside| aside.begin.take());
        if let Some(begin) = begin {
            // Whoever waits may have failed by itself.
            let _ = begin.send(());
        }
        Ok(())
    }

    /// Looks where the script is.
    async fn pass(&mut self, entry: Option<&Entry>) -> Result<(), CopyError> {
        let Some(aside) = &mut self.aside else {
            return Ok(());
        };
        let kind = entry.map_or("", |entry| entry.kind.as_str());
        let is_after = AFTER_ROWS.contains(&kind);
        if is_after && aside.late.is_none() {
            aside.late = Some(Vec::new());
        }
        if is_after || OF_ROWS.contains(&kind) {
            self.let_rows_begin().await?;
        }
        Ok(())
    }

    async fn take(&mut self, piece: Piece, progress: &Progress<'_>) -> Result<(), CopyError> {
        match piece {
            Piece::Statement { text, entry } => {
                let is_another = self.entry != entry;
                if is_another {
                    self.pass(entry.as_ref()).await?;
                    self.entry.clone_from(&entry);
                }
                let late = Late { text, entry };
                if late.is_of_event_trigger() {
                    self.event_triggers.push(late);
                    return Ok(());
                }
                if let Some(kept) = self.aside.as_mut().and_then(|aside| aside.late.as_mut()) {
                    kept.push(late);
                    return Ok(());
                }
                if is_another {
                    announce(late.entry.as_ref(), progress);
                }
                self.add(late).await
            }
            Piece::CopyStart { text } => {
                self.let_rows_begin().await?;
                let (table, rest) = copy_target(&text);
                progress.table(&shown(table));
                self.rows = Some(Rows::new(table, rest));
                Ok(())
            }
            Piece::CopyData { data, rows } => {
                progress.add(data.len() as u64, rows);
                self.take_rows(data).await
            }
            Piece::CopyEnd => self.end_rows().await,
            Piece::Meta { line } => check_command(&line),
        }
    }

    async fn take_rows(&mut self, data: Bytes) -> Result<(), CopyError> {
        let rows = self.rows.as_mut().expect("rows come within a COPY");
        let may_freeze = self.made.contains(rows.table()) && !self.leniency.through_roots;
        rows.take(data, self.base, may_freeze).await
    }

    async fn end_rows(&mut self) -> Result<(), CopyError> {
        let rows = self.rows.take().expect("rows end within a COPY");
        rows.finish(self.base).await
    }

    /// Adds a statement to those that are sent together.
    pub(super) async fn add(&mut self, late: Late) -> Result<(), CopyError> {
        if late.entry.is_none() {
            self.preamble.push(late.text.clone());
        }
        if late.text.starts_with("CREATE USER MAPPING ") {
            self.flush().await?;
            self.note(
                late.entry.as_ref(),
                "was left out, for it may hold live credentials",
                None,
            );
            return Ok(());
        }
        self.batch.push(late);
        let bytes: usize = self.batch.iter().map(|late| late.text.len()).sum();
        if self.batch.len() >= BATCH_STATEMENTS_MAX || bytes >= BATCH_BYTES_MAX {
            self.flush().await?;
        }
        Ok(())
    }

    /// Sends what was added: all at once, which is one transaction; where one of them fails, each by itself, so that it is
    /// known which.
    pub(super) async fn flush(&mut self) -> Result<(), CopyError> {
        let batch = std::mem::take(&mut self.batch);
        if batch.len() > 1 {
            let texts: Vec<_> = batch.iter().map(|late| late.text.as_str()).collect();
            if self.base.batch_execute(&texts.join("\n")).await.is_ok() {
                let made = batch.iter().filter_map(|late| made_table(&late.text));
                self.made.extend(made.map(str::to_owned));
                return Ok(());
            }
        }
        for late in batch {
            self.execute(&late).await?;
        }
        Ok(())
    }

    async fn execute(&mut self, late: &Late) -> Result<(), CopyError> {
        let (statement, entry) = (late.text.as_str(), late.entry.as_ref());
        let Err(source) = self.base.batch_execute(statement).await else {
            self.made.extend(made_table(statement).map(str::to_owned));
            return Ok(());
        };
        let code = source.code().cloned();
        if statement.starts_with("SET ") && code == Some(SqlState::UNDEFINED_OBJECT) {
            return Ok(());
        }
        if statement.starts_with("SECURITY LABEL ")
            && code == Some(SqlState::INVALID_PARAMETER_VALUE)
        {
            self.note(entry, "was left out", Some(&source));
            return Ok(());
        }
        if statement.starts_with("REFRESH MATERIALIZED VIEW ") && is_refusal(&source) {
            self.note(entry, "has no rows here", Some(&source));
            return Ok(());
        }
        if self.leniency.rows_selected && code == Some(SqlState::FOREIGN_KEY_VIOLATION) {
            return self.add_unvalidated(late).await;
        }
        if self.may_lack(entry, code.as_ref()) {
            self.note(entry, "was left out", Some(&source));
            return Ok(());
        }
        Err(refused(describe(late), source))
    }

    /// Adds a foreign key for new rows alone, since the selected ones do not meet it.
    async fn add_unvalidated(&mut self, late: &Late) -> Result<(), CopyError> {
        let unvalidated = format!("{} NOT VALID;", late.text.trim_end_matches(';'));
        let added = self.base.batch_execute(&unvalidated).await;
        added.map_err(|source| refused(describe(late), source))?;
        self.note(
            late.entry.as_ref(),
            "does not hold for the copied rows, some of which refer to rows that were left out",
            None,
        );
        Ok(())
    }

    /// Whether the failure is that an empty copy has not what a table's dependant refers to.
    fn may_lack(&self, entry: Option<&Entry>, code: Option<&SqlState>) -> bool {
        const DEPENDANTS: [&str; 6] = [
            "FK CONSTRAINT",
            "POLICY",
            "PUBLICATION TABLE",
            "RULE",
            "STATISTICS",
            "TRIGGER",
        ];
        let kind = entry.map(|entry| entry.kind.as_str());
        let is_dependant = kind.is_some_and(|kind| DEPENDANTS.contains(&kind));
        let missing = [
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::UNDEFINED_OBJECT,
            SqlState::INVALID_SCHEMA_NAME,
        ];
        self.leniency.mode == CopyMode::Empty
            && is_dependant
            && code.is_some_and(|code| missing.contains(code))
    }

    fn note(&mut self, entry: Option<&Entry>, what: &str, source: Option<&tokio_postgres::Error>) {
        let object = entry.map_or_else(|| "a statement".to_owned(), describe_entry);
        let why = source.and_then(tokio_postgres::Error::as_db_error);
        let why = why
            .map(|error| format!(": {}", error.message()))
            .unwrap_or_default();
        self.notes.push(format!("{object} {what}{why}"));
    }
}

fn describe(late: &Late) -> String {
    match &late.entry {
        Some(entry) => describe_entry(entry),
        None => late.text.chars().take(SHOWN_CHARS).collect(),
    }
}

fn next(splitter: &mut Splitter) -> Result<Option<Piece>, LoadError> {
    splitter.next().map_err(|error| match error {
        ScriptError::Truncated { .. } => LoadError::Cut(error),
        ScriptError::TooLong | ScriptError::Encoding => LoadError::Failed(error.into()),
    })
}

pub(super) fn refused(what: String, source: tokio_postgres::Error) -> CopyError {
    if is_full(&source) {
        CopyError::DiskFull {
            what,
            source: source.into(),
        }
    } else {
        CopyError::Statement { what, source }
    }
}

/// The phase changes with what a statement makes.
fn announce(entry: Option<&Entry>, progress: &Progress<'_>) {
    const INDEXING: [&str; 4] = [
        "CONSTRAINT",
        "FK CONSTRAINT",
        "INDEX",
        "MATERIALIZED VIEW DATA",
    ];
    if entry.is_some_and(|entry| INDEXING.contains(&entry.kind.as_str())) {
        progress.phase(CopyPhase::Indexing);
    }
}

/// `pg_dump` writes two commands of psql's, which keep psql from running others; nothing runs any here.
fn check_command(line: &str) -> Result<(), CopyError> {
    let command = line.split_whitespace().next().unwrap_or_default();
    match command {
        "\\restrict" | "\\unrestrict" => Ok(()),
        other => Err(CopyError::Command {
            command: other.to_owned(),
        }),
    }
}

pub(super) fn describe_entry(entry: &Entry) -> String {
    format!("{} {}", entry.kind.to_lowercase(), entry.name)
}

/// `COPY name (columns) FROM stdin;` in two: the name, and the rest without the semicolon.
fn copy_target(copy: &str) -> (&str, &str) {
    let body = copy
        .strip_prefix("COPY ")
        .unwrap_or(copy)
        .trim_end_matches(';');
    body.split_at(name_end(body))
}

/// The name that a `CREATE TABLE` of the dump makes.
fn made_table(statement: &str) -> Option<&str> {
    let rest = statement.strip_prefix("CREATE TABLE ");
    let rest = rest.or_else(|| statement.strip_prefix("CREATE UNLOGGED TABLE "))?;
    Some(&rest[..name_end(rest)])
}

/// Where a qualified name ends: at the first blank outside of quotes.
fn name_end(text: &str) -> usize {
    let mut is_quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => is_quoted = !is_quoted,
            c if c.is_whitespace() && !is_quoted => return at,
            _ => {}
        }
    }
    text.len()
}

/// A name of the dump's without its quotes, for people.
fn shown(name: &str) -> String {
    name.replace('"', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_of_a_copy_is_told_from_its_columns() {
        for (copy, name, rest) in [
            (
                "COPY public.t (a, b) FROM stdin;",
                "public.t",
                " (a, b) FROM stdin",
            ),
            (
                "COPY public.\"t (x) FROM\" (a) FROM stdin;",
                "public.\"t (x) FROM\"",
                " (a) FROM stdin",
            ),
            (
                "COPY \"S \"\"q\".t  FROM stdin;",
                "\"S \"\"q\".t",
                "  FROM stdin",
            ),
        ] {
            assert_eq!(copy_target(copy), (name, rest));
        }
    }

    #[test]
    fn tables_that_the_dump_makes_are_known_by_its_own_spelling() {
        assert_eq!(
            made_table("CREATE TABLE public.\"Order Items\" (\n    id integer\n);"),
            Some("public.\"Order Items\"")
        );
        assert_eq!(
            made_table("CREATE UNLOGGED TABLE public.t (\n);"),
            Some("public.t")
        );
        assert_eq!(made_table("CREATE FOREIGN TABLE public.t (\n)"), None);
        assert_eq!(made_table("ALTER TABLE public.t OWNER TO x;"), None);
    }

    #[test]
    fn only_the_two_known_commands_are_passed_over() {
        assert!(check_command("\\restrict abc").is_ok());
        assert!(check_command("\\unrestrict abc").is_ok());
        let refused = check_command("\\! touch /tmp/x").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the dump has the command \"\\\\!\", which is not SQL"
        );
    }
}
