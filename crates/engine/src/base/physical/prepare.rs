//! What an administrator wants done to every copy before anybody has it: masking, trimming, migrations.
//!
//! Owns running it in a copy that takes writes and lets only us in, and for how long. Where it fails there is no copy.

use std::time::Duration;

use model::Secret;

use super::seed::Seeded;
use super::{Host, Place, control};
use crate::postgres::connect::{ConnectError, Session};

/// Why a copy is not prepared, and must not be handed out.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// It refuses our connection.
    #[error("cannot connect to the copy")]
    Connect(#[from] ConnectError),
    /// A statement failed.
    #[error("the SQL that prepares every copy of this source failed")]
    Statement(#[source] tokio_postgres::Error),
    /// It did not end.
    #[error("the SQL that prepares every copy of this source did not end within {seconds} s")]
    TimedOut {
        /// The limit.
        seconds: u64,
    },
}

impl PrepareError {
    /// One thing to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Connect(_) => None,
            Self::Statement(_) => Some(
                "no branch is made without it: mend the file and give it again with `bough source add --prepare`",
            ),
            Self::TimedOut { .. } => Some(
                "mend the file and give it again with `bough source add --prepare`, or raise prepare_seconds_max in engine.toml",
            ),
        }
    }

    /// Whether another copy would end in the same way.
    pub fn is_of_the_file(&self) -> bool {
        !matches!(self, Self::Connect(_))
    }
}

/// Runs `sql` as a superuser of the source's, in one transaction unless it says otherwise itself.
///
/// # Errors
/// [`PrepareError`].
pub(super) async fn run(
    host: &Host,
    place: &Place,
    seeded: &Seeded,
    sql: &Secret,
) -> Result<(), PrepareError> {
    let (database, superuser) = (&seeded.database, &seeded.superuser);
    let (socket_dir, major) = (&place.socket_dir, seeded.major);
    let session = control::connect_ordinary(socket_dir, database, superuser, major).await?;
    execute(&session, sql, host.prepare_time_max).await
}

/// Runs `sql` in a session.
///
/// # Errors
/// [`PrepareError::Statement`], [`PrepareError::TimedOut`].
pub(in crate::base) async fn execute(
    session: &Session,
    sql: &Secret,
    time_max: Duration,
) -> Result<(), PrepareError> {
    let done = tokio::time::timeout(time_max, session.batch_execute(sql.reveal())).await;
    let seconds = time_max.as_secs();
    let done = done.map_err(|_| PrepareError::TimedOut { seconds })?;
    done.map_err(PrepareError::Statement)
}
