//! The mark of a volume that is not mounted: a file in the directory that the volume covers when it is there.
//!
//! Owns telling an unmounted volume from an empty one, so that an engine never takes the one for the other. Leaves
//! making volumes in files to `bough engine volume`.

use std::fs;
use std::io;
use std::path::Path;

use super::{VolumeError, cannot};

/// The mark's name. Its text is the command that mounts the volume.
pub const NOT_MOUNTED_MARK: &str = "THIS-VOLUME-IS-NOT-MOUNTED";

/// Bytes of a mark that are read.
const TEXT_BYTES_MAX: usize = 4096;

/// Whether the volume of `directory` is there, where it has one of its own. Call it before anything is made there.
///
/// # Errors
/// [`VolumeError::NotMounted`] with the command that mounts it.
pub fn check_mounted(directory: &Path) -> Result<(), VolumeError> {
    let mark = directory.join(NOT_MOUNTED_MARK);
    match fs::read_to_string(&mark) {
        Ok(text) => {
            let command: String = text.trim().chars().take(TEXT_BYTES_MAX).collect();
            Err(VolumeError::NotMounted {
                path: directory.to_owned(),
                command,
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(cannot("read", &mark)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unmounted_volume_is_named_with_what_mounts_it() {
        let root = tempfile::tempdir().unwrap();
        check_mounted(root.path()).unwrap();
        check_mounted(&root.path().join("absent")).unwrap();
        fs::write(root.path().join(NOT_MOUNTED_MARK), "sudo mount it\n").unwrap();
        let refused = check_mounted(root.path()).unwrap_err();
        assert!(
            matches!(&refused, VolumeError::NotMounted { command, .. } if command == "sudo mount it"),
            "{refused:?}"
        );
        assert!(super::super::probe(root.path()).is_err());
    }
}
