//! A data directory, whatever it is made of: how it is made ready for a server, how the engine reaches its files, and
//! which processes are at home in it.
//!
//! ```text
//!             prepare()                 apply(command), spawn
//!  at rest ─────────────▶ prepared ────────────────────────────▶ in use
//!     ▲                      │ files(): where files are placed      │ seen_through(pid)
//!     └──── dropped ─────────┴─────────────────── server ended ─────┘
//! ```
//!
//! Owns the difference between a plain directory and an overlay, so that nobody else has to know it: the kind is read
//! from what lies beside the directory. Leaves who the server is, and its end, to `postgres::server`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::UnmountFlags;

use super::VolumeError;
use super::dataset::{self, Zfs};
use super::kernel::Then;
use super::namespace::{Admission, Report, is_locked, lives_in, seen_by};
use super::overlay::{Parts, Way};

/// Tries to mount an overlay whose last mount may just be ending. Between them all processes are looked at, which takes
/// longer than that.
const MOUNTS_MAX: usize = 10;

/// A data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    parts: Parts,
    way: Option<Way>,
}

impl DataDir {
    /// The data directory at `path`, such as `clones/NAME/data`. What it is, it says itself: one that another engine
    /// made in another way stays what it was.
    pub fn at(path: &Path) -> Self {
        let parts = Parts::of(path);
        let way = parts.way();
        Self { parts, way }
    }

    /// The path by which its server knows it (`postgres -D`). Outside, it may be empty.
    pub fn path(&self) -> &Path {
        &self.parts.data
    }

    /// Where `postmaster.pid` and whatever else a server writes is seen from outside, at any time. Only to be read, and
    /// only what the server wrote: files of the snapshot are not here. No change is told there (inotify).
    pub fn written(&self) -> PathBuf {
        match self.way {
            None => self.parts.data.clone(),
            Some(Way::Engine | Way::Server) => self.parts.upper(),
        }
    }

    /// Where the directory of the running server `pid` is reached from outside: all files are there, and changes are
    /// told (inotify).
    pub fn seen_through(&self, pid: u32) -> PathBuf {
        match self.way {
            None | Some(Way::Engine) => self.parts.data.clone(),
            Some(Way::Server) => seen_by(pid, &self.parts.data),
        }
    }

    /// Makes it ready for a server: mounts it, or takes the lock that a server of its own namespace holds. Blocks for
    /// some milliseconds.
    ///
    /// # Errors
    /// [`VolumeError::InUse`] when something else uses the branch; others say what failed.
    pub fn prepare(&self) -> Result<Prepared, VolumeError> {
        let admission = match self.way {
            None => {
                Zfs::system().attach(&self.parts.tree, &self.parts.data)?;
                None
            }
            Some(Way::Engine) => {
                self.mount()?;
                None
            }
            Some(Way::Server) => Some(Admission::take(&self.parts)?),
        };
        let files = match &admission {
            None => self.parts.data.clone(),
            Some(admission) => admission.files(),
        };
        Ok(Prepared {
            data: self.parts.data.clone(),
            files,
            admission,
        })
    }

    fn mount(&self) -> Result<(), VolumeError> {
        let mut mounted = self.parts.mount();
        for _ in 1..MOUNTS_MAX {
            match mounted {
                // The one before it was let go while somebody looked at it.
                Err(VolumeError::InUse { .. }) if self.inhabitant().is_none() => {
                    mounted = self.parts.mount();
                }
                other => return other,
            }
        }
        mounted
    }

    /// Whether a process works in this directory, or lives in its namespace.
    ///
    /// # Errors
    /// `PermissionDenied` where the kernel keeps the process's directories from us; others when it is gone.
    pub fn is_home_of(&self, pid: u32) -> io::Result<bool> {
        let link = PathBuf::from(format!("/proc/{pid}/cwd"));
        let cwd = fs::metadata(&link)?;
        if self.way == Some(Way::Server) {
            return lives_in(pid, &self.parts);
        }
        // The same path may be another directory to the process: an overlay whose mount this process lacks.
        let theirs = match self.way {
            Some(Way::Engine) if lives_in(pid, &self.parts)? => seen_by(pid, &self.parts.data),
            Some(_) | None => self.parts.data.clone(),
        };
        match fs::metadata(&theirs) {
            Ok(data) => Ok((cwd.dev(), cwd.ino()) == (data.dev(), data.ino())),
            Err(_) => Ok(is_removed(&link, &self.parts.data)),
        }
    }

    /// Unmounts it where the engine mounted it, once its server has ended. Only for what is about to be removed: a branch
    /// that sleeps stays mounted, since every mount namespace that others make has a copy of the mount, and the kernel
    /// mounts the overlay anew only when the last copy is gone.
    ///
    /// # Errors
    /// [`VolumeError::InUse`] while something is at home there.
    pub(super) fn detach(&self) -> Result<(), VolumeError> {
        match self.unmount(UnmountFlags::empty()) {
            // Whoever looks at the processes of a machine is in their directories for a moment.
            Err(VolumeError::InUse { .. }) if self.inhabitant().is_none() => {
                self.unmount(UnmountFlags::DETACH)
            }
            other => other,
        }
    }

