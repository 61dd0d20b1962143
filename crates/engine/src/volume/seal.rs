//! Seals: what a snapshot gets before it is journaled as whole.
//!
//! Owns that its bytes are on the disk and that no server can be started in it. Files in it keep their modes: an
//! overlay shows them as they are, and a server opens its files for writing.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{VolumeError, cannot};

/// Write permission, for anybody.
const WRITE: u32 = 0o222;

/// Makes the data directory of a snapshot, whose server has ended, immutable, and writes everything on its filesystem to
/// the disk. A server that is not root cannot start in it any more; copies and clones of it are writable again.
///
/// # Errors
/// [`VolumeError::File`]; the snapshot must then not be used.
pub fn seal(data: &Path) -> Result<(), VolumeError> {
    let found = fs::symlink_metadata(data).map_err(cannot("read", data))?;
    let mode = found.permissions().mode() & !WRITE & 0o7777;
    fs::set_permissions(data, fs::Permissions::from_mode(mode)).map_err(cannot("seal", data))?;
    sync(data)
}

/// Writes everything on the filesystem of `path` to the disk (syncfs(2)); for an overlay hand in its tree, for
/// syncfs of a volatile overlay does nothing.
///
/// # Errors
/// [`VolumeError::File`], also for a failed write of the past that nobody was told of.
pub fn sync(path: &Path) -> Result<(), VolumeError> {
    let file = File::open(path).map_err(cannot("open", path))?;
    rustix::fs::syncfs(&file).map_err(|errno| cannot("write to the disk", path)(errno.into()))
}
