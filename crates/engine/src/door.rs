//! The door of a branch: a loopback port that stays the same, in front of a server that has only a Unix socket.
//!
//! Owns the listener, the reading of the first packet, the refusal of the engine's own role, and the counts. Leaves
//! authentication to the server behind it. TLS is answered with "no" (protocol section 55.2.10): the bytes never leave
//! the machine.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use model::pg_startup::{self, FirstPacket, decode, fatal_response, packet_length};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// How long a client may take for its first packet (PostgreSQL's own `authentication_timeout` default).
const STARTUP_TIME_MAX: Duration = Duration::from_secs(60);

/// Requests for encryption that are answered before a session must begin: TLS and GSSAPI, once each.
const ENCRYPTION_REQUESTS_MAX: usize = 2;

/// Connections that one door relays at once: above any server's `max_connections`, below a process's descriptors.
pub const CONNECTIONS_MAX: u32 = 512;

/// Bytes that wait in each direction of a relayed connection.
const RELAY_BUFFER_BYTES: usize = 64 * 1024;

/// How long the door waits before it accepts again after the kernel refused it a descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Ports that doors are given: below the kernel's usual range for outgoing connections (from 32768), which would
/// otherwise take a branch's port while the engine is down.
const PORTS: std::ops::Range<u16> = 20_432..30_432;

/// No port of the range is free.
#[derive(Debug, thiserror::Error)]
#[error("no free port on 127.0.0.1 from {} to {}", PORTS.start, PORTS.end - 1)]
pub struct NoPort;

/// What a door counts.
#[derive(Debug, Default)]
pub struct Counts {
    active: AtomicU32,
    total: AtomicU64,
    /// Told when a client waits for a server.
    knocks: Notify,
}

impl Counts {
    /// Sessions relayed at this moment.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::SeqCst)
    }

    /// Sessions since the door was made.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn note_one_that_came_and_went(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn note_one_that_stays(&self) {
        self.note_one_that_came_and_went();
        self.active.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends when a client waits for a server, or waited since this was asked last.
    pub async fn knocked(&self) {
        self.knocks.notified().await;
    }
}

/// Where the door leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behind {
    /// A server listens on this Unix socket.
    Open(PathBuf),
    /// Nobody is there; clients wait, as for a server that is starting.
    Closed,
}

/// An open door. Dropping it closes the port and every connection through it.
#[derive(Debug)]
pub struct Door {
    port: u16,
    behind_tx: watch::Sender<Behind>,
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

impl Door {
    /// Opens a door at the first free port from a place in the range that `seed` chooses. `refused_user` never gets through.
    ///
    /// # Errors
    /// [`NoPort`] when the whole range is taken.
    pub async fn open(seed: u64, refused_user: &'static str) -> Result<Self, NoPort> {
        let size = PORTS.end - PORTS.start;
        let first = u16::try_from(seed % u64::from(size)).unwrap_or_default();
        for step in 0..size {
            let port = PORTS.start + (first + step) % size;
            if let Some(door) = Self::open_at(port, refused_user).await {
                return Ok(door);
            }
        }
        Err(NoPort)
    }

