//! Datagrams that the target sends: one socket outside for each pair of ends, and one inside that bears the other end's
//! address, so that answers come from where they are expected.
//!
//! A flow ends by its silence. Other targets are not reached by datagrams.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, setsockopt,
    sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::outside::Outside;
use super::outward::is_target;

/// Flows at once; a datagram beyond them is lost, as datagrams may be. Each has a buffer a direction: 256 MiB for all.
const FLOWS_MAX: usize = 2048;

/// The silence that ends a flow: what routers give a conversation (RFC 4787 asks for two minutes).
const SILENCE: Duration = Duration::from_secs(120);

/// Bytes of a datagram at most.
const DATAGRAM_MAX: usize = 64 * 1024;

/// Datagrams, and bytes of them, that a flow holds while it is made: a burst of a program that asks much at once.
const HELD_MAX: usize = 64;
const HELD_BYTES_MAX: usize = 256 * 1024;

/// Attempts to find a port that is free in both versions.
const BIND_ATTEMPTS: usize = 16;

/// Who sends to whom.
type Ends = (SocketAddr, SocketAddr);

/// Where first datagrams arrive.
#[derive(Debug)]
pub(super) struct Listeners {
    port: u16,
    sockets: Vec<UdpSocket>,
}

impl Listeners {
    /// Opens them inside: one port in both versions.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn open() -> io::Result<Self> {
        let mut failure = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..BIND_ATTEMPTS {
            let version_4 = listen((Ipv4Addr::UNSPECIFIED, 0).into())?;
            let port = version_4.local_addr()?.port();
            match listen((Ipv6Addr::UNSPECIFIED, port).into()) {
                Ok(version_6) => {
                    let sockets = vec![version_4, version_6];
                    return Ok(Self { port, sockets });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => failure = error,
                // A machine without version 6 sends nothing by it.
                Err(_) => {
                    let sockets = vec![version_4];
                    return Ok(Self { port, sockets });
                }
            }
        }
        Err(failure)
    }

    /// Their port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

fn listen(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = transparent(address)?;
    let told = if address.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4OrigDstAddr, &true)
    } else {
        socket.set_only_v6(true)?;
        setsockopt(&socket, sockopt::Ipv6OrigDstAddr, &true)
    };
    told?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

fn transparent(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    // The option is one for both versions.
    socket.set_ip_transparent_v4(true)?;
    Ok(socket)
}

/// Carries datagrams, for ever.
pub(super) async fn serve(listeners: Listeners, outside: Arc<Outside>, address: Ipv4Addr) {
    let flows = Arc::new(Flows {
        outside,
        address,
        open: Mutex::default(),
    });
    let mut serving = JoinSet::new();
    for socket in listeners.sockets {
        serving.spawn(Arc::clone(&flows).serve(socket));
    }
    while serving.join_next().await.is_some() {}
}

#[derive(Debug)]
struct Flows {
    outside: Arc<Outside>,
    address: Ipv4Addr,
    open: Mutex<HashMap<Ends, Flow>>,
}

#[derive(Debug)]
enum Flow {
    /// It is being made; what came meanwhile goes first.
    Making(Held),
    /// Its socket outside.
    Open(Arc<UdpSocket>),
}

/// Datagrams that wait for their flow, in order.
#[derive(Debug, Default)]
struct Held {
    datagrams: Vec<Vec<u8>>,
    bytes: usize,
}

impl Held {
    /// Keeps one; one that has no room is lost, as datagrams may be.
    fn push(&mut self, datagram: &[u8]) {
        let bytes = self.bytes + datagram.len();
        if self.datagrams.len() < HELD_MAX && bytes <= HELD_BYTES_MAX {
            self.datagrams.push(datagram.to_vec());
            self.bytes = bytes;
        }
    }
}

