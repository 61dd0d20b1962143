//! Datagrams of the session that are answered by its name server, or go through the target.
//!
//! ```text
//!   the program's socket ──▶ a relay on loopback, one for each place that it sends to ─┬─ the session's name server
//!          ◀── the answer, from that relay: whom it stands for is told in its place    └─ a UDP socket at the target
//! ```
//!
//! Owns the relays. A socket that talks to one place has a socket at the target of its own, which learns that nobody is
//! there; one that talks to many has one for them all, so that they see one sender. Relays end with the program's socket.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use wire::pump::Stream as WireStream;

use crate::ports::bound_datagram_ports;
use crate::remote::TargetNetwork;
use crate::resolver::{self, Transport};
use crate::session::Session;

/// Relays of one session: each is a socket.
const RELAYS_MAX: usize = 4096;

/// Datagrams of one socket that wait for their way to the target; more are lost, as datagrams are.
const OUTGOING_MAX: usize = 256;

/// Questions of one socket that are being answered; more are lost.
const QUESTIONS_MAX: usize = 256;

/// Bytes of the longest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// What stands behind a relay.
#[derive(Debug)]
pub(crate) enum Behind {
    /// The session's name server.
    Resolver,
    /// This socket at the target, which talks to the one place.
    Connected(WireStream),
    /// The socket at the target that the program's socket shares among all places.
    Shared,
}

/// The relays of all sockets of a session.
#[derive(Debug, Default)]
pub(crate) struct Datagrams {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By the program's socket.
    sockets: HashMap<u64, Relayed>,
    /// Whom a relay stands for, by its address.
    places: HashMap<SocketAddr, SocketAddr>,
}

/// One socket of the program.
#[derive(Debug, Default)]
struct Relayed {
    /// By the place that they stand for.
    relays: HashMap<SocketAddr, Relay>,
    /// Its own port.
    port: u16,
    shared: Option<(mpsc::Sender<(SocketAddr, Bytes)>, AbortHandle)>,
}

#[derive(Debug)]
struct Relay {
    address: SocketAddr,
    socket: Arc<UdpSocket>,
    task: AbortHandle,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.shared {
            task.abort();
        }
    }
}

/// The program's socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) cookie: u64,
    /// Its own address.
    pub(crate) local: SocketAddr,
}

impl Sender {
    /// Where a relay at `relay` finds it.
    fn reached_from(&self, relay: SocketAddr) -> SocketAddr {
        let ip = if self.local.ip().is_unspecified() {
            relay.ip()
        } else {
            self.local.ip().to_canonical()
        };
        SocketAddr::new(ip, self.local.port())
    }
}

impl Datagrams {
    /// Whether `place` has a relay for this socket.
    pub(crate) fn find(&self, cookie: u64, place: SocketAddr) -> Option<SocketAddr> {
        let inner = self.lock();
        let relay = inner.sockets.get(&cookie)?.relays.get(&place)?;
        Some(relay.address)
    }

    /// Whether the socket has relays at all.
    pub(crate) fn has(&self, cookie: u64) -> bool {
        self.lock().sockets.contains_key(&cookie)
    }

    /// Whom the relay at `address` stands for.
    pub(crate) fn place(&self, address: SocketAddr) -> Option<SocketAddr> {
        self.lock().places.get(&address).copied()
    }

    /// Sockets whose ports are nobody's any more.
    pub(crate) fn closed(&self) -> Vec<u64> {
        let bound = bound_datagram_ports();
        let inner = self.lock();
        let closed = inner.sockets.iter();
        let closed = closed.filter(|(_, relayed)| !bound.contains(&relayed.port));
        closed.map(|(cookie, _)| *cookie).collect()
    }

    /// The socket is gone.
    pub(crate) fn forget(&self, cookie: u64) {
        let mut inner = self.lock();
        let Some(relayed) = inner.sockets.remove(&cookie) else {
            return;
        };
        for relay in relayed.relays.values() {
            inner.places.remove(&relay.address);
        }
    }

