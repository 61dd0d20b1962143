//! Statements of ours in a database that has event triggers of somebody else's, none of which notices.
//!
//! 17 and newer have a setting for it (`event_triggers`), older ones do not; and `session_replication_role` leaves out those
//! that are to fire always, or for replication. They are therefore disabled in the very transaction of our statements, and
//! are as they were at its end: nobody else ever sees it. Written into the catalogue, of which PostgreSQL takes notice at
//! the next statement, as it does of `ALTER EVENT TRIGGER`. Leaves triggers at a login to `connect::connect_unnoticed`.

use std::fmt::Write as _;

use tokio_postgres::{Error, SimpleQueryMessage};

use super::connect::Session;
use super::sql;

const ENABLED: &str =
    "SELECT oid, evtenabled FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D'";

/// Runs statements, all or none of them: each must be one that a transaction may have.
///
/// # Errors
/// What the server says.
pub async fn run(session: &Session, statements: &[&str]) -> Result<(), Error> {
    let mut enabled = Vec::new();
    for message in session.simple_query(ENABLED).await? {
        if let SimpleQueryMessage::Row(row) = message {
            let column = |at| row.get(at).unwrap_or_default().to_owned();
            enabled.push((column(0), column(1)));
        }
    }
    session.batch_execute(&script(statements, &enabled)).await
}

/// One message, and so one transaction.
fn script(statements: &[&str], enabled: &[(String, String)]) -> String {
    let mut script = String::new();
    let mut add = |statement: &str| {
        write!(script, "{statement}; ").expect("a String takes any text");
    };
    if !enabled.is_empty() {
        add("UPDATE pg_catalog.pg_event_trigger SET evtenabled = 'D' WHERE evtenabled <> 'D'");
    }
    for statement in statements {
        add(statement);
    }
    for (oid, state) in enabled {
        add(&format!(
            "UPDATE pg_catalog.pg_event_trigger SET evtenabled = {} WHERE oid = {}",
            sql::literal(state),
            sql::literal(oid)
        ));
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triggers_are_off_before_the_first_statement_and_as_they_were_after_the_last() {
        let enabled = [("7".to_owned(), "A".to_owned())];
        assert_eq!(
            script(&["ONE", "TWO"], &enabled),
            "UPDATE pg_catalog.pg_event_trigger SET evtenabled = 'D' WHERE evtenabled <> 'D'; ONE; TWO; \
             UPDATE pg_catalog.pg_event_trigger SET evtenabled = 'A' WHERE oid = '7'; "
        );
        assert_eq!(script(&["ONE"], &[]), "ONE; ");
    }
}