    fn unmount(&self, flags: UnmountFlags) -> Result<(), VolumeError> {
        match self.way {
            Some(Way::Engine) => self.parts.unmount(flags),
            Some(Way::Server) => Ok(()),
            None => dataset::detach(&self.parts.tree, &self.parts.data, flags),
        }
    }

    /// A process that is at home here.
    fn inhabitant(&self) -> Option<u32> {
        let mut numbers = super::namespace::processes().ok()?;
        numbers.find(|pid| self.is_home_of(*pid).is_ok_and(|is_home| is_home))
    }

    /// Unmounts it even under somebody who is still there, as the last thing before it is removed.
    pub(super) fn let_go(&self) -> Result<(), VolumeError> {
        match self.detach() {
            Err(VolumeError::InUse { .. }) => self.unmount(UnmountFlags::DETACH)?,
            other => other?,
        }
        match self.way {
            Some(Way::Engine | Way::Server) => self.parts.open_work(),
            None => Zfs::system().destroy(&self.parts.tree),
        }
    }

    /// Proves that nobody else could come in while it is prepared.
    pub(super) fn check_exclusive_while_prepared(&self, second: &Path) -> Result<(), VolumeError> {
        let _prepared = self.prepare()?;
        self.check_exclusive(second)
    }

    /// Proves that no second server could come in while one is there: it is prepared, or its server runs.
    pub(super) fn check_exclusive(&self, second: &Path) -> Result<(), VolumeError> {
        match self.way {
            None => Ok(()),
            Some(Way::Engine) => self.parts.check_exclusive(second),
            Some(Way::Server) if is_locked(&self.parts)? => Ok(()),
            Some(Way::Server) => Err(VolumeError::Untrue {
                what: "gives a lock away twice",
                path: self.parts.lock(),
            }),
        }
    }

    /// What was changed, and the snapshot below; none where this is no overlay.
    pub(super) fn layers(&self) -> Option<(PathBuf, PathBuf)> {
        self.way?;
        let lower = self.parts.lower();
        Some((
            self.parts.upper(),
            fs::canonicalize(&lower).unwrap_or(lower),
        ))
    }
}

/// Whether a link of `/proc` names a directory that had this path and was removed.
fn is_removed(link: &Path, data: &Path) -> bool {
    let target = fs::read_link(link).unwrap_or_default();
    target.as_os_str().to_string_lossy() == format!("{} (deleted)", data.display())
}

/// A data directory that is ready for its server. Dropping it unused gives it back.
#[derive(Debug)]
pub struct Prepared {
    data: PathBuf,
    files: PathBuf,
    admission: Option<Admission>,
}

impl Prepared {
    /// The directory through which files at the top of the data directory are placed and removed before the server
    /// starts. A file of the snapshot may be missing here; one that is placed here covers it.
    pub fn files(&self) -> &Path {
        &self.files
    }

    /// Makes the child of `command` come in between fork and exec. Call it last: what a command does of itself
    /// (account, working directory) comes before.
    ///
    /// # Errors
    /// [`VolumeError::File`] when it cannot be prepared.
    pub fn apply(self, command: &mut Command) -> Result<Entering, VolumeError> {
        let report = self
            .admission
            .map(|admission| admission.apply(command, Then::Execute));
        Ok(Entering {
            data: self.data,
            report: report.transpose()?,
        })
    }

    /// Comes in, writes the file `name` and ends: proves that servers could start.
    pub(super) fn try_to_write(
        self,
        name: &'static std::ffi::CStr,
        text: &'static [u8],
    ) -> Result<(), VolumeError> {
        let path = self.files.join(name.to_string_lossy().as_ref());
        let Some(admission) = self.admission else {
            let file = fs::OpenOptions::new().read(true).write(true).open(&path);
            let written = file.and_then(|mut file| io::Write::write_all(&mut file, text));
            return written.map_err(super::cannot("write", &path));
        };
        // Never executed: the child ends before.
        let mut command = Command::new("/");
        let report = admission.apply(&mut command, Then::Write(name, text))?;
        match command.spawn() {
            Err(error) => match report.step() {
                Some(step) => Err(VolumeError::Namespace {
                    step,
                    path: self.data,
                    source: error,
                }),
                None if report.is_done() => Ok(()),
                None => Err(super::cannot("try", &path)(error)),
            },
            Ok(mut child) => {
                let waited = child.wait().map(drop);
                waited
                    .and(Err(io::Error::other("it was executed")))
                    .map_err(super::cannot("try", &path))
            }
        }
    }
}

/// A command whose child will come in; kept until it was started, to know what it says.
#[derive(Debug)]
pub struct Entering {
    data: PathBuf,
    report: Option<Report>,
}

impl Entering {
    /// Why the command did not start: with the step at which its child could not come in, where it was that.
    pub fn explain(&self, error: io::Error) -> StartFailure {
        match self.report.as_ref().and_then(Report::step) {
            Some(step) => StartFailure::Volume(VolumeError::Namespace {
                step,
                path: self.data.clone(),
                source: error,
            }),
            None => StartFailure::Program(error),
        }
    }
}

/// Whose fault a failed start was.
#[derive(Debug)]
pub enum StartFailure {
    /// The child could not come into its data directory.
    Volume(VolumeError),
    /// The program could not be executed.
    Program(io::Error),
}
