//! Asking a source that is known where it stands, in one round trip.
//!
//! A first question learns what its user may ask and which sequences there are; the next asks for all of it at once, and
//! for the same list again unless the snapshot is the one that it was listed in: whatever changes a catalog is a
//! transaction, which changes the snapshot. Owns that question and whether its answer has the shape that was expected:
//! where it has not, or an error came, there is no answer, and the source is asked step by step.

use std::sync::Arc;

use futures_util::future;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::{
    Answer, CHECKPOINT, HAS_UNLOGGED, INSERT_LSN, LAGS, MOMENT, Position, REPLAYED, REPLAYED_LSN,
    Rights, SEQUENCES, SEQUENCES_ORDER, SYSTEM_IDENTIFIER, Told, asking, digest, has_running,
    value_queries,
};
use crate::postgres::connect::{Session, begin_read_statements};
use crate::postgres::sql;
use crate::source::SourceError;

/// What a source is known to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acquaintance {
    rights: Rights,
    is_replica: bool,
    /// Each sequence as it is listed: number, schema, name, whether it can be read.
    sequences: Vec<[String; 4]>,
    /// What asks for their values.
    values: Vec<String>,
    /// Where they were listed. None where a snapshot does not say what is seen by it: beside a transaction that runs, and in
    /// recovery.
    listed: Option<Listed>,
    /// All that is asked within one transaction, which it also ends.
    question: String,
    /// How many of its statements' answers count: the last ones but the end.
    statements: usize,
}

/// The moment of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    snapshot: String,
    /// Another cluster, or a promoted standby, may count the same transactions.
    cluster: [Option<String>; 2],
    database_oid: u32,
}

impl Listed {
    fn at(position: &Position) -> Option<Self> {
        let Position {
            snapshot, cluster, ..
        } = position;
        let says = cluster.replayed.is_none() && !has_running(snapshot);
        says.then(|| Self {
            snapshot: snapshot.clone(),
            cluster: [cluster.system_identifier.clone(), cluster.timeline.clone()],
            database_oid: cluster.database_oid,
        })
    }
}

impl Acquaintance {
    /// What a step-by-step question found; none when there is something that cannot be read.
    pub(super) fn new(rights: Rights, position: &Position, listed: &[Answer]) -> Option<Self> {
        let mut acquaintance = Self {
            rights,
            is_replica: position.cluster.replayed.is_some(),
            sequences: listed.iter().map(listing).collect::<Option<Vec<_>>>()?,
            values: value_queries(listed).ok()?,
            listed: Listed::at(position),
            question: String::new(),
            statements: 0,
        };
        acquaintance.write_question();
        Some(acquaintance)
    }

    /// The same, when all of it was found again at `position`.
    pub(super) fn seen_at(self: Arc<Self>, position: &Position) -> Arc<Self> {
        let listed = Listed::at(position);
        if listed.is_none() || self.listed == listed {
            return self;
        }
        let mut seen = Arc::unwrap_or_clone(self);
        seen.listed = listed;
        seen.write_question();
        Arc::new(seen)
    }

    fn write_question(&mut self) {
        let lsn = match self.is_replica {
            true => REPLAYED_LSN,
            false => INSERT_LSN,
        };
        // Neither catalog is read where the condition is false: PostgreSQL decides that once, before it scans.
        let (has_unlogged, sequences) = match &self.listed {
            Some(listed) => {
                let snapshot = sql::literal(&listed.snapshot);
                let is_same = format!("pg_current_snapshot()::text = {snapshot}");
                let known = self.rights.has_unlogged;
                (
                    format!("CASE WHEN {is_same} THEN {known} ELSE {HAS_UNLOGGED} END"),
                    format!("{SEQUENCES} AND NOT ({is_same}) {SEQUENCES_ORDER}"),
                )
            }
            None => (
                HAS_UNLOGGED.to_owned(),
                format!("{SEQUENCES} {SEQUENCES_ORDER}"),
            ),
        };
        let mut asked = vec![format!("{MOMENT}, {has_unlogged}, {lsn}, {LAGS}")];
        if self.rights.may_ask_system {
            asked.push(SYSTEM_IDENTIFIER.to_owned());
        }
        asked.extend(self.rights.timeline(self.is_replica).map(str::to_owned));
        if self.rights.asks_checkpoint() {
            asked.push(CHECKPOINT.to_owned());
        }
        asked.push(sequences);
        asked.extend(self.values.iter().cloned());
        self.question = format!(
            "{}; {}; ROLLBACK",
            begin_read_statements(None),
            asked.join("; ")
        );
        self.statements = asked.len();
    }

