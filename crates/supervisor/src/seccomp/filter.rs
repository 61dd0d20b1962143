//! Which system calls are asked about, by architecture, and the filter that asks.
//!
//! ```text
//!   native and 32-bit calls:  connect bind getsockname getpeername -> notify   (i386's socketcall by its number)
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
    /// `socketcall(number, arguments)` of i386: any of them, or a send.
    Multiplexed,
}

/// One architecture's numbers.
struct Numbers {
    /// `AUDIT_ARCH_*` (linux/audit.h).
    arch: u32,
    notified: &'static [(u32, Call)],
    /// Sends: the number, and which argument holds the flags.
    sends: [(u32, usize); 3],
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
    sends: [(44, 3), (46, 2), (307, 3)],
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
    sends: [(369, 3), (370, 2), (345, 3)],
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
    sends: [(206, 3), (211, 2), (269, 3)],
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
    sends: [(290, 3), (296, 2), (374, 3)],
    prctl: 172,
};

/// `socketcall` of i386, and which of its numbers are asked about (linux/net.h): the four calls, and three sends,
/// whose flags are in memory where the filter cannot look.
const SOCKETCALL: u32 = 102;
const SOCKETCALL_NOTIFIED: [u32; 7] = [2, 3, 6, 7, 11, 16, 20];

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
    let known = numbers.notified.iter().find(|(n, _)| *n == number);
    known.map(|(_, call)| *call)
}

/// The filter of this machine's architecture.
pub(crate) fn build() -> Vec<libc::sock_filter> {
    assemble(&MACHINE)
}

fn assemble(machine: &[Numbers]) -> Vec<libc::sock_filter> {
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
        add_architecture(&mut program, numbers);
    }
    program.assemble()
}

fn add_architecture(program: &mut Program, numbers: &Numbers) {
    let [notify, missing, prctl, socketcall, not_supported] = [(); 5].map(|()| program.label());
    program.load(offset_of!(libc::seccomp_data, nr));
    if numbers.arch == X86_64.arch {
        program.jump_if_at_least(X32_BIT, missing);
    }
    for (number, _) in numbers.notified {
        program.jump_if_equal(*number, notify);
    }
    program.jump_if_equal(IO_URING_SETUP, missing);
    program.jump_if_equal(numbers.prctl, prctl);
    if numbers.arch == I386.arch {
        program.jump_if_equal(SOCKETCALL, socketcall);
    }
    let sends = numbers.sends.map(|(number, flags)| {
        let send = program.label();
        program.jump_if_equal(number, send);
        (send, flags)
    });
    program.answer(Answer::Allow);
    for (send, flags) in sends {
        program.place(send);
        program.load(argument(flags));
        program.jump_if_any(libc::MSG_FASTOPEN.cast_unsigned(), not_supported);
        program.answer(Answer::Allow);
    }
    program.place(prctl);
    add_prctl(program);
    program.place(socketcall);
    program.load(argument(0));
    for number in SOCKETCALL_NOTIFIED {
        program.jump_if_equal(number, notify);
    }
    program.answer(Answer::Allow);
    program.place(not_supported);
    program.answer(Answer::Errno(errno(libc::EOPNOTSUPP)));
    program.place(missing);
    program.answer(Answer::Errno(errno(libc::ENOSYS)));
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
        let (x86, arm) = (assemble(&[X86_64, I386]), assemble(&[AARCH64, ARM]));
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
            let filter = assemble(&machine);
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
        let filter = assemble(&[X86_64, I386]);
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
            let filter = assemble(&machine);
            for (number, at) in numbers.sends {
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
        let filter = assemble(&[X86_64, I386]);
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
    fn socketcall_is_asked_about_by_its_number() {
        let filter = assemble(&[X86_64, I386]);
        let call = |number| run(&filter, I386.arch, SOCKETCALL, [number, 0, 0, 0, 0, 0]);
        assert_eq!(call(3), NOTIFY);
        assert_eq!(call(1), ALLOW);
        assert_eq!(call(9), ALLOW);
    }

    #[test]
    fn everything_else_goes_on() {
        for number in (0..500).filter(|number| *number != IO_URING_SETUP) {
            let asked = |numbers: &Numbers| {
                let sends = numbers.sends.iter().map(|(n, _)| *n);
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
}
