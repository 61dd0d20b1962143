//! Walks a data directory: for copies, with what to leave out.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::{Cancel, Motion, VolumeError, cannot};

/// What a server leaves behind and a copy must not have: it would be taken for a running server's.
const LEFT_OUT: [&str; 2] = ["postmaster.pid", "postmaster.opts"];

/// The owner may write a directory: a sealed one's copy is not sealed.
const OWNER_WRITES: u32 = 0o200;

/// How one file becomes two: the second path does not exist yet.
pub(super) type CopyFile = fn(&Path, &Path) -> io::Result<()>;

/// Makes `to` a copy of the directory `from`, copying each file with `copy_file(from, to)`. Of one in motion, files
/// that vanish meanwhile are left out.
pub(super) fn copy_tree(
    from: &Path,
    to: &Path,
    motion: Motion,
    cancel: &Cancel,
    copy_file: CopyFile,
) -> Result<(), VolumeError> {
    Walk {
        motion,
        cancel,
        copy_file,
    }
    .directory(from, to)
}

/// As [`copy_tree`], into a directory that is there and empty.
pub(super) fn fill(
    from: &Path,
    to: &Path,
    motion: Motion,
    cancel: &Cancel,
    copy_file: CopyFile,
) -> Result<(), VolumeError> {
    Walk {
        motion,
        cancel,
        copy_file,
    }
    .entries(from, to)
}

/// Gives a copy of a sealed directory back to its owner.
pub(super) fn make_writable(data: &Path) -> Result<(), VolumeError> {
    let found = fs::symlink_metadata(data).map_err(cannot("read", data))?;
    let writable = fs::Permissions::from_mode(writable_mode(&found));
    fs::set_permissions(data, writable).map_err(cannot("set the mode of", data))?;
    for name in LEFT_OUT {
        let path = data.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(cannot("remove", &path)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Refuses links where a server of PostgreSQL makes them, for copies that do not look at every file: at the top, and in
/// the directory of tablespaces.
pub(super) fn refuse_links(data: &Path) -> Result<(), VolumeError> {
    for directory in [data.to_owned(), data.join("pg_tblspc")] {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound && directory != data => continue,
            Err(error) => return Err(cannot("list", &directory)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(cannot("list", &directory))?;
            let kind = entry.file_type().map_err(cannot("read", &entry.path()))?;
            if !kind.is_dir() && !kind.is_file() {
                return Err(VolumeError::Foreign { path: entry.path() });
            }
        }
    }
    Ok(())
}

struct Walk<'a> {
    motion: Motion,
    cancel: &'a Cancel,
    copy_file: CopyFile,
}

impl Walk<'_> {
    fn directory(&self, from: &Path, to: &Path) -> Result<(), VolumeError> {
        fs::DirBuilder::new()
            .mode(0o700)
            .create(to)
            .map_err(cannot("make", to))?;
        self.entries(from, to)
    }

    fn entries(&self, from: &Path, to: &Path) -> Result<(), VolumeError> {
        let metadata = fs::symlink_metadata(from).map_err(cannot("read", from))?;
        for entry in fs::read_dir(from).map_err(cannot("list", from))? {
            let entry = entry.map_err(cannot("list", from))?;
            if LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            let copied = self.entry(&entry, &source, &target);
            match copied {
                Err(error) if self.has_vanished(&error, &source) => remove_half(&target)?,
                other => other?,
            }
        }
        keep_owner_and_mode(&metadata, to, metadata.permissions().mode() | OWNER_WRITES)
    }

    fn entry(&self, entry: &fs::DirEntry, source: &Path, target: &Path) -> Result<(), VolumeError> {
        let kind = entry.file_type().map_err(cannot("read", source))?;
        if kind.is_dir() {
            return self.directory(source, target);
        }
        if !kind.is_file() {
            return Err(VolumeError::Foreign {
                path: source.to_owned(),
            });
        }
        self.cancel.check()?;
        (self.copy_file)(source, target).map_err(cannot("clone", source))?;
        let file = fs::symlink_metadata(source).map_err(cannot("read", source))?;
        keep_owner_and_mode(&file, target, file.permissions().mode())
    }

    /// Whether an entry failed because its server removed it.
    fn has_vanished(&self, error: &VolumeError, source: &Path) -> bool {
        let absent = matches!(
            error,
            VolumeError::File { source, .. } if source.kind() == io::ErrorKind::NotFound
        );
        absent && self.motion == Motion::Live && !source.exists()
    }
}

/// Removes what was made of an entry that vanished in between.
fn remove_half(target: &Path) -> Result<(), VolumeError> {
    let removed = match fs::symlink_metadata(target) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(target),
        Ok(_) => fs::remove_file(target),
        Err(_) => Ok(()),
    };
    removed.map_err(cannot("remove", target))
}

/// Only root may give files away; anybody else's copy is their own, as its original was.
pub(super) fn keep_owner_and_mode(
    from: &fs::Metadata,
    to: &Path,
    mode: u32,
) -> Result<(), VolumeError> {
    let file = File::open(to).map_err(cannot("open", to))?;
    let own = file.metadata().map_err(cannot("read", to))?;
    if (own.uid(), own.gid()) != (from.uid(), from.gid()) {
        std::os::unix::fs::fchown(&file, Some(from.uid()), Some(from.gid()))
            .map_err(cannot("give away", to))?;
    }
    let mode = mode & 0o7777;
    if own.permissions().mode() & 0o7777 != mode {
        file.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(cannot("set the mode of", to))?;
    }
    Ok(())
}

/// The mode that a writable copy of a directory has.
pub(super) fn writable_mode(of: &fs::Metadata) -> u32 {
    (of.permissions().mode() | OWNER_WRITES) & 0o7777
}