    /// Opens a door at `port`; none where it is taken. `refused_user` never gets through.
    pub async fn open_at(port: u16, refused_user: &'static str) -> Option<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.ok()?;
        let (behind_tx, behind_rx) = watch::channel(Behind::Closed);
        let counts = Arc::new(Counts::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(
            listener,
            behind_rx,
            Arc::clone(&counts),
            refused_user,
        ));
        Some(Self {
            port,
            behind_tx,
            counts,
            _tasks: tasks,
        })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has counted.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Leads to another server, or to none. Connections that stand are cut: their server is gone.
    pub fn lead_to(&self, behind: Behind) {
        self.behind_tx.send_if_modified(|old| {
            let changed = *old != behind;
            *old = behind;
            changed
        });
    }

    /// Leads to none, unless a session is relayed at this moment; a client that comes from here on waits. Answers
    /// whether it does.
    pub fn close_if_quiet(&self) -> bool {
        let mut is_quiet = false;
        self.behind_tx.send_if_modified(|behind| {
            // A session is counted before it looks again where the door leads.
            is_quiet = self.counts.active() == 0;
            let changes = is_quiet && *behind != Behind::Closed;
            if changes {
                *behind = Behind::Closed;
            }
            changes
        });
        is_quiet
    }
}

async fn accept(
    listener: TcpListener,
    behind_rx: watch::Receiver<Behind>,
    counts: Arc<Counts>,
    refused_user: &'static str,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let (behind_rx, counts) = (behind_rx.clone(), Arc::clone(&counts));
                    connections.spawn(async move {
                        if let Err(error) = serve(client, behind_rx, &counts, refused_user).await {
                            tracing::debug!(%error, "a connection through a door ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a door cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Counts one session while it lives.
struct Counted<'a>(&'a Counts);

impl<'a> Counted<'a> {
    fn new(counts: &'a Counts) -> Self {
        counts.active.fetch_add(1, Ordering::SeqCst);
        Self(counts)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(
    mut client: TcpStream,
    mut behind_rx: watch::Receiver<Behind>,
    counts: &Counts,
    refused_user: &str,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let begun = tokio::time::timeout(STARTUP_TIME_MAX, begin(&mut client)).await;
    let (packet, first) = begun.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if let FirstPacket::Startup { user, .. } = &first {
        if user == refused_user {
            return refuse(
                client,
                "28000",
                &format!("role \"{user}\" is the engine's own"),
            )
            .await;
        }
        if counts.active() >= CONNECTIONS_MAX {
            return refuse(
                client,
                "53300",
                "too many connections through this branch's door",
            )
            .await;
        }
    }
    let is_cancel = matches!(first, FirstPacket::CancelRequest { .. });
    let reached = tokio::time::timeout(STARTUP_TIME_MAX, reach(&mut behind_rx, counts, is_cancel));
    let reached = reached.await;
    let (mut server, _counted) =
        reached.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    server.write_all(&packet).await?;
    if is_cancel {
        // The server answers a cancel request with nothing but the end of the connection.
        server.shutdown().await?;
        return client.shutdown().await;
    }
    counts.total.fetch_add(1, Ordering::Relaxed);
    tokio::select! {
        relayed = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, RELAY_BUFFER_BYTES, RELAY_BUFFER_BYTES) => {
            relayed.map(drop)
        }
        _ = behind_rx.changed() => Ok(()),
    }
}

/// Answers requests for encryption and reads the packet that says what the client wants.
async fn begin(client: &mut TcpStream) -> io::Result<(Vec<u8>, FirstPacket)> {
    for _ in 0..=ENCRYPTION_REQUESTS_MAX {
        let packet = read_packet(client).await?;
        match decode(&packet).map_err(invalid)? {
            FirstPacket::SslRequest | FirstPacket::GssencRequest => client.write_all(b"N").await?,
            first @ (FirstPacket::CancelRequest { .. } | FirstPacket::Startup { .. }) => {
                return Ok((packet, first));
            }
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "too many requests for encryption",
    ))
}

/// Waits for a server and connects to it, counted before it looks whether the door was closed meanwhile.
async fn reach<'a>(
    behind_rx: &mut watch::Receiver<Behind>,
    counts: &'a Counts,
    is_cancel: bool,
) -> io::Result<(UnixStream, Option<Counted<'a>>)> {
    loop {
        let behind = behind_rx.borrow_and_update().clone();
        let Behind::Open(socket) = behind else {
            counts.knocks.notify_one();
            let changed = behind_rx.changed().await;
            changed.map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))?;
            continue;
        };
        let counted = (!is_cancel).then(|| Counted::new(counts));
        match behind_rx.has_changed() {
            Ok(false) => return Ok((UnixStream::connect(&socket).await?, counted)),
            Ok(true) => {}
            // The door is gone: nobody will ever lead it elsewhere.
            Err(_) => return Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

/// Reads a client's first packet, or its request for encryption, length included.
///
/// # Errors
/// The connection's, or `InvalidData` for a length that none has.
pub(crate) async fn read_packet(client: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut header = [0; 4];
    client.read_exact(&mut header).await?;
    let mut packet = vec![0; packet_length(header).map_err(invalid)?];
    packet[..4].copy_from_slice(&header);
    client.read_exact(&mut packet[4..]).await?;
    Ok(packet)
}

fn invalid(error: pg_startup::StartupError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

async fn refuse(mut client: TcpStream, sqlstate: &str, message: &str) -> io::Result<()> {
    client.write_all(&fatal_response(sqlstate, message)).await?;
    client.shutdown().await
}

#[cfg(test)]
mod tests;
