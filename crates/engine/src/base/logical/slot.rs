//! The replication slot of a base: the one thing that is ever made on a source, and taken away again.
//!
//! ```text
//!   journaled ──▶ made, its snapshot exported ──▶ followed ──▶ dropped ──▶ forgotten
//!       └───────────────── a crash anywhere: the journal's name is dropped at the next start
//! ```
//!
//! A slot outlives its connection and keeps WAL on the source for as long as it exists, so its name is written down before
//! it is made. Owns making it over a replication connection that `psql` holds (nobody but a program of PostgreSQL speaks
//! that protocol here), how it stands, and dropping it. Leaves when to the caller.

use std::io;
use std::time::Duration;

use model::Secret;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio_postgres::error::SqlState;

use super::reach::{Reach, last_line};
use crate::base::copy::Exported;
use crate::catalogue::Record;
use crate::postgres::binaries::Installation;
use crate::postgres::connect::{ConnectError, Session};
use crate::postgres::sql;
use crate::source::{SourceError, rows};

/// How long making a slot may take. PostgreSQL waits for the end of every transaction that was open when it began.
const MAKE_TIME_MAX: Duration = Duration::from_secs(120);

/// How long a slot may be in use after its reader was ended: the source notices a closed connection at once, and one
/// that broke after its `wal_sender_timeout`.
const DROP_TIME_MAX: Duration = Duration::from_secs(10);

/// The pause between two tries to drop a slot that is in use.
const DROP_PAUSE: Duration = Duration::from_millis(100);

/// What every slot of ours is called first, so that a source's owner knows whose it is.
pub const PREFIX: &str = "bough_";

/// Why a slot could not be made, found or dropped.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// `psql` could not be run.
    #[error("cannot run psql")]
    Run(#[source] io::Error),
    /// The source refused.
    #[error("the source makes no slot: {answer}")]
    Refused {
        /// What it said.
        answer: String,
    },
    /// Transactions of the source do not end.
    #[error(
        "the source made no slot within {} s: transactions that were open then have to end first",
        MAKE_TIME_MAX.as_secs()
    )]
    TimedOut,
    /// The source cannot be reached.
    #[error("cannot reach the source")]
    Connect(#[from] ConnectError),
    /// It could not be asked.
    #[error("cannot ask the source for the slot")]
    Source(#[from] SourceError),
    /// It does not answer.
    #[error("the source did not answer within {} s", 2 * DROP_TIME_MAX.as_secs())]
    Silent,
    /// It would not drop it.
    #[error("cannot drop the slot {name}")]
    Drop {
        /// The slot.
        name: String,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
}

/// A slot that is, was or may be on a source: journaled before it is made, forgotten once it is dropped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SlotRecord {
    /// Its name.
    pub name: String,
    /// The source, as the user who replicates reaches it.
    pub url: Secret,
    /// The source's database.
    pub database: String,
}

impl Record for SlotRecord {
    const TABLE: &'static str = "slots";

    fn key(&self) -> String {
        self.name.clone()
    }
}

/// A name that no other slot has.
pub fn new_name() -> String {
    format!("{PREFIX}{:016x}", rand::random::<u64>())
}

/// Makes a slot; gives the snapshot that it begins with: what comes through the slot is what the snapshot lacks.
///
/// # Errors
/// [`SlotError`]; the slot may then exist.
pub async fn make(
    reach: &Reach,
    installation: &Installation,
    name: &str,
) -> Result<Exported, SlotError> {
    let mut command = reach.psql(installation);
    command.stdin(std::process::Stdio::piped());
    let mut psql = command.spawn().map_err(SlotError::Run)?;
    let mut stdin = psql.stdin.take().expect("it was asked for");
    let statement = format!(
        "CREATE_REPLICATION_SLOT {} LOGICAL pgoutput (SNAPSHOT 'export');\n",
        sql::ident(name)
    );
    let answered = async {
        stdin.write_all(statement.as_bytes()).await?;
        stdin.flush().await?;
        let stdout = psql.stdout.take().expect("it was asked for");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        Ok(line)
    };
    let answered = tokio::time::timeout(MAKE_TIME_MAX, answered).await;
    let line = answered
        .map_err(|_| SlotError::TimedOut)?
        .map_err(SlotError::Run)?;
    let Some(snapshot) = read_answer(&line) else {
        let mut said = Vec::new();
        // It ends at the first error, and where nothing more can come.
        drop(stdin);
        if let Some(stderr) = &mut psql.stderr {
            // What cannot be read, or does not come, is told as nothing.
            let read = stderr.read_to_end(&mut said);
            let _ = tokio::time::timeout(MAKE_TIME_MAX, read).await;
        }
        let answer = last_line(&said);
        return Err(SlotError::Refused { answer });
    };
    // Its end, or its next statement, would end the snapshot.
    psql.stdin = Some(stdin);
    Ok(Exported::new(snapshot, Box::new(psql)))
}

/// `name|consistent point|snapshot|plugin`.
fn read_answer(line: &str) -> Option<String> {
    let snapshot = line.trim().split('|').nth(2)?;
    (!snapshot.is_empty()).then(|| snapshot.to_owned())
}

/// How a slot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotState {
    /// There is none of that name in the database.
    Gone,
    /// The source has removed WAL that it was to keep for it.
    Lost,
    /// It is there.
    There {
        /// Whether somebody reads from it.
        is_active: bool,
    },
}

