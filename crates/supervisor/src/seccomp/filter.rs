//! Which system calls are asked about, by architecture, and the filter that asks.
//!
//! ```text
//!   native and 32-bit calls:  connect bind getsockname getpeername -> notify   (i386's socketcall by its number)
//!                             getsockopt of SO_ERROR -> notify
//!                             in a target's network:
//!                               listen; socket for datagrams of IPv4 and IPv6 -> notify
//!                               sendto and recvfrom with an address -> notify
//!                               with a descriptor that is marked by its number (MARKED): sendmsg sendmmsg recvmsg
//!                               recvmmsg -> notify
//!                             send* with MSG_FASTOPEN -> EOPNOTSUPP: callers fall back to connect
//!                             io_uring_setup -> ENOSYS: its connects would pass every filter
//!                             prctl(PR_SET_DUMPABLE, 0) -> "done": such a process could not be looked into
//!   x32, unknown architectures: everything -> ENOSYS
//!   the rest: allow
//! ```
//!
//! Numbers: the kernel's arch/x86/entry/syscalls/*.tbl, include/uapi/asm-generic/unistd.h, arch/arm/tools/syscall.tbl.

use std::mem::offset_of;

use super::program::{Answer, Label, Program};

/// A call that the listener is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// `connect(fd, address, length)`.
    Connect,
    /// `bind(fd, address, length)`.
    Bind,
    /// `getsockname(fd, address, length)`.
    LocalName,
    /// `getpeername(fd, address, length)`.
    PeerName,
    /// `getsockopt(fd, level, name, value, length)`, of SO_ERROR alone where the filter can tell.
    Option,
    /// `listen(fd, backlog)`.
    Listen,
    /// `socket(family, type, protocol)`.
    Socket,
    /// `sendto(fd, bytes, length, flags, address, length)`.
    SendTo,
    /// `sendmsg(fd, message, flags)`.
    SendMessage,
    /// `sendmmsg(fd, messages, count, flags)`.
    SendMessages,
    /// `recvfrom(fd, bytes, length, flags, address, length)`.
    ReceiveFrom,
    /// `recvmsg(fd, message, flags)`.
    ReceiveMessage,
    /// `recvmmsg(fd, messages, count, flags, timeout)`.
    ReceiveMessages,
    /// `socketcall(number, arguments)` of i386: any of them.
    Multiplexed,
}

/// The descriptors that sockets for datagrams get in a target's network, so that the filter knows them by their number
/// where it cannot see an address: above what programs usually have, below what select(2) can wait for.
pub(crate) const MARKED: std::ops::Range<u32> = 640..1024;

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Connections and ports.
    Connections,
    /// Datagrams and listening as well.
    Network,
}

/// One architecture's numbers.
struct Numbers {
    /// `AUDIT_ARCH_*` (linux/audit.h).
    arch: u32,
    notified: &'static [(u32, Call)],
    /// `getsockopt`.
    option: u32,
    /// Sends: the number, and which argument holds the flags.
    sends: [(u32, usize, Call); 3],
    receives: [(u32, Call); 3],
    listen: u32,
    socket: u32,
    prctl: u32,
}

/// The same on every architecture, as all calls since 2019.
const IO_URING_SETUP: u32 = 425;

/// x32 calls are x86-64's with this bit (arch/x86/include/uapi/asm/unistd.h).
const X32_BIT: u32 = 0x4000_0000;

const X86_64: Numbers = Numbers {
    arch: 0xc000_003e,
    notified: &[
        (42, Call::Connect),
        (49, Call::Bind),
        (51, Call::LocalName),
        (52, Call::PeerName),
    ],
    option: 55,
    sends: [
        (44, 3, Call::SendTo),
        (46, 2, Call::SendMessage),
        (307, 3, Call::SendMessages),
    ],
    receives: [
        (45, Call::ReceiveFrom),
        (47, Call::ReceiveMessage),
        (299, Call::ReceiveMessages),
    ],
    listen: 50,
    socket: 41,
    prctl: 157,
};

const I386: Numbers = Numbers {
    arch: 0x4000_0003,
    notified: &[
        (361, Call::Bind),
        (362, Call::Connect),
        (367, Call::LocalName),
        (368, Call::PeerName),
    ],
    option: 365,
    sends: [
        (369, 3, Call::SendTo),
        (370, 2, Call::SendMessage),
        (345, 3, Call::SendMessages),
    ],
    receives: [
        (371, Call::ReceiveFrom),
        (372, Call::ReceiveMessage),
        (337, Call::ReceiveMessages),
    ],
    listen: 363,
    socket: 359,
    prctl: 172,
};

