//! Whoever waits on a source for a table that a copy of it reads.
//!
//! A copy holds ACCESS SHARE on what it reads until it has read everything (PostgreSQL, section 13.3). A migration that
//! wants such a table alone waits for that long, and every statement of the application behind the migration. So a copy
//! looks for such waiters and gives way to whoever waits for too long. It looks by a connection of its own, which holds nothing;
//! a user or a database whose connections are counted is left the ones that the copy needs, and the session of the snapshot
//! looks then, between what else it does.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::error::CopyError;
use crate::postgres::connect::{APPLICATION_NAME, Session};
use crate::postgres::sql;
use crate::source::{SourceAccess, SourceError, row, rows};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Waiters of one look: who has so many has seen enough.
const WAITERS_MAX: u32 = 100;

/// Ends once somebody has waited for `waited_max` for what a copy of ours holds on the server that `source` is with.
pub(super) async fn wait_for_one(
    access: &SourceAccess,
    source: &Session,
    waited_max: Duration,
) -> CopyError {
    let own = match connect(access, source).await {
        Ok(own) => own,
        Err(error) => {
            tracing::info!(%error, "the source grants no connection to look for waiters by");
            None
        }
    };
    match look(own.as_ref().unwrap_or(source), waited_max).await {
        Ok(waiter) => CopyError::InTheWay {
            table: waiter.table,
            seconds: waited_max.as_secs(),
        },
        // The copy needs that server as well, and fails by itself.
        Err(error) => {
            tracing::info!(%error, "nobody sees who waits for a copy on its source");
            std::future::pending().await
        }
    }
}

/// A connection of its own, where neither user nor database have a number of them.
async fn connect(access: &SourceAccess, source: &Session) -> Result<Option<Session>, SourceError> {
    const UNCOUNTED: &str = "SELECT (r.rolconnlimit < 0 AND d.datconnlimit < 0)::text FROM pg_catalog.pg_roles r, pg_catalog.pg_database d \
         WHERE r.rolname = session_user AND d.datname = current_database()";
    let is_free = row(source, "connection limits", UNCOUNTED).await?.text(0)? == "true";
    match source.peer() {
        Some(peer) if is_free => Ok(Some(access.connect_to(peer).await?)),
        Some(_) | None => Ok(None),
    }
}

/// Somebody who waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Waiter {
    /// The process on the source.
    process: String,
    /// What it wants for itself alone.
    table: String,
}

async fn look(session: &Session, waited_max: Duration) -> Result<Waiter, SourceError> {
    let mut since = HashMap::new();
    loop {
        let waiting = find(session).await?;
        if let Some(waiter) = longest(&mut since, waiting, Instant::now(), waited_max) {
            return Ok(waiter);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Who waits at this moment. Nothing else is in the way of a reader but who wants a table alone.
async fn find(session: &Session) -> Result<Vec<Waiter>, SourceError> {
    let ours = sql::literal(APPLICATION_NAME);
    // Within a transaction pg_stat_activity stays as it was first seen (section 27.2.2).
    rows(
        session,
        "locks",
        "SELECT pg_catalog.pg_stat_clear_snapshot()",
    )
    .await?;
    let query = format!(
        "SELECT w.pid::text, c.oid::regclass::text FROM pg_catalog.pg_locks w JOIN pg_catalog.pg_class c ON c.oid = w.relation \
         WHERE NOT w.granted AND w.mode = 'AccessExclusiveLock' \
           AND w.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database()) \
           AND EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.pid = ANY (pg_catalog.pg_blocking_pids(w.pid)) \
                         AND a.usename = session_user AND a.application_name = {ours}) \
         LIMIT {WAITERS_MAX}"
    );
    let found = rows(session, "locks", &query).await?;
    let waiters = found.iter().map(|row| {
        Ok(Waiter {
            process: row.text(0)?,
            table: row.text(1)?,
        })
    });
    waiters.collect()
}

/// Notes who waits, in `since`, and forgets who no longer does; gives one that has waited for `waited_max`.
fn longest(
    since: &mut HashMap<Waiter, Instant>,
    waiting: Vec<Waiter>,
    now: Instant,
    waited_max: Duration,
) -> Option<Waiter> {
    since.retain(|waiter, _| waiting.contains(waiter));
    for waiter in waiting {
        since.entry(waiter).or_insert(now);
    }
    let (waiter, begun) = since.iter().min_by_key(|(_, begun)| **begun)?;
    (now.duration_since(*begun) >= waited_max).then(|| waiter.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_too_long_is_given_way_and_who_comes_and_goes_is_not() {
        let waiter = |process: &str| Waiter {
            process: process.to_owned(),
            table: "orders".to_owned(),
        };
        let (begun, max) = (Instant::now(), Duration::from_secs(10));
        let mut since = HashMap::new();
        let mut look = |waiting: &[&str], second| {
            let waiting = waiting.iter().map(|process| waiter(process)).collect();
            let now = begun + Duration::from_secs(second);
            longest(&mut since, waiting, now, max).map(|waiter| waiter.process)
        };
        assert_eq!(look(&["1"], 0), None);
        assert_eq!(look(&["1", "2"], 5), None);
        // The first has its lock, or has given up.
        assert_eq!(look(&["2"], 11), None);
        assert_eq!(look(&["1", "2"], 14), None);
        assert_eq!(look(&["1", "2"], 15), Some("2".to_owned()));
        assert_eq!(look(&[], 16), None);
    }
}
