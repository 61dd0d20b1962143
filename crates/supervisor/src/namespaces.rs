//! A program started in the namespaces of another process: network, mounts, and the user namespace that holds them.
//!
//! Owns joining them between fork and exec (setns(2) with a pidfd, Linux 5.8). Leaves making them to whoever made the
//! other process.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The namespaces of a process.
#[derive(Debug)]
pub struct Namespaces {
    handle: OwnedFd,
    kinds: libc::c_int,
}

/// What a forked child needs of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Joining {
    handle: RawFd,
    kinds: libc::c_int,
}

impl Namespaces {
    /// Those that `process` is in at the moment of joining.
    ///
    /// # Errors
    /// When it is gone, or another account's.
    pub fn of(process: i32) -> io::Result<Self> {
        let missing = || io::Error::from_raw_os_error(libc::ESRCH);
        let pid = Pid::from_raw(process).ok_or_else(missing)?;
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        let own = fs::read_link("/proc/self/ns/user")?;
        let theirs = fs::read_link(format!("/proc/{process}/ns/user"))?;
        // Nobody joins the user namespace that he is in.
        let user = if own == theirs {
            0
        } else {
            libc::CLONE_NEWUSER
        };
        Ok(Self {
            handle,
            kinds: user | libc::CLONE_NEWNET | libc::CLONE_NEWNS,
        })
    }

    pub(crate) fn joining(&self) -> Joining {
        Joining {
            handle: self.handle.as_raw_fd(),
            kinds: self.kinds,
        }
    }
}

impl Joining {
    /// Joins them, and enters `directory` again: joining leaves one at the root of the mounts. For a forked child.
    pub(crate) fn join_in_child(self, directory: &CStr) -> io::Result<()> {
        #[expect(unsafe_code, reason = "setns is not in rustix without allocations")]
        // SAFETY: both are plain system calls, which a forked child may make; the path ends with a zero and outlives
        // the call.
        let outcome = unsafe {
            match libc::setns(self.handle, self.kinds) {
                0 => libc::chdir(directory.as_ptr()),
                failed => failed,
            }
        };
        if outcome == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}
