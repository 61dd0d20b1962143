//! The listener: questions taken, checked, answered.
//!
//! ```text
//!   install (in the thread that will start the session) -> receive -> Question: is_valid? -> one answer
//!                                                           \-> Received::Over: no filtered process is left
//! ```
//!
//! Several threads may receive from one listener. A receiver must never wait for anything else: until a question is
//! taken up, signals still interrupt the process that asks.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::raw::{c_int, c_ulong};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The wake-up of the receiver on the asker's own processor: about a third less time (Linux 6.6, linux/seccomp.h).
const SYNC_WAKE_UP: c_ulong = 1;

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Setuid programs cannot be given up, which the kernel demands of ordinary users (seccomp(2)).
    #[error("cannot give up new privileges")]
    NoNewPrivileges(#[source] io::Error),
    /// A filter above has a listener already, and the kernel allows one.
    #[error("this program runs in a session already, and a process has one supervisor at most")]
    Nested,
    /// The kernel does not know what is asked of it.
    #[error("this kernel is older than 5.19, which brought what the fence stands on")]
    Kernel(#[source] io::Error),
    /// A container's own filter, or a security module, forbids it.
    #[error("seccomp filters are forbidden here")]
    Forbidden(#[source] io::Error),
    /// The kernel refused for another reason.
    #[error("cannot install a seccomp filter")]
    Filter(#[source] io::Error),
}

impl InstallError {
    /// What can be done about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Nested => "end the outer session, or run this one outside of it",
            Self::Kernel(_) => "`bough doctor` shows what this machine can do",
            Self::NoNewPrivileges(_) | Self::Forbidden(_) | Self::Filter(_) => {
                "a container needs a seccomp profile that lets seccomp(2) through; `bough doctor` shows what is missing"
            }
        }
    }
}

/// Installs `filter` in the calling thread, for good, and for all that it will start.
///
/// An ordinary user gives up setuid programs by it; root does not need to.
///
/// # Errors
/// [`InstallError`]; the thread is unfiltered then, but may have given up new privileges.
pub(crate) fn install(filter: &[libc::sock_filter]) -> Result<Listener, InstallError> {
    match try_install(filter) {
        // EACCES: neither a right over the user namespace nor no_new_privs (seccomp(2)).
        Err(InstallError::Forbidden(error)) if error.raw_os_error() == Some(libc::EACCES) => {
            rustix::thread::set_no_new_privs(true)
                .map_err(|error| InstallError::NoNewPrivileges(error.into()))?;
            try_install(filter)
        }
        installed => installed,
    }
}

fn try_install(filter: &[libc::sock_filter]) -> Result<Listener, InstallError> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).expect("the filter is short"),
        filter: filter.as_ptr().cast_mut(),
    };
    let flags =
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    #[expect(unsafe_code, reason = "seccomp is in no crate")]
    // SAFETY: `program` points to `len` instructions that outlive the call, which only reads them. With NEW_LISTENER
    // the answer is a new descriptor (seccomp(2)), nobody's but ours.
    let descriptor = unsafe {
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        let result = libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program);
        match c_int::try_from(result) {
            Ok(descriptor) if descriptor >= 0 => OwnedFd::from_raw_fd(descriptor),
            Ok(_) | Err(_) => return Err(refusal(io::Error::last_os_error())),
        }
    };
    let listener = Listener { descriptor };
    listener.wake_synchronously();
    Ok(listener)
}

fn refusal(error: io::Error) -> InstallError {
    match error.raw_os_error() {
        Some(libc::EBUSY) => InstallError::Nested,
        Some(libc::EINVAL) => InstallError::Kernel(error),
        Some(libc::EACCES | libc::EPERM | libc::ENOSYS) => InstallError::Forbidden(error),
        _ => InstallError::Filter(error),
    }
}

/// Where questions come from. Once every copy is closed, what is asked fails with ENOSYS.
#[derive(Debug)]
pub(crate) struct Listener {
    descriptor: OwnedFd,
}

/// What a receiver got.
#[derive(Debug)]
pub(crate) enum Received {
    /// A process waits for an answer.
    Question(Question),
    /// It was over before it could be taken up; there may be more.
    Nothing,
    /// No filtered process is left.
    Over,
}

/// One call that waits for its answer. Unanswered, its process waits until it is killed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    /// Tells it from all others of the listener.
    pub(crate) id: u64,
    /// The thread that asks, in this process's PID namespace; 0 where it cannot be seen from here.
    pub(crate) thread: i32,
    /// `AUDIT_ARCH_*` of the call.
    pub(crate) arch: u32,
    /// Its number there.
    pub(crate) number: i32,
    /// Its arguments.
    pub(crate) args: [u64; 6],
}

impl Listener {
    /// The listener that another process handed over as `descriptor`.
    pub(crate) fn from_descriptor(descriptor: OwnedFd) -> Self {
        Self { descriptor }
    }

    /// Its descriptor, for a process that is to hold it as well.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Waits for a question; false once no filtered process is left. For the only receiver: another might take the
    /// question first.
    pub(crate) fn wait(&self) -> bool {
        let mut polled = [PollFd::new(&self.descriptor, PollFlags::IN)];
        match poll(&mut polled, None) {
            Ok(_) => !polled[0].revents().contains(PollFlags::HUP),
            Err(error) => error == rustix::io::Errno::INTR,
        }
    }

