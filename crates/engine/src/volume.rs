//! The volume: where bases and branches lie, and how one directory becomes two.
//!
//! Owns the trait, the choice by doing, and free space. `tree` walks, `reflink` and `plain` say how a file is
//! cloned. Leaves it to callers to hand in a directory that no server is using.

mod plain;
mod reflink;
mod tree;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use model::ByteSize;

/// Why a directory could not be cloned, measured or removed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// One file or directory failed.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something that a data directory of ours never has: a link or a device.
    #[error("{path} is neither file nor directory, and a clone of it would share it")]
    Foreign {
        /// Where.
        path: PathBuf,
    },
    /// The caller wants it no more.
    #[error("the clone was cancelled")]
    Cancelled,
}

impl VolumeError {
    /// Whether the volume has no room left.
    pub fn is_full(&self) -> bool {
        match self {
            Self::File { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                )
            }
            Self::Foreign { .. } | Self::Cancelled => false,
        }
    }
}

/// Stops a clone from another thread.
#[derive(Debug, Default)]
pub struct Cancel(AtomicBool);

impl Cancel {
    /// The clone ends with [`VolumeError::Cancelled`] before its next file.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<(), VolumeError> {
        if self.0.load(Ordering::Relaxed) {
            Err(VolumeError::Cancelled)
        } else {
            Ok(())
        }
    }
}

/// How directories are cloned on one filesystem. Calls block: they belong on a blocking thread.
pub trait Volume: std::fmt::Debug + Send + Sync {
    /// The word for people: `reflink`, `plain copy`.
    fn kind(&self) -> &'static str;

    /// Whether a clone takes as much room as its original from the start.
    fn clone_takes_room(&self) -> bool;

    /// Makes `to`, which must not exist, a writable copy of the data directory `from`. A server's leftovers
    /// (`postmaster.pid`, `postmaster.opts`) stay out. Owner and mode of every file are kept.
    ///
    /// # Errors
    /// [`VolumeError`]; `to` may then be half made, and removing it is the caller's.
    fn clone_tree(&self, from: &Path, to: &Path, cancel: &Cancel) -> Result<(), VolumeError>;
}

/// Chooses the best way that works in `directory`, by doing it on a file there.
///
/// # Errors
/// [`VolumeError::File`] when not even a plain file can be written.
pub fn probe(directory: &Path) -> Result<Box<dyn Volume>, VolumeError> {
    let from = directory.join(".probe-from");
    let to = directory.join(".probe-to");
    let remove = |path: &Path| match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(VolumeError::File {
            what: "remove",
            path: path.to_owned(),
            source,
        }),
        Ok(()) | Err(_) => Ok(()),
    };
    remove(&from)?;
    remove(&to)?;
    std::fs::write(&from, [1; 4096]).map_err(|source| VolumeError::File {
        what: "write",
        path: from.clone(),
        source,
    })?;
    let reflinked = reflink::clone_file(&from, &to);
    remove(&from)?;
    remove(&to)?;
    match reflinked {
        Ok(()) => Ok(Box::new(reflink::Reflink)),
        Err(error) => {
            tracing::info!(%error, "files cannot share blocks here: branches are plain copies");
            Ok(Box::new(plain::Plain))
        }
    }
}

/// Free space for an ordinary account on the filesystem of `path`.
///
/// # Errors
/// [`VolumeError::File`] from statvfs(3).
pub fn free_space(path: &Path) -> Result<ByteSize, VolumeError> {
    let stat = rustix::fs::statvfs(path).map_err(|error| VolumeError::File {
        what: "ask for the free space of",
        path: path.to_owned(),
        source: error.into(),
    })?;
    Ok(ByteSize(stat.f_bavail.saturating_mul(stat.f_frsize)))
}

/// The name of the filesystem that `path` is on, from its magic number (statfs(2)).
pub fn filesystem_name(path: &Path) -> String {
    const NAMES: [(u64, &str); 9] = [
        (0x5846_5342, "xfs"),
        (0x9123_683e, "btrfs"),
        (0xef53, "ext4"),
        (0x0102_1994, "tmpfs"),
        (0x794c_7630, "overlayfs"),
        (0x2fc1_2fc1, "zfs"),
        (0xca45_1a4e, "bcachefs"),
        (0x6969, "nfs"),
        (0xf2f5_2010, "f2fs"),
    ];
    let Ok(stat) = rustix::fs::statfs(path) else {
        return "unknown".to_owned();
    };
    let magic = u64::try_from(stat.f_type).unwrap_or_default();
    let known = NAMES.iter().find(|(number, _)| *number == magic);
    known.map_or_else(|| format!("{magic:#x}"), |(_, name)| (*name).to_owned())
}

/// What the files below `path` take on disk, shared blocks counted in full. Files that vanish meanwhile count nothing.
pub fn disk_usage(path: &Path) -> ByteSize {
    ByteSize(tree::allocated_bytes(path))
}

/// Removes a directory and everything in it; one that is not there is no error.
///
/// # Errors
/// [`VolumeError::File`] names the directory.
pub fn remove_tree(path: &Path) -> Result<(), VolumeError> {
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(VolumeError::File {
            what: "remove",
            path: path.to_owned(),
            source,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
