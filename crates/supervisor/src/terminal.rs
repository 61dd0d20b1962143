//! The terminal that this process and the child share.
//!
//! Owns its modes across a child that was killed, and whether job control exists at all. Who is in the foreground is
//! the shell's to say: this crate never changes it.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use rustix::process::getpgrp;
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
        if tcgetpgrp(stdin) == Ok(getpgrp()) {
            // The terminal may have gone away with the child: then there is nothing to put right.
            let _gone = tcsetattr(stdin, OptionalActions::Now, &self.0);
        }
    }
}