    /// The next question; waits for it.
    ///
    /// # Errors
    /// When memory has run out.
    pub(crate) fn receive(&self) -> io::Result<Received> {
        let mut notice = MaybeUninit::<libc::seccomp_notif>::zeroed();
        #[expect(unsafe_code, reason = "seccomp's ioctls are in no crate")]
        // SAFETY: all zeroes are a seccomp_notif, as the call demands (seccomp_unotify(2)); it writes a whole one.
        let (result, notice) = unsafe {
            let request = libc::SECCOMP_IOCTL_NOTIF_RECV;
            let result = libc::ioctl(self.descriptor.as_raw_fd(), request, notice.as_mut_ptr());
            (result, notice.assume_init())
        };
        if result == 0 {
            return Ok(Received::Question(Question {
                id: notice.id,
                thread: notice.pid.cast_signed(),
                arch: notice.data.arch,
                number: notice.data.nr,
                args: notice.data.args,
            }));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // The process was killed or interrupted meanwhile; or nobody is left, which only poll tells.
            Some(libc::ENOENT | libc::EINTR) => Ok(if self.is_over() {
                Received::Over
            } else {
                Received::Nothing
            }),
            _ => Err(error),
        }
    }

    fn is_over(&self) -> bool {
        let mut polled = [PollFd::new(&self.descriptor, PollFlags::empty())];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut polled, Some(&at_once)).is_ok() && polled[0].revents().contains(PollFlags::HUP)
    }

    /// Whether `question` still waits: until this says so, what was read of its thread may be another's.
    pub(crate) fn is_valid(&self, question: &Question) -> bool {
        #[expect(unsafe_code, reason = "seccomp's ioctls are in no crate")]
        // SAFETY: the call reads the eight bytes of the id.
        let result = unsafe {
            libc::ioctl(
                self.descriptor.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_ID_VALID,
                &raw const question.id,
            )
        };
        result == 0
    }

    /// Lets the call go on in the kernel, as if it had not been asked about.
    pub(crate) fn let_go_on(&self, question: &Question) {
        let flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE);
        self.send(question, 0, 0, flags.expect("the flag is the first bit"));
    }

    /// Ends the call with success.
    pub(crate) fn succeed(&self, question: &Question) {
        self.send(question, 0, 0, 0);
    }

    /// Ends the call with `value`.
    pub(crate) fn give(&self, question: &Question, value: i64) {
        self.send(question, value, 0, 0);
    }

    /// Ends a call that makes a descriptor: the asker gets `descriptor` as its number `number`.
    ///
    /// # Errors
    /// When the asker may have no descriptor of that number; it waits on then.
    pub(crate) fn give_descriptor(
        &self,
        question: &Question,
        descriptor: BorrowedFd<'_>,
        number: u32,
        is_closed_on_exec: bool,
    ) -> io::Result<()> {
        let flags = libc::SECCOMP_ADDFD_FLAG_SETFD | libc::SECCOMP_ADDFD_FLAG_SEND;
        let closed_on_exec = if is_closed_on_exec {
            libc::O_CLOEXEC
        } else {
            0
        };
        let mut given = libc::seccomp_notif_addfd {
            id: question.id,
            flags: u32::try_from(flags).expect("the flags are two bits"),
            srcfd: descriptor.as_raw_fd().cast_unsigned(),
            newfd: number,
            newfd_flags: closed_on_exec.cast_unsigned(),
        };
        #[expect(unsafe_code, reason = "seccomp's ioctls are in no crate")]
        // SAFETY: the call reads the order, which is whole and ours; the descriptor is open for as long as it is borrowed.
        let result = unsafe {
            let request = libc::SECCOMP_IOCTL_NOTIF_ADDFD;
            libc::ioctl(self.descriptor.as_raw_fd(), request, &raw mut given)
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Ends the call with `errno`.
    pub(crate) fn fail(&self, question: &Question, errno: i32) {
        self.fail_by_id(question.id, errno);
    }

    /// The same of a question that another process has received; nothing where there is none of this id.
    pub(crate) fn fail_by_id(&self, id: u64, errno: i32) {
        self.send_by_id(id, 0, errno, 0);
    }

    fn send(&self, question: &Question, value: i64, errno: i32, flags: u32) {
        self.send_by_id(question.id, value, errno, flags);
    }

    fn send_by_id(&self, id: u64, value: i64, errno: i32, flags: u32) {
        let mut answer = libc::seccomp_notif_resp {
            id,
            val: value,
            error: -errno,
            flags,
        };
        #[expect(unsafe_code, reason = "seccomp's ioctls are in no crate")]
        // SAFETY: the call reads the answer, which is whole and ours.
        let _ended = unsafe {
            // It fails where the process was killed meanwhile (only that interrupts it), and then there is nobody to tell.
            let request = libc::SECCOMP_IOCTL_NOTIF_SEND;
            libc::ioctl(self.descriptor.as_raw_fd(), request, &raw mut answer)
        };
    }

    fn wake_synchronously(&self) {
        #[expect(unsafe_code, reason = "seccomp's ioctls are in no crate")]
        // SAFETY: the argument is a number; the call touches no memory of ours.
        let _older_kernel = unsafe {
            let request = libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS;
            libc::ioctl(self.descriptor.as_raw_fd(), request, SYNC_WAKE_UP)
        };
    }
}
