//! The wall around a server: system calls by which it, or a program that it starts, would reach anything but its clients
//! are refused by the kernel, for good and in every descendant (seccomp(2)).
//!
//! ```text
//!  between fork and exec, after the server came into its data directory:
//!    socket, socketpair      other than a stream of AF_UNIX ─▶ EACCES    no TCP, UDP, raw, netlink, vsock
//!    connect                 Egress::None                   ─▶ EACCES    nor another server's Unix socket
//!                            Egress::UntilSealed            ─▶ asks `gate`, which lets it until it is closed
//!    io_uring_setup          ─▶ EACCES                                   its requests pass no filter
//!    calls of i386 and arm   ─▶ the process is killed; x32's of those above ─▶ EACCES
//!    the rest                ─▶ as ever: the server makes its own socket, and accepts
//! ```
//!
//! Owns the filters, their way into a server, and every `unsafe` of that. Leaves to `settings` which server may reach
//! what, and to `gate` what is answered. Guards against what a copy of a source does of itself: it is no prison for a
//! superuser who means to break out, and who may write any file of the servers' account.

#![expect(
    unsafe_code,
    reason = "pre_exec, and a filter with a listener, have no safe form; they are kept together here"
)]

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IoSlice};
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::raw::c_int;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::LazyLock;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};
use rustix::pipe::PipeFlags;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter, sock_filter,
};

use super::super::settings::Egress;
use super::gate::{self, Gate};

/// The bits of `socket`'s second argument that say which type (linux/net.h, `SOCK_TYPE_MASK`).
const SOCKET_TYPE_MASK: u64 = 0xf;

/// What a socket of AF_UNIX could be but a stream (linux/net.h): one of datagrams reaches others without connecting.
const OTHER_TYPES: [c_int; 5] = [
    libc::SOCK_DGRAM,
    libc::SOCK_RAW,
    libc::SOCK_RDM,
    libc::SOCK_SEQPACKET,
    libc::SOCK_DCCP,
];

/// x32 calls are x86-64's with this bit (arch/x86/include/uapi/asm/unistd.h).
#[cfg(target_arch = "x86_64")]
const X32_BIT: i64 = 0x4000_0000;

#[cfg(target_arch = "x86_64")]
const MACHINE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: TargetArch = TargetArch::aarch64;

/// The filters: that of a server that reaches nothing, and that of one that is sealed later.
static FILTERS: LazyLock<[BpfProgram; 2]> =
    LazyLock::new(|| [Egress::None, Egress::UntilSealed].map(filter));

/// Why a server cannot be kept from the network. It is not started then.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Descriptors for what it says could not be made.
    #[error("cannot prepare the filter of its system calls")]
    Prepare(#[source] io::Error),
    /// The kernel, or what stands above this process, refused.
    #[error("this machine refuses to filter its system calls (seccomp)")]
    Refused(#[source] io::Error),
    /// The server that is to be sealed later did not hand over what seals it.
    #[error("cannot take over what seals it")]
    Handover(#[source] io::Error),
}

impl ConfineError {
    /// One thing to do about it.
    pub fn hint(&self) -> &'static str {
        "branches need a kernel with CONFIG_SECCOMP_FILTER, and a container needs a profile that lets seccomp(2) through; \
         `bough doctor` shows what is missing"
    }
}

/// Tries whether servers can be kept from the network on this machine, in a process of its own.
///
/// # Errors
/// [`ConfineError`]: no server that needs it will start.
pub fn check_confinement() -> Result<(), ConfineError> {
    // Never executed: the child ends before.
    let mut command = Command::new("/");
    let confining = confine(&mut command, Egress::None)?;
    let end = || Err(Errno::CANCELED.into());
    // SAFETY: the closure makes no call at all; an `io::Error` from an error number allocates nothing.
    unsafe {
        command.pre_exec(end);
    }
    match command.spawn() {
        Err(error) if error.raw_os_error() == Some(Errno::CANCELED.raw_os_error()) => Ok(()),
        Err(error) => Err(confining.explain(error).unwrap_or_else(|error| {
            // Not even a process could be made.
            ConfineError::Prepare(error)
        })),
        Ok(mut child) => Err(ConfineError::Refused(
            child
                .wait()
                .map_or_else(|error| error, |_| io::Error::other("it was executed")),
        )),
    }
}

/// Makes the child of `command` build its wall. Call it last: what it does of itself comes before.
pub(super) fn confine(command: &mut Command, egress: Egress) -> Result<Confining, ConfineError> {
    let prepare = |errno: Errno| ConfineError::Prepare(errno.into());
    let (said, say) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(prepare)?;
    let (filter, ends) = match egress {
        Egress::Open => return Ok(Confining { said, taken: None }),
        Egress::None => (&FILTERS[0], None),
        Egress::UntilSealed => {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let ends = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
            (&FILTERS[1], Some(ends.map_err(prepare)?))
        }
    };
    let (taken, given) = ends.unzip();
    let inside = move || {
        let done = build_wall(filter, given.as_ref().map(AsFd::as_fd));
        done.inspect_err(|_| {
            // Where nobody reads it, the error number remains.
            let _ = rustix::io::write(&say, &[0]);
        })
    };
    // SAFETY: between fork and exec only what is async-signal-safe may be done. The closure makes system calls on
    // descriptors and on a filter that were made before the fork, without allocating, locking or panicking:
    // `apply_filter` is one prctl and one seccomp, and an `io::Error` from an error number allocates nothing.
    unsafe {
        command.pre_exec(inside);
    }
    Ok(Confining { said, taken })
}

/// A command whose child will build its wall; kept until it was started.
pub(super) struct Confining {
    said: OwnedFd,
    taken: Option<OwnedFd>,
}

impl fmt::Debug for Confining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confining").finish_non_exhaustive()
    }
}

