//! What a dump makes after rows: indexes and constraints by several sessions at once, the rest in its order.
//!
//! ```text
//!   CONSTRAINT, INDEX, FK CONSTRAINT ──▶ sessions, as many as cores; of one table never two, and in their order
//!   COMMENT on them                  ──▶ after them
//!   anything else                    ──▶ by the loader, when all before it is done
//! ```
//!
//! Owns that order. Statements of one table never run at once, since each locks it; where PostgreSQL finds two in each
//! other's way all the same (partitions), the loser is run again alone.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio_postgres::error::SqlState;

use super::cluster::Cluster;
use super::error::CopyError;
use super::load::{Loader, describe_entry, refused};
use super::plan::Plan;
use super::script::Entry;
use crate::postgres::connect::Session;

/// Sessions that build indexes: each may use as much memory again (`maintenance_work_mem`).
const SESSIONS_MAX: usize = 4;

/// A statement that comes after rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Late {
    pub(super) text: String,
    pub(super) entry: Option<Entry>,
}

impl Late {
    /// Whether it makes an event trigger, or is about one.
    pub(super) fn is_of_event_trigger(&self) -> bool {
        match self.entry.as_ref().map_or("", |entry| entry.kind.as_str()) {
            "EVENT TRIGGER" => true,
            "COMMENT" => self.text.starts_with("COMMENT ON EVENT TRIGGER "),
            "SECURITY LABEL" => self.text.contains(" ON EVENT TRIGGER "),
            _ => false,
        }
    }
}

/// When a statement may run.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Turn {
    /// Beside those of other tables; these are its own.
    Beside(Vec<String>),
    /// After those.
    After,
    /// When everything before it is done.
    InOrder,
}

fn turn(late: &Late) -> Turn {
    let kind = late.entry.as_ref().map_or("", |entry| entry.kind.as_str());
    let tables = match kind {
        "CONSTRAINT" => altered(&late.text).map(|table| vec![table]),
        "INDEX" => indexed(&late.text)
            .or_else(|| altered(&late.text))
            .map(|table| vec![table]),
        "FK CONSTRAINT" => altered(&late.text)
            .zip(referred(&late.text))
            .map(|(one, other)| vec![one, other]),
        "COMMENT" if is_on_late_object(&late.text) => return Turn::After,
        _ => None,
    };
    tables.map_or(Turn::InOrder, Turn::Beside)
}

/// The table of `ALTER TABLE [ONLY] name ...`.
fn altered(text: &str) -> Option<String> {
    let rest = text.strip_prefix("ALTER TABLE ")?;
    Some(first_name(rest.strip_prefix("ONLY ").unwrap_or(rest)))
}

/// The table of `CREATE [UNIQUE] INDEX name ON [ONLY] table ...`.
fn indexed(text: &str) -> Option<String> {
    let rest = text.strip_prefix("CREATE ")?;
    let rest = rest.strip_prefix("UNIQUE ").unwrap_or(rest);
    let rest = rest.strip_prefix("INDEX ")?;
    let rest = rest[first_name(rest).len()..].strip_prefix(" ON ")?;
    Some(first_name(rest.strip_prefix("ONLY ").unwrap_or(rest)))
}

/// The table after `REFERENCES`, which no column's name can be taken for: that would be in quotes, being reserved.
fn referred(text: &str) -> Option<String> {
    let mut is_quoted = false;
    for (at, c) in text.char_indices() {
        if c == '"' {
            is_quoted = !is_quoted;
        } else if !is_quoted && let Some(rest) = text[at..].strip_prefix(" REFERENCES ") {
            return Some(first_name(rest));
        }
    }
    None
}

/// The qualified name at the beginning: up to a blank or a parenthesis outside of quotes.
fn first_name(text: &str) -> String {
    let mut is_quoted = false;
    let is_end = |c: char| {
        if c == '"' {
            is_quoted = !is_quoted;
        }
        !is_quoted && (c.is_whitespace() || c == '(' || c == ';')
    };
    let end = text.find(is_end).unwrap_or(text.len());
    text[..end].to_owned()
}

fn is_on_late_object(text: &str) -> bool {
    text.starts_with("COMMENT ON INDEX ") || text.starts_with("COMMENT ON CONSTRAINT ")
}

/// Runs everything, by the loader and by sessions of its kind.
///
/// # Errors
/// [`CopyError`] of the first that fails.
pub(super) async fn run(
    late: Vec<Late>,
    loader: &mut Loader<'_>,
    cluster: &Cluster<'_>,
    plan: &Plan<'_>,
) -> Result<(), CopyError> {
    let count = late
        .iter()
        .filter(|late| matches!(turn(late), Turn::Beside(_)))
        .count();
    let sessions = sessions(count, loader, cluster, plan).await?;
    let mut beside = VecDeque::new();
    let mut after = Vec::new();
    for statement in late {
        match turn(&statement) {
            Turn::Beside(tables) => beside.push_back((tables, statement)),
            Turn::After => after.push(statement),
            Turn::InOrder => {
                finish(&mut beside, &mut after, &sessions, loader).await?;
                loader.add(statement).await?;
            }
        }
    }
    finish(&mut beside, &mut after, &sessions, loader).await?;
    loader.flush().await
}

