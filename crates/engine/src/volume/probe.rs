//! Which kind of volume a directory can be: every kind tried there by doing it, the best that works taken.
//!
//! Owns the order and the reasons why better kinds were passed over. Leaves what a kind does to its own module.

use std::fs;
use std::path::{Path, PathBuf};

use model::chain;
use model::engine_api::PassedOverKind;
use rustix::io::Errno;

use super::dataset::Datasets;
use super::overlay::{Overlay, Way};
use super::plain::Plain;
use super::reflink::Reflink;
use super::subvolume::Subvolumes;
use super::{Cancel, DataDir, Kind, Motion, Volume, VolumeError};
use super::{cannot, check_mounted, filesystem_name, remove_tree};

/// The file of a trial, its first text, and what a clone writes over it: of the same length.
const FILE: &std::ffi::CStr = c"file";
const BEFORE: &[u8] = b"before";
const AFTER: &[u8] = b"after!";

/// What a directory can be.
#[derive(Debug)]
pub struct Probed {
    /// The best kind that works.
    pub volume: Box<dyn Volume>,
    /// The better ones, best first.
    pub passed_over: Vec<PassedOverKind>,
}

/// Tries every kind in `directory`, best first, mounts included. Leaves nothing there.
///
/// # Errors
/// [`VolumeError::NotMounted`], and others when not even a plain copy can be made.
pub fn probe(directory: &Path) -> Result<Probed, VolumeError> {
    check_mounted(directory)?;
    let mut works = Vec::new();
    let mut passed_over = Vec::new();
    for kind in Kind::ALL {
        match try_kind(kind, directory) {
            Ok(volume) => {
                works.push(volume);
                break;
            }
            Err(error) if kind == Kind::PlainCopy => return Err(error),
            Err(error) => passed_over.push(PassedOverKind {
                kind,
                reason: chain(&error),
            }),
        }
    }
    let volume = works
        .pop()
        .expect("a plain copy works or its error was returned");
    Ok(Probed {
        volume,
        passed_over,
    })
}

/// A volume of this very kind in `directory`, tried, for whoever compares kinds.
///
/// # Errors
/// [`VolumeError`]: why it cannot be.
pub fn try_kind(kind: Kind, directory: &Path) -> Result<Box<dyn Volume>, VolumeError> {
    let overlay = |copies: Box<dyn Volume>, shares_blocks| -> Box<dyn Volume> {
        Box::new(Overlay {
            way: way(),
            copies,
            shares_blocks,
        })
    };
    let volume: Box<dyn Volume> = match kind {
        Kind::Overlay => {
            // What overlayfs does at the first write of a file is a reflink where that works.
            try_reflinks(directory)?;
            let subvolumes = try_copies(&Subvolumes, directory);
            overlay(
                if subvolumes.is_ok() {
                    Box::new(Subvolumes)
                } else {
                    Box::new(Reflink)
                },
                true,
            )
        }
        Kind::Subvolume => {
            check_filesystem(directory, "btrfs", "subvolumes")?;
            Box::new(Subvolumes)
        }
        Kind::Reflink => {
            try_reflinks(directory)?;
            return Ok(Box::new(Reflink));
        }
        Kind::OverlayWithCopies => overlay(Box::new(Plain), false),
        Kind::PlainCopy => Box::new(Plain),
        Kind::Dataset => {
            check_filesystem(directory, "zfs", "datasets")?;
            Box::new(Datasets::of(directory)?)
        }
    };
    if matches!(
        kind,
        Kind::Overlay | Kind::OverlayWithCopies | Kind::Dataset
    ) {
        try_clones(volume.as_ref(), directory)?;
    } else {
        try_copies(volume.as_ref(), directory)?;
    }
    Ok(volume)
}

fn way() -> Way {
    if rustix::process::geteuid().is_root() {
        Way::Engine
    } else {
        Way::Server
    }
}

/// Two directories for a trial; removed in the end.
struct Trial {
    directory: PathBuf,
    original: PathBuf,
    clone: PathBuf,
}

