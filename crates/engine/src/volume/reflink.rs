//! Clones that share blocks file by file: `FICLONE` (ioctl_ficlone(2)), on XFS, btrfs and other filesystems with
//! reflinks.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{Cancel, Volume, VolumeError, tree};

/// Every file shares its blocks with its original until one of them is written.
#[derive(Debug)]
pub(super) struct Reflink;

impl Volume for Reflink {
    fn kind(&self) -> &'static str {
        "reflink"
    }

    fn clone_takes_room(&self) -> bool {
        false
    }

    fn clone_tree(&self, from: &Path, to: &Path, cancel: &Cancel) -> Result<(), VolumeError> {
        tree::clone_tree(from, to, cancel, clone_file)
    }
}

/// Makes the new file `to` share the blocks of `from`.
pub(super) fn clone_file(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    rustix::fs::ioctl_ficlone(&target, &source)?;
    Ok(())
}