#[cfg(any(target_arch = "aarch64", test))]
const AARCH64: Numbers = Numbers {
    arch: 0xc000_00b7,
    notified: &[
        (200, Call::Bind),
        (203, Call::Connect),
        (204, Call::LocalName),
        (205, Call::PeerName),
    ],
    option: 209,
    sends: [
        (206, 3, Call::SendTo),
        (211, 2, Call::SendMessage),
        (269, 3, Call::SendMessages),
    ],
    receives: [
        (207, Call::ReceiveFrom),
        (212, Call::ReceiveMessage),
        (243, Call::ReceiveMessages),
    ],
    listen: 201,
    socket: 198,
    prctl: 167,
};

#[cfg(any(target_arch = "aarch64", test))]
const ARM: Numbers = Numbers {
    arch: 0x4000_0028,
    notified: &[
        (282, Call::Bind),
        (283, Call::Connect),
        (286, Call::LocalName),
        (287, Call::PeerName),
    ],
    option: 295,
    sends: [
        (290, 3, Call::SendTo),
        (296, 2, Call::SendMessage),
        (374, 3, Call::SendMessages),
    ],
    receives: [
        (292, Call::ReceiveFrom),
        (297, Call::ReceiveMessage),
        (365, Call::ReceiveMessages),
    ],
    listen: 284,
    socket: 281,
    prctl: 172,
};

/// `socketcall` of i386, and which of its numbers are asked about (linux/net.h): the five calls, and three sends,
/// whose arguments are in memory where the filter cannot look; in a target's network socket, listen and receives too.
const SOCKETCALL: u32 = 102;
const SOCKETCALL_NOTIFIED: [u32; 8] = [2, 3, 6, 7, 11, 15, 16, 20];
const SOCKETCALL_OF_NETWORK: [u32; 5] = [1, 4, 12, 17, 19];

/// What this machine's processes may be built for.
#[cfg(target_arch = "x86_64")]
const MACHINE: [Numbers; 2] = [X86_64, I386];
#[cfg(target_arch = "aarch64")]
const MACHINE: [Numbers; 2] = [AARCH64, ARM];

/// Which call a question is about; none for one that the filter does not ask about.
pub(crate) fn call_of(arch: u32, number: i32) -> Option<Call> {
    let number = u32::try_from(number).ok()?;
    if arch == I386.arch && number == SOCKETCALL {
        return Some(Call::Multiplexed);
    }
    let numbers = MACHINE.iter().find(|numbers| numbers.arch == arch)?;
    let sends = numbers.sends.iter().map(|(n, _, call)| (*n, *call));
    let others = [
        (numbers.option, Call::Option),
        (numbers.listen, Call::Listen),
        (numbers.socket, Call::Socket),
    ];
    let all = numbers.notified.iter().chain(&numbers.receives).copied();
    let mut all = all.chain(sends).chain(others);
    all.find(|(n, _)| *n == number).map(|(_, call)| call)
}

/// Whether programs of `arch` have pointers of 32 bits.
pub(crate) fn is_32_bit(arch: u32) -> bool {
    // __AUDIT_ARCH_64BIT of linux/audit.h.
    arch & 0x8000_0000 == 0
}

/// The filter of this machine's architecture.
pub(crate) fn build(scope: Scope) -> Vec<libc::sock_filter> {
    assemble(&MACHINE, scope)
}

fn assemble(machine: &[Numbers], scope: Scope) -> Vec<libc::sock_filter> {
    let mut program = Program::default();
    let missing = Answer::Errno(errno(libc::ENOSYS));
    let starts: Vec<Label> = machine.iter().map(|_| program.label()).collect();
    program.load(offset_of!(libc::seccomp_data, arch));
    for (numbers, start) in machine.iter().zip(&starts) {
        program.jump_if_equal(numbers.arch, *start);
    }
    program.answer(missing);
    for (numbers, start) in machine.iter().zip(&starts) {
        program.place(*start);
        add_architecture(&mut program, numbers, scope);
    }
    program.assemble()
}

