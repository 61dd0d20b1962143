//! A directory in which something is put together, and its end where that comes to nothing.

use std::path::{Path, PathBuf};

use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::BaseError;
use crate::machine::Machine;
use crate::postgres::server::sweep;
use crate::volume::{VolumeError, remove_tree};

/// A directory in which something is put together. Dropping it ends what still runs there and removes it.
#[derive(Debug)]
pub struct Making {
    pub(super) directory: PathBuf,
    pub(super) socket_dir: PathBuf,
    clearing: TaskTracker,
    /// The engine's end waits for whatever is being made.
    _token: TaskTrackerToken,
    is_kept: bool,
}

impl Making {
    pub(super) async fn begin(machine: &Machine, name: &str) -> Result<Self, BaseError> {
        let directory = machine.layout.making_of(name);
        // As long as every other: a snapshot's own name grows with its number, and a socket's path has a bound.
        let sockets = format!("{:016x}", rand::random::<u64>());
        Self::at(machine, directory, machine.layout.socket_dir(&sockets)).await
    }

    /// Makes `directory` empty.
    ///
    /// # Errors
    /// [`BaseError::Sweep`] or [`BaseError::Volume`].
    pub async fn at(
        machine: &Machine,
        directory: PathBuf,
        socket_dir: PathBuf,
    ) -> Result<Self, BaseError> {
        let making = Self {
            directory,
            socket_dir,
            clearing: machine.clearing.clone(),
            _token: machine.clearing.token(),
            is_kept: false,
        };
        clear(&making.directory).await?;
        std::fs::create_dir(&making.directory).map_err(|source| VolumeError::File {
            what: "make",
            path: making.directory.clone(),
            source,
        })?;
        Ok(making)
    }

    /// Leaves what was made where it is.
    pub fn keep(mut self) {
        self.is_kept = true;
    }

    /// Gives it up with the engine, which ends: who waits for it is told nothing, so that nothing is journaled of it.
    pub(super) async fn give_up<T>(self) -> T {
        drop(self);
        std::future::pending().await
    }

    /// What dropping it does, done when this returns.
    pub(super) async fn abandon(mut self) -> Result<(), BaseError> {
        self.is_kept = true;
        remove_tree(&self.socket_dir)?;
        clear(&self.directory).await
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let (directory, socket_dir) = (self.directory.clone(), self.socket_dir.clone());
        self.clearing.spawn(async move {
            let removed = remove_tree(&socket_dir).map_err(BaseError::Volume);
            if let Err(error) = removed.and(clear(&directory).await) {
                tracing::error!(directory = %directory.display(), %error, "cannot clear what a copy left");
            }
        });
    }
}

/// Ends every server that works in `directory` and removes it.
///
/// # Errors
/// [`BaseError::Sweep`] or [`BaseError::Volume`].
pub async fn clear(directory: &Path) -> Result<(), BaseError> {
    sweep(&directory.join("data")).await?;
    let directory = directory.to_owned();
    let removed = tokio::task::spawn_blocking(move || remove_tree(&directory)).await;
    removed.unwrap_or(Ok(()))?;
    Ok(())
}
