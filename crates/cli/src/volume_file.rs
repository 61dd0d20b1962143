//! A volume in a file: a filesystem with reflinks for an engine whose own has none.
//!
//! ```text
//! /var/lib/bough-volumes/NAME.img   the file, sparse, root's alone: its filesystem is mounted by root
//! DATA/volume                       where it is mounted; the account's own
//! DATA/volume/THIS-VOLUME-IS-NOT-MOUNTED      below the mount: what an engine sees without it
//! /etc/systemd/system/NAME.mount    mounts it at every boot, where systemd runs
//! ```
//!
//! Owns making, showing and removing it. Every step may have been done before: what is there is left as it is. Leaves
//! to the engine what lies on it.

mod owner;
mod tools;
mod unit;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown, lchown,
};
use std::path::{Path, PathBuf};

use engine::volume::{self, NOT_MOUNTED_MARK};
use model::ByteSize;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;

pub(crate) use owner::{Owner, OwnerError};
use tools::{Tool, ToolError};
use unit::Unit;

/// Where the files are unless somebody says otherwise.
const DIRECTORY: &str = "/var/lib/bough-volumes";

/// The smallest that mkfs.xfs makes (xfsprogs 5.19 and newer), with room for a small database.
pub(crate) const SIZE_MIN: ByteSize = ByteSize(512 << 20);

/// What a filesystem is made as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Filesystem {
    /// XFS: the fastest branches
    Xfs,
    /// btrfs: files compressed or checked by the filesystem, if wished
    Btrfs,
}

impl Filesystem {
    fn name(self) -> &'static str {
        match self {
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The program that makes it, with what it is told; the file comes last.
    fn maker(self) -> Tool {
        match self {
            Self::Xfs => Tool::new("mkfs.xfs", "xfsprogs").with(["-q", "-m", "reflink=1"]),
            Self::Btrfs => Tool::new("mkfs.btrfs", "btrfs-progs").with(["-q"]),
        }
    }
}

/// Why a volume cannot be made or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeFileError {
    /// Mounting takes root.
    #[error("only root can make or remove a volume in a file")]
    NotRoot,
    /// The file would be too small.
    #[error("a volume takes at least {SIZE_MIN}, and {0} were asked for")]
    TooSmall(ByteSize),
    /// The engine works there.
    #[error("the engine of {0} is running")]
    EngineRuns(PathBuf),
    /// Something lies where the volume would be mounted, and would be hidden.
    #[error("{0} is not empty: what is there would be hidden below the volume")]
    NotEmpty(PathBuf),
    /// The mount point is a link.
    #[error("{0} is a link, and root mounts nothing there")]
    Link(PathBuf),
    /// Another filesystem is mounted there.
    #[error("another filesystem is mounted on {0}")]
    Foreign(PathBuf),
    /// The file is not root's alone, so that somebody else could write what the kernel is to believe.
    #[error("{0} is not a file of root's own that nobody else may write")]
    Unsafe(PathBuf),
    /// Nothing says that the file is a volume.
    #[error("neither a mount nor a unit says that {0} is a volume of Bough's")]
    Unknown(PathBuf),
    /// There are branches on it.
    #[error("{count} branches live on the volume of {path}")]
    Branches {
        /// Where it is mounted.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// There is none.
    #[error("there is no volume in a file for {0}")]
    None(PathBuf),
    /// A file or directory.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program of the system.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

impl VolumeFileError {
    /// One thing to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NotRoot => Some(
                "run the same command with sudo: the volume is for the account that calls it"
                    .to_owned(),
            ),
            Self::EngineRuns(_) => {
                Some("`bough engine stop --servers` ends it and its servers".to_owned())
            }
            Self::NotEmpty(path) => Some(format!(
                "destroy the branches (`bough db-branches destroy --all`), stop the engine (`bough engine stop \
                 --servers`) and remove what is left: rm -r {}",
                path.display()
            )),
            Self::Branches { .. } => {
                Some("destroy them first, or say --force to lose them".to_owned())
            }
            Self::Tool(error) => error.hint(),
            Self::Unsafe(path) => Some(format!(
                "name another with --path, or, where it is yours: chown root:root {path} && chmod 600 {path}",
                path = path.display()
            )),
            Self::Unknown(path) => Some(format!(
                "mount it first (`bough engine volume create`), or remove it yourself: rm {}",
                path.display()
            )),
            Self::TooSmall(_)
            | Self::Link(_)
            | Self::Foreign(_)
            | Self::None(_)
            | Self::File { .. } => None,
        }
    }
}

