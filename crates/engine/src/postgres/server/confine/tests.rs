//! Filters run as the kernel runs them, over every call and family: what goes on, and what is refused.

use super::*;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EACCES: u32 = libc::SECCOMP_RET_ERRNO | libc::EACCES as u32;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

/// `AUDIT_ARCH_*` (linux/audit.h) of what the filters are for, and of its 32-bit programs.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: [u32; 2] = [0xc000_003e, 0x4000_0003];
#[cfg(target_arch = "aarch64")]
const ARCHITECTURES: [u32; 2] = [0xc000_00b7, 0x4000_0028];

/// Runs a filter as the kernel does (bpf(4)).
fn run(filter: &[sock_filter], arch: u32, number: i64, args: [u64; 3]) -> u32 {
    let mut data = [0; 64];
    data[0..4].copy_from_slice(&u32::try_from(number).unwrap().to_le_bytes());
    data[4..8].copy_from_slice(&arch.to_le_bytes());
    for (index, arg) in args.iter().enumerate() {
        data[16 + 8 * index..24 + 8 * index].copy_from_slice(&arg.to_le_bytes());
    }
    let (mut at, mut loaded) = (0, 0);
    loop {
        let line = &filter[at];
        at += 1;
        let holds = match line.code {
            0x20 => {
                let offset = line.k as usize;
                loaded = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
                continue;
            }
            0x54 => {
                loaded &= line.k;
                continue;
            }
            0x05 => {
                at += line.k as usize;
                continue;
            }
            0x15 => loaded == line.k,
            0x06 => return line.k,
            code => panic!("the filter has no instruction {code:#x}"),
        };
        at += usize::from(if holds { line.jt } else { line.jf });
    }
}

fn answer(egress: Egress, number: i64, args: [c_int; 2]) -> u32 {
    // What is above the 32 bits of an int is no part of the argument.
    let high = 0xdead_beef_0000_0000;
    let args = args.map(|arg| high | u64::from(arg.cast_unsigned()));
    run(
        &filter(egress),
        ARCHITECTURES[0],
        number,
        [args[0], args[1], 0],
    )
}

#[test]
fn only_a_stream_of_the_machine_itself_is_made() {
    for egress in [Egress::None, Egress::UntilSealed] {
        for number in [libc::SYS_socket, libc::SYS_socketpair] {
            let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            let stream = [libc::AF_UNIX, libc::SOCK_STREAM | flags];
            assert_eq!(answer(egress, number, stream), ALLOW);
            for other in OTHER_TYPES {
                assert_eq!(
                    answer(egress, number, [libc::AF_UNIX, other | flags]),
                    EACCES
                );
            }
            // All families that there are (linux/socket.h, AF_MAX), and some that there are not.
            for family in (0..64).filter(|family| *family != libc::AF_UNIX) {
                let refused = answer(egress, number, [family, libc::SOCK_STREAM]);
                assert_eq!(refused, EACCES, "the family {family}");
            }
        }
    }
}

#[test]
fn a_sealed_server_connects_to_nothing_and_one_to_be_sealed_is_asked_about() {
    assert_eq!(answer(Egress::None, libc::SYS_connect, [3, 0]), EACCES);
    assert_eq!(
        answer(Egress::UntilSealed, libc::SYS_connect, [3, 0]),
        ALLOW
    );
}

#[test]
fn no_other_way_into_the_kernel_is_open() {
    for egress in [Egress::None, Egress::UntilSealed] {
        assert_eq!(answer(egress, libc::SYS_io_uring_setup, [8, 0]), EACCES);
        for number in 0..500 {
            let foreign = run(&filter(egress), ARCHITECTURES[1], number, [0; 3]);
            assert_eq!(foreign, KILL, "{number}");
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_numbers_of_x32_are_no_way_round() {
    for egress in [Egress::None, Egress::UntilSealed] {
        let stream = [libc::AF_UNIX, libc::SOCK_STREAM];
        for number in [
            libc::SYS_socket,
            libc::SYS_socketpair,
            libc::SYS_connect,
            libc::SYS_io_uring_setup,
        ] {
            assert_eq!(answer(egress, number | X32_BIT, stream), EACCES);
        }
    }
}

#[test]
fn what_a_server_does_besides_goes_on() {
    let touched = [
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_io_uring_setup,
    ];
    for number in (0..500).filter(|number| !touched.contains(number)) {
        assert_eq!(answer(Egress::None, number, [0; 2]), ALLOW, "{number}");
    }
}

#[test]
fn this_machine_can_build_the_wall() {
    check_confinement().unwrap();
}
