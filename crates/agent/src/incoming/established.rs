//! Connections that stood before a port was redirected: nat never sees them, so they are counted, and ended on wish.
//!
//! By socket diagnosis (linux/inet_diag.h, sock_diag(7)). Ending one needs CAP_NET_ADMIN and a kernel with
//! `CONFIG_INET_DIAG_DESTROY`; its peer sees a reset, as if the target had restarted.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::netlink::SOCK_DIAG;

use crate::netlink::{ACK, DUMP, Messages, Socket};

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;

/// `AF_INET` and `AF_INET6`.
const FAMILIES: [u8; 2] = [2, 10];
/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// The bit of `TCP_ESTABLISHED`.
const ESTABLISHED: u32 = 1 << 1;
/// Bytes of `struct inet_diag_sockid`.
const ID_BYTES: usize = 48;
/// Where it stands in `struct inet_diag_msg`.
const ID_AT: usize = 4;

/// What became of the connections that stood.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) left: u32,
    pub(super) ended: u32,
}

/// One connection of the target's.
struct Found {
    family: u8,
    id: [u8; ID_BYTES],
    local: SocketAddr,
    peer: SocketAddr,
}

/// Counts the established connections at `port` that are not `ours`, by the address there and the other end's, and
/// ends them if `end` says so.
///
/// # Errors
/// The kernel's, where it cannot even list them.
pub(super) fn settle(
    port: u16,
    end: bool,
    ours: impl Fn(SocketAddr, SocketAddr) -> bool,
) -> io::Result<Outcome> {
    let socket = Socket::open(SOCK_DIAG)?;
    let mut outcome = Outcome::default();
    for family in FAMILIES {
        for found in list(&socket, family, port)? {
            if ours(found.local, found.peer) {
                continue;
            }
            if end && destroy(&socket, &found).is_ok() {
                outcome.ended += 1;
            } else {
                outcome.left += 1;
            }
        }
    }
    Ok(outcome)
}

fn list(socket: &Socket, family: u8, port: u16) -> io::Result<Vec<Found>> {
    let mut id = [0; ID_BYTES];
    // The kernel ignores ids in a dump, but for the ports that it filters by.
    id[..2].copy_from_slice(&port.to_be_bytes());
    let mut question = Messages::default();
    question.message(BY_FAMILY, DUMP, |content| {
        content.raw(&[family, TCP, 0, 0]);
        content.raw(&ESTABLISHED.to_ne_bytes());
        content.raw(&id);
    });
    let answers = socket.ask(&question)?;
    let parsed = answers.iter().filter_map(|answer| parse(answer));
    Ok(parsed
        .filter(|found| found.family == family && found.local.port() == port)
        .collect())
}

/// One connection.
fn parse(answer: &[u8]) -> Option<Found> {
    let family = *answer.first()?;
    let id: [u8; ID_BYTES] = answer.get(ID_AT..ID_AT + ID_BYTES)?.try_into().ok()?;
    // Both ports, then both addresses in sixteen bytes each.
    let address = |port: usize, ip: usize| {
        let number = u16::from_be_bytes([id[port], id[port + 1]]);
        let bytes: [u8; 16] = id[ip..ip + 16].try_into().expect("sixteen bytes");
        SocketAddr::new(ip_of(family, bytes), number)
    };
    Some(Found {
        family,
        id,
        local: address(0, 4),
        peer: address(2, 20),
    })
}

/// Version 4 uses the first four bytes; mapped addresses are those that they stand for.
fn ip_of(family: u8, bytes: [u8; 16]) -> IpAddr {
    if family == FAMILIES[0] {
        IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
    } else {
        IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
    }
}

fn destroy(socket: &Socket, found: &Found) -> io::Result<()> {
    let mut order = Messages::default();
    order.message(DESTROY, ACK, |content| {
        content.raw(&[found.family, TCP, 0, 0]);
        content.raw(&ESTABLISHED.to_ne_bytes());
        content.raw(&found.id);
    });
    socket.tell(&order)
}
