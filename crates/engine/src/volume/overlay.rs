//! Overlay trees: a writable layer over a snapshot that stays as it is, joined by overlayfs.
//!
//! ```text
//! TREE/data            where the joined directory is mounted; empty where it is not
//! TREE/lower           a link to the snapshot's data directory, relative: TREE may move to a sibling
//! TREE/upper           what the branch changed
//! TREE/work            overlayfs' own
//! TREE/namespace.lock  where servers mount for themselves: locked while a process of such a server lives
//! ```
//!
//! Owns this layout, the mount options, and mounting as root. Leaves mounting without root to `namespace`.

use std::ffi::CStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::{Cancel, Kind, Motion, Volume, VolumeError, cannot, mounts, walk};

/// Options without root: only the user's own extended attributes may be written (`userxattr`).
///
/// `volatile`: a branch's server runs without fsync, so that overlayfs need not write through what it copies up.
pub(super) const NAMESPACE_OPTIONS: &CStr =
    c"lowerdir=lower,upperdir=upper,workdir=work,userxattr,volatile";

/// What a path cannot have in an overlay's options: separators, and their escape, whose reading changed in Linux 6.5.
const UNQUOTABLE: [u8; 3] = [b',', b':', b'\\'];

/// Who mounts overlays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The engine, which is root, in its own mount namespace.
    Engine,
    /// Each server for itself, in a user namespace of its own.
    Server,
}

/// Branches are overlays over snapshots, which are copies made by another volume's means.
#[derive(Debug)]
pub(super) struct Overlay {
    /// Who mounts.
    pub(super) way: Way,
    /// How independent copies are made.
    pub(super) copies: Box<dyn Volume>,
    /// Whether a file that is written shares its blocks with the snapshot.
    pub(super) shares_blocks: bool,
}

impl Volume for Overlay {
    fn kind(&self) -> Kind {
        if self.shares_blocks {
            Kind::Overlay
        } else {
            Kind::OverlayWithCopies
        }
    }

    fn mounted_by(&self) -> Option<Way> {
        Some(self.way)
    }

    fn make_data(&self, data: &Path) -> Result<(), VolumeError> {
        self.copies.make_data(data)
    }

    fn copy_tree(
        &self,
        from: &Path,
        to: &Path,
        motion: Motion,
        cancel: &Cancel,
    ) -> Result<(), VolumeError> {
        self.copies.copy_tree(from, to, motion, cancel)
    }

    fn clone_tree(&self, from: &Path, to: &Path, cancel: &Cancel) -> Result<(), VolumeError> {
        cancel.check()?;
        walk::refuse_links(from)?;
        Parts::of(to).make(from, self.way)
    }
}

/// The paths of one tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    /// The tree's directory.
    pub(super) tree: PathBuf,
    /// The mount point, in it.
    pub(super) data: PathBuf,
}

impl Parts {
    /// The parts of the tree whose data directory is `data`. Without links where the tree exists: other processes' paths
    /// are looked at as well, and a link would lead out of them.
    pub(super) fn of(data: &Path) -> Self {
        let tree = data.parent().unwrap_or(Path::new("/"));
        let tree = fs::canonicalize(tree).unwrap_or_else(|_| tree.to_owned());
        let data = tree.join(data.file_name().unwrap_or_default());
        Self { tree, data }
    }

    /// Who mounts the overlay of this tree; none where it is no overlay.
    pub(super) fn way(&self) -> Option<Way> {
        if !self.lower().is_symlink() {
            None
        } else if self.lock().exists() {
            Some(Way::Server)
        } else {
            Some(Way::Engine)
        }
    }

    pub(super) fn lower(&self) -> PathBuf {
        self.tree.join("lower")
    }

    pub(super) fn upper(&self) -> PathBuf {
        self.tree.join("upper")
    }

    pub(super) fn work(&self) -> PathBuf {
        self.tree.join("work")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.tree.join("namespace.lock")
    }

    /// Makes the parts over `snapshot`; the link is last, since it makes a tree an overlay.
    fn make(&self, snapshot: &Path, way: Way) -> Result<(), VolumeError> {
        let of = fs::symlink_metadata(snapshot).map_err(cannot("read", snapshot))?;
        if snapshot.join("postmaster.pid").exists() {
            return Err(VolumeError::InUse {
                path: snapshot.to_owned(),
            });
        }
        // Whoever may enter the data directory must not enter overlayfs' own one.
        for (path, is_shown) in [
            (self.data.clone(), true),
            (self.upper(), true),
            (self.work(), false),
        ] {
            let made = fs::DirBuilder::new().mode(0o700).create(&path);
            made.map_err(cannot("make", &path))?;
            if is_shown {
                walk::keep_owner_and_mode(&of, &path, walk::writable_mode(&of))?;
            }
        }
        if way == Way::Server {
            let lock = self.lock();
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            options.open(&lock).map_err(cannot("make", &lock))?;
        }
        let lower = self.lower();
        let target = relative(snapshot, &self.tree)?;
        std::os::unix::fs::symlink(target, &lower).map_err(cannot("make", &lower))
    }

    /// Mounts the overlay in this process's own mount namespace, unless it is mounted there.
    pub(super) fn mount(&self) -> Result<(), VolumeError> {
        let data = &self.data;
        if mounts::is_overlay(data).map_err(cannot("look at", data))? {
            return Ok(());
        }
        self.mount_on(data)
    }