impl Flows {
    async fn serve(self: Arc<Self>, socket: UdpSocket) {
        let mut tasks = JoinSet::new();
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            let received = socket.async_io(Interest::READABLE, || receive(&socket, &mut buffer));
            tokio::select! {
                received = received => match received {
                    Ok((length, ends)) => {
                        if self.forward(ends, &buffer[..length]) {
                            tasks.spawn(Arc::clone(&self).carry(ends));
                        }
                    }
                    Err(error) => tracing::debug!(%error, "a datagram is lost"),
                },
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// Sends a datagram on by its flow; whether it is the first of one, which is to be made.
    fn forward(&self, ends: Ends, datagram: &[u8]) -> bool {
        let mut open = self.lock();
        let may_begin = open.len() < FLOWS_MAX && self.is_reachable(ends.1.ip());
        match open.get_mut(&ends) {
            Some(Flow::Open(socket)) => {
                // What does not fit now is lost, as datagrams may be.
                let _lost = socket.try_send(datagram);
                false
            }
            Some(Flow::Making(held)) => {
                held.push(datagram);
                false
            }
            None if may_begin => {
                let mut held = Held::default();
                held.push(datagram);
                open.insert(ends, Flow::Making(held));
                true
            }
            None => false,
        }
    }

    /// What waits for a flow; with none of it, the flow is open from here on.
    fn take_held(&self, ends: Ends, outside: &Arc<UdpSocket>) -> Vec<Vec<u8>> {
        let mut open = self.lock();
        if let Some(Flow::Making(held)) = open.get_mut(&ends)
            && !held.datagrams.is_empty()
        {
            return std::mem::take(held).datagrams;
        }
        open.insert(ends, Flow::Open(Arc::clone(outside)));
        Vec::new()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Ends, Flow>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_reachable(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                ip != self.address && !is_target(ip) && !ip.is_multicast() && !ip.is_broadcast()
            }
            IpAddr::V6(ip) => !ip.is_multicast(),
        }
    }

    async fn carry(self: Arc<Self>, ends: Ends) {
        if let Err(error) = self.try_carry(ends).await {
            tracing::debug!(%error, to = %ends.1, "a flow of datagrams ends");
        }
        self.lock().remove(&ends);
    }

    async fn try_carry(&self, ends: Ends) -> io::Result<()> {
        let (source, destination) = ends;
        let inside = transparent(destination)?;
        // The port may be in the hands of another flow, with another client.
        inside.set_reuse_address(true)?;
        inside.bind(&destination.into())?;
        inside.connect(&source.into())?;
        let inside = UdpSocket::from_std(inside.into())?;
        let outside = self
            .outside
            .datagram(Domain::for_address(destination))
            .await?;
        let outside = Arc::new(UdpSocket::from_std(outside.into())?);
        outside.connect(destination).await?;
        loop {
            let held = self.take_held(ends, &outside);
            if held.is_empty() {
                break;
            }
            for datagram in held {
                outside.send(&datagram).await?;
            }
        }
        let (mut to, mut back) = (vec![0; DATAGRAM_MAX], vec![0; DATAGRAM_MAX]);
        loop {
            let next = async {
                tokio::select! {
                    received = inside.recv(&mut to) => {
                        outside.send(&to[..received?]).await
                    }
                    received = outside.recv(&mut back) => {
                        inside.send(&back[..received?]).await
                    }
                }
            };
            match timeout(SILENCE, next).await {
                Ok(sent) => sent?,
                Err(_) => return Ok(()),
            };
        }
    }
}

/// A datagram, and who sends it to whom.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Ends)> {
    let mut control = nix::cmsg_space!(nix::libc::sockaddr_in6);
    let mut into = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut into,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let nameless = || io::Error::other("it does not say where it goes");
    let source = message.address.and_then(address).ok_or_else(nameless)?;
    let destination = message.cmsgs()?.find_map(|control| {
        if let ControlMessageOwned::Ipv4OrigDstAddr(raw) = control {
            let address = SockaddrIn::from(raw);
            Some(SocketAddr::new(address.ip().into(), address.port()))
        } else if let ControlMessageOwned::Ipv6OrigDstAddr(raw) = control {
            let address = SockaddrIn6::from(raw);
            Some(SocketAddr::new(address.ip().into(), address.port()))
        } else {
            None
        }
    });
    Ok((message.bytes, (source, destination.ok_or_else(nameless)?)))
}

fn address(name: SockaddrStorage) -> Option<SocketAddr> {
    let version_4 = name.as_sockaddr_in();
    let version_6 = name.as_sockaddr_in6();
    version_4
        .map(|name| SocketAddr::new(name.ip().into(), name.port()))
        .or_else(|| version_6.map(|name| SocketAddr::new(name.ip().into(), name.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_flow_is_kept_in_order_and_only_so_much_of_it() {
        let mut held = Held::default();
        for number in 0..=HELD_MAX {
            held.push(&[u8::try_from(number).expect("they are few")]);
        }
        assert_eq!(held.datagrams.len(), HELD_MAX);
        assert!(held.datagrams.is_sorted() && held.datagrams[0] == [0]);

        let mut held = Held::default();
        let large = vec![0; DATAGRAM_MAX];
        for _ in 0..HELD_MAX {
            held.push(&large);
        }
        assert_eq!(held.datagrams.len(), HELD_BYTES_MAX / DATAGRAM_MAX);
    }
}