fn cannot<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> VolumeFileError + 'a {
    move |source| VolumeFileError::File {
        what,
        path: path.to_owned(),
        source,
    }
}

/// A volume in a file, there or not.
#[derive(Debug)]
pub(crate) struct VolumeFile {
    data_dir: PathBuf,
    point: PathBuf,
    image: PathBuf,
    /// Whether a mount or a unit names the file, or it is where such files are.
    is_known: bool,
    unit: Unit,
}

/// What is there of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct VolumeState {
    /// Where it is mounted.
    pub(crate) path: PathBuf,
    /// The file.
    pub(crate) image: PathBuf,
    /// Whether it is mounted.
    pub(crate) mounted: bool,
    /// The unit that mounts it at boot, where there is one.
    pub(crate) unit: Option<PathBuf>,
    /// The file's size; none where this account may not look.
    pub(crate) size_bytes: Option<ByteSize>,
    /// What it takes by now of the filesystem that it is on.
    pub(crate) taken_bytes: Option<ByteSize>,
}

impl VolumeFile {
    /// The volume of a data directory. What its unit or its mount says of the file counts, then `image`, then the usual
    /// place.
    pub(crate) fn of(data_dir: &Path, image: Option<&Path>) -> Self {
        // The way there may hold links; the mount point itself may be none, which is checked.
        let data_dir = fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        let point = data_dir.join("volume");
        let unit = Unit::of(&point);
        let usual = || Path::new(DIRECTORY).join(format!("{}.img", unit.name()));
        let found = mounted_image(&point).or_else(|| unit.image());
        let is_known = found.is_some() || image.is_none_or(|image| image == usual());
        let image = found
            .or_else(|| image.map(Path::to_owned))
            .unwrap_or_else(usual);
        Self {
            data_dir,
            point,
            image,
            is_known,
            unit,
        }
    }

    /// What is there; nothing where there is neither file nor mount.
    pub(crate) fn state(&self) -> Option<VolumeState> {
        let mounted = mounted_image(&self.point).is_some();
        let file = fs::metadata(&self.image).ok();
        if !mounted && file.is_none() {
            return None;
        }
        Some(VolumeState {
            path: self.point.clone(),
            image: self.image.clone(),
            mounted,
            unit: self.unit.is_there().then(|| self.unit.path()),
            size_bytes: file.as_ref().map(|file| ByteSize(file.len())),
            taken_bytes: file.as_ref().map(|file| ByteSize(file.blocks() * 512)),
        })
    }

    /// Makes what is missing of it: the file, the mount point, the mount, the unit.
    ///
    /// # Errors
    /// [`VolumeFileError`]; what was made stays, and another try goes on from there.
    pub(crate) fn create(
        &self,
        owner: &Owner,
        size: ByteSize,
        filesystem: Filesystem,
    ) -> Result<VolumeState, VolumeFileError> {
        check_root()?;
        if size < SIZE_MIN {
            return Err(VolumeFileError::TooSmall(size));
        }
        if mounted_image(&self.point).is_none() {
            self.check_engine()?;
            self.check_point()?;
            self.make_image(size, filesystem)?;
            self.make_point(owner)?;
            self.mount(owner, filesystem)?;
        }
        // A mount's root is root's until it is given away.
        open_directory(&self.point)
            .and_then(|root| fchown(&root, Some(owner.uid), Some(owner.gid)))
            .map_err(cannot("give away", &self.point))?;
        self.state()
            .ok_or_else(|| VolumeFileError::None(self.data_dir.clone()))
    }

