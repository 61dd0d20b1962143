//! Copies that are btrfs subvolumes: a snapshot of the whole directory in one step, whatever is in it.
//!
//! Owns making and destroying them (ioctls of linux/btrfs.h, which need no privilege but for destroying). A directory
//! that is no subvolume is copied file by file, by reference.

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::reflink::Reflink;
use super::{Cancel, Kind, Motion, Volume, VolumeError, cannot, kernel, walk};

/// statfs(2): `BTRFS_SUPER_MAGIC`.
const MAGIC: u64 = 0x9123_683e;

/// The inode of every subvolume's root (linux/btrfs_tree.h: `BTRFS_FIRST_FREE_OBJECTID`).
const ROOT_INODE: u64 = 256;

/// Data directories are subvolumes.
#[derive(Debug)]
pub(super) struct Subvolumes;

impl Volume for Subvolumes {
    fn kind(&self) -> Kind {
        Kind::Subvolume
    }

    fn make_data(&self, data: &Path) -> Result<(), VolumeError> {
        let (parent, name) = place(data)?;
        kernel::create_subvolume(parent.as_fd(), &name)
            .map_err(cannot("make a subvolume", data))?;
        // The kernel gives it the mode that the umask leaves of 0777.
        let private = Permissions::from_mode(0o700);
        fs::set_permissions(data, private).map_err(cannot("set the mode of", data))
    }

    fn copy_tree(
        &self,
        from: &Path,
        to: &Path,
        motion: Motion,
        cancel: &Cancel,
    ) -> Result<(), VolumeError> {
        if !is_subvolume(from) {
            return Reflink.copy_tree(from, to, motion, cancel);
        }
        cancel.check()?;
        walk::refuse_links(from)?;
        let (parent, name) = place(to)?;
        let original = File::open(from).map_err(cannot("open", from))?;
        kernel::snapshot_subvolume(original.as_fd(), parent.as_fd(), &name)
            .map_err(cannot("make a snapshot", to))?;
        walk::make_writable(to)
    }
}

/// The directory in which a subvolume is made, and its name there.
fn place(path: &Path) -> Result<(File, CString), VolumeError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let name = CString::new(path.file_name().unwrap_or_default().as_bytes());
    let name = name.map_err(|error| cannot("name", path)(error.into()))?;
    let parent = File::open(parent).map_err(cannot("open", parent))?;
    Ok((parent, name))
}

fn is_subvolume(path: &Path) -> bool {
    let is_root =
        fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.ino() == ROOT_INODE);
    is_root
        && rustix::fs::statfs(path)
            .is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|magic| magic == MAGIC))
}

/// Destroys `path` where it is a subvolume. Whoever may not is left to remove it file by file, which takes longer.
pub(super) fn destroy(path: &Path) -> Result<(), VolumeError> {
    if !is_subvolume(path) {
        return Ok(());
    }
    let (parent, name) = place(path)?;
    match kernel::destroy_subvolume(parent.as_fd(), &name) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other.map_err(cannot("destroy the subvolume", path)),
    }
}
