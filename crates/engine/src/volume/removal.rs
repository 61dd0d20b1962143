//! The end of trees: unmounted, opened, removed with everything in them.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{DataDir, VolumeError, cannot, subvolume};

/// Removes a tree, or any other directory, with everything in it: a branch of any kind, a sealed snapshot. What is not
/// there is no error. Call it once no process is at home there.
///
/// # Errors
/// [`VolumeError`] names the directory.
pub fn remove_tree(path: &Path) -> Result<(), VolumeError> {
    if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    let data = path.join("data");
    DataDir::at(&data).let_go()?;
    unseal(&data)?;
    subvolume::destroy(&data)?;
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Nobody but root may remove files of a directory that cannot be written.
fn unseal(data: &Path) -> Result<(), VolumeError> {
    match fs::symlink_metadata(data) {
        Ok(found) if found.is_dir() && found.permissions().mode() & 0o700 != 0o700 => {
            fs::set_permissions(data, Permissions::from_mode(0o700)).map_err(cannot("open", data))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}
