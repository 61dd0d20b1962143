//! Sockets of this network namespace that are gone, told by the kernel: nobody else sees the last copy closed.
//!
//! Owns the subscription to socket diagnosis (sock_diag(7), `SKNLGRP_*_DESTROY` of linux/sock_diag.h) and reading its
//! messages. Needs no right.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The groups of sockets that are destroyed, as bits: TCP and UDP, IPv4 and IPv6.
const GROUPS: u32 = 0b1111;

/// Bytes of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;

/// Where the socket's cookie stands in `struct inet_diag_msg` (linux/inet_diag.h): four bytes, two ports, two
/// addresses, the interface.
const COOKIE_AT: usize = 4 + 2 * 2 + 2 * 16 + 4;

/// Bytes that one read takes: many messages.
const READ_BYTES: usize = 64 * 1024;

/// Bytes that wait to be read: thousands of messages.
const QUEUE_BYTES: usize = 4 << 20;

/// Tells of sockets that are gone.
#[derive(Debug)]
pub(crate) struct Closings {
    socket: AsyncFd<OwnedFd>,
}

/// What was told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The sockets with these cookies are gone.
    Sockets(Vec<u64>),
    /// There were more than fit: any socket may be gone.
    Unknown,
}

impl Closings {
    /// Begins to listen. Inside a runtime.
    ///
    /// # Errors
    /// When the kernel has no socket diagnosis.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = Some(netlink::SOCK_DIAG);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        // More may fall due while connections are carried; what an account may not have stays as it is.
        let _as_before = set_socket_recv_buffer_size(&socket, QUEUE_BYTES);
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        #[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
        // SAFETY: an `OwnedFd` stays open and stays the same for as long as it is not dropped, which `AsyncFd` owns.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(Self {
            socket: socket.map_err(io::Error::from)?,
        })
    }

    /// The next that are gone.
    ///
    /// # Errors
    /// When the socket cannot be read.
    pub(crate) async fn next(&self) -> io::Result<Closed> {
        let mut bytes = vec![0; READ_BYTES];
        loop {
            let mut ready = self.socket.readable().await?;
            match recv(self.socket.get_ref(), &mut bytes[..], RecvFlags::empty()) {
                Ok((length, _)) => return Ok(Closed::Sockets(cookies(&bytes[..length]))),
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(rustix::io::Errno::NOBUFS) => return Ok(Closed::Unknown),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The cookies in a run of messages.
fn cookies(mut bytes: &[u8]) -> Vec<u64> {
    let mut found = Vec::new();
    while let Some(length) = bytes.get(..4) {
        let length = u32::from_ne_bytes([length[0], length[1], length[2], length[3]]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let at = HEADER_BYTES + COOKIE_AT;
        if length < at + 8 || length > bytes.len() {
            break;
        }
        // Two halves of 32 bits, the lower first, each as the machine writes it.
        let half = |at: usize| {
            let half = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            u64::from(u32::from_ne_bytes(half))
        };
        found.push(half(at) | half(at + 4) << 32);
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    found
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::AsFd;

    use super::*;
    use crate::socket::Socket;

    #[tokio::test]
    async fn sockets_that_are_closed_are_told_by_their_cookies() {
        let closings = Closings::open().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let datagrams = UdpSocket::bind(("::1", 0)).or_else(|_| UdpSocket::bind(("127.0.0.1", 0)));
        let datagrams = datagrams.unwrap();
        let mut wanted = vec![
            Socket(listener.as_fd()).cookie().unwrap(),
            Socket(datagrams.as_fd()).cookie().unwrap(),
        ];
        drop((listener, datagrams));
        while !wanted.is_empty() {
            // Other sockets of this machine are told as well.
            if let Closed::Sockets(gone) = closings.next().await.unwrap() {
                wanted.retain(|cookie| !gone.contains(cookie));
            }
        }
    }

    #[test]
    fn torn_messages_are_left_alone() {
        assert!(cookies(&[]).is_empty());
        assert!(cookies(&[0; 16]).is_empty());
        assert!(cookies(&[0xff; 80]).is_empty());
    }
}
