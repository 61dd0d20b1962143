//! Copies that share blocks file by file: `FICLONE` (ioctl_ficlone(2)), on XFS, btrfs and other filesystems with
//! reflinks.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{Cancel, Kind, Motion, Volume, VolumeError, walk};

/// Every file shares its blocks with its original until one of them is written.
#[derive(Debug)]
pub(super) struct Reflink;

impl Volume for Reflink {
    fn kind(&self) -> Kind {
        Kind::Reflink
    }

    fn copy_tree(
        &self,
        from: &Path,
        to: &Path,
        motion: Motion,
        cancel: &Cancel,
    ) -> Result<(), VolumeError> {
        walk::copy_tree(from, to, motion, cancel, copy_file)
    }
}

/// Makes the new file `to` share the blocks of `from`.
pub(super) fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    rustix::fs::ioctl_ficlone(&target, &source)?;
    Ok(())
}
