//! Ctrl-C as a condition that every wait of the demo looks at, so that all it started is ended in order.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fixtures::{Outcome, Program};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// Between two looks at a condition that nothing tells of: short for people, long for a processor.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Taking the status of a program that has ended.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Holds the signals that ask for an end; from the first one on it stays readable.
#[derive(Debug)]
pub(super) struct Interrupt(UnixStream);

/// Why a wait was over.
#[derive(Debug, PartialEq, Eq)]
enum Woken {
    Interrupted,
    Ended,
    TimeOver,
}

impl Interrupt {
    /// Takes SIGINT, SIGTERM and SIGHUP from here on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn listen() -> Result<Self> {
        let (read_end, write_end) = UnixStream::pair().context("make a pair of sockets")?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let wake = write_end.try_clone().context("share a socket")?;
            pipe::register(signal, wake).context("listen to signals")?;
        }
        Ok(Self(read_end))
    }

    /// Takes back what was asked so far: ending is not interrupted by what asked for it.
    pub(super) fn forget(&mut self) -> Result<()> {
        self.0.set_nonblocking(true).context("empty a socket")?;
        let mut byte = [0_u8];
        while self.0.read(&mut byte).is_ok_and(|read| read > 0) {}
        Ok(())
    }

    /// Whether an end was asked for.
    pub(super) fn is_set(&self) -> bool {
        matches!(self.wait(None, Duration::ZERO), Ok(Woken::Interrupted))
    }

    /// # Errors
    /// When an end was asked for.
    pub(super) fn check(&self) -> Result<()> {
        if self.is_set() {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Runs a started program to its end.
    ///
    /// # Errors
    /// When it does not end within `limit` or an end was asked for; it is killed then.
    pub(super) fn finish(&self, program: Program, limit: Duration) -> Result<Outcome> {
        match self.wait(Some(&handle(&program)?), limit)? {
            Woken::Interrupted => bail!("interrupted"),
            Woken::Ended => program.finish(END_LIMIT),
            // Its error shows what the program printed.
            Woken::TimeOver => program
                .finish(Duration::ZERO)
                .with_context(|| format!("not done within {limit:?}")),
        }
    }

    /// Looks again and again, for about `limit`, until `holds`; while `program` runs, if there is one.
    ///
    /// # Errors
    /// When it never holds, the program ends first, or an end was asked for.
    pub(super) fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        program: Option<&Program>,
        mut holds: impl FnMut() -> bool,
    ) -> Result<()> {
        let end = program.map(handle).transpose()?;
        let looks = limit.as_millis() / LOOK_INTERVAL.as_millis();
        for _ in 0..looks {
            if holds() {
                return Ok(());
            }
            match self.wait(end.as_ref(), LOOK_INTERVAL)? {
                Woken::Interrupted => bail!("interrupted"),
                Woken::Ended => bail!("waiting until {what}: the program ended first"),
                Woken::TimeOver => {}
            }
        }
        bail!("waiting until {what}: not within {limit:?}");
    }

    fn wait(&self, end: Option<&OwnedFd>, limit: Duration) -> Result<Woken> {
        let timeout = Timespec::try_from(limit).context("a wait too long for the kernel")?;
        let mut watched = vec![PollFd::new(&self.0, PollFlags::IN)];
        watched.extend(end.map(|end| PollFd::new(end, PollFlags::IN)));
        match poll(&mut watched, Some(&timeout)) {
            Ok(_) => {}
            // The signal has written to the socket meanwhile, or was not for us.
            Err(Errno::INTR) => return self.wait(end, limit),
            Err(error) => return Err(error).context("wait"),
        }
        let readable = |index: usize| {
            watched
                .get(index)
                .is_some_and(|fd| !fd.revents().is_empty())
        };
        Ok(match (readable(0), readable(1)) {
            (true, _) => Woken::Interrupted,
            (false, true) => Woken::Ended,
            (false, false) => Woken::TimeOver,
        })
    }
}

/// A handle that is readable once the program has ended. Nobody waits for it but its owner, so its id is still its own.
fn handle(program: &Program) -> Result<OwnedFd> {
    let pid = Pid::from_raw(program.id().cast_signed()).context("a process id of 0")?;
    pidfd_open(pid, PidfdFlags::empty()).context("open a handle on a program")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn quiet() -> Interrupt {
        let (read_end, write_end) = UnixStream::pair().expect("a pair");
        // Kept open: a closed one would be readable.
        std::mem::forget(write_end);
        Interrupt(read_end)
    }

    fn start(dir: &tempfile::TempDir, script: &str) -> Program {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Program::start(command, dir.path(), "p").expect("started")
    }

    #[test]
    fn a_wait_ends_by_condition_end_or_limit() {
        let (interrupt, dir) = (quiet(), tempfile::tempdir().expect("a directory"));
        let long = Duration::from_secs(20);
        let mut looks = 0;
        let third = || {
            looks += 1;
            looks == 3
        };
        interrupt
            .wait_until("it holds", long, None, third)
            .expect("the third look");
        let ends = start(&dir, "exit 3");
        let error = interrupt.wait_until("it holds", long, Some(&ends), || false);
        assert!(
            error
                .expect_err("it ends")
                .to_string()
                .contains("ended first")
        );
        let outcome = interrupt.finish(ends, long).expect("its end");
        assert_eq!(outcome.status.code(), Some(3));
        let error = interrupt.wait_until("it holds", Duration::from_millis(100), None, || false);
        assert!(
            error
                .expect_err("it never holds")
                .to_string()
                .contains("not within")
        );
        let endless = start(&dir, "echo words; exec sleep 600");
        let error = interrupt.finish(endless, Duration::from_millis(500));
        let error = format!("{:#}", error.expect_err("it never ends"));
        assert!(error.contains("words"), "{error}");
    }

    #[test]
    fn a_signal_ends_every_wait_until_it_is_forgotten() {
        use std::io::Write;
        let (read_end, mut write_end) = UnixStream::pair().expect("a pair");
        let mut interrupt = Interrupt(read_end);
        assert!(interrupt.check().is_ok());
        write_end.write_all(b"X").expect("as a signal does");
        assert!(interrupt.check().is_err());
        let long = Duration::from_secs(20);
        assert!(
            interrupt
                .wait_until("it holds", long, None, || false)
                .is_err()
        );
        interrupt.forget().expect("emptied");
        assert!(interrupt.check().is_ok());
    }
}