    /// A relay is over: its port is closed, which the program learns.
    fn close(&self, cookie: u64, place: SocketAddr) {
        let mut inner = self.lock();
        let relayed = inner.sockets.get_mut(&cookie);
        let relay = relayed.and_then(|relayed| relayed.relays.remove(&place));
        if let Some(relay) = relay {
            inner.places.remove(&relay.address);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A relay of `sender`'s that stands for `place`, in the canonical form; its address. Inside the runtime.
///
/// # Errors
/// When descriptors are wanting, or there are too many.
pub(crate) fn open(
    session: &Arc<Session>,
    network: &Arc<TargetNetwork>,
    sender: Sender,
    place: SocketAddr,
    behind: Behind,
) -> io::Result<SocketAddr> {
    let ip: IpAddr = if place.is_ipv4() {
        Ipv4Addr::LOCALHOST.into()
    } else {
        Ipv6Addr::LOCALHOST.into()
    };
    let socket = std::net::UdpSocket::bind((ip, 0))?;
    socket.set_nonblocking(true)?;
    let socket = Arc::new(UdpSocket::from_std(socket)?);
    let address = socket.local_addr()?;
    let mut inner = session.datagrams.lock();
    if inner.places.len() >= RELAYS_MAX {
        return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
    }
    inner.places.insert(address, place);
    let relayed = inner.sockets.entry(sender.cookie).or_default();
    relayed.port = sender.local.port();
    let task = match behind {
        Behind::Resolver => {
            let (session, network) = (Arc::clone(session), Arc::clone(network));
            let socket = Arc::clone(&socket);
            tokio::spawn(async move { answer(&session, &network, socket, sender, place).await })
        }
        Behind::Connected(stream) => {
            let (socket, session) = (Arc::clone(&socket), Arc::clone(session));
            tokio::spawn(async move {
                exchange(&socket, sender, place, &stream).await;
                drop(socket);
                session.datagrams.close(sender.cookie, place);
            })
        }
        Behind::Shared => {
            let outgoing_tx = match &relayed.shared {
                Some((outgoing_tx, _)) => outgoing_tx.clone(),
                None => {
                    let (outgoing_tx, outgoing_rx) = mpsc::channel(OUTGOING_MAX);
                    let (session, network) = (Arc::clone(session), Arc::clone(network));
                    let version_6 = place.is_ipv6();
                    let shared = tokio::spawn(async move {
                        share(&session, &network, sender, version_6, outgoing_rx).await;
                    });
                    relayed.shared = Some((outgoing_tx.clone(), shared.abort_handle()));
                    outgoing_tx
                }
            };
            let socket = Arc::clone(&socket);
            tokio::spawn(async move { pass_on(&socket, sender, place, &outgoing_tx).await })
        }
    };
    let relay = Relay {
        address,
        socket,
        task: task.abort_handle(),
    };
    relayed.relays.insert(place, relay);
    Ok(address)
}

/// The next datagram of the program's own; strangers of this machine are not heard.
async fn receive<'a>(
    socket: &UdpSocket,
    sender: Sender,
    buffer: &'a mut [u8],
) -> Option<(&'a [u8], SocketAddr)> {
    loop {
        match socket.recv_from(buffer).await {
            Ok((length, from)) if from.port() == sender.local.port() => {
                return Some((&buffer[..length], from));
            }
            // An answer that the program's socket did not take.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => {
                tracing::debug!(%error, "a relay of datagrams ends");
                return None;
            }
        }
    }
}

/// Answers questions to name servers.
async fn answer(
    session: &Arc<Session>,
    network: &Arc<TargetNetwork>,
    socket: Arc<UdpSocket>,
    sender: Sender,
    server: SocketAddr,
) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut answers = JoinSet::new();
    while let Some((query, from)) = receive(&socket, sender, &mut buffer).await {
        while answers.try_join_next().is_some() {}
        if answers.len() >= QUESTIONS_MAX {
            continue;
        }
        let (session, network) = (Arc::clone(session), Arc::clone(network));
        let (socket, query) = (Arc::clone(&socket), query.to_vec());
        answers.spawn(async move {
            let told = resolver::resolve(&session, &network, &query, server, Transport::Udp).await;
            if let Some(told) = told {
                // A program that has gone needs no answer.
                let _gone = socket.send_to(&told, from).await;
            }
        });
    }
}

/// Carries datagrams between the program's socket and one place, until the target's socket ends: then the relay is gone,
/// and the program learns that nobody is there.
async fn exchange(socket: &UdpSocket, sender: Sender, place: SocketAddr, stream: &WireStream) {
    let outwards = async {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        while let Some((bytes, _)) = receive(socket, sender, &mut buffer).await {
            if stream.send_datagram(place, bytes).is_err() {
                return;
            }
        }
    };
    let inwards = async {
        let Ok(own) = socket.local_addr() else { return };
        while let Ok(Some((_, bytes))) = stream.receive_datagram().await {
            // A full queue loses datagrams, as anywhere.
            let _lost = socket.send_to(&bytes, sender.reached_from(own)).await;
        }
    };
    tokio::select! {
        () = outwards => {}
        () = inwards => {}
    }
}

/// Gives what the program sends to one place to the socket that all of them share.
async fn pass_on(
    socket: &UdpSocket,
    sender: Sender,
    place: SocketAddr,
    outgoing_tx: &mpsc::Sender<(SocketAddr, Bytes)>,
) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    while let Some((bytes, _)) = receive(socket, sender, &mut buffer).await {
        let _full = outgoing_tx.try_send((place, Bytes::copy_from_slice(bytes)));
    }
}

/// Carries datagrams between a socket at the target and all places that the program sends to.
async fn share(
    session: &Arc<Session>,
    network: &Arc<TargetNetwork>,
    sender: Sender,
    version_6: bool,
    mut outgoing_rx: mpsc::Receiver<(SocketAddr, Bytes)>,
) {
    let stream = match network.open_udp(None, version_6).await {
        Ok((stream, _)) => stream,
        Err(error) => {
            tracing::debug!(%error, "the target has no socket for datagrams");
            return;
        }
    };
    let outwards = async {
        while let Some((place, bytes)) = outgoing_rx.recv().await {
            if stream.send_datagram(place, &bytes).is_err() {
                return;
            }
        }
    };
    let inwards = async {
        while let Ok(Some((from, bytes))) = stream.receive_datagram().await {
            if let Some(relay) = relay_for(session, network, sender, from) {
                let own = relay.local_addr();
                if let Ok(own) = own {
                    let _lost = relay.send_to(&bytes, sender.reached_from(own)).await;
                }
            }
        }
    };
    tokio::select! {
        () = outwards => {}
        () = inwards => {}
    }
}

/// The relay that stands for `from`, who may be somebody whom the program has not sent to.
fn relay_for(
    session: &Arc<Session>,
    network: &Arc<TargetNetwork>,
    sender: Sender,
    from: SocketAddr,
) -> Option<Arc<UdpSocket>> {
    let find = || {
        let inner = session.datagrams.lock();
        let relay = inner.sockets.get(&sender.cookie)?.relays.get(&from)?;
        Some(Arc::clone(&relay.socket))
    };
    if let Some(relay) = find() {
        return Some(relay);
    }
    // Not for a socket that is gone meanwhile.
    if !session.datagrams.has(sender.cookie) {
        return None;
    }
    open(session, network, sender, from, Behind::Shared).ok()?;
    find()
}