    /// Unmounts it and removes everything of it. The data directory stays.
    ///
    /// # Errors
    /// [`VolumeFileError::Branches`] unless forced, and others.
    pub(crate) fn remove(&self, is_forced: bool) -> Result<(), VolumeFileError> {
        check_root()?;
        if self.state().is_none() {
            return Err(VolumeFileError::None(self.data_dir.clone()));
        }
        if !self.is_known {
            return Err(VolumeFileError::Unknown(self.image.clone()));
        }
        self.check_engine()?;
        let clones = fs::read_dir(self.point.join("clones"));
        let count = clones.map_or(0, Iterator::count);
        if count > 0 && !is_forced {
            return Err(VolumeFileError::Branches {
                path: self.point.clone(),
                count,
            });
        }
        self.unit.remove()?;
        if mounted_image(&self.point).is_some() {
            Tool::new("umount", "mount").with([&self.point]).run()?;
        }
        remove_if_there(&self.point.join(NOT_MOUNTED_MARK))?;
        remove_if_there(&self.image)
    }

    /// An engine holds its data directory's lock; its branches' servers would go on in what is hidden.
    fn check_engine(&self) -> Result<(), VolumeFileError> {
        let lock = self.data_dir.join("engine.lock");
        let file = match File::options().write(true).open(&lock) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(cannot("open", &lock)(error)),
        };
        match file.try_lock() {
            Ok(()) => Ok(()),
            Err(fs::TryLockError::WouldBlock) => {
                Err(VolumeFileError::EngineRuns(self.data_dir.clone()))
            }
            Err(fs::TryLockError::Error(error)) => Err(cannot("lock", &lock)(error)),
        }
    }

    /// The file with a filesystem in it, made under another name: what bears the last one is whole.
    fn make_image(&self, size: ByteSize, filesystem: Filesystem) -> Result<(), VolumeFileError> {
        match fs::symlink_metadata(&self.image) {
            Ok(found) if found.is_file() && found.uid() == 0 && found.mode() & 0o022 == 0 => {
                return Ok(());
            }
            Ok(_) => return Err(VolumeFileError::Unsafe(self.image.clone())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot("look at", &self.image)(error)),
        }
        let directory = self.image.parent().unwrap_or(Path::new("/"));
        // Everybody may pass, so that the engine can ask how much is free there.
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o711);
        builder
            .create(directory)
            .map_err(cannot("make", directory))?;
        let making = self.image.with_extension("making");
        let mut options = OpenOptions::new();
        // Root's alone: whoever could write it could write what the kernel believes of a mounted filesystem.
        let file = options.write(true).create_new(true).mode(0o600);
        // Of a try that was cut off.
        remove_if_there(&making)?;
        let file = file.open(&making).map_err(cannot("make", &making))?;
        file.set_len(size.0).map_err(cannot("make", &making))?;
        filesystem.maker().with([&making]).run()?;
        file.sync_all().map_err(cannot("write", &making))?;
        fs::rename(&making, &self.image).map_err(cannot("make", &self.image))
    }

    /// Nothing may be at the mount point that the mount would hide.
    fn check_point(&self) -> Result<(), VolumeFileError> {
        let found = match fs::symlink_metadata(&self.point) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(cannot("look at", &self.point)(error)),
        };
        if !found.is_dir() {
            return Err(VolumeFileError::Link(self.point.clone()));
        }
        if volume::is_mount_point(&self.point).map_err(cannot("look at", &self.point))? {
            return Err(VolumeFileError::Foreign(self.point.clone()));
        }
        if holds_files(&self.point).map_err(cannot("look through", &self.point))? {
            return Err(VolumeFileError::NotEmpty(self.point.clone()));
        }
        Ok(())
    }

    /// The mount point with its mark.
    fn make_point(&self, owner: &Owner) -> Result<(), VolumeFileError> {
        let missing = self.point.ancestors().take_while(|path| !path.exists());
        let missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        for path in missing.iter().rev() {
            let mut builder = DirBuilder::new();
            builder
                .mode(0o711)
                .create(path)
                .map_err(cannot("make", path))?;
            lchown(path, Some(owner.uid), Some(owner.gid)).map_err(cannot("give away", path))?;
        }
        let directory = open_directory(&self.point).map_err(cannot("open", &self.point))?;
        write_mark(&directory, &format!("{}\n", self.mount_command()))
            .map_err(cannot("write", &self.point.join(NOT_MOUNTED_MARK)))
    }

    /// What mounts it again, for people.
    fn mount_command(&self) -> String {
        if Unit::is_possible() {
            return format!("sudo systemctl start '{}'", self.unit.file_name());
        }
        let (image, point) = (self.image.display(), self.point.display());
        format!("sudo mount -o {} {image} {point}", unit::OPTIONS)
    }

    fn mount(&self, owner: &Owner, filesystem: Filesystem) -> Result<(), VolumeFileError> {
        if Unit::is_possible() {
            let text = self.unit.text(&owner.name, &self.image, filesystem.name());
            return Ok(self.unit.install(&text)?);
        }
        let mount = Tool::new("mount", "mount").with(["-o", unit::OPTIONS]);
        mount.with([&self.image, &self.point]).run()?;
        Ok(())
    }
}

