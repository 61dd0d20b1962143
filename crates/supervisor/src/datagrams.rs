//! Datagrams of the session that are answered by its name server, or go through the target.
//!
//! ```text
//!   the program's socket ──▶ a relay on loopback, one for each place that it sends to ─┬─ the session's name server
//!          ◀── the answer, from that relay: whom it stands for is told in its place    └─ a UDP socket at the target
//! ```
//!
//! Owns which relays there are; `carriage` has what each does. A socket that talks to one place has a socket at the target of
//! its own, which learns that nobody is there; one that talks to many has one for them all, so that they see one sender.
//! Relays end with the program's socket, once they have passed on what it had sent.

mod carriage;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rustix::net::{SendFlags, sendto};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use wire::Opened;
use wire::pump::Stream as WireStream;

use crate::asker::Asker;
use crate::ports::bound_datagram_ports;
use crate::remote::TargetNetwork;
use crate::session::Session;
use crate::socket::{Socket, for_family};
use carriage::{End, Ends};

/// Relays of one session: each is a socket, and a buffer of the largest datagram; all of them hold 256 MiB.
const RELAYS_MAX: usize = 4096;

/// Of these, relays that only questions to name servers get.
const RELAYS_FOR_NAMES: usize = 256;

/// Relays that go at once to make room: the ones that were silent for longest.
const RELAYS_LET_GO: usize = 64;

/// Datagrams of one socket that wait for their way to the target; more wait in their relays, as far as the kernel has room.
const OUTGOING_MAX: usize = 256;

/// How long the end of a session waits until the target has what was sent last.
const LAST_DATAGRAMS_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long a socket at the target may take while its program sends to it already: after that nobody is there.
const OPENING_TIME_MAX: Duration = Duration::from_secs(30);

/// A socket at the target that talks to one place, and is on its way.
pub(crate) type Opening = Pin<Box<dyn Future<Output = io::Result<(WireStream, Opened)>> + Send>>;

/// What stands behind a relay.
pub(crate) enum Behind {
    /// The session's name server.
    Resolver,
    /// This socket at the target, which talks to the one place.
    Connected(WireStream, Holder),
    /// The same, once it is there; until then the relay keeps what comes, as far as the kernel has room.
    Opening(Opening, Holder),
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
    /// What sockets that are gone had sent, and is still on its way.
    ending: Vec<TaskTracker>,
    /// Counts uses of relays.
    uses: u64,
}

/// One socket of the program.
#[derive(Debug, Default)]
struct Relayed {
    /// By the place that they stand for.
    relays: HashMap<SocketAddr, Relay>,
    /// Its own port.
    port: u16,
    shared: Option<mpsc::Sender<(SocketAddr, Bytes)>>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Relay {
    address: SocketAddr,
    socket: Arc<UdpSocket>,
    /// Whether another relay can take its place without the program's noticing.
    is_shared: bool,
    /// Its last use, as they are counted.
    used: u64,
    /// Dropped, it has the relay end.
    _open: DropGuard,
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

/// Where a program has a socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holder {
    /// Its process.
    pub(crate) process: Asker,
    /// The number there, unless it has moved since.
    pub(crate) number: i32,
}

impl Holder {
    /// Has the socket learn that nobody is at `relay`, which is closed: the kernel answers a datagram to it as it answers any
    /// other, and whoever waits for an answer hears of it.
    fn tell_refused(self, cookie: u64, relay: SocketAddr) {
        let Ok(copy) = self.process.descriptor(self.number) else {
            return;
        };
        let socket = Socket(copy.as_fd());
        if socket.cookie().ok() != Some(cookie) {
            return;
        }
        let family = socket.family().ok();
        if let Some(relay) = family.and_then(|family| for_family(relay, family)) {
            let _told = sendto(socket.0, &[], SendFlags::DONTWAIT, &relay);
        }
    }
}

impl Inner {
    /// Whether there is room for one more; relays that were silent for long go for it.
    fn make_room(&mut self, is_for_names: bool) -> bool {
        let room = if is_for_names {
            RELAYS_MAX
        } else {
            RELAYS_MAX - RELAYS_FOR_NAMES
        };
        if self.places.len() < room {
            return true;
        }
        let sockets = self.sockets.iter();
        let relays = sockets.flat_map(|(cookie, relayed)| {
            let relays = relayed.relays.iter();
            relays.map(move |(place, relay)| (relay, *cookie, *place))
        });
        let relays = relays.filter(|(relay, ..)| relay.is_shared);
        let mut silent: Vec<_> = relays
            .map(|(relay, cookie, place)| (relay.used, cookie, place))
            .collect();
        silent.sort_unstable();
        for (_, cookie, place) in silent.into_iter().take(RELAYS_LET_GO) {
            let relayed = self.sockets.get_mut(&cookie);
            if let Some(relay) = relayed.and_then(|relayed| relayed.relays.remove(&place)) {
                self.places.remove(&relay.address);
            }
        }
        self.places.len() < room
    }

