//! A process as `/proc` tells of it, and an identity that a recycled pid cannot take over.
//!
//! Owns the parsing of `/proc/PID/stat` (proc_pid_stat(5)). Leaves to `tree` who descends from whom.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// One process for as long as the machine runs: its pid, and when it started.
///
/// The kernel hands a pid out again, but not with the same start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process {
    pid: i32,
    start_ticks: u64,
}

/// What one line of `/proc/PID/stat` says, as far as it is used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) process: Process,
    pub(crate) parent: i32,
    pub(crate) session: i32,
    pub(crate) state: u8,
    pub(crate) threads: u64,
}

impl Stat {
    /// Reads the line of `pid`; none when there is no such process, or `/proc` hides it.
    pub(crate) fn read(pid: i32) -> Option<Self> {
        parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Reads the line of every process that `/proc` shows.
    pub(crate) fn read_all() -> Vec<Self> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(Self::read)
            .collect()
    }

    /// Whether all of it has ended and only its parent's wait is missing. The first thread alone may have ended:
    /// that is a `Z` too, with other threads still counted.
    pub(crate) fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X') && self.threads <= 1
    }

    /// Whether job control or a signal has stopped it (a debugger's stop is a `t`).
    pub(crate) fn is_stopped(&self) -> bool {
        self.state == b'T'
    }
}

/// Field numbers of proc_pid_stat(5), counted from the state (3), which follows the last parenthesis.
const STATE: usize = 0;
const PARENT: usize = 1;
const SESSION: usize = 3;
const THREADS: usize = 17;
const START_TICKS: usize = 19;

fn parse(pid: i32, line: &[u8]) -> Option<Stat> {
    // The program's name may hold spaces and parentheses of its own: only the last one ends it.
    let end_of_name = line.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&line[end_of_name + 1..]).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        process: Process {
            pid,
            start_ticks: fields.get(START_TICKS)?.parse().ok()?,
        },
        parent: fields.get(PARENT)?.parse().ok()?,
        session: fields.get(SESSION)?.parse().ok()?,
        state: *fields.get(STATE)?.as_bytes().first()?,
        threads: fields.get(THREADS)?.parse().ok()?,
    })
}

impl Process {
    /// The identity that was written down earlier: `start_ticks` in clock ticks since the machine started.
    pub fn from_parts(pid: i32, start_ticks: u64) -> Self {
        Self { pid, start_ticks }
    }

    /// The process that has `pid` at this moment, ended and not yet waited for included; none when there is none.
    pub fn of(pid: i32) -> Option<Self> {
        Stat::read(pid).map(|stat| stat.process)
    }

    /// The calling process.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn current() -> io::Result<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self::of(pid).ok_or_else(|| io::Error::other("/proc does not show this process"))
    }

    /// The pid; it is this process's only while [`Process::is_alive`].
    pub fn pid(self) -> i32 {
        self.pid
    }

    /// Clock ticks from the machine's start to the process's.
    pub fn start_ticks(self) -> u64 {
        self.start_ticks
    }

    /// Whether it still runs; one that ended and was not waited for does not.
    pub fn is_alive(self) -> bool {
        self.stat().is_some_and(|stat| !stat.is_zombie())
    }

    pub(crate) fn stat(self) -> Option<Stat> {
        Stat::read(self.pid).filter(|stat| stat.process == self)
    }

    /// A descriptor of exactly this process; none when it is gone.
    pub(crate) fn open(self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(None);
        };
        let descriptor = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(descriptor) => descriptor,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Only a look after the opening proves whom it was opened for.
        Ok(self.stat().map(|_| descriptor))
    }

    /// Sends `signal`; false when the process is gone.
    ///
    /// # Errors
    /// When it belongs to someone whom this process may not signal.
    pub fn signal(self, signal: Signal) -> io::Result<bool> {
        let Some(descriptor) = self.open()? else {
            return Ok(false);
        };
        match pidfd_send_signal(&descriptor, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it has ended; at once when it is gone. Needs no kinship, and leaves the exit status alone.
    ///
    /// # Errors
    /// When the kernel has no pidfd (before 5.3), or no descriptor is left.
    pub async fn ended(self) -> io::Result<()> {
        let Some(descriptor) = self.open()? else {
            return Ok(());
        };
        #[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
        // SAFETY: an `OwnedFd` stays open and stays the same for as long as it is not dropped, which `AsyncFd` owns.
        let registered = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        let descriptor = registered.map_err(io::Error::from)?;
        // A pidfd is readable from the moment its process has ended (pidfd_open(2)).
        descriptor.readable().await?.retain_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line =
            b"41 (a) Z 1 (\xff b) S 7 41 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 987654 1 2 3\n";
        let expected = Stat {
            process: Process::from_parts(41, 987_654),
            parent: 7,
            session: 40,
            state: b'S',
            threads: 3,
        };
        assert_eq!(parse(41, line), Some(expected));
    }

    #[test]
    fn a_torn_line_is_no_process() {
        for torn in [
            &b""[..],
            b"41",
            b"41 (a",
            b"41 (a) S 7 41",
            b"41 (a) S x 41 40",
        ] {
            assert_eq!(parse(41, torn), None);
        }
    }

    #[test]
    fn the_same_pid_with_another_start_is_another_process() {
        let this = Process::current().unwrap();
        assert!(this.is_alive());
        let other = Process::from_parts(this.pid(), this.start_ticks() + 1);
        assert!(!other.is_alive());
        // Signal 0 does not exist in rustix; SIGCONT does nothing to a running process, were it sent.
        assert!(!other.signal(Signal::CONT).unwrap());
    }
}
