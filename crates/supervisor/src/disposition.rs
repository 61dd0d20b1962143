//! Signal masks and dispositions around fork, exec and the stopping of this process itself.
//!
//! Owns the calls of sigaction(2) and sigprocmask(2), which rustix leaves to the C library.
//! Leaves to `signals` what is done with a signal that arrives.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// What a signal does to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disposition {
    Default,
    Ignored,
    Handled,
}

/// Every signal blocked in this thread, until dropped.
pub(crate) struct AllBlocked {
    before: libc::sigset_t,
}

impl AllBlocked {
    /// Blocks them. What arrives meanwhile waits, or goes to another thread.
    ///
    /// # Errors
    /// Never in practice: the kernel knows only a wrong argument.
    pub(crate) fn new() -> io::Result<Self> {
        let mut all = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        #[expect(unsafe_code, reason = "sigprocmask is not in rustix")]
        // SAFETY: both sets are writable, and sigfillset fills the one that is read; `before` is written
        // whenever the call succeeds, and is read in no other case.
        let (error, before) = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            let error = libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            (error, (error == 0).then(|| before.assume_init()))
        };
        let before = before.ok_or_else(|| io::Error::from_raw_os_error(error))?;
        Ok(Self { before })
    }

    /// The mask that this thread had.
    pub(crate) fn before(&self) -> libc::sigset_t {
        self.before
    }
}

impl Drop for AllBlocked {
    fn drop(&mut self) {
        set_mask(&self.before);
    }
}

/// Makes a forked child what it would be if the caller's parent had started it: each handler is taken out, what is
/// ignored stays ignored (so `nohup` reaches through), then `mask` is in force again.
///
/// Handlers go first: one that ran in the child would tell the parent of a signal that was the child's.
/// Calls nothing but sigaction and pthread_sigmask, which signal-safety(7) allows between fork and exec.
pub(crate) fn reset_in_child(mask: &libc::sigset_t) {
    for signal in 1..=libc::SIGRTMAX() {
        // Signals that the C library keeps for itself answer EINVAL.
        if disposition(signal) == Some(Disposition::Handled) {
            set_default(signal);
        }
    }
    set_mask(mask);
}

/// Whether `signal` was set to be ignored, as `nohup` and the background of a plain shell do.
pub(crate) fn is_ignored(signal: i32) -> bool {
    disposition(signal) == Some(Disposition::Ignored)
}

/// Stops this process by `signal`, a stop signal, as if it had no handler; returns once it has been continued.
///
/// The kernel does nothing when the process group is orphaned, unless it is SIGSTOP: nobody could continue it.
pub(crate) fn stop_self(signal: i32) {
    let handler = if signal == libc::SIGSTOP {
        None
    } else {
        set_default(signal)
    };
    #[expect(unsafe_code, reason = "raise is not in rustix")]
    // SAFETY: raise has no precondition. It signals this thread, so the stop has happened when it returns.
    unsafe {
        libc::raise(signal);
    }
    if let Some(handler) = handler {
        #[expect(unsafe_code, reason = "sigaction is not in rustix")]
        // SAFETY: `handler` is what sigaction itself reported to have been in force for this signal.
        unsafe {
            libc::sigaction(signal, &raw const handler, ptr::null_mut());
        }
    }
}

/// Sends `signal` to `pid`, which must be a child not yet waited for: then the pid cannot be anyone else's.
///
/// # Errors
/// When the child runs under another account (a setuid program).
pub(crate) fn send_to_child(pid: i32, signal: i32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "rustix has no real-time signals")]
    // SAFETY: kill reads and writes no memory of this process.
    let result = unsafe { libc::kill(pid, signal) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn set_mask(mask: &libc::sigset_t) {
    #[expect(unsafe_code, reason = "sigprocmask is not in rustix")]
    // SAFETY: `mask` is a whole set, and the old one is not asked for.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut());
    }
}

fn disposition(signal: i32) -> Option<Disposition> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    #[expect(unsafe_code, reason = "sigaction is not in rustix")]
    // SAFETY: nothing is set; `action` is written whenever the call succeeds, and is read in no other case.
    let handler = unsafe {
        if libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) != 0 {
            return None;
        }
        action.assume_init().sa_sigaction
    };
    Some(match handler {
        libc::SIG_DFL => Disposition::Default,
        libc::SIG_IGN => Disposition::Ignored,
        _ => Disposition::Handled,
    })
}

/// Gives `signal` its default action; returns what was in force.
fn set_default(signal: i32) -> Option<libc::sigaction> {
    let mut before = MaybeUninit::<libc::sigaction>::uninit();
    #[expect(unsafe_code, reason = "sigaction is not in rustix")]
    // SAFETY: all zeroes are SIG_DFL, an empty mask and no flags. The default action runs no code of ours.
    // `before` is written whenever the call succeeds, and is read in no other case.
    unsafe {
        let action: libc::sigaction = std::mem::zeroed();
        (libc::sigaction(signal, &raw const action, before.as_mut_ptr()) == 0)
            .then(|| before.assume_init())
    }
}