fn add_architecture(program: &mut Program, numbers: &Numbers, scope: Scope) {
    let [notify, missing, prctl, socketcall, not_supported, option] =
        [(); 6].map(|()| program.label());
    program.load(offset_of!(libc::seccomp_data, nr));
    if numbers.arch == X86_64.arch {
        program.jump_if_at_least(X32_BIT, missing);
    }
    for (number, _) in numbers.notified {
        program.jump_if_equal(*number, notify);
    }
    program.jump_if_equal(IO_URING_SETUP, missing);
    program.jump_if_equal(numbers.prctl, prctl);
    program.jump_if_equal(numbers.option, option);
    if numbers.arch == I386.arch {
        program.jump_if_equal(SOCKETCALL, socketcall);
    }
    let sends = numbers.sends.map(|(number, flags, call)| {
        let send = program.label();
        program.jump_if_equal(number, send);
        (send, flags, call)
    });
    let of_network = (scope == Scope::Network).then(|| jump_to_network(program, numbers, notify));
    program.answer(Answer::Allow);
    for (send, flags, call) in sends {
        program.place(send);
        program.load(argument(flags));
        program.jump_if_any(libc::MSG_FASTOPEN.cast_unsigned(), not_supported);
        match scope {
            Scope::Connections => program.answer(Answer::Allow),
            Scope::Network => add_datagram(program, call),
        }
    }
    if let Some((socket, receives)) = of_network {
        program.place(socket);
        add_socket(program);
        for (receive, call) in receives {
            program.place(receive);
            add_datagram(program, call);
        }
    }
    program.place(option);
    add_option(program);
    program.place(prctl);
    add_prctl(program);
    program.place(socketcall);
    program.load(argument(0));
    for number in SOCKETCALL_NOTIFIED {
        program.jump_if_equal(number, notify);
    }
    if scope == Scope::Network {
        for number in SOCKETCALL_OF_NETWORK {
            program.jump_if_equal(number, notify);
        }
    }
    program.answer(Answer::Allow);
    program.place(not_supported);
    program.answer(Answer::Errno(errno(libc::EOPNOTSUPP)));
    program.place(missing);
    program.answer(Answer::Errno(errno(libc::ENOSYS)));
    program.place(notify);
    program.answer(Answer::Notify);
}

/// The calls of a target's network, apart from sends.
fn jump_to_network(
    program: &mut Program,
    numbers: &Numbers,
    notify: Label,
) -> (Label, [(Label, Call); 3]) {
    program.jump_if_equal(numbers.listen, notify);
    let socket = program.label();
    program.jump_if_equal(numbers.socket, socket);
    let receives = numbers.receives.map(|(number, call)| {
        let receive = program.label();
        program.jump_if_equal(number, receive);
        (receive, call)
    });
    (socket, receives)
}

/// `socket(AF_INET or AF_INET6, SOCK_DGRAM with any flags)` is asked about.
fn add_socket(program: &mut Program) {
    let [inet, notify] = [(); 2].map(|()| program.label());
    program.load(argument(0));
    program.jump_if_equal(libc::AF_INET.cast_unsigned(), inet);
    program.jump_if_equal(libc::AF_INET6.cast_unsigned(), inet);
    program.answer(Answer::Allow);
    program.place(inet);
    program.load(argument(1));
    let (cloexec, nonblock) = (libc::SOCK_CLOEXEC, libc::SOCK_NONBLOCK);
    for flags in [0, cloexec, nonblock, cloexec | nonblock] {
        program.jump_if_equal((libc::SOCK_DGRAM | flags).cast_unsigned(), notify);
    }
    program.answer(Answer::Allow);
    program.place(notify);
    program.answer(Answer::Notify);
}

/// A send or receive is asked about where it has an address; on a marked descriptor, where it may have one.
fn add_datagram(program: &mut Program, call: Call) {
    let [marked, above, notify] = [(); 3].map(|()| program.label());
    if matches!(call, Call::SendTo | Call::ReceiveFrom) {
        // Whatever half of the pointer is set.
        for half in [argument(4), argument(4) + 4] {
            program.load(half);
            program.jump_if_any(u32::MAX, notify);
        }
        program.answer(Answer::Allow);
        program.place(notify);
        program.answer(Answer::Notify);
        return;
    }
    program.load(argument(0));
    program.jump_if_at_least(MARKED.end, above);
    program.jump_if_at_least(MARKED.start, marked);
    program.place(above);
    program.answer(Answer::Allow);
    program.place(marked);
    program.answer(Answer::Notify);
}

