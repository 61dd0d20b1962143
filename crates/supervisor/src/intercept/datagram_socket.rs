//! Sockets for datagrams in a target's network: made here, and given to the program under a number by which the filter
//! knows them.
//!
//! Owns which number that is. The kernel puts a descriptor under a number whatever stands there, so only numbers are
//! taken that the program itself cannot reach in the meantime: it gets the lowest free one, and there are many below.

use std::os::fd::AsFd;
use std::sync::PoisonError;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::arguments::Arguments;
use super::{Answer, Interceptor, Looked};
use crate::asker::Asker;
use crate::seccomp::{MARKED, Question};

/// Free numbers that a program has below a marked one: more than its threads use up between a look and a grasp.
const MARGIN: usize = 256;

impl Interceptor {
    /// socket(2) for datagrams of IP.
    pub(super) fn make_socket(
        &self,
        question: &Question,
        asker: Asker,
        arguments: &Arguments,
    ) -> Looked<Answer> {
        let (family, kind) = (arguments.int(0), arguments.int(1));
        let is_udp = matches!(arguments.int(2), 0 | libc::IPPROTO_UDP);
        let family = match family {
            libc::AF_INET => AddressFamily::INET,
            libc::AF_INET6 => AddressFamily::INET6,
            _ => return Ok(Answer::GoOn),
        };
        let (nonblock, cloexec) = (
            kind & libc::SOCK_NONBLOCK != 0,
            kind & libc::SOCK_CLOEXEC != 0,
        );
        let bare = kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
        let wants =
            self.session.network.as_ref().is_some_and(|network| {
                network.plan().answers_names() || network.plan().outgoing.udp
            });
        if bare != libc::SOCK_DGRAM || !is_udp || !wants || !asker.shares_network() {
            return Ok(Answer::GoOn);
        }
        let mut flags = SocketFlags::CLOEXEC;
        flags.set(SocketFlags::NONBLOCK, nonblock);
        let socket = socket_with(family, SocketType::DGRAM, flags, None)
            .map_err(|error| Answer::Fail(error.raw_os_error()))?;
        let _marking = self.marking.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(number) = free_number(asker) else {
            // One more than can be marked is the kernel's own: its sends with an address are asked about all the same.
            return Ok(Answer::GoOn);
        };
        match self
            .listener
            .give_descriptor(question, socket.as_fd(), number, cloexec)
        {
            Ok(()) => Ok(Answer::Later),
            // A limit of the program's below the marked numbers.
            Err(_) => Ok(Answer::GoOn),
        }
    }
}

/// A marked number that the asker has not given to anything, and cannot reach at once.
fn free_number(asker: Asker) -> Option<u32> {
    let count = asker.count_descriptors()?;
    let is_far = |number: &u32| {
        let number = usize::try_from(*number).unwrap_or_default();
        number >= count.saturating_add(MARGIN)
    };
    let mut far = MARKED.rev().take_while(is_far);
    far.find(|number| !asker.has_descriptor(*number))
}
