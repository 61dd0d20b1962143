//! The watcher: a small process that outlives the supervisor by exactly the session's processes.
//!
//! ```text
//!   supervisor ──pipe──▶ watcher        "child PID TICKS", "asked ID" now and then, then "end": it goes
//!        └── killed: the pipe ends without "end" ──▶ KILL to the child, its descendants and whoever has the session's
//!            id in its environment; EACCES to whom the supervisor had not answered yet; then KILL to whoever asks the
//!            listener, until no filtered process is left
//! ```
//!
//! Without it the listener would be gone with the supervisor, every guarded call would say ENOSYS, and programs would
//! stumble on; a parent-death signal reaches the direct child alone, and no further than a setuid program. The watcher
//! holds the listener too: who asks after the supervisor's end waits for it, and is killed. It leads a session of its
//! own, so that no signal to the supervisor's group or terminal reaches it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::Signal;

use super::{GuardError, SESSION_VARIABLE};
use crate::asker::Asker;
use crate::process::{Process, Stat};
use crate::seccomp::{ASKED, Asked, Listener, Received, UNTOLD_MAX};
use crate::tree::Tree;

/// The descriptor by which the watcher gets the listener.
const LISTENER: RawFd = 3;

/// Rounds of killing whom the id names: each outruns a program that forks once per death. The listener gets the rest.
const KILL_ROUNDS_MAX: usize = 8;

/// Ids that are tried at the end, the latest first: some seconds' worth.
const TRIED_MAX: u64 = 20_000_000;

/// There can be no watcher.
#[derive(Debug, thiserror::Error)]
pub enum WatcherError {
    /// It does not start.
    #[error("cannot start {program:?}")]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It was started without what it needs.
    #[error("cannot watch without a listener and a session's id")]
    Orders(#[source] io::Error),
}

/// A program that does nothing but call [`watch`] with its last argument.
#[derive(Debug, Clone)]
pub struct WatcherProgram {
    /// Its file.
    pub program: PathBuf,
    /// Its arguments; the session's id follows them.
    pub args: Vec<OsString>,
}

/// The watcher as the supervisor has it. Dropping it ends it, and leaves the session's processes alone.
#[derive(Debug)]
pub(super) struct Watcher {
    process: std::process::Child,
}

impl Watcher {
    /// Starts it for the session `id`.
    pub(super) fn start(
        program: &WatcherProgram,
        id: &str,
        listener: &Listener,
    ) -> Result<Self, WatcherError> {
        let mut command = std::process::Command::new(&program.program);
        command
            .args(&program.args)
            .arg(id)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let descriptor = listener.as_fd().as_raw_fd();
        #[expect(
            unsafe_code,
            reason = "the watcher gets a descriptor and a session of its own"
        )]
        // SAFETY: the closure makes two system calls that signal-safety(7) allows, and touches no memory. `listener`
        // outlives the fork. dup2 to 3 is wanted to replace whatever is there in the child.
        unsafe {
            command.pre_exec(move || hand_over(descriptor));
        }
        let process = command.spawn().map_err(|source| WatcherError::Start {
            program: program.program.clone(),
            source,
        })?;
        Ok(Self { process })
    }

    /// Tries whether this process may look into its children as the session's calls will need it: into this one.
    pub(super) fn check_sight(&self) -> Result<(), GuardError> {
        let asker = Asker::new(self.process.id().cast_signed());
        let blind = |call| move |source| GuardError::Blind { call, source };
        asker.descriptor(LISTENER).map_err(blind("pidfd_getfd"))?;
        match asker.read(1, &mut [0]) {
            // Nothing is mapped there, and that much may be known.
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Ok(()),
            Ok(()) => Ok(()),
            Err(error) => Err(blind("process_vm_readv")(error)),
        }
    }

    /// Tells it whose descendants the session is.
    pub(super) fn name_child(&mut self, child: Process) {
        self.say(&format!("child {} {}\n", child.pid(), child.start_ticks()));
    }

    /// What tells it of questions.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub(super) fn asked(&self) -> io::Result<Asked> {
        let pipe = self.process.stdin.as_ref();
        let pipe = pipe.expect("the pipe is closed at the end alone");
        Ok(Asked::told_to(pipe.as_fd().try_clone_to_owned()?))
    }

    /// Lets it go.
    pub(super) fn let_go(self) {}

    fn say(&mut self, words: &str) {
        if let Some(pipe) = &mut self.process.stdin {
            // A watcher that somebody killed hears nothing; nothing depends on it until this process is killed too.
            let _deaf = pipe.write_all(words.as_bytes());
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.say("end\n");
        drop(self.process.stdin.take());
        // It ends at once, and nobody else waits for it.
        let _gone = self.process.wait();
    }
}

