//! Servers that mount their overlay for themselves, in a user namespace that only they live in: what works without
//! root.
//!
//! ```text
//!  lock free ── locked here, handed to the child ──▶ unshare, map, mount, exec    (a fresh namespace)
//!  lock held ── a process of the namespace found ──▶ its lock borrowed, setns, exec (the survivor's)
//!            └─ none found ─────────────────────────▶ refused
//! ```
//!
//! Owns that rule: in such a namespace the kernel would let two servers mount one branch, so a lock goes with the mount.
//! It belongs to an open file that the server and all its descendants inherit, and ends with the last of them.

use std::cell::OnceCell;
use std::ffi::CString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::kernel::{Entrance, Step, Then, enter_before_exec};
use super::overlay::{NAMESPACE_OPTIONS, Parts};
use super::{VolumeError, cannot};

/// Looks for who holds a lock before it counts as held: a program that is just being started holds a copy of every
/// descriptor until it executes, which takes less time than looking through `/proc`.
const LOOKS_MAX: usize = 20;

/// What a server needs to come into its namespace.
#[derive(Debug)]
pub(super) struct Admission {
    parts: Parts,
    lock: OwnedFd,
    survivor: Option<Survivor>,
}

/// A process that lives in the namespace of a tree.
#[derive(Debug)]
pub(super) struct Survivor {
    pid: u32,
    pidfd: OwnedFd,
}

impl Admission {
    /// Takes the tree's lock, from a survivor where one holds it.
    ///
    /// # Errors
    /// [`VolumeError::InUse`] when it is held and no process of the namespace can be found.
    pub(super) fn take(parts: &Parts) -> Result<Self, VolumeError> {
        let path = parts.lock();
        let lock = File::options().write(true).open(&path);
        let lock = lock.map_err(cannot("open", &path))?;
        for _ in 0..LOOKS_MAX {
            match lock.try_lock() {
                Ok(()) => {
                    return Ok(Self {
                        parts: parts.clone(),
                        lock: lock.into(),
                        survivor: None,
                    });
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(cannot("lock", &path)(error)),
            }
            let found = find_survivor(parts).map_err(cannot("look for the holder of", &path))?;
            if let Some((survivor, lock)) = found {
                return Ok(Self {
                    parts: parts.clone(),
                    lock,
                    survivor: Some(survivor),
                });
            }
        }
        Err(VolumeError::InUse {
            path: parts.data.clone(),
        })
    }

    /// Where files of the tree are read and placed before the server starts.
    pub(super) fn files(&self) -> PathBuf {
        match &self.survivor {
            None => self.parts.upper(),
            // The survivor's kernel caches names: what is changed behind it would not be seen.
            Some(survivor) => seen_by(survivor.pid, &self.parts.data),
        }
    }

    /// Makes the child of `command` come in.
    pub(super) fn apply(self, command: &mut Command, then: Then) -> Result<Report, VolumeError> {
        let data = self.parts.data.clone();
        let entrance = match self.survivor {
            None => {
                self.parts.clear_mark()?;
                make(&self.parts)?
            }
            Some(survivor) => Entrance::Join {
                holder: survivor.pidfd,
                data: c_path(&data)?,
            },
        };
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(|errno| cannot("make a pipe for the server of", &data)(errno.into()))?;
        enter_before_exec(command, entrance, self.lock, writer, then);
        Ok(Report {
            said: reader,
            step: OnceCell::new(),
        })
    }
}

fn make(parts: &Parts) -> Result<Entrance, VolumeError> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let line = |id: u32| format!("{id} {id} 1\n").into_bytes();
    Ok(Entrance::Make {
        tree: c_path(&parts.tree)?,
        data: c_path(Path::new(parts.data.file_name().unwrap_or_default()))?,
        options: NAMESPACE_OPTIONS,
        uid_map: line(user.as_raw()),
        gid_map: line(group.as_raw()),
    })
}

fn c_path(path: &Path) -> Result<CString, VolumeError> {
    let text = CString::new(path.as_os_str().as_bytes());
    text.map_err(|error| cannot("name", path)(error.into()))
}

/// Whether a server, or this process for one, holds the tree's lock.
pub(super) fn is_locked(parts: &Parts) -> Result<bool, VolumeError> {
    let path = parts.lock();
    let lock = File::options().write(true).open(&path);
    match lock.map_err(cannot("open", &path))?.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(cannot("lock", &path)(error)),
    }
}

