//! Walks a data directory: for clones, with what to leave out, and for its size.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::{Cancel, VolumeError};

/// What a server leaves behind and a clone must not have: it would be taken for a running server's.
const LEFT_OUT: [&str; 2] = ["postmaster.pid", "postmaster.opts"];

fn fail<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> VolumeError + 'a {
    move |source| VolumeError::File {
        what,
        path: path.to_owned(),
        source,
    }
}

/// Makes `to` a copy of the directory `from`, cloning each file with `clone_file(from, to)`.
pub(super) fn clone_tree(
    from: &Path,
    to: &Path,
    cancel: &Cancel,
    clone_file: fn(&Path, &Path) -> io::Result<()>,
) -> Result<(), VolumeError> {
    let metadata = fs::symlink_metadata(from).map_err(fail("read", from))?;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(to)
        .map_err(fail("make", to))?;
    for entry in fs::read_dir(from).map_err(fail("list", from))? {
        let entry = entry.map_err(fail("list", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let kind = entry.file_type().map_err(fail("read", &source))?;
        if kind.is_dir() {
            clone_tree(&source, &target, cancel, clone_file)?;
        } else if kind.is_file() {
            cancel.check()?;
            clone_file(&source, &target).map_err(fail("clone", &source))?;
            let file = fs::symlink_metadata(&source).map_err(fail("read", &source))?;
            keep_owner_and_mode(&file, &target)?;
        } else {
            return Err(VolumeError::Foreign { path: source });
        }
    }
    keep_owner_and_mode(&metadata, to)
}

/// Only root may give files away; anybody else's clone is their own, as its original was.
fn keep_owner_and_mode(from: &fs::Metadata, to: &Path) -> Result<(), VolumeError> {
    let file = File::open(to).map_err(fail("open", to))?;
    let own = file.metadata().map_err(fail("read", to))?;
    if (own.uid(), own.gid()) != (from.uid(), from.gid()) {
        std::os::unix::fs::fchown(&file, Some(from.uid()), Some(from.gid()))
            .map_err(fail("give away", to))?;
    }
    let mode = from.permissions().mode() & 0o7777;
    if own.permissions().mode() & 0o7777 != mode {
        file.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(fail("set the mode of", to))?;
    }
    Ok(())
}

/// Bytes allocated below `path` (stat(2): `st_blocks` counts 512 bytes each).
pub(super) fn allocated_bytes(path: &Path) -> u64 {
    let own = fs::symlink_metadata(path).map_or(0, |metadata| metadata.blocks() * 512);
    let Ok(entries) = fs::read_dir(path) else {
        return own;
    };
    let below = entries.flatten().map(|entry| {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_dir {
            allocated_bytes(&entry.path())
        } else {
            entry.metadata().map_or(0, |m| m.blocks() * 512)
        }
    });
    own + below.sum::<u64>()
}