/// Between fork and exec.
fn hand_over(listener: RawFd) -> io::Result<()> {
    #[expect(unsafe_code, reason = "dup2 onto a number that nobody owns")]
    // SAFETY: both calls take numbers only. Nothing of this process's after the fork uses descriptor 3.
    let results = unsafe {
        let session = libc::setsid();
        if listener == LISTENER {
            (session, libc::fcntl(listener, libc::F_SETFD, 0))
        } else {
            (session, libc::dup2(listener, LISTENER))
        }
    };
    if results.1 < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Watches for the session `id`, to the end of either; for a process that `Watcher::start` started.
///
/// # Errors
/// When it was not.
pub fn watch(id: &OsStr) -> Result<(), WatcherError> {
    #[expect(unsafe_code, reason = "the listener comes by its number")]
    // SAFETY: this process was started with it, has opened nothing else by this number, and takes it here alone.
    let descriptor = unsafe {
        if libc::fcntl(LISTENER, libc::F_SETFD, libc::FD_CLOEXEC) < 0 {
            return Err(WatcherError::Orders(io::Error::last_os_error()));
        }
        OwnedFd::from_raw_fd(LISTENER)
    };
    let listener = Listener::from_descriptor(descriptor);
    let (mut child, mut asked) = (None, None);
    // An error is an end as well.
    for line in BufReader::new(io::stdin()).lines().map_while(Result::ok) {
        let mut words = line.split(' ');
        match words.next() {
            Some("end") => return Ok(()),
            Some("child") => child = parse_child(words),
            Some(ASKED) => asked = widen(asked, words.next().and_then(|id| id.parse().ok())),
            Some(_) | None => {}
        }
    }
    end_session(id, child, asked, &listener);
    Ok(())
}

/// The first and the last id that were told; a line without one tells nothing.
fn widen(asked: Option<(u64, u64)>, id: Option<u64>) -> Option<(u64, u64)> {
    id.map_or(asked, |id| Some((asked.map_or(id, |(first, _)| first), id)))
}

fn parse_child<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Process> {
    let pid = words.next()?.parse().ok()?;
    let start_ticks = words.next()?.parse().ok()?;
    Some(Process::from_parts(pid, start_ticks))
}

/// Ends everything of a session whose supervisor is gone.
fn end_session(id: &OsStr, child: Option<Process>, asked: Option<(u64, u64)>, listener: &Listener) {
    if let Some(child) = child {
        Tree::below(child).kill();
    }
    let mark = [SESSION_VARIABLE.as_bytes(), b"=", id.as_bytes()].concat();
    for _ in 0..KILL_ROUNDS_MAX {
        let marked = marked_processes(&mark);
        if marked.is_empty() {
            break;
        }
        for process in marked {
            let _not_ours = process.signal(Signal::KILL);
        }
    }
    if let Some((first, last)) = asked {
        fail_taken(listener, first, last);
    }
    while listener.wait() {
        if let Ok(Received::Question(question)) = listener.receive() {
            kill_asker(question.thread);
            // Whom this account cannot kill does not get past the fence either.
            listener.fail(&question, libc::EACCES);
        }
    }
}

/// Ends the calls that the supervisor had taken up: nobody else knows of them, and they would wait for ever.
fn fail_taken(listener: &Listener, first: u64, last: u64) {
    let latest = last.wrapping_add(UNTOLD_MAX);
    // Receivers tell in any order, so that the first that was told need not be the first.
    let earliest = first.wrapping_sub(UNTOLD_MAX);
    let count = latest.wrapping_sub(earliest).min(TRIED_MAX);
    for back in 0..=count {
        listener.fail_by_id(latest.wrapping_sub(back), libc::EACCES);
    }
}

fn kill_asker(thread: i32) {
    let process = Asker::new(thread).process().and_then(Process::of);
    if let Some(process) = process {
        let _not_ours = process.signal(Signal::KILL);
    }
}

/// Processes that still run and have `mark` in the environment that they were started with.
fn marked_processes(mark: &[u8]) -> Vec<Process> {
    let is_marked = |stat: &Stat| {
        let environment = fs::read(format!("/proc/{}/environ", stat.process.pid()));
        let environment = environment.unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == mark)
    };
    Stat::read_all()
        .into_iter()
        .filter(|stat| !stat.is_zombie() && is_marked(stat))
        .map(|stat| stat.process)
        .collect()
}
