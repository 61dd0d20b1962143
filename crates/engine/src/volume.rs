//! The volume: where bases, snapshots and branches lie, and how one data directory becomes two.
//!
//! | kind, best first | a branch | its first write to a file | the snapshot |
//! |---|---|---|---|
//! | overlay | a mount, at once whatever the size | shares the file's blocks | must stay |
//! | btrfs subvolume | a subvolume snapshot, at once | copies the block | may go |
//! | ZFS dataset | a dataset's clone, at once | copies the block | must stay |
//! | reflink | every file by reference | copies the block | may go |
//! | overlay with copies | a mount, at once | copies the whole file | must stay |
//! | plain copy | every byte | - | may go |
//!
//! Owns the trait and what its callers share. `probe` chooses by doing; `plain`, `reflink`, `subvolume`, `dataset` and
//! `overlay` are the kinds; `data_dir` is how servers and the engine come into a data directory; `space` measures;
//! `removal` removes. Leaves it to callers to hand in a directory that no server is using, and to keep a snapshot for
//! as long as a clone needs it.

mod data_dir;
mod dataset;
mod kernel;
mod ledger;
mod mark;
mod mounts;
mod namespace;
mod overlay;
mod plain;
mod probe;
mod reflink;
mod removal;
mod seal;
mod space;
mod subvolume;
mod usage;
mod view;
mod walk;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

pub use model::VolumeKind as Kind;

pub use data_dir::{DataDir, Entering, Prepared, StartFailure};
pub use ledger::{Ledger, Promise, PromiseError};
pub use mark::{NOT_MOUNTED_MARK, check_mounted};
pub use mounts::{is_mount_point, mount_identity};
pub use overlay::Way;
pub use probe::{Probed, probe, try_kind};
pub use removal::remove_tree;
pub use seal::{seal, sync};
pub use space::{NoRoom, Place, Room, filesystem_name, has_start_room, room, writable_space};
pub use usage::{Usage, Usages, disk_usage, measure, usage};
pub use view::view;

/// Why a directory could not be cloned, mounted, measured or removed.
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
    /// A server, or something that it started, is at home there.
    #[error("{path} is in use")]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// A server's child could not come into its namespace.
    #[error("cannot {step} for {path}")]
    Namespace {
        /// At which step.
        step: &'static str,
        /// The data directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A path that the options of an overlay cannot hold.
    #[error("overlays cannot name {path}: a comma, a colon or a backslash is in it")]
    Unquotable {
        /// The path.
        path: PathBuf,
    },
    /// The volume has a filesystem of its own, which is not mounted.
    #[error("the volume of {path} is not mounted; this mounts it: {command}")]
    NotMounted {
        /// The volume's directory.
        path: PathBuf,
        /// What mounts it.
        command: String,
    },
    /// The filesystem has not what it takes.
    #[error("{path} is on {filesystem}, which has no {lacks}")]
    Filesystem {
        /// What it takes.
        lacks: &'static str,
        /// The filesystem's name.
        filesystem: String,
        /// Where.
        path: PathBuf,
    },
    /// The kernel does not do what it was asked for, though it said so.
    #[error("the kernel {what} in {path}")]
    Untrue {
        /// What it did instead.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
}

impl VolumeError {
    /// Whether the volume has no room left.
    pub fn is_full(&self) -> bool {
        match self {
            Self::File { source, .. } | Self::Namespace { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                )
            }
            Self::Foreign { .. }
            | Self::Cancelled
            | Self::InUse { .. }
            | Self::Unquotable { .. }
            | Self::Filesystem { .. }
            | Self::NotMounted { .. }
            | Self::Untrue { .. } => false,
        }
    }
}

/// What makes a [`VolumeError::File`] of an I/O error.
fn cannot<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> VolumeError + 'a {
    move |source| VolumeError::File {
        what,
        path: path.to_owned(),
        source,
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

/// Whether a server writes a directory while it is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motion {
    /// No server does.
    Still,
    /// One does, between `pg_backup_start` and `pg_backup_stop`: files may vanish, and a copy needs recovery.
    Live,
}

/// How data directories are copied on one filesystem. Calls block: they belong on a blocking thread.
///
/// A data directory lies in a directory of its own, its *tree* (`clones/NAME/data` in `clones/NAME`), which may hold
/// parts of it: a tree is moved as a whole, between directories of the same depth, and removed by [`remove_tree`].
pub trait Volume: fmt::Debug + Send + Sync {
    /// How branches are made.
    fn kind(&self) -> Kind;

    /// Who mounts a branch, where branches are mounted.
    fn mounted_by(&self) -> Option<Way> {
        None
    }

    /// Whether a clone takes as much room as its original from the start.
    fn clone_takes_room(&self) -> bool {
        self.kind() == Kind::PlainCopy
    }

    /// Whether a copy for a snapshot takes as much room as its original from the start.
    fn copy_takes_room(&self) -> bool {
        matches!(self.kind(), Kind::OverlayWithCopies | Kind::PlainCopy)
    }

    /// Whether the original must stay, unchanged and under its path, for as long as a clone of it is there.
    fn clone_needs_original(&self) -> bool {
        matches!(
            self.kind(),
            Kind::Overlay | Kind::OverlayWithCopies | Kind::Dataset
        )
    }

    /// Makes an empty data directory, mode 0700, for a base: where branches are snapshots of something special, it is
    /// something special. Its parent exists.
    ///
    /// # Errors
    /// [`VolumeError::File`].
    fn make_data(&self, data: &Path) -> Result<(), VolumeError> {
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(data).map_err(cannot("make", data))
    }

    /// Makes `to`, which must not exist in its existing parent, an independent writable copy of the data directory
    /// `from`, for a snapshot: nobody else mounts it or needs what it was made of. A server's leftovers
    /// (`postmaster.pid`, `postmaster.opts`) stay out. Owner and mode of every file are kept.
    ///
    /// # Errors
    /// [`VolumeError`]; `to` may then be half made, and removing its tree is the caller's.
    fn copy_tree(
        &self,
        from: &Path,
        to: &Path,
        motion: Motion,
        cancel: &Cancel,
    ) -> Result<(), VolumeError>;

    /// Makes `to`, as above, a branch of the data directory `from`, which no server uses. It may be an overlay: then
    /// [`DataDir`] is the way in.
    ///
    /// # Errors
    /// As [`Volume::copy_tree`].
    fn clone_tree(&self, from: &Path, to: &Path, cancel: &Cancel) -> Result<(), VolumeError> {
        self.copy_tree(from, to, Motion::Still, cancel)
    }
}

#[cfg(test)]
mod tests;