impl SlotState {
    /// Asks for it.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn read(session: &Session, name: &str) -> Result<Self, SourceError> {
        let query = format!(
            "SELECT active, coalesce(wal_status, 'lost') FROM pg_catalog.pg_replication_slots \
             WHERE slot_name = {} AND database = pg_catalog.current_database()",
            sql::literal(name)
        );
        let found = rows(session, "slot", &query).await?;
        let Some(slot) = found.first() else {
            return Ok(Self::Gone);
        };
        if slot.text(1)? == "lost" {
            return Ok(Self::Lost);
        }
        Ok(Self::There {
            is_active: slot.is(0),
        })
    }
}

/// Drops a slot, and whoever of ours still reads from it. None is no error.
///
/// # Errors
/// [`SlotError`]; it may then still exist.
pub async fn drop_slot(session: &Session, name: &str) -> Result<(), SlotError> {
    let literal = sql::literal(name);
    let drop = format!(
        "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots \
         WHERE slot_name = {literal}"
    );
    let end = format!(
        "SELECT pg_catalog.pg_terminate_backend(active_pid) FROM pg_catalog.pg_replication_slots \
         WHERE slot_name = {literal} AND active_pid IS NOT NULL"
    );
    let dropped = async {
        loop {
            match session.batch_execute(&drop).await {
                Ok(()) => return Ok(()),
                Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => return Ok(()),
                Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) => {
                    // Without the right to it the source ends the connection by itself.
                    let _ = session.batch_execute(&end).await;
                    tokio::time::sleep(DROP_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    };
    let failed = |source| SlotError::Drop {
        name: name.to_owned(),
        source,
    };
    if let Ok(dropped) = tokio::time::timeout(DROP_TIME_MAX, dropped).await {
        return dropped.map_err(failed);
    }
    // Once more, for what the source says.
    let dropped = tokio::time::timeout(DROP_TIME_MAX, session.batch_execute(&drop)).await;
    dropped.map_err(|_| SlotError::Silent)?.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_names_the_snapshot_or_is_a_refusal() {
        let snapshot = read_answer("bough_1|0/1566D50|00000003-00000002-1|pgoutput\n");
        assert_eq!(snapshot.as_deref(), Some("00000003-00000002-1"));
        assert_eq!(read_answer("bough_1|0/1566D50||pgoutput\n"), None);
        assert_eq!(read_answer(""), None);
    }

    #[test]
    fn names_are_what_a_slot_may_be_called() {
        let name = new_name();
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(name.starts_with(PREFIX) && name.chars().all(is_allowed) && name.len() < 64);
    }
}
