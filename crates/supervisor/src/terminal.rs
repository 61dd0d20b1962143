//! The terminal that this process and the child share.
//!
//! Owns its modes across a child that was killed, and whether job control exists at all. Who is in the foreground is
//! the shell's to say: this crate never changes it.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use nix::unistd;
use rustix::fs::OFlags;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

/// Whether this session has a controlling terminal. Without one there is no shell that could see a stopped job.
pub(crate) fn controls_this_session() -> bool {
    let flags = (OFlags::NOCTTY | OFlags::CLOEXEC).bits();
    OpenOptions::new()
        .read(true)
        .custom_flags(flags as i32)
        .open("/dev/tty")
        .is_ok()
}

/// Whether `own_pid`, this process, leads its session: then it has no shell above it in that session.
///
/// In a PID namespace whose leader of the session is outside, `getsid` answers 0 (pid_namespaces(7)), which rustix's
/// `Pid` cannot hold.
pub(crate) fn leads_its_session(own_pid: i32) -> bool {
    unistd::getsid(None).is_ok_and(|session| session.as_raw() == own_pid)
}

/// The terminal's modes at one moment: echo, line editing and their like.
pub(crate) struct SavedModes(Termios);

impl SavedModes {
    /// The modes of standard input; none when it is no terminal.
    pub(crate) fn of_stdin() -> Option<Self> {
        tcgetattr(rustix::stdio::stdin()).ok().map(Self)
    }

    /// Puts them back, as a shell does after a job that a signal ended: the program could not do it itself.
    /// The shell cannot know, since it sees this process end with an ordinary exit code.
    pub(crate) fn restore(&self) {
        let stdin = rustix::stdio::stdin();
        // From the background it would be a SIGTTOU, and the modes are another job's by then.
        let own_group = unistd::getpgrp().as_raw();
        if tcgetpgrp(stdin).is_ok_and(|foreground| foreground.as_raw_nonzero().get() == own_group) {
            // The terminal may have gone away with the child: then there is nothing to put right.
            let _gone = tcsetattr(stdin, OptionalActions::Now, &self.0);
        }
    }
}