/// `getsockopt(fd, SOL_SOCKET, SO_ERROR, ...)` is asked about.
fn add_option(program: &mut Program) {
    let [of_socket, notify] = [(); 2].map(|()| program.label());
    program.load(argument(1));
    program.jump_if_equal(libc::SOL_SOCKET.cast_unsigned(), of_socket);
    program.answer(Answer::Allow);
    program.place(of_socket);
    program.load(argument(2));
    program.jump_if_equal(libc::SO_ERROR.cast_unsigned(), notify);
    program.answer(Answer::Allow);
    program.place(notify);
    program.answer(Answer::Notify);
}

/// `prctl(PR_SET_DUMPABLE, 0)` is done without being done; every other prctl goes on.
fn add_prctl(program: &mut Program) {
    let [dumpable, off] = [(); 2].map(|()| program.label());
    program.load(argument(0));
    program.jump_if_equal(libc::PR_SET_DUMPABLE.cast_unsigned(), dumpable);
    program.answer(Answer::Allow);
    program.place(dumpable);
    program.load(argument(1));
    program.jump_if_equal(0, off);
    program.answer(Answer::Allow);
    program.place(off);
    program.answer(Answer::Errno(0));
}

/// The low half of an argument: both architectures are little-endian.
fn argument(number: usize) -> usize {
    offset_of!(libc::seccomp_data, args) + 8 * number
}