    /// Mounts the overlay on `data`.
    fn mount_on(&self, data: &Path) -> Result<(), VolumeError> {
        self.clear_mark()?;
        let lower = self.lower();
        let lower = fs::canonicalize(&lower).map_err(cannot("find the snapshot of", &lower))?;
        let (upper, work) = (self.upper(), self.work());
        for path in [&lower, &upper, &work] {
            check_quotable(path)?;
        }
        let mut options = Vec::new();
        for (name, path) in [
            ("lowerdir=", &lower),
            (",upperdir=", &upper),
            (",workdir=", &work),
        ] {
            options.extend_from_slice(name.as_bytes());
            options.extend_from_slice(path.as_os_str().as_encoded_bytes());
        }
        // The index is what makes the kernel refuse to mount a live upper directory twice.
        options.extend_from_slice(b",index=on,volatile");
        let options = std::ffi::CString::new(options).expect("a path that was opened has no NUL");
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        let mounted = rustix::mount::mount(c"bough", data, c"overlay", flags, options.as_c_str());
        mounted.map_err(|errno| match errno {
            Errno::BUSY => VolumeError::InUse {
                path: data.to_owned(),
            },
            _ => cannot("mount an overlay on", data)(errno.into()),
        })
    }

    /// Proves that the kernel refuses to mount the overlay, which is mounted, once more on `second`.
    pub(super) fn check_exclusive(&self, second: &Path) -> Result<(), VolumeError> {
        fs::create_dir(second).map_err(cannot("make", second))?;
        let mounted = self.mount_on(second);
        if mounted.is_ok() {
            rustix::mount::unmount(second, UnmountFlags::DETACH)
                .map_err(|errno| cannot("unmount", second)(errno.into()))?;
        }
        fs::remove_dir(second).map_err(cannot("remove", second))?;
        match mounted {
            Err(VolumeError::InUse { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => Err(VolumeError::Untrue {
                what: "would mount a running branch a second time",
                path: self.tree.clone(),
            }),
        }
    }

    /// Unmounts the overlay where this process sees one.
    pub(super) fn unmount(&self, flags: UnmountFlags) -> Result<(), VolumeError> {
        let data = &self.data;
        while mounts::is_overlay(data).map_err(cannot("look at", data))? {
            rustix::mount::unmount(data, flags).map_err(|errno| match errno {
                Errno::BUSY => VolumeError::InUse { path: data.clone() },
                _ => cannot("unmount", data)(errno.into()),
            })?;
        }
        Ok(())
    }

    /// Removes the mark by which a volatile overlay forbids its next mount: what it guards against, a machine that went
    /// down while the branch ran, is told by the boot's identity.
    pub(super) fn clear_mark(&self) -> Result<(), VolumeError> {
        self.open_work()?;
        let mark = self.work().join("work/incompat/volatile");
        match fs::remove_dir_all(&mark) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(cannot("remove", &mark)),
        }
    }

    /// Lets the owner into what overlayfs made with mode 0000.
    pub(super) fn open_work(&self) -> Result<(), VolumeError> {
        for name in ["work", "work/incompat", "work/incompat/volatile"] {
            let path = self.work().join(name);
            match fs::symlink_metadata(&path) {
                Ok(found) if found.permissions().mode() & 0o700 == 0o700 => {}
                Ok(_) => fs::set_permissions(&path, Permissions::from_mode(0o700))
                    .map_err(cannot("set the mode of", &path))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(cannot("look at", &path)(error)),
            }
        }
        Ok(())
    }
}

fn check_quotable(path: &Path) -> Result<(), VolumeError> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.iter().any(|byte| UNQUOTABLE.contains(byte)) {
        return Err(VolumeError::Unquotable {
            path: path.to_owned(),
        });
    }
    Ok(())
}

/// The way from the directory `from` to `to`, both of which exist.
fn relative(to: &Path, from: &Path) -> Result<PathBuf, VolumeError> {
    let to = fs::canonicalize(to).map_err(cannot("look at", to))?;
    let from = fs::canonicalize(from).map_err(cannot("look at", from))?;
    let shared = to
        .components()
        .zip(from.components())
        .take_while(|(one, other)| one == other)
        .count();
    let up = from.components().skip(shared).map(|_| "..");
    let mut path: PathBuf = up.collect();
    path.extend(to.components().skip(shared));
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_from_one_directory_to_another() {
        let root = tempfile::tempdir().unwrap();
        let (snapshot, tree) = (
            root.path().join("snapshots/s/data"),
            root.path().join("making/t"),
        );
        for path in [&snapshot, &tree] {
            fs::create_dir_all(path).unwrap();
        }
        let link = relative(&snapshot, &tree).unwrap();
        assert_eq!(link, Path::new("../../snapshots/s/data"));
        assert!(tree.join(link).is_dir());
    }

    #[test]
    fn a_path_that_would_be_read_as_two_options_is_refused() {
        for name in ["/a,b", "/a:b", "/a\\b"] {
            let refused = check_quotable(Path::new(name));
            assert!(matches!(refused, Err(VolumeError::Unquotable { .. })));
        }
        check_quotable(Path::new("/a b=c")).unwrap();
    }
}