impl Trial {
    /// An original with one file. What an earlier engine left, killed in its trial, is removed first.
    fn begin(volume: &dyn Volume, directory: &Path) -> Result<Self, VolumeError> {
        let directory = directory.join(".probe");
        let trees = ["original", "clone"].map(|name| directory.join(name));
        for tree in &trees {
            remove_tree(tree)?;
        }
        remove_tree(&directory)?;
        for path in [&directory, &trees[0], &trees[1]] {
            fs::create_dir(path).map_err(cannot("make", path))?;
        }
        let [original, clone] = trees.map(|tree| tree.join("data"));
        let trial = Self {
            directory,
            original,
            clone,
        };
        volume.make_data(&trial.original)?;
        let file = trial.file(&trial.original);
        fs::write(&file, BEFORE).map_err(cannot("write", &file))?;
        Ok(trial)
    }

    fn file(&self, data: &Path) -> PathBuf {
        data.join(FILE.to_string_lossy().as_ref())
    }

    fn expect(&self, data: &Path, text: &[u8], otherwise: &'static str) -> Result<(), VolumeError> {
        let file = self.file(data);
        let found = fs::read(&file).map_err(cannot("read", &file))?;
        if found == text {
            Ok(())
        } else {
            Err(VolumeError::Untrue {
                what: otherwise,
                path: file,
            })
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        for data in [&self.clone, &self.original] {
            let tree = data.parent().unwrap_or(data);
            if let Err(error) = remove_tree(tree) {
                tracing::warn!(error = chain(&error), "cannot remove what a trial made");
            }
        }
        let _ = fs::remove_dir(&self.directory);
    }
}

/// Whether the filesystem is the one that has something.
fn check_filesystem(
    directory: &Path,
    with: &'static str,
    lacks: &'static str,
) -> Result<(), VolumeError> {
    let filesystem = filesystem_name(directory);
    if filesystem == with {
        return Ok(());
    }
    Err(VolumeError::Filesystem {
        lacks,
        filesystem,
        path: directory.to_owned(),
    })
}

fn try_reflinks(directory: &Path) -> Result<(), VolumeError> {
    // What filesystems without reflinks answer to FICLONE (ioctl_ficlone(2)).
    const NOT_HERE: [Errno; 3] = [Errno::OPNOTSUPP, Errno::NOTTY, Errno::INVAL];
    let tried = try_copies(&Reflink, directory);
    if let Err(VolumeError::File { source, .. }) = &tried
        && NOT_HERE
            .iter()
            .any(|errno| Some(errno.raw_os_error()) == source.raw_os_error())
    {
        return Err(VolumeError::Filesystem {
            lacks: "reflinks",
            filesystem: filesystem_name(directory),
            path: directory.to_owned(),
        });
    }
    tried
}

fn try_copies(volume: &dyn Volume, directory: &Path) -> Result<(), VolumeError> {
    let trial = Trial::begin(volume, directory)?;
    let cancel = Cancel::default();
    volume.copy_tree(&trial.original, &trial.clone, Motion::Still, &cancel)?;
    let file = trial.file(&trial.clone);
    fs::write(&file, AFTER).map_err(cannot("write", &file))?;
    trial.expect(&trial.original, BEFORE, "changed the original of a copy")
}

fn try_clones(volume: &dyn Volume, directory: &Path) -> Result<(), VolumeError> {
    let trial = Trial::begin(volume, directory)?;
    volume.clone_tree(&trial.original, &trial.clone, &Cancel::default())?;
    let clone = DataDir::at(&trial.clone);
    clone.prepare()?.try_to_write(FILE, AFTER)?;
    trial.expect(&clone.written(), AFTER, "lost what was written to a clone")?;
    trial.expect(&trial.original, BEFORE, "changed the original of a clone")?;
    clone.check_exclusive_while_prepared(&trial.directory.join("second"))?;
    clone.detach()?;
    // A second time: what the first left behind must not stand in the way.
    match clone.prepare() {
        // Somebody's new mount namespace may still have a copy of the first mount: that is refused as it should be.
        Err(VolumeError::InUse { .. }) => Ok(()),
        Err(error) => Err(error),
        Ok(again) => again.try_to_write(FILE, BEFORE),
    }
}