impl Confining {
    /// Why the command did not start, where its wall was the reason; else the error itself.
    pub(super) fn explain(&self, error: io::Error) -> Result<ConfineError, io::Error> {
        // The child has ended, so that there is something to read by now or never.
        match rustix::io::read(&self.said, &mut [0]) {
            Ok(1) => Ok(ConfineError::Refused(error)),
            Ok(_) | Err(_) => Err(error),
        }
    }

    /// What seals the server, once it was started; none where it is sealed from its start, or never.
    pub(super) fn gate(self) -> Result<Option<Gate>, ConfineError> {
        let taken = self.taken.map(|taken| gate::receive(&taken));
        let gate = taken.map(|listener| listener.and_then(Gate::open));
        gate.transpose().map_err(ConfineError::Handover)
    }
}

/// What a child does. With `given`, the listener that seals it goes there.
fn build_wall(filter: &[sock_filter], given: Option<BorrowedFd<'_>>) -> io::Result<()> {
    apply_filter(filter).map_err(|error| match error {
        seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
        seccompiler::Error::Backend(_)
        | seccompiler::Error::EmptyFilter
        | seccompiler::Error::ThreadSync(_) => Errno::INVAL.into(),
    })?;
    let Some(given) = given else {
        return Ok(());
    };
    let listener = apply_asking()?;
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    let descriptors = [listener.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::NOBUFS.into());
    }
    sendmsg(
        given,
        &[IoSlice::new(&[0])],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Has the kernel ask a listener about every connect. The filter before it has seen to other architectures.
fn apply_asking() -> io::Result<OwnedFd> {
    let line = |code: u32, jt: u8, k: u32| sock_filter {
        // Opcodes are below 0x100.
        code: code as u16,
        jt,
        jf: 0,
        k,
    };
    let (load, jump, end) = (
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    );
    let program = [
        line(load, 0, offset_of!(libc::seccomp_data, nr) as u32),
        line(jump, 1, libc::SYS_connect as u32),
        line(end, 0, libc::SECCOMP_RET_ALLOW),
        line(end, 0, libc::SECCOMP_RET_USER_NOTIF),
    ];
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut().cast(),
    };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // SAFETY: `program` points to `len` instructions that outlive the call, which only reads them; seccompiler's
    // `sock_filter` is laid out as the kernel's. With NEW_LISTENER the answer is a new descriptor (seccomp(2)), nobody's
    // but ours, and closed by exec.
    unsafe {
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        let result = libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program);
        match c_int::try_from(result) {
            Ok(descriptor) if descriptor >= 0 => Ok(OwnedFd::from_raw_fd(descriptor)),
            Ok(_) | Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

fn filter(egress: Egress) -> BpfProgram {
    let mut refused = BTreeMap::from([
        (libc::SYS_socket, other_sockets()),
        (libc::SYS_socketpair, other_sockets()),
        (libc::SYS_io_uring_setup, Vec::new()),
    ]);
    if egress == Egress::None {
        refused.insert(libc::SYS_connect, Vec::new());
    }
    #[cfg(target_arch = "x86_64")]
    for number in [
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_io_uring_setup,
    ] {
        refused.insert(number | X32_BIT, Vec::new());
    }
    let refuse = SeccompAction::Errno(libc::EACCES.cast_unsigned());
    let filter = SeccompFilter::new(refused, SeccompAction::Allow, refuse, MACHINE);
    let filter = filter.and_then(BpfProgram::try_from);
    filter.expect("the rules are constants, and few")
}

/// Everything but a stream of AF_UNIX: any of the rules suffices.
fn other_sockets() -> Vec<SeccompRule> {
    let rule = |argument, operator, value: c_int| {
        let value = u64::from(value.cast_unsigned());
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value);
        let rule = condition.and_then(|condition| SeccompRule::new(vec![condition]));
        rule.expect("the rules are constants")
    };
    let family = rule(0, SeccompCmpOp::Ne, libc::AF_UNIX);
    let types = OTHER_TYPES.map(|other| rule(1, SeccompCmpOp::MaskedEq(SOCKET_TYPE_MASK), other));
    [family].into_iter().chain(types).collect()
}

#[cfg(test)]
mod tests;
