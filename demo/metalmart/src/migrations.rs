//! Brings the database's tables to what this version of the service needs, at every start.
//!
//! The SQL is in `migrations/`, embedded by `refinery`, which keeps the history and checksums in the database. What
//! is owned here: that services which start at the same moment do it one after the other.

use refinery::Runner;
use tokio_postgres::Client;
use tracing::info;

/// The key of the advisory lock, "metalmrt" in ASCII: any number that nobody else uses in this database.
const LOCK_KEY: i64 = i64::from_be_bytes(*b"metalmrt");

/// How long to wait for another service's migrations, and for any table that a migration changes.
const LIMITS: &str = "SET lock_timeout = '60s'; SET statement_timeout = 0";

/// Why the tables could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrationError {
    #[error("could not get the lock that lets one service migrate at a time")]
    Lock(#[source] tokio_postgres::Error),
    #[error("could not migrate the database")]
    Apply(#[source] refinery::Error),
}

impl MigrationError {
    /// What whoever starts the service can do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Lock(_) => {
                "see in pg_stat_activity whether another inventory service is stuck in its migrations"
            }
            Self::Apply(_) => {
                "the user in DATABASE_URL must own the database or have CREATE on its schema; or a newer service has migrated it already"
            }
        }
    }
}

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Applies what is missing. `client` is a connection of its own: closing it gives the lock back, whatever happened.
///
/// # Errors
/// [`MigrationError`]; migrations before the failed one stay applied.
pub(crate) async fn apply(mut client: Client) -> Result<(), MigrationError> {
    client
        .batch_execute(LIMITS)
        .await
        .map_err(MigrationError::Lock)?;
    client
        .execute("SELECT pg_advisory_lock($1)", &[&LOCK_KEY])
        .await
        .map_err(MigrationError::Lock)?;
    let runner: Runner = embedded::migrations::runner();
    let report = runner
        .run_async(&mut client)
        .await
        .map_err(MigrationError::Apply)?;
    for migration in report.applied_migrations() {
        info!(%migration, "migration applied");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbered_without_gaps() {
        let mut migrations = embedded::migrations::runner().get_migrations().clone();
        migrations.sort();
        let versions: Vec<_> = migrations
            .iter()
            .map(|migration| migration.version())
            .collect();
        let expected: Vec<_> = (1..).take(versions.len()).collect();
        assert!(!versions.is_empty());
        assert_eq!(versions, expected);
    }
}
