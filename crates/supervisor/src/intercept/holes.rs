//! Places on loopback where a connect waits: a listener whose queue is full, so that the kernel drops what comes (tcp(7)).
//!
//! Owns the sockets, and the simultaneous open (RFC 9293, section 3.5) by which one that waits is connected from there.
//! No privilege is needed for any of it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::sockopt::{set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use tokio::net::TcpSocket;
use wire::pump::TcpEnd;

use crate::remote::Stream;

/// The places where sockets wait, one for each family that the machine has.
#[derive(Debug)]
pub(super) struct Holes {
    v4: Hole,
    v6: Option<Hole>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Hole {
    pub(super) address: SocketAddr,
    /// A port that nobody listens on.
    pub(super) closed: SocketAddr,
    /// The listener, the connection that fills its queue, the owner of the closed port.
    _open: [OwnedFd; 3],
}

impl Holes {
    /// Opens them.
    ///
    /// # Errors
    /// When loopback or descriptors are wanting.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            v4: Hole::open(Ipv4Addr::LOCALHOST.into())?,
            v6: Hole::open(Ipv6Addr::LOCALHOST.into()).ok(),
        })
    }

    /// That of the family of `address`.
    pub(super) fn of(&self, address: SocketAddr) -> &Hole {
        let v6 = self.v6.as_ref().filter(|_| address.is_ipv6());
        v6.unwrap_or(&self.v4)
    }
}

impl Hole {
    fn open(ip: IpAddr) -> io::Result<Self> {
        let listener = stream_socket(ip)?;
        // Simultaneous opens come from its address.
        set_socket_reuseaddr(&listener, true)?;
        set_socket_reuseport(&listener, true)?;
        bind(&listener, &SocketAddr::new(ip, 0))?;
        listen(&listener, 0)?;
        let address = SocketAddr::try_from(rustix::net::getsockname(&listener)?)?;
        let filling = stream_socket(ip)?;
        rustix::net::connect(&filling, &address)?;
        let owner = stream_socket(ip)?;
        bind(&owner, &SocketAddr::new(ip, 0))?;
        let closed = SocketAddr::try_from(rustix::net::getsockname(&owner)?)?;
        Ok(Self {
            address,
            closed,
            _open: [listener, filling, owner],
        })
    }
}

fn stream_socket(ip: IpAddr) -> io::Result<OwnedFd> {
    let family = if ip.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    Ok(socket)
}

/// Meets the SYN of `client`, which is on its way to `hole`, with one from there.
pub(super) async fn open_simultaneously(
    hole: SocketAddr,
    client: SocketAddr,
) -> io::Result<Box<dyn Stream>> {
    let socket = if hole.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(hole)?;
    let stream = socket.connect(client).await?;
    stream.set_nodelay(true)?;
    Ok(Box::new(TcpEnd::new(stream)))
}
