//! What an administrator wants done to every copy before anybody has it: masking, trimming, migrations.
//!
//! Owns running it in a copy that takes writes and lets only us in. Where it fails there is no copy.

use model::Secret;

use super::seed::Seeded;
use super::{Place, control};
use crate::postgres::connect::ConnectError;

/// Why a copy is not prepared, and must not be handed out.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// It lets us not in.
    #[error("cannot connect to the copy")]
    Connect(#[from] ConnectError),
    /// A statement failed.
    #[error("the SQL that prepares every copy of this source failed")]
    Statement(#[source] tokio_postgres::Error),
}

/// Runs `sql` as a superuser of the source's, in one transaction unless it says otherwise itself.
///
/// # Errors
/// [`PrepareError`].
pub(super) async fn run(place: &Place, seeded: &Seeded, sql: &Secret) -> Result<(), PrepareError> {
    let (database, superuser) = (&seeded.database, &seeded.superuser);
    let session = control::connect_ordinary(&place.socket_dir, database, superuser).await?;
    let done = session.batch_execute(sql.reveal()).await;
    done.map_err(PrepareError::Statement)
}
