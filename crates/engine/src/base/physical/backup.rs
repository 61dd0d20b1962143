//! A clone of a living standby: its files while it goes on replaying, and the WAL that makes them one.
//!
//! ```text
//!   pg_backup_start ─▶ clone the directory ─▶ pg_backup_stop ─▶ label, control file, WAL
//!   (one session)      (files as they come)    (the label)      in this order
//! ```
//!
//! Owns the order, which is what makes the clone recoverable: every page is as old as the label's checkpoint or in WAL
//! after it, and the control file, copied late, says how far that WAL must reach. What it reaches for certain is what
//! the standby had replayed after the backup's end: those records were read from the very files that are then copied.

use std::path::Path;
use std::sync::Arc;

use super::contents::{self, ContentsError};
use super::control;
use super::standby::{Standby, StandbyError};
use crate::base::lsn::{Lsn, LsnError};
use crate::postgres::connect::ConnectError;
use crate::volume::{Cancel, VolumeError};

/// Why a standby could not be cloned. What was made is the caller's to remove.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It refuses our connection.
    #[error("cannot connect to the standby")]
    Connect(#[from] ConnectError),
    /// It refused to begin or end a backup.
    #[error("cannot {what} on the standby")]
    Ask {
        /// What was tried.
        what: &'static str,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// It ended the backup and did not say where recovery begins.
    #[error("the standby ended the backup without a label")]
    NoLabel,
    /// The files could not be cloned.
    #[error("cannot clone the standby's files")]
    Clone(#[from] VolumeError),
    /// The clone could not be completed.
    #[error("cannot complete the clone")]
    Contents(#[from] ContentsError),
    /// It is not known how far the clone reaches.
    #[error("cannot ask how far the clone reaches")]
    Progress(#[from] Box<StandbyError>),
    /// The standby answered something that makes no sense.
    #[error("the standby's answer makes no sense")]
    Answer(#[from] LsnError),
    /// The standby is sent nothing, so that its timeline is not known.
    #[error("the standby does not follow its source at the moment")]
    NotFollowing,
}

impl BackupError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Clone(error) => error.is_full(),
            Self::Contents(error) => error.is_full(),
            Self::Connect(_)
            | Self::Ask { .. }
            | Self::NoLabel
            | Self::Progress(_)
            | Self::Answer(_)
            | Self::NotFollowing => false,
        }
    }
}

/// What a clone holds for certain once it is recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Everything in the WAL up to here.
    pub lsn: Lsn,
    /// Of this timeline.
    pub timeline: u32,
}

/// Ends a clone whose future was dropped, before its next file.
struct CancelOnDrop(Arc<Cancel>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Makes `to`, which does not exist, a clone of the standby's data directory, ready to be recovered.
///
/// # Errors
/// [`BackupError`].
pub(super) async fn clone_standby(standby: &Standby, to: &Path) -> Result<Reached, BackupError> {
    // A session of its own: the backup is the session's, and several may go on at once.
    let session = standby.connect().await?;
    // On a standby this is a restartpoint of ours; the source is not asked. First by itself, for it takes its time, and a
    // query that does would stand in the way of replay.
    let restartpoint = session.batch_execute("CHECKPOINT").await;
    restartpoint.map_err(|source| BackupError::Ask {
        what: "write everything",
        source,
    })?;
    let begin = "SELECT pg_backup_start('bough', true)";
    let begun = session.batch_execute(begin).await;
    begun.map_err(|source| BackupError::Ask {
        what: "begin a backup",
        source,
    })?;
    let data = standby.place().data();
    let host = standby.host();
    let cancel = CancelOnDrop(Arc::new(Cancel::default()));
    let cloned = {
        let (clone, cancel) = (Arc::clone(&host.clone_live), Arc::clone(&cancel.0));
        let (from, to) = (data.clone(), to.to_owned());
        tokio::task::spawn_blocking(move || clone(&from, &to, &cancel)).await
    };
    cloned.expect("a clone of files does not panic")?;
    let stop = "SELECT labelfile FROM pg_backup_stop(false)";
    let label = control::rows(&session, stop).await;
    let label = label.map_err(|source| BackupError::Ask {
        what: "end the backup",
        source,
    })?;
    // Without it the clone would begin its recovery anywhere.
    let label = label.first().ok_or(BackupError::NoLabel)?;
    let label = control::text(label, 0).to_owned();
    let progress = standby.progress().await.map_err(Box::new)?;
    let timeline = progress.streams_on.ok_or(BackupError::NotFollowing)?;
    let (from, to) = (data, to.to_owned());
    let account = host.account.clone();
    let completed =
        tokio::task::spawn_blocking(move || contents::complete(&from, &to, &label, &account));
    completed.await.expect("work on files does not panic")?;
    Ok(Reached {
        lsn: progress.replayed,
        timeline,
    })
}
