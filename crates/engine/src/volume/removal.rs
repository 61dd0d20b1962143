//! The end of trees: unmounted, opened, removed with everything in them.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{DataDir, VolumeError, cannot, subvolume};

/// How often a directory is emptied that somebody fills: a program that a killed engine had begun adds files until it
/// notices that its own are gone.
const TRIES_MAX: u32 = 10_000;

/// Removes a tree, or any other directory, with everything in it: a branch of any kind, a sealed snapshot. What is not
/// there is no error. Call it once no server is at home there; it blocks.
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
    let mut tries = 0;
    loop {
        tries += 1;
        match fs::remove_dir_all(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && tries < TRIES_MAX => {
            }
            Err(error) => return Err(cannot("remove", path)(error)),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_somebody_still_fills_goes_all_the_same() {
        let home = tempfile::tempdir().unwrap();
        let tree = home.path().join("tree");
        let inner = tree.join("data/base");
        fs::create_dir_all(&inner).unwrap();
        let filler = std::thread::spawn({
            let inner = inner.clone();
            move || {
                // Until its directory is gone, or it has come to its end.
                let files = (0..5_000)
                    .take_while(|n: &u32| fs::write(inner.join(n.to_string()), "").is_ok());
                files.count()
            }
        });
        while fs::read_dir(&inner).unwrap().count() < 100 {
            std::thread::yield_now();
        }
        remove_tree(&tree).unwrap();
        assert!(filler.join().unwrap() >= 100);
        assert!(!tree.exists());
    }
}