fn check_root() -> Result<(), VolumeFileError> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(VolumeFileError::NotRoot)
    }
}

fn remove_if_there(path: &Path) -> Result<(), VolumeFileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The file of what is mounted on `point`.
fn mounted_image(point: &Path) -> Option<PathBuf> {
    let is_mounted = volume::is_mount_point(point).is_ok_and(|is_mounted| is_mounted);
    let room = is_mounted.then(|| volume::room(point).ok()).flatten()?;
    room.places.get(1).map(|place| place.path.clone())
}

/// A directory that is no link: the account that owns what is around it could lay one at any time.
fn open_directory(path: &Path) -> io::Result<File> {
    let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits().cast_signed();
    File::options().read(true).custom_flags(flags).open(path)
}

/// Writes the mark below a directory in place of what bears its name there, which may be a link to anywhere.
fn write_mark(directory: &File, text: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, NOT_MOUNTED_MARK, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    let readable = Mode::from_raw_mode(0o644);
    let mark = rustix::fs::openat(directory, NOT_MOUNTED_MARK, flags, readable)?;
    // Whatever the umask left of it.
    rustix::fs::fchmod(&mark, readable)?;
    File::from(mark).write_all(text.as_bytes())
}

/// Whether there is more below a directory than directories and the mark: an engine makes some at its start.
fn holds_files(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let holds = if entry.file_type()?.is_dir() {
            holds_files(&entry.path())?
        } else {
            entry.file_name() != NOT_MOUNTED_MARK
        };
        if holds {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_directories_and_the_mark_are_nothing_to_lose() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("clones/deep")).unwrap();
        fs::write(root.path().join(NOT_MOUNTED_MARK), "").unwrap();
        assert!(!holds_files(root.path()).unwrap());
        fs::write(root.path().join("clones/deep/file"), "").unwrap();
        assert!(holds_files(root.path()).unwrap());
    }

    #[test]
    fn the_usual_file_is_named_after_the_mount_point() {
        let volume = VolumeFile::of(Path::new("/absent/bough"), None);
        let usual = Path::new("/var/lib/bough-volumes/absent-bough-volume.img");
        assert_eq!(volume.image, usual);
        assert_eq!(volume.state(), None);
        let chosen = VolumeFile::of(Path::new("/absent/bough"), Some(Path::new("/disk/b.img")));
        assert_eq!(chosen.image, Path::new("/disk/b.img"));
    }
}
