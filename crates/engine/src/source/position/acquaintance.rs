//! Asking a source that is known where it stands, in one round trip.
//!
//! A first question learns what its user may ask and which sequences there are; the next asks for all of it at once, and
//! for the same list again. Owns that question and whether its answer has the shape that was expected: where it has not,
//! or an error came, there is no answer, and the source is asked step by step.

use futures_util::future;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::{
    Answer, CHECKPOINT, INSERT_LSN, MOMENT, Position, REPLAYED, REPLAYED_LSN, Rights, SEQUENCES,
    SYSTEM_IDENTIFIER, Told, asking, digest, value_queries,
};
use crate::postgres::connect::{Session, begin_read_statements};
use crate::source::SourceError;

/// What a source is known to be.
#[derive(Debug, PartialEq, Eq)]
pub struct Acquaintance {
    rights: Rights,
    is_replica: bool,
    /// Each sequence as it is listed: number, schema, name, whether it can be read.
    sequences: Vec<[String; 4]>,
    /// All that is asked within one transaction, which it also ends.
    question: String,
    /// How many of its statements' answers count: the last ones but the end.
    statements: usize,
}

impl Acquaintance {
    /// What a step-by-step question found; none when there is something that cannot be read.
    pub(super) fn new(rights: Rights, is_replica: bool, listed: &[Answer]) -> Option<Self> {
        let sequences = listed.iter().map(listing).collect::<Option<Vec<_>>>()?;
        let lsn = if is_replica { REPLAYED_LSN } else { INSERT_LSN };
        let mut asked = vec![format!("{MOMENT}, {lsn}")];
        if rights.may_ask_system {
            asked.push(SYSTEM_IDENTIFIER.to_owned());
        }
        asked.extend(rights.timeline(is_replica).map(str::to_owned));
        if rights.asks_checkpoint() {
            asked.push(CHECKPOINT.to_owned());
        }
        asked.push(SEQUENCES.to_owned());
        asked.extend(value_queries(listed).ok()?);
        Some(Self {
            rights,
            is_replica,
            sequences,
            question: format!(
                "{}; {}; ROLLBACK",
                begin_read_statements(None),
                asked.join("; ")
            ),
            statements: asked.len(),
        })
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
        let is_same = listed.len() == self.sequences.len()
            && listed
                .iter()
                .zip(&self.sequences)
                .all(|(found, known)| listing(found).as_ref() == Some(known));
        if !is_same {
            return None;
        }
        let assembled = Told {
            replayed,
            now,
            system,
            timeline,
            checkpoint,
        };
        assembled.position(digest(told.flatten())).ok()
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
