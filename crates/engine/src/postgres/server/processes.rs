//! Which processes work in a data directory, and their end.
//!
//! A postmaster and all its children have the data directory as their working directory; backends lead sessions of
//! their own, so a process group does not have them all. Where the kernel hides another account's working directory
//! (root without CAP_SYS_PTRACE, as in many containers), a postmaster is known by `-D` and its children by their parent.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{ServerError, number, watched};
use crate::volume::DataDir;

/// How long a killed process may take to be gone: the kernel frees its memory, no disk is waited for.
const KILL_TIME_MAX: Duration = Duration::from_secs(10);

/// Rounds of looking and killing. The first ends the postmaster and with it all forking, so that the second finds what
/// was forked in between.
const ROUNDS_MAX: usize = 3;

/// `ppid` and `tty_nr` (proc_pid_stat(5)), counted from the state.
const PARENT_FIELD: usize = 1;
const TTY_FIELD: usize = 4;

/// Whether a process is a server of this data directory.
pub(super) fn is_server_of(pid: Pid, data: &DataDir) -> bool {
    let name = fs::read_to_string(format!("/proc/{}/comm", number(pid)));
    let name = name.unwrap_or_default();
    // A file that was replaced under a running server does not change its name.
    matches!(name.trim_end(), "postgres" | "postmaster") && works_in(number(pid), data)
}

fn works_in(pid: u32, data: &DataDir) -> bool {
    match data.is_home_of(pid) {
        Ok(is_home) => is_home,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            has_argument(pid, data.path())
        }
        Err(_) => false,
    }
}

fn has_argument(pid: u32, data: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments: Vec<_> = line.split(|byte| *byte == 0).collect();
    let data = data.as_os_str().as_encoded_bytes();
    arguments
        .windows(2)
        .any(|pair| pair[0] == b"-D" && pair[1] == data)
}

/// Whether a process is `initdb` at work on the directory: it stands elsewhere, and outlives an engine that is killed.
fn is_initdb_of(pid: u32, data: &DataDir) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"));
    name.is_ok_and(|name| name.trim_end() == "initdb") && has_argument(pid, data.path())
}

/// Whether a process that works in the directory is the server's: one of PostgreSQL, or one without a terminal, such as
/// a program that `COPY ... PROGRAM` started. Somebody's shell that stands in the directory is not.
fn is_the_servers(pid: u32) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"));
    let is_postgres = matches!(
        name.unwrap_or_default().trim_end(),
        "postgres" | "postmaster" | "pg_basebackup"
    );
    is_postgres || stat_field(pid, TTY_FIELD) == Some(0)
}

/// By what a process is known to be a server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// It works in the directory, or is `initdb` at work on it.
    ItsOwn,
    /// Its working directory is hidden, and this is its parent, which is known.
    Parent(u32),
}

impl Mark {
    /// Whether a process bears it.
    fn is_on(self, pid: u32, data: &DataDir) -> bool {
        match self {
            Self::ItsOwn => works_in(pid, data) || is_initdb_of(pid, data),
            Self::Parent(parent) => is_hidden(pid) && parent_of(pid) == Some(parent),
        }
    }
}

/// Every process of a server that works in the directory, and the children of each.
fn of(data: &DataDir) -> io::Result<Vec<(u32, Mark)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) {
            all.push(pid);
        }
    }
    let known: Vec<u32> = all
        .iter()
        .copied()
        .filter(|pid| (works_in(*pid, data) && is_the_servers(*pid)) || is_initdb_of(*pid, data))
        .collect();
    let child = |pid: u32| {
        let parent = parent_of(pid).filter(|parent| known.contains(parent))?;
        Some((pid, Mark::Parent(parent)))
    };
    let hidden = |pid: &u32| !known.contains(pid) && is_hidden(*pid);
    let children = all.iter().copied().filter(hidden).filter_map(child);
    let itself = known.iter().map(|pid| (*pid, Mark::ItsOwn));
    Ok(itself.chain(children).collect())
}

fn parent_of(pid: u32) -> Option<u32> {
    stat_field(pid, PARENT_FIELD).and_then(|parent| u32::try_from(parent).ok())
}

/// Whether the kernel keeps the process's working directory from us.
fn is_hidden(pid: u32) -> bool {
    let seen = fs::read_link(format!("/proc/{pid}/cwd"));
    seen.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// A number of `/proc/PID/stat`, counted from behind the second field: a name in parentheses that may hold anything.
fn stat_field(pid: u32, field: usize) -> Option<i64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split_whitespace().nth(field)?.parse().ok()
}

/// Kills whatever works in the directory and waits until it is gone.
pub(super) async fn kill_all(data: &DataDir) -> Result<(), ServerError> {
    for _ in 0..ROUNDS_MAX {
        let found = look(data).await?;
        if found.is_empty() {
            return Ok(());
        }
        // All of them are held before the first ends: with its parent a child loses its mark.
        let mut held = Vec::new();
        for (pid, mark) in found {
            held.extend(hold(pid, mark, data)?.map(|pidfd| (pid, pidfd)));
        }
        for (pid, pidfd) in held {
            kill(pid, pidfd).await?;
        }
    }
    let pids: Vec<u32> = look(data).await?.into_iter().map(|(pid, _)| pid).collect();
    if pids.is_empty() {
        return Ok(());
    }
    Err(ServerError::Unkillable {
        data: data.path().to_owned(),
        pids,
    })
}

/// [`of`] on a thread that may block: it takes some milliseconds for every hundred processes of the machine.
async fn look(data: &DataDir) -> Result<Vec<(u32, Mark)>, ServerError> {
    let home = data.clone();
    let found = tokio::task::spawn_blocking(move || of(&home)).await;
    let found = found.unwrap_or_else(|error| Err(io::Error::other(error)));
    found.map_err(|source| ServerError::Look {
        data: data.path().to_owned(),
        source,
    })
}

fn cannot_kill(pid: u32) -> impl Fn(io::Error) -> ServerError {
    move |source| ServerError::Process {
        what: "kill",
        pid,
        source,
    }
}

/// A descriptor of a process that bears the mark; none where there is none any more.
fn hold(id: u32, mark: Mark, data: &DataDir) -> Result<Option<OwnedFd>, ServerError> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    let pid = pid.expect("/proc lists positive process ids");
    let pidfd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Ok(None),
        Err(errno) => return Err(cannot_kill(id)(errno.into())),
    };
    // Looked at again behind the descriptor: the number may have gone to another process since it was listed.
    Ok(mark.is_on(id, data).then_some(pidfd))
}

async fn kill(id: u32, pidfd: OwnedFd) -> Result<(), ServerError> {
    match pidfd_send_signal(&pidfd, Signal::KILL) {
        Ok(()) => {}
        Err(Errno::SRCH) => return Ok(()),
        Err(errno) => return Err(cannot_kill(id)(errno.into())),
    }
    let pidfd = watched(pidfd).map_err(cannot_kill(id))?;
    // One that does not end is found again by the next round and named in the end.
    drop(tokio::time::timeout(KILL_TIME_MAX, pidfd.readable()).await);
    Ok(())
}
