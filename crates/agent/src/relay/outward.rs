//! Connections that the target makes: dialled first, and answered as the other end answered.
//!
//! ```text
//!   SYN held ──▶ dialled: connected  ──▶ Ready, and let go marked ──▶ accepted here ──▶ carried
//!                         refused    ──▶ let go, to nobody: refused
//!                         no answer  ──▶ dropped
//! ```
//!
//! The target's connect(2) is really on its way meanwhile, blocking or not.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::Domain;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use wire::pump::keep_alive;

use super::carry::carry;
use super::inward::visit;
use super::outside::Outside;
use super::packet::Ends;
use super::queue::{Fate, Packet, Queue};
use super::{SOCKET_NAME, TARGETS_NETWORK};
use crate::incoming::transparent_listeners;

/// Connections that are dialled or wait to be accepted at once: a burst of a whole pool, many times over.
const DIALS_MAX: usize = 4096;

/// How long a connection that was dialled may wait for its client, which gave up otherwise.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);

/// The wait after a failed `accept`, which says that descriptors are short.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Where taken connections arrive.
#[derive(Debug)]
pub(super) struct Listeners {
    port: u16,
    listeners: Vec<TcpListener>,
}

impl Listeners {
    /// Opens them inside.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn open() -> io::Result<Self> {
        let (port, listeners) = transparent_listeners()?;
        Ok(Self { port, listeners })
    }

    /// Their port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

/// The other end of a connection.
#[derive(Debug)]
enum Upstream {
    /// Somewhere outside.
    Outside(TcpStream),
    /// Another target.
    Target(UnixStream),
}

/// How far a connection has come.
#[derive(Debug)]
enum Progress {
    Dialling,
    /// It waits for its client; the held packet tells it from a later one of the same ends.
    Ready(Upstream, u32),
}

/// The way out for TCP.
#[derive(Debug, Clone)]
pub(super) struct Outward {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    outside: Arc<Outside>,
    queue: Queue,
    address: Ipv4Addr,
    /// The folder of the targets' folders.
    others: Option<PathBuf>,
    progress: Mutex<HashMap<Ends, Progress>>,
}