    /// The relay that stands for `place`, which is used now.
    fn find(&mut self, cookie: u64, place: SocketAddr) -> Option<&Relay> {
        self.uses += 1;
        let relay = self.sockets.get_mut(&cookie)?.relays.get_mut(&place)?;
        relay.used = self.uses;
        Some(relay)
    }
}

impl Datagrams {
    /// The relay that stands for `place` of this socket's.
    pub(crate) fn find(&self, cookie: u64, place: SocketAddr) -> Option<SocketAddr> {
        self.lock().find(cookie, place).map(|relay| relay.address)
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

    /// The socket is gone. What it had sent goes its way.
    pub(crate) fn forget(&self, cookie: u64) {
        let mut inner = self.lock();
        let Some(relayed) = inner.sockets.remove(&cookie) else {
            return;
        };
        for relay in relayed.relays.values() {
            inner.places.remove(&relay.address);
        }
        relayed.tasks.close();
        inner.ending.retain(|tasks| !tasks.is_empty());
        inner.ending.push(relayed.tasks);
    }

    /// Waits until the target has what sockets that are gone had sent, for at most 5 seconds.
    pub(crate) async fn settle(&self) {
        for cookie in self.closed() {
            self.forget(cookie);
        }
        let ending = std::mem::take(&mut self.lock().ending);
        let all_ended = async {
            for tasks in ending {
                tasks.wait().await;
            }
        };
        if tokio::time::timeout(LAST_DATAGRAMS_WAIT_MAX, all_ended)
            .await
            .is_err()
        {
            tracing::debug!("the last datagrams are not all told of");
        }
    }

    /// The relay at `address` is over: its port is closed, which the program learns.
    fn close(&self, cookie: u64, place: SocketAddr, address: SocketAddr) {
        let mut inner = self.lock();
        let Some(relayed) = inner.sockets.get_mut(&cookie) else {
            return;
        };
        if relayed
            .relays
            .get(&place)
            .is_some_and(|relay| relay.address == address)
        {
            relayed.relays.remove(&place);
            inner.places.remove(&address);
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
    let inner = &mut *inner;
    if !inner.make_room(matches!(behind, Behind::Resolver)) {
        return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
    }
    inner.uses += 1;
    let relayed = inner.sockets.entry(sender.cookie).or_default();
    relayed.port = sender.local.port();
    let closing = CancellationToken::new();
    let relay = Relay {
        address,
        socket: Arc::clone(&socket),
        is_shared: matches!(behind, Behind::Shared),
        used: inner.uses,
        _open: closing.clone().drop_guard(),
    };
    let ends = Ends {
        socket,
        sender,
        place,
        closing,
    };
    relayed.carry(session, network, ends, behind);
    inner.places.insert(address, place);
    if let Some(before) = relayed.relays.insert(place, relay) {
        inner.places.remove(&before.address);
    }
    Ok(address)
}

/// Ends a relay of a socket that talked to one place; where nobody is there, the socket hears of it.
fn end_connected(session: &Session, ends: Ends, end: End, holder: Holder) {
    let (cookie, place) = (ends.sender.cookie, ends.place);
    let Ok(address) = ends.socket.local_addr() else {
        return;
    };
    drop(ends);
    session.datagrams.close(cookie, place, address);
    if end == End::AtTheTarget {
        holder.tell_refused(cookie, address);
    }
}

impl Relayed {
    /// Starts what a relay does.
    fn carry(
        &mut self,
        session: &Arc<Session>,
        network: &Arc<TargetNetwork>,
        ends: Ends,
        behind: Behind,
    ) {
        let (session, network) = (Arc::clone(session), Arc::clone(network));
        match behind {
            Behind::Resolver => {
                self.tasks
                    .spawn(async move { carriage::answer(&session, &network, ends).await });
            }
            Behind::Connected(stream, holder) => {
                self.tasks.spawn(async move {
                    let end = carriage::exchange(&ends, stream).await;
                    end_connected(&session, ends, end, holder);
                });
            }
            Behind::Opening(opening, holder) => {
                self.tasks.spawn(async move {
                    let end = match tokio::time::timeout(OPENING_TIME_MAX, opening).await {
                        Ok(Ok((stream, _))) => carriage::exchange(&ends, stream).await,
                        Ok(Err(_)) | Err(_) => End::AtTheTarget,
                    };
                    end_connected(&session, ends, end, holder);
                });
            }
            Behind::Shared => {
                let outgoing_tx = self.shared.get_or_insert_with(|| {
                    let (outgoing_tx, outgoing_rx) = mpsc::channel(OUTGOING_MAX);
                    let (sender, version_6) = (ends.sender, ends.place.is_ipv6());
                    self.tasks.spawn(async move {
                        carriage::share(&session, &network, sender, version_6, outgoing_rx).await;
                    });
                    outgoing_tx
                });
                let outgoing_tx = outgoing_tx.clone();
                self.tasks
                    .spawn(async move { carriage::pass_on(&ends, &outgoing_tx).await });
            }
        }
    }
}
