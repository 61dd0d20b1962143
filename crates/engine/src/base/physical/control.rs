//! Our sessions in a cluster that has no role of ours: as a superuser of the source's, through a socket that only the
//! servers' account may enter.
//!
//! Owns what such a session must not inherit: the defaults that the source sets for the role or the database, and its
//! triggers.

use std::path::Path;

use model::pg_url::Address;
use model::{PgMajor, PgUrl};
use tokio_postgres::error::SqlState;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use crate::postgres::connect::{ConnectError, Session, connect_url};
use crate::postgres::settings::{HAS_EVENT_TRIGGERS, HAS_TRANSACTION_TIMEOUT, SOCKET_PORT};

/// Beside the defaults of the source: ours. Triggers and rules are not set off by what we do (`session_replication_role`).
const OPTIONS: [(&str, &str); 9] = [
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("role", "none"),
    ("search_path", "pg_catalog"),
    ("session_replication_role", "replica"),
];

/// Those that statements of somebody else's do without.
const ORDINARY: [&str; 2] = ["search_path", "session_replication_role"];

/// How often a question is asked that is cancelled each time. Each stands in the way for as long as the server lets it.
const TRIES_MAX: u32 = 20;

/// Whether replay cancelled the statement (`ERRCODE_T_R_SERIALIZATION_FAILURE`, "conflict with recovery").
fn is_in_the_way(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE)
}

/// A session as a superuser.
///
/// # Errors
/// [`ConnectError`].
pub(super) async fn connect(
    socket_dir: &Path,
    database: &str,
    superuser: &str,
    major: PgMajor,
) -> Result<Session, ConnectError> {
    let url = local_url(socket_dir, superuser, database);
    let triggers = (major >= HAS_EVENT_TRIGGERS).then_some(("event_triggers", "off"));
    let options = OPTIONS.into_iter().chain(unhurried(major)).chain(triggers);
    connect_url(&url, None, options).await
}

/// A session as a superuser for statements of somebody else's: triggers and rules are set off as usual, and names are
/// looked up as the role and the database have it.
///
/// # Errors
/// [`ConnectError`].
pub(super) async fn connect_ordinary(
    socket_dir: &Path,
    database: &str,
    superuser: &str,
    major: PgMajor,
) -> Result<Session, ConnectError> {
    let url = local_url(socket_dir, superuser, database);
    let is_wanted = |(name, _): &(&str, &str)| !ORDINARY.contains(name);
    let options = OPTIONS.into_iter().filter(is_wanted);
    connect_url(&url, None, options.chain(unhurried(major))).await
}

fn unhurried(major: PgMajor) -> Option<(&'static str, &'static str)> {
    (major >= HAS_TRANSACTION_TIMEOUT).then_some(("transaction_timeout", "0"))
}

/// The rows of simple queries, those of all statements in turn. In recovery a question may stand in the way of what is
/// replayed, and is then cancelled: it is asked again.
pub(super) async fn rows(
    session: &Session,
    query: &str,
) -> Result<Vec<SimpleQueryRow>, tokio_postgres::Error> {
    let mut tries = 1;
    let messages = loop {
        match session.simple_query(query).await {
            Err(error) if tries < TRIES_MAX && is_in_the_way(&error) => tries += 1,
            other => break other?,
        }
    };
    let row = |message| {
        if let SimpleQueryMessage::Row(row) = message {
            Some(row)
        } else {
            None
        }
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

/// Whether the server asks `user` for a password by now, rather than refusing or trusting him. No password is computed
/// with, which would take its time.
pub(super) async fn asks_for_password(
    socket_dir: &Path,
    database: &str,
    user: &str,
) -> Result<bool, ConnectError> {
    let url = local_url(socket_dir, user, database);
    match connect_url(&url, None, []).await {
        Err(ConnectError::NoPassword { .. }) => Ok(true),
        Ok(_) | Err(ConnectError::NotAllowed { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn local_url(socket_dir: &Path, user: &str, database: &str) -> PgUrl {
    let address = Address {
        host: socket_dir.display().to_string(),
        port: SOCKET_PORT,
    };
    PgUrl::from_parts(&address, user, None, database)
}

/// A column as text; NULL and a missing one are empty.
pub(super) fn text(row: &SimpleQueryRow, column: usize) -> &str {
    row.try_get(column).ok().flatten().unwrap_or_default()
}
