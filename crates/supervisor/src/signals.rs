//! The signals that reach this process, each with who sent it.
//!
//! Owns the handlers. A signal from the terminal comes from the kernel and has reached the child too, which shares the
//! process group; one that a process sent with kill(2) is told apart by `si_code` (sigaction(2)).
//! Leaves to `job` what a signal means.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::pipe::{PipeFlags, pipe_with};
use signal_hook_registry::SigId;
use tokio::net::unix::pipe;

use crate::disposition;

/// Signals that end or inform a program, and that people and programs send. Not among them: those that cannot be
/// caught (KILL, STOP), faults and limits of this process itself (ILL, ABRT, BUS, FPE, SEGV, SYS, TRAP, XCPU, XFSZ),
/// and PIPE, which Rust's runtime ignores. The real-time signals join them.
const FORWARDED: [i32; 14] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGCONT,
    libc::SIGURG,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGWINCH,
    libc::SIGIO,
    libc::SIGPWR,
];

/// Signals that stop a process. Caught only while a child runs: before that, Ctrl-Z stops this process as any other.
const STOPPING: [i32; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// Signals by which people end a program.
const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// Bytes of one record in the pipe: signal, si_code, sender's pid, each an `i32`.
const RECORD_BYTES: usize = 12;

/// A handler could not be installed.
#[derive(Debug, thiserror::Error)]
#[error("cannot catch signals")]
pub struct SignalsError(#[source] io::Error);

/// Who caused a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The terminal, or another part of the kernel.
    Kernel,
    /// This process sent it, or one in a pid namespace outside of ours (0).
    Process(i32),
}

/// One signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) signal: i32,
    pub(crate) origin: Origin,
}

/// The caught signals, in the order in which they arrived.
///
/// Dropping it takes its handlers out of use; the signals then do nothing rather than what they did at first.
#[derive(Debug)]
pub struct Signals {
    // The pipe holds 65,536 bytes (pipe(7)), 5,461 records. What does not fit is lost, as a pending signal is that is sent again.
    records_rx: pipe::Receiver,
    records_tx: Arc<OwnedFd>,
    handlers: Vec<SigId>,
    catches_stops: bool,
}

impl Signals {
    /// Catches everything that a child is to be told of. A signal that was being ignored stays ignored.
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn install() -> Result<Self, SignalsError> {
        Self::install_without(&[])
    }

    /// The same, leaving `left` (signal numbers) to the caller.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn install_without(left: &[i32]) -> Result<Self, SignalsError> {
        let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(|e| SignalsError(e.into()))?;
        let mut signals = Self {
            records_rx: pipe::Receiver::from_owned_fd(read_end).map_err(SignalsError)?,
            records_tx: Arc::new(write_end),
            handlers: Vec::new(),
            catches_stops: false,
        };
        let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
        for signal in FORWARDED.into_iter().chain(real_time) {
            if !left.contains(&signal) && !disposition::is_ignored(signal) {
                signals.catch(signal)?;
            }
        }
        // An ignored SIGCHLD would have the kernel throw exit statuses away.
        signals.catch(libc::SIGCHLD)?;
        Ok(signals)
    }

    /// Catches the signals that stop a process as well.
    pub(crate) fn catch_stops(&mut self) -> Result<(), SignalsError> {
        if self.catches_stops {
            return Ok(());
        }
        for signal in STOPPING {
            if !disposition::is_ignored(signal) {
                self.catch(signal)?;
            }
        }
        self.catches_stops = true;
        Ok(())
    }

    fn catch(&mut self, signal: i32) -> Result<(), SignalsError> {
        let records_tx = Arc::clone(&self.records_tx);
        #[expect(unsafe_code, reason = "a signal handler is installed")]
        // SAFETY: the action is async-signal-safe: it makes one write(2) on a descriptor that its own `Arc` keeps
        // open, allocates nothing, takes no lock, cannot panic, and puts errno back.
        let handler = unsafe {
            signal_hook_registry::register_sigaction(signal, move |info| record(&records_tx, info))
        };
        self.handlers.push(handler.map_err(SignalsError)?);
        Ok(())
    }

    /// The next signal. Cancel-safe: a signal that was not returned is still there.
    pub(crate) async fn next(&mut self) -> Received {
        loop {
            let mut record = [0; RECORD_BYTES];
            // Writes of less than PIPE_BUF bytes are whole (pipe(7)), so reads of their size are too.
            if let Ok(RECORD_BYTES) = self.records_rx.try_read(&mut record) {
                return parse(record);
            }
            self.records_rx
                .readable()
                .await
                .expect("the runtime outlives what runs in it");
        }
    }

    /// Waits for a signal by which people end a program, whoever sent it, and returns its number; others are
    /// dropped. For the time before the child is started and after it has ended.
    pub async fn interrupted(&mut self) -> i32 {
        loop {
            let received = self.next().await;
            if ENDING.contains(&received.signal) {
                return received.signal;
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            signal_hook_registry::unregister(handler);
        }
    }
}

/// Runs inside the signal handler.
fn record(records_tx: &OwnedFd, info: &libc::siginfo_t) {
    let sent = matches!(
        info.si_code,
        libc::SI_USER | libc::SI_TKILL | libc::SI_QUEUE
    );
    #[expect(unsafe_code, reason = "siginfo_t is a union; errno is the C library's")]
    // SAFETY: these three codes are the ones with which si_pid is filled in (sigaction(2)); errno is a valid place
    // of this thread's own for as long as the thread lives.
    let (pid, errno, error) = unsafe {
        let errno = libc::__errno_location();
        (if sent { info.si_pid() } else { 0 }, errno, *errno)
    };
    let mut record = [0; RECORD_BYTES];
    record[..4].copy_from_slice(&info.si_signo.to_ne_bytes());
    record[4..8].copy_from_slice(&i32::from(sent).to_ne_bytes());
    record[8..].copy_from_slice(&pid.to_ne_bytes());
    // A full pipe loses the record: a handler cannot wait.
    let _full = rustix::io::write(records_tx, &record);
    #[expect(unsafe_code, reason = "errno is the C library's")]
    // SAFETY: the same place as above, in the same thread.
    unsafe {
        *errno = error;
    }
}

fn parse(record: [u8; RECORD_BYTES]) -> Received {
    let number = |at: usize| {
        i32::from_ne_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
    };
    let origin = if number(4) == 0 {
        Origin::Kernel
    } else {
        Origin::Process(number(8))
    };
    Received {
        signal: number(0),
        origin,
    }
}