/// What a child said before it ended.
#[derive(Debug)]
pub(super) struct Report {
    said: OwnedFd,
    step: OnceCell<Option<Step>>,
}

impl Report {
    /// Whether the child of a trial did everything.
    pub(super) fn is_done(&self) -> bool {
        self.read() == Some(Step::Done)
    }

    /// The step at which it failed, where it failed at one.
    pub(super) fn step(&self) -> Option<&'static str> {
        self.read().filter(|step| *step != Step::Done).map(words)
    }

    /// The child has ended, so that there is something to read by now or never.
    fn read(&self) -> Option<Step> {
        *self.step.get_or_init(|| {
            let mut byte = [0];
            match rustix::io::read(&self.said, &mut byte) {
                Ok(1) => Step::from_byte(byte[0]),
                Ok(_) | Err(_) => None,
            }
        })
    }
}

fn words(step: Step) -> &'static str {
    match step {
        Step::Unshare => "make a user namespace",
        Step::DenyGroups => "give up changing groups",
        Step::MapUser => "map the user",
        Step::MapGroup => "map the group",
        Step::Mount => "mount the overlay in a user namespace",
        Step::Join => "join the running server's namespace",
        Step::Enter => "enter the data directory",
        Step::KeepLock => "keep the branch's lock",
        Step::Write => "write a file of the overlay",
        Step::Done => "go on",
    }
}

/// A path as another process sees it.
pub(super) fn seen_by(pid: u32, path: &Path) -> PathBuf {
    let below = path.strip_prefix("/").unwrap_or(path);
    Path::new("/proc")
        .join(pid.to_string())
        .join("root")
        .join(below)
}

/// Whether a process has this tree's overlay mounted where this process has not: it sees the very same upper
/// directory, and beside it a data directory on another filesystem.
pub(super) fn lives_in(pid: u32, parts: &Parts) -> io::Result<bool> {
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let (ours, theirs) = (parts.upper(), seen_by(pid, &parts.upper()));
    if identity(&ours)? != identity(&theirs)? {
        return Ok(false);
    }
    let inside = fs::metadata(seen_by(pid, &parts.data))?;
    let outside = fs::metadata(&parts.data)?;
    Ok(inside.dev() != outside.dev())
}

/// Every process that this one sees.
pub(super) fn processes() -> io::Result<impl Iterator<Item = u32>> {
    let names = fs::read_dir("/proc")?
        .flatten()
        .map(|entry| entry.file_name());
    Ok(names.filter_map(|name| name.to_str()?.parse().ok()))
}

/// A process of the tree's namespace that has the lock's open file, and a copy of that file.
fn find_survivor(parts: &Parts) -> io::Result<Option<(Survivor, OwnedFd)>> {
    let lock = fs::metadata(parts.lock())?;
    for pid in processes()? {
        // Other accounts' processes do not let us look, and processes end while they are looked at.
        if lives_in(pid, parts).unwrap_or(false)
            && let Some(survivor) = Survivor::open(pid)
            && let Some(copy) = survivor.lock(&lock)
            && lives_in(pid, parts).unwrap_or(false)
        {
            return Ok(Some((survivor, copy)));
        }
    }
    Ok(None)
}

impl Survivor {
    fn open(pid: u32) -> Option<Self> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        let pidfd = pidfd_open(number, PidfdFlags::empty()).ok()?;
        Some(Self { pid, pidfd })
    }

    /// A copy of the open file that holds the lock.
    fn lock(&self, lock: &fs::Metadata) -> Option<OwnedFd> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid)).ok()?;
        for entry in open.flatten() {
            let is_lock = fs::metadata(entry.path())
                .is_ok_and(|found| (found.dev(), found.ino()) == (lock.dev(), lock.ino()));
            let number = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let Some(number) = number.filter(|_| is_lock) else {
                continue;
            };
            let copy = pidfd_getfd(&self.pidfd, number, PidfdGetfdFlags::empty()).ok()?;
            let held =
                rustix::fs::flock(&copy, rustix::fs::FlockOperation::NonBlockingLockExclusive);
            match held {
                // Locking what this very file has locked is no change (flock(2)).
                Ok(()) => return Some(copy),
                Err(Errno::WOULDBLOCK) => {}
                Err(_) => return None,
            }
        }
        None
    }
}