    /// Where the source stands; none when it is not what it was, or does not answer all of it. No transaction stays open.
    ///
    /// # Errors
    /// [`SourceError`] when the session is of no more use.
    pub(super) async fn ask(&self, session: &Session) -> Result<Option<Position>, SourceError> {
        // Before the transaction's moment, in a statement of its own, and without waiting for its answer.
        let (replayed, told) = future::join(
            session.simple_query(REPLAYED),
            session.simple_query(&self.question),
        )
        .await;
        let replayed = replayed.map_err(asking("replay position"))?;
        match told {
            Ok(told) => Ok(self.position(&answers(replayed), &answers(told))),
            Err(error) if error.code().is_some() => {
                let ended = session.batch_execute("ROLLBACK").await;
                ended.map_err(asking("a moment"))?;
                Ok(None)
            }
            Err(error) => Err(asking("position")(error)),
        }
    }

    fn position(&self, replayed: &[Vec<Answer>], told: &[Vec<Answer>]) -> Option<Position> {
        let replayed = replayed.first()?.first()?.get(0).map(str::to_owned);
        let (_rollback, told) = told.split_last()?;
        let told = told.get(told.len().checked_sub(self.statements)?..)?;
        let mut told = told.iter();
        let now = told.next()?.first()?;
        if Rights::of(now) != self.rights || replayed.is_some() != self.is_replica {
            return None;
        }
        let mut next = |is_asked: bool| match is_asked {
            true => Some(Some(told.next()?.first()?)),
            false => Some(None),
        };
        let rights = &self.rights;
        let (system, timeline, checkpoint) = (
            next(rights.may_ask_system)?,
            next(rights.timeline(self.is_replica).is_some())?,
            next(rights.asks_checkpoint())?,
        );
        let listed = told.next()?;
        let is_there = |known: &Listed| now.get(0) == Some(known.snapshot.as_str());
        let is_known = self.listed.as_ref().is_some_and(is_there);
        if !(is_known && listed.is_empty() || self.is_list(listed)) {
            return None;
        }
        let assembled = Told {
            replayed,
            now,
            system,
            timeline,
            checkpoint,
        };
        let position = assembled.position(digest(told.flatten())).ok()?;
        // The same snapshot, but elsewhere, says nothing of the list.
        (!is_known || self.listed == Listed::at(&position)).then_some(position)
    }

    fn is_list(&self, listed: &[Answer]) -> bool {
        listed.len() == self.sequences.len()
            && listed
                .iter()
                .zip(&self.sequences)
                .all(|(found, known)| listing(found).as_ref() == Some(known))
    }
}

fn listing(sequence: &Answer) -> Option<[String; 4]> {
    let column = |place| sequence.get(place).map(str::to_owned);
    Some([column(0)?, column(1)?, column(2)?, column(3)?])
}

/// The rows of each statement.
fn answers(messages: Vec<SimpleQueryMessage>) -> Vec<Vec<Answer>> {
    let mut statements = vec![Vec::new()];
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => push(&mut statements, row),
            SimpleQueryMessage::CommandComplete(_) => statements.push(Vec::new()),
            SimpleQueryMessage::RowDescription(_) | _ => {}
        }
    }
    // The last one ended like every other.
    statements.pop();
    statements
}

fn push(statements: &mut [Vec<Answer>], row: SimpleQueryRow) {
    if let Some(last) = statements.last_mut() {
        last.push(Answer {
            what: "position",
            row,
        });
    }
}