async fn sessions(
    statements: usize,
    loader: &Loader<'_>,
    cluster: &Cluster<'_>,
    plan: &Plan<'_>,
) -> Result<Vec<Session>, CopyError> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut sessions = Vec::new();
    for _ in 0..cores.min(SESSIONS_MAX).min(statements) {
        let session = cluster.connect(&plan.facts.database).await?;
        for setting in loader.preamble() {
            // As for the loader's own session: one that this server does not know is passed over.
            if let Err(source) = session.batch_execute(setting).await
                && source.as_db_error().is_none()
            {
                return Err(CopyError::of_base("prepare a session", source));
            }
        }
        sessions.push(session);
    }
    Ok(sessions)
}

/// Runs what has gathered, so that the next may rely on it.
async fn finish(
    beside: &mut VecDeque<(Vec<String>, Late)>,
    after: &mut Vec<Late>,
    sessions: &[Session],
    loader: &mut Loader<'_>,
) -> Result<(), CopyError> {
    if beside.is_empty() && after.is_empty() {
        return Ok(());
    }
    // What it relies on may wait in the loader's batch.
    loader.flush().await?;
    let board = Board::new(std::mem::take(beside));
    let workers = sessions.iter().map(|session| board.work(session));
    futures_util::future::try_join_all(workers).await?;
    for late in board.into_again().into_iter().chain(after.drain(..)) {
        loader.add(late).await?;
    }
    loader.flush().await
}

/// Statements that wait and those that run.
struct Board {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Vec<String>, Late)>,
    busy: Vec<String>,
    again: Vec<Late>,
}

impl Board {
    fn new(waiting: VecDeque<(Vec<String>, Late)>) -> Self {
        Self {
            state: Mutex::new(State {
                waiting,
                ..State::default()
            }),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn into_again(self) -> Vec<Late> {
        self.state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .again
    }

    /// Runs what may run, until nothing waits.
    async fn work(&self, session: &Session) -> Result<(), CopyError> {
        loop {
            let changed = self.changed.notified();
            let next = {
                let mut state = self.state();
                if state.waiting.is_empty() {
                    return Ok(());
                }
                state.next()
            };
            let Some((tables, late)) = next else {
                changed.await;
                continue;
            };
            let done = session.batch_execute(&late.text).await;
            let mut state = self.state();
            state.busy.retain(|table| !tables.contains(table));
            match done {
                Ok(()) => {}
                Err(source) if source.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => {
                    state.again.push(late);
                }
                Err(source) => {
                    let what = late.entry.as_ref().map(describe_entry);
                    return Err(refused(what.unwrap_or_default(), source));
                }
            }
            drop(state);
            self.changed.notify_waiters();
        }
    }
}

impl State {
    /// The first whose tables nobody works on, and that none before it needs.
    fn next(&mut self) -> Option<(Vec<String>, Late)> {
        let mut taken: HashSet<&str> = self.busy.iter().map(String::as_str).collect();
        let mut found = None;
        for (at, (tables, _)) in self.waiting.iter().enumerate() {
            if tables.iter().all(|table| !taken.contains(table.as_str())) {
                found = Some(at);
                break;
            }
            taken.extend(tables.iter().map(String::as_str));
        }
        let next = self.waiting.remove(found?)?;
        self.busy.extend(next.0.iter().cloned());
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(kind: &str, text: &str) -> Late {
        Late {
            text: text.to_owned(),
            entry: Some(Entry {
                name: String::new(),
                kind: kind.to_owned(),
            }),
        }
    }

    #[test]
    fn each_statement_knows_its_tables() {
        let beside = |kind: &str, text: &str| turn(&late(kind, text));
        let tables =
            |names: &[&str]| Turn::Beside(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(
            beside(
                "CONSTRAINT",
                "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT p PRIMARY KEY (id);"
            ),
            tables(&["public.t"])
        );
        assert_eq!(
            beside(
                "INDEX",
                "CREATE UNIQUE INDEX \"i ON x\" ON ONLY \"S (a)\".\"t u\" USING btree (a);"
            ),
            tables(&["\"S (a)\".\"t u\""])
        );
        assert_eq!(
            beside(
                "FK CONSTRAINT",
                "ALTER TABLE ONLY public.a\n    ADD CONSTRAINT \"x REFERENCES y\" FOREIGN KEY (b) REFERENCES public.b(id);"
            ),
            tables(&["public.a", "public.b"])
        );
        assert_eq!(
            beside(
                "INDEX ATTACH",
                "ALTER INDEX public.i ATTACH PARTITION public.j;"
            ),
            Turn::InOrder
        );
        assert_eq!(
            beside("COMMENT", "COMMENT ON INDEX public.i IS 'x';"),
            Turn::After
        );
        assert_eq!(
            beside("COMMENT", "COMMENT ON VIEW public.i IS 'x';"),
            Turn::InOrder
        );
    }

    #[test]
    fn statements_of_one_table_run_in_their_order_and_others_beside_them() {
        let waiting = [("a", "1"), ("a", "2"), ("b", "3")];
        let waiting = waiting.map(|(table, text)| (vec![table.to_owned()], late("INDEX", text)));
        let mut state = State {
            waiting: waiting.into(),
            ..State::default()
        };
        let mut next = || state.next().map(|(_, late)| late.text);
        assert_eq!(next().as_deref(), Some("1"));
        assert_eq!(next().as_deref(), Some("3"));
        assert_eq!(next(), None);
        state.busy.clear();
        assert_eq!(
            state.next().map(|(_, late)| late.text).as_deref(),
            Some("2")
        );
    }
}
