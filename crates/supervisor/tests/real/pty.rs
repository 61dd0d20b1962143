//! A terminal of a test's own, and a session on it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::driver::{Reader, kill_tree, wait_until_ended};

/// The side of the terminal where a person sits.
pub(crate) struct Pty {
    master: File,
    session: Option<Child>,
    pub(crate) screen: Reader,
}

impl Pty {
    /// A terminal on which `command` leads the session, with all three of its standard descriptors.
    pub(crate) fn lead(command: &[&str]) -> Self {
        Self::start(command, |_| {})
    }

    /// The same, with the command's standard output elsewhere.
    pub(crate) fn lead_with_output(command: &[&str], output: Stdio) -> Self {
        Self::start(command, |setsid| {
            setsid.stdout(output);
        })
    }

    fn start(command: &[&str], adjust: impl FnOnce(&mut Command)) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(name.to_str().unwrap())
            .unwrap();
        // setsid becomes the command, which therefore leads the session.
        let mut setsid = Command::new("setsid");
        setsid
            .arg("--ctty")
            .args(command)
            .env("PS1", "prompt> ")
            .env("TERM", "dumb")
            .env("HISTFILE", "")
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave);
        adjust(&mut setsid);
        let session = setsid.spawn().unwrap();
        let master = File::from(master);
        Self {
            screen: Reader::new(OwnedFd::from(master.try_clone().unwrap())),
            master,
            session: Some(session),
        }
    }

    /// An interactive bash with the prompt `prompt> `.
    pub(crate) fn bash() -> Self {
        let mut pty = Self::lead(&["bash", "--norc", "--noprofile", "--noediting", "-i"]);
        pty.screen.until("prompt> ");
        pty
    }

    /// Types `text`.
    pub(crate) fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Types `line` and enter, and waits until the terminal has echoed it.
    pub(crate) fn enter(&mut self, line: &str) {
        self.write(&format!("{line}\n"));
        self.screen.until(&format!("{line}\r\n"));
    }

    /// Whether the terminal shows what is typed.
    pub(crate) fn echoes(&self) -> bool {
        let modes = tcgetattr(&self.master).unwrap().local_modes;
        modes.contains(LocalModes::ECHO)
    }

    /// The pid of the command that leads the session.
    pub(crate) fn leader(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(self.session.as_ref().unwrap())
    }

    /// Waits for the leader's exit code.
    pub(crate) fn code(&mut self) -> i32 {
        wait_until_ended(self.leader());
        let status = self.session.as_mut().unwrap().wait().unwrap();
        status.code().expect("the leader ends by an exit code")
    }

    /// Closes the window; the session's leader is returned.
    pub(crate) fn close(mut self) -> Child {
        self.session.take().unwrap()
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        if let Some(session) = &mut self.session {
            kill_tree(session);
        }
    }
}