impl Outward {
    pub(super) fn new(
        outside: Arc<Outside>,
        queue: Queue,
        address: Ipv4Addr,
        others: Option<PathBuf>,
    ) -> Self {
        let shared = Shared {
            outside,
            queue,
            address,
            others,
            progress: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Answers held packets and carries connections, for ever.
    pub(super) async fn serve(self, listeners: Listeners, mut packets_rx: mpsc::Receiver<Packet>) {
        let mut accepting = JoinSet::new();
        for listener in listeners.listeners {
            accepting.spawn(Arc::clone(&self.shared).accept(listener));
        }
        // The connections that are being dialled are as many as their map lets in.
        let mut dialling = JoinSet::new();
        loop {
            tokio::select! {
                packet = packets_rx.recv() => match packet {
                    Some(packet) => {
                        if let Some(ends) = self.shared.begin(&packet) {
                            dialling.spawn(Arc::clone(&self.shared).dial(packet, ends));
                        }
                    }
                    None => return,
                },
                Some(_) = dialling.join_next() => {}
            }
        }
    }
}

impl Shared {
    /// Whether a held packet begins a connection that is to be dialled; every other one is answered.
    fn begin(&self, packet: &Packet) -> Option<Ends> {
        let Some(ends) = packet.ends else {
            self.queue.decide(packet, Fate::Refused);
            return None;
        };
        let mut progress = self.lock();
        let fate = match progress.get(&ends) {
            // It was sent again.
            Some(Progress::Dialling) => Some(Fate::Lost),
            Some(Progress::Ready(..)) => Some(Fate::Taken),
            None if progress.len() >= DIALS_MAX => Some(Fate::Lost),
            None => {
                progress.insert(ends, Progress::Dialling);
                None
            }
        };
        drop(progress);
        match fate {
            Some(fate) => {
                self.queue.decide(packet, fate);
                None
            }
            None => Some(ends),
        }
    }

    async fn dial(self: Arc<Self>, packet: Packet, ends: Ends) {
        match self.reach(ends.destination).await {
            Ok(upstream) => {
                self.lock()
                    .insert(ends, Progress::Ready(upstream, packet.id));
                self.queue.decide(&packet, Fate::Taken);
                tokio::time::sleep(TAKEN_WITHIN).await;
                // A client that gave up leaves it behind.
                let mut progress = self.lock();
                if matches!(progress.get(&ends), Some(Progress::Ready(_, id)) if *id == packet.id) {
                    progress.remove(&ends);
                }
            }
            Err(error) => {
                self.lock().remove(&ends);
                let fate = if error.kind() == ErrorKind::TimedOut {
                    Fate::Lost
                } else {
                    Fate::Refused
                };
                tracing::debug!(%error, to = %ends.destination, ?fate, "a connection does not come about");
                self.queue.decide(&packet, fate);
            }
        }
    }

    async fn reach(&self, destination: SocketAddr) -> io::Result<Upstream> {
        let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
        if let IpAddr::V4(ip) = destination.ip()
            && is_target(ip)
        {
            return self.reach_target(ip, destination.port()).await;
        }
        let socket = self
            .outside
            .stream(Domain::for_address(destination))
            .await?;
        let socket = TcpSocket::from_std_stream(socket.into());
        let stream = socket.connect(destination).await?;
        stream.set_nodelay(true)?;
        keep_alive(&stream)?;
        Ok(Upstream::Outside(stream))
    }

    async fn reach_target(&self, ip: Ipv4Addr, port: u16) -> io::Result<Upstream> {
        // Its own ports that nobody listens on are nobody's.
        let folder = self.others.as_ref().filter(|_| ip != self.address);
        let folder = folder.ok_or(ErrorKind::ConnectionRefused)?;
        let path = folder.join(ip.to_string()).join(SOCKET_NAME);
        let stream = match visit(&path, port).await {
            // There is no such target, or it has ended.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(ErrorKind::ConnectionRefused.into());
            }
            visited => visited?,
        };
        Ok(Upstream::Target(stream))
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((client, peer)) => match self.take(&client, peer) {
                        Ok(upstream) => {
                            connections.spawn(join(client, upstream));
                        }
                        Err(error) => {
                            tracing::debug!(%error, %peer, "a connection was not meant for here");
                            client.set_zero_linger().ok();
                        }
                    },
                    Err(error) => {
                        tracing::warn!(%error, "the target's connections cannot be accepted");
                        tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    fn take(&self, client: &TcpStream, peer: SocketAddr) -> io::Result<Upstream> {
        let ends = Ends {
            source: peer,
            destination: client.local_addr()?,
        };
        client.set_nodelay(true)?;
        match self.lock().remove(&ends) {
            Some(Progress::Ready(upstream, _)) => Ok(upstream),
            Some(Progress::Dialling) | None => Err(ErrorKind::NotConnected.into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Ends, Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn join(client: TcpStream, upstream: Upstream) {
    let whole = match upstream {
        Upstream::Outside(stream) => {
            let whole = carry(&client, &stream).await;
            if !whole {
                stream.set_zero_linger().ok();
            }
            whole
        }
        Upstream::Target(stream) => carry(&client, &stream).await,
    };
    if !whole {
        // The other side sees a cut connection, not an orderly end.
        client.set_zero_linger().ok();
    }
}

/// Whether an address is one of targets.
pub(super) fn is_target(ip: Ipv4Addr) -> bool {
    let (network, bits) = TARGETS_NETWORK;
    let mask = u32::MAX << (32 - u32::from(bits));
    ip.to_bits() & mask == network.to_bits()
}

/// The address that a socket of `version` is bound to by nobody in particular.
pub(super) fn unspecified(version: &IpAddr) -> IpAddr {
    match version {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_a_network_of_their_own() {
        for (ip, expected) in [
            ([198, 18, 0, 1], true),
            ([198, 19, 255, 254], true),
            ([198, 20, 0, 1], false),
            ([198, 17, 255, 255], false),
            ([127, 0, 0, 1], false),
        ] {
            assert_eq!(is_target(ip.into()), expected, "{ip:?}");
        }
    }
}
