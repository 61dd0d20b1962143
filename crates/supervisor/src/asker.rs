//! The thread that asks: its memory and its descriptors.
//!
//! Owns reading and writing another process (process_vm_readv(2), pidfd_getfd(2)), which the parent of a tree may do
//! with what it started: Yama's scope 1 allows ancestors, and the filter keeps processes dumpable. What was read is the
//! asker's only once the listener says that its question still waits; the caller checks that.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;

use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use rustix::process::{ForeignRawFd, Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// `PIDFD_THREAD` (Linux 6.9, pidfd_open(2)), which the kernel took from `O_EXCL`.
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());

thread_local! {
    /// The thread that was looked into last from this one, and its handle: who connects once does so again.
    static LAST: RefCell<Option<(i32, OwnedFd)>> = const { RefCell::new(None) };
}

/// A thread of the session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    thread: i32,
}

/// Signals that wait and are neither blocked nor ignored, a bit each: the thread's and its process's.
struct Pending {
    own: u64,
    shared: u64,
}

impl Asker {
    /// The thread `thread`, in this process's PID namespace.
    pub(crate) fn new(thread: i32) -> Self {
        Self { thread }
    }

    /// Its number.
    pub(crate) fn thread(self) -> i32 {
        self.thread
    }

    /// Fills `into` from its memory at `address`.
    ///
    /// # Errors
    /// EFAULT where its memory ends, EPERM where this process may not look.
    pub(crate) fn read(self, address: u64, into: &mut [u8]) -> io::Result<()> {
        let length = into.len();
        if length == 0 {
            return Ok(());
        }
        let from = [remote(address, length)?];
        let mut into = [IoSliceMut::new(into)];
        let read = process_vm_readv(self.pid(), &mut into, &from).map_err(io::Error::from)?;
        whole(read, length)
    }

    /// Puts `bytes` into its memory at `address`.
    ///
    /// # Errors
    /// As [`Asker::read`].
    pub(crate) fn write(self, address: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let to = [remote(address, bytes.len())?];
        let from = [IoSlice::new(bytes)];
        let written = process_vm_writev(self.pid(), &from, &to).map_err(io::Error::from)?;
        whole(written, bytes.len())
    }

    /// A copy of its descriptor `number`: the same socket.
    ///
    /// # Errors
    /// EBADF where it has none, EPERM where this process may not look.
    pub(crate) fn descriptor(self, number: i32) -> io::Result<OwnedFd> {
        let number = ForeignRawFd::try_from(number).map_err(|_| rustix::io::Errno::BADF)?;
        LAST.with_borrow_mut(|last| {
            if let Some((thread, handle)) = last
                && *thread == self.thread
            {
                // Of a thread that has ended it is nobody's any more, whoever has its number now.
                match copy(handle, number) {
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => *last = None,
                    copied => return copied,
                }
            }
            let thread = Pid::from_raw(self.thread).ok_or(rustix::io::Errno::SRCH)?;
            match pidfd_open(thread, PIDFD_THREAD) {
                Ok(handle) => copy(&last.insert((self.thread, handle)).1, number),
                Err(rustix::io::Errno::INVAL) => copy(&self.open_process()?, number),
                Err(error) => Err(error.into()),
            }
        })
    }

    /// A handle of its process, before Linux 6.9, whose descriptors are the same unless the thread was made without
    /// CLONE_FILES, which threads of no C library are.
    fn open_process(self) -> io::Result<OwnedFd> {
        let process = self.process().and_then(Pid::from_raw);
        let process = process.ok_or(rustix::io::Errno::SRCH)?;
        Ok(pidfd_open(process, PidfdFlags::empty())?)
    }

    /// The process that it is a thread of.
    pub(crate) fn process(self) -> Option<i32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.thread)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
        line.trim().parse().ok()
    }

    /// Whether it has a descriptor of this number.
    pub(crate) fn has_descriptor(self, number: u32) -> bool {
        let path = format!("/proc/{}/fd/{number}", self.thread);
        std::fs::symlink_metadata(path).is_ok()
    }

    /// How many descriptors it has; none where it cannot be looked into.
    pub(crate) fn count_descriptors(self) -> Option<usize> {
        let folder = format!("/proc/{}/fd", self.thread);
        // The folder's size since Linux 6.2 (proc_pid_fd(5)); before that, zero.
        let size = std::fs::metadata(&folder).ok()?.len();
        if size > 0 {
            return usize::try_from(size).ok();
        }
        Some(std::fs::read_dir(folder).ok()?.count())
    }

    /// Whether it is in this process's network namespace.
    pub(crate) fn shares_network(self) -> bool {
        let own = std::fs::read_link("/proc/self/ns/net");
        let its = std::fs::read_link(format!("/proc/{}/ns/net", self.thread));
        matches!((own, its), (Ok(own), Ok(its)) if own == its)
    }

    /// Whether the kernel is certain to hand it a signal at the end of its call: one of its own, or one of its process
    /// that the kernel gives to the first thread, where it can (signal(7)). Another thread may get others. Once it is taken up, a
    /// call is not interrupted by itself.
    pub(crate) fn is_interrupted(self) -> bool {
        let signals = self.signals();
        signals.own != 0 || (signals.shared != 0 && self.process() == Some(self.thread))
    }

    fn signals(self) -> Pending {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.thread));
        let status = status.unwrap_or_default();
        let mask = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
                .unwrap_or(0)
        };
        let wanted = !mask("SigBlk:") & !mask("SigIgn:");
        Pending {
            own: mask("SigPnd:") & wanted,
            shared: mask("ShdPnd:") & wanted,
        }
    }

    /// The account that it acts as; none where it is gone.
    pub(crate) fn effective_user(self) -> Option<u32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.thread)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// The name of what it runs, as the kernel cuts it; a question mark where it is gone.
    pub(crate) fn program(self) -> String {
        let process = self.process().unwrap_or(self.thread);
        let name = std::fs::read_to_string(format!("/proc/{process}/comm"));
        name.map_or_else(|_| "?".to_owned(), |name| name.trim_end().to_owned())
    }

    fn pid(self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.thread)
    }
}

fn copy(handle: &OwnedFd, number: ForeignRawFd) -> io::Result<OwnedFd> {
    Ok(pidfd_getfd(handle, number, PidfdGetfdFlags::empty())?)
}

fn remote(address: u64, len: usize) -> io::Result<RemoteIoVec> {
    let base = usize::try_from(address).map_err(|_| rustix::io::Errno::FAULT)?;
    Ok(RemoteIoVec { base, len })
}

fn whole(moved: usize, wanted: usize) -> io::Result<()> {
    if moved == wanted {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EFAULT))
    }
}