fn errno(number: i32) -> u16 {
    u16::try_from(number).expect("errno numbers are small")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter as the kernel does.
    fn run(filter: &[libc::sock_filter], arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let mut data = [0; 64];
        data[0..4].copy_from_slice(&number.to_le_bytes());
        data[4..8].copy_from_slice(&arch.to_le_bytes());
        for (index, arg) in args.iter().enumerate() {
            data[16 + 8 * index..24 + 8 * index].copy_from_slice(&arg.to_le_bytes());
        }
        let (mut at, mut loaded) = (0, 0);
        loop {
            let line = filter[at];
            at += 1;
            let holds = match u32::from(line.code) {
                0x20 => {
                    let offset = line.k as usize;
                    loaded = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
                    continue;
                }
                0x15 => loaded == line.k,
                0x35 => loaded >= line.k,
                0x45 => loaded & line.k != 0,
                0x06 => return line.k,
                code => panic!("the filter has no instruction {code:#x}"),
            };
            at += usize::from(if holds { line.jt } else { line.jf });
        }
    }

    fn answers(number: u32, args: [u64; 6]) -> [u32; 4] {
        let (x86, arm) = (
            assemble(&[X86_64, I386], Scope::Connections),
            assemble(&[AARCH64, ARM], Scope::Connections),
        );
        [
            (&x86, &X86_64),
            (&x86, &I386),
            (&arm, &AARCH64),
            (&arm, &ARM),
        ]
        .map(|(filter, numbers)| run(filter, numbers.arch, number, args))
    }

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    const EOPNOTSUPP: u32 = libc::SECCOMP_RET_ERRNO | libc::EOPNOTSUPP as u32;

    #[test]
    fn each_architectures_calls_are_asked_about() {
        for (machine, all) in [([X86_64, I386], "x86"), ([AARCH64, ARM], "arm")] {
            let filter = assemble(&machine, Scope::Connections);
            for numbers in &machine {
                for (number, call) in numbers.notified {
                    let answer = run(&filter, numbers.arch, *number, [0; 6]);
                    assert_eq!(answer, NOTIFY, "{all} {:#x} {call:?}", numbers.arch);
                }
            }
        }
    }

    #[test]
    fn io_uring_and_unknown_architectures_are_missing() {
        assert_eq!(answers(IO_URING_SETUP, [0; 6]), [ENOSYS; 4]);
        let filter = assemble(&[X86_64, I386], Scope::Connections);
        assert_eq!(run(&filter, X86_64.arch, X32_BIT | 42, [0; 6]), ENOSYS);
        assert_eq!(run(&filter, AARCH64.arch, 203, [0; 6]), ENOSYS);
    }

    #[test]
    fn a_send_that_connects_is_refused_and_any_other_goes_on() {
        let fast = u64::from(libc::MSG_FASTOPEN.cast_unsigned());
        for numbers in [X86_64, I386, AARCH64, ARM] {
            let machine = if numbers.arch == X86_64.arch || numbers.arch == I386.arch {
                [X86_64, I386]
            } else {
                [AARCH64, ARM]
            };
            let filter = assemble(&machine, Scope::Connections);
            for (number, at, _) in numbers.sends {
                let mut args = [0; 6];
                args[at] = u64::from(libc::MSG_NOSIGNAL.cast_unsigned());
                assert_eq!(run(&filter, numbers.arch, number, args), ALLOW);
                args[at] |= fast;
                assert_eq!(run(&filter, numbers.arch, number, args), EOPNOTSUPP);
            }
        }
    }

    #[test]
    fn a_process_stays_dumpable_and_believes_that_it_is_not() {
        let filter = assemble(&[X86_64, I386], Scope::Connections);
        let set = |value| {
            [
                u64::from(libc::PR_SET_DUMPABLE.cast_unsigned()),
                value,
                0,
                0,
                0,
                0,
            ]
        };
        for numbers in [X86_64, I386] {
            let answer = |args| run(&filter, numbers.arch, numbers.prctl, args);
            assert_eq!(answer(set(0)), libc::SECCOMP_RET_ERRNO);
            assert_eq!(answer(set(1)), ALLOW);
            assert_eq!(answer([15, 0, 0, 0, 0, 0]), ALLOW);
        }
    }

    #[test]
    fn a_sockets_error_is_asked_about_and_no_other_option() {
        for machine in [[X86_64, I386], [AARCH64, ARM]] {
            for scope in [Scope::Connections, Scope::Network] {
                let filter = assemble(&machine, scope);
                for numbers in &machine {
                    let option = |level, name| {
                        run(
                            &filter,
                            numbers.arch,
                            numbers.option,
                            [3, level, name, 9, 9, 0],
                        )
                    };
                    let [error, kind] = [libc::SO_ERROR, libc::SO_TYPE].map(i32::cast_unsigned);
                    let [socket, tcp] =
                        [libc::SOL_SOCKET, libc::IPPROTO_TCP].map(i32::cast_unsigned);
                    assert_eq!(option(socket.into(), error.into()), NOTIFY);
                    assert_eq!(option(socket.into(), kind.into()), ALLOW);
                    assert_eq!(option(tcp.into(), error.into()), ALLOW);
                }
            }
        }
    }

    #[test]
    fn socketcall_is_asked_about_by_its_number() {
        let filter = assemble(&[X86_64, I386], Scope::Connections);
        let call = |number| run(&filter, I386.arch, SOCKETCALL, [number, 0, 0, 0, 0, 0]);
        assert_eq!(call(3), NOTIFY);
        assert_eq!(call(1), ALLOW);
        assert_eq!(call(9), ALLOW);
    }

    #[test]
    fn everything_else_goes_on() {
        for number in (0..500).filter(|number| *number != IO_URING_SETUP) {
            let asked = |numbers: &Numbers| {
                let sends = numbers.sends.iter().map(|(n, _, _)| *n);
                let notified = numbers.notified.iter().map(|(n, _)| *n);
                let own = numbers.arch == I386.arch && number == SOCKETCALL;
                own || sends.chain(notified).any(|n| n == number)
            };
            let machine = [&X86_64, &I386, &AARCH64, &ARM];
            for (answer, numbers) in answers(number, [0; 6]).into_iter().zip(machine) {
                if !asked(numbers) {
                    assert_eq!(answer, ALLOW, "{number} of {:#x}", numbers.arch);
                }
            }
        }
    }

    #[test]
    fn in_a_targets_network_datagrams_and_listening_are_asked_about() {
        for machine in [[X86_64, I386], [AARCH64, ARM]] {
            let filter = assemble(&machine, Scope::Network);
            for numbers in &machine {
                let run = |number, args| run(&filter, numbers.arch, number, args);
                assert_eq!(run(numbers.listen, [3, 5, 0, 0, 0, 0]), NOTIFY);
                let socket = |family, kind| run(numbers.socket, [family, kind, 0, 0, 0, 0]);
                assert_eq!([socket(2, 2), socket(10, 0o2_004_002)], [NOTIFY; 2]);
                assert_eq!([socket(2, 1), socket(1, 2), socket(16, 3)], [ALLOW; 3]);
                let sends = numbers.sends.map(|(number, _, call)| (number, call));
                for (number, call) in sends.into_iter().chain(numbers.receives) {
                    let on = |fd, address| run(number, [fd, 1, 1, 0, address, 0]);
                    let names = matches!(call, Call::SendTo | Call::ReceiveFrom);
                    let unmarked = if names { NOTIFY } else { ALLOW };
                    assert_eq!([on(3, 9), on(639, 9), on(1024, 9 << 32)], [unmarked; 3]);
                    assert_eq!([on(640, 9), on(1023, 9 << 32)], [NOTIFY; 2]);
                    assert_eq!(on(640, 0), if names { ALLOW } else { NOTIFY });
                }
            }
        }
    }
}
