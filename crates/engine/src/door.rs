//! The door of a branch: a loopback port that stays the same, in front of a server that has only a Unix socket.
//!
//! Owns the listener, the reading of the first packet, the refusal of the engine's own role, and the counts. Leaves who comes
//! by Bough's own way to `guard`, where that is asked for, TLS to `encryption`, where it is demanded and else declined (protocol
//! section 55.2.10), and authentication to the server behind it.

mod encryption;
mod guard;

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use model::Secret;
use model::door_pass::SessionMark;
use model::engine_api::SessionId;
use model::pg_startup::{self, FirstPacket, decode, fatal_response, packet_length};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use guard::{Knock, Refusal, Waiting};

pub use encryption::{Encryption, EncryptionError};
pub use guard::{DoorKey, KeyError, Lock};

/// How long a client may take for its first packet (PostgreSQL's own `authentication_timeout` default).
const STARTUP_TIME_MAX: Duration = Duration::from_secs(60);

/// How long the server may take over a cancel request.
const CANCEL_TIME_MAX: Duration = Duration::from_secs(10);

/// Requests for encryption that are answered before a session must begin: TLS and GSSAPI, once each.
const ENCRYPTION_REQUESTS_MAX: usize = 2;

/// Connections that one door relays at once: above any server's `max_connections`, below a process's descriptors.
pub const CONNECTIONS_MAX: u32 = 512;

/// Clients of one door at once, also those that have said nothing yet or wait for its server: each is a descriptor.
const CLIENTS_MAX: usize = 2 * CONNECTIONS_MAX as usize;

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
    /// Connections of a guarded door that have yet to be let in.
    waiting: AtomicU32,
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

/// Who gets through a door.
#[derive(Debug, Clone)]
pub struct Admission {
    /// This role never does.
    pub refused_user: &'static str,
    /// Nor does anybody without a pass; none: whoever reaches the port may try.
    pub lock: Option<Lock>,
    /// With what clients speak TLS who ask for it; none: it is declined.
    pub encryption: Option<Encryption>,
}

/// An open door. Dropping it closes the port and every connection through it.
#[derive(Debug)]
pub struct Door {
    port: u16,
    behind_tx: watch::Sender<Behind>,
    holders_tx: watch::Sender<BTreeSet<SessionMark>>,
    lock: Option<Lock>,
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

impl Door {
    /// Opens a door at the first free port from a place in the range that `seed` chooses.
    ///
    /// # Errors
    /// [`NoPort`] when the whole range is taken.
    pub async fn open(seed: u64, admission: Admission) -> Result<Self, NoPort> {
        let size = PORTS.end - PORTS.start;
        let first = u16::try_from(seed % u64::from(size)).unwrap_or_default();
        for step in 0..size {
            let port = PORTS.start + (first + step) % size;
            if let Some(door) = Self::open_at(port, admission.clone()).await {
                return Ok(door);
            }
        }
        Err(NoPort)
    }

    /// Opens a door at `port`; none where it is taken.
    pub async fn open_at(port: u16, admission: Admission) -> Option<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.ok()?;
        let (behind_tx, behind_rx) = watch::channel(Behind::Closed);
        let (holders_tx, holders_rx) = watch::channel(BTreeSet::new());
        let counts = Arc::new(Counts::default());
        let lock = admission.lock.clone();
        let inside = Inside {
            behind_rx,
            holders_rx,
            counts: Arc::clone(&counts),
            admission,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, inside));
        Some(Self {
            port,
            behind_tx,
            holders_tx,
            lock,
            counts,
            _tasks: tasks,
        })
    }

    /// What lets a session in while it holds the branch, or a command for a while; none where nobody needs that.
    pub fn pass(&self, session: Option<&SessionId>) -> Option<Secret> {
        self.lock.as_ref().map(|lock| lock.pass(session))
    }

    /// Which sessions a guarded door lets in from now on. Connections that stand are left alone: a session that was not heard
    /// for a while still has its own.
    pub fn hold(&self, holders: BTreeSet<SessionMark>) {
        self.holders_tx.send_if_modified(|old| {
            let changed = *old != holders;
            *old = holders;
            changed
        });
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
                // A client that waited before the server was there wakes nobody: whoever waits from here on, does.
                let _stale = self.counts.knocks.notified().now_or_never();
                *behind = Behind::Closed;
            }
            changes
        });
        is_quiet
    }
}

/// What a connection is served with.
#[derive(Debug, Clone)]
struct Inside {
    behind_rx: watch::Receiver<Behind>,
    holders_rx: watch::Receiver<BTreeSet<SessionMark>>,
    counts: Arc<Counts>,
    admission: Admission,
}

async fn accept(listener: TcpListener, inside: Inside) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) if connections.len() >= CLIENTS_MAX => turn_away(&client),
                Ok((client, _)) => {
                    let inside = inside.clone();
                    connections.spawn(async move {
                        if let Err(error) = serve(client, inside).await {
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

/// Says why, as far as the kernel takes it at once, and closes: whoever is one too many is not waited for.
fn turn_away(client: &TcpStream) {
    let response = fatal_response("53300", "too many clients at this branch's door");
    // The end of the connection says the same.
    let _ = client.try_write(&response);
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

async fn serve(client: TcpStream, mut inside: Inside) -> io::Result<()> {
    client.set_nodelay(true)?;
    let Some(client) = let_in(client, &mut inside).await? else {
        return Ok(());
    };
    let Inside {
        mut behind_rx,
        counts,
        admission,
        ..
    } = inside;
    let begun = begin(client, None, admission.encryption.as_ref());
    let begun = tokio::time::timeout(STARTUP_TIME_MAX, begun).await;
    let (mut client, packet, first) =
        begun.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if let FirstPacket::Startup { user, .. } = &first {
        if user == admission.refused_user {
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
    let reached = tokio::time::timeout(STARTUP_TIME_MAX, reach(&mut behind_rx, &counts, is_cancel));
    let reached = reached.await;
    let (mut server, _counted) =
        reached.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    server.write_all(&packet).await?;
    if is_cancel {
        // The server answers with nothing but the end of the connection, once it is done; the client waits for that.
        let mut nothing = tokio::io::sink();
        let ended = tokio::io::copy(&mut server, &mut nothing);
        let _ = tokio::time::timeout(CANCEL_TIME_MAX, ended).await;
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

/// The client, where this door lets it in; else it was refused, in words that its user reads.
async fn let_in(mut client: TcpStream, inside: &mut Inside) -> io::Result<Option<TcpStream>> {
    let Some(lock) = &inside.admission.lock else {
        return Ok(Some(client));
    };
    let waiting = Waiting::begin(&inside.counts.waiting);
    let knock = match &waiting {
        None => Knock::Stranger(Refusal::Crowded, None),
        Some(_) => lock.hear(&mut client, &mut inside.holders_rx).await?,
    };
    let Knock::Stranger(refusal, said) = knock else {
        return Ok(Some(client));
    };
    tracing::info!(%refusal, "a door lets somebody not in");
    if !matches!(refusal, Refusal::Late | Refusal::Crowded) {
        // Until it has asked for its session a client takes no answer for one.
        let begun = begin(client, said, inside.admission.encryption.as_ref());
        let begun = tokio::time::timeout(lock.time_max, begun).await;
        if let Ok(Ok((client, _, FirstPacket::Startup { .. }))) = begun {
            refuse(client, refusal.sqlstate(), &refusal.to_string()).await?;
        }
        return Ok(None);
    }
    refuse(client, refusal.sqlstate(), &refusal.to_string()).await?;
    Ok(None)
}

/// A client, plain or by TLS.
type Client = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Answers requests for encryption and reads the packet that says what the client wants. `said` was read of it already.
async fn begin(
    client: TcpStream,
    mut said: Option<[u8; 4]>,
    encryption: Option<&Encryption>,
) -> io::Result<(Client, Vec<u8>, FirstPacket)> {
    let mut client = match encryption {
        Some(encryption) if said.is_none() && Encryption::is_direct(&client).await? => {
            Either::Right(Box::new(encryption.accept(client).await?))
        }
        Some(_) | None => Either::Left(client),
    };
    for _ in 0..=ENCRYPTION_REQUESTS_MAX {
        let packet = match said.take() {
            Some(header) => read_rest(&mut client, header).await?,
            None => read_packet(&mut client).await?,
        };
        client = match (decode(&packet).map_err(invalid)?, client, encryption) {
            (FirstPacket::SslRequest, Either::Left(mut plain), Some(encryption)) => {
                plain.write_all(b"S").await?;
                Either::Right(Box::new(encryption.accept(plain).await?))
            }
            (FirstPacket::SslRequest | FirstPacket::GssencRequest, mut client, _) => {
                client.write_all(b"N").await?;
                client
            }
            (
                first @ (FirstPacket::CancelRequest { .. } | FirstPacket::Startup { .. }),
                client,
                _,
            ) => return Ok((client, packet, first)),
        };
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
        // The door is gone: nobody will ever lead it elsewhere.
        if behind_rx.has_changed().is_err() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        // Read under its lock: whoever closes a quiet door has either counted this session or closed it before this line.
        let leads_there = *behind_rx.borrow_and_update() == Behind::Open(socket.clone());
        if leads_there {
            return Ok((UnixStream::connect(&socket).await?, counted));
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
    read_rest(client, header).await
}

async fn read_rest(client: &mut (impl AsyncRead + Unpin), header: [u8; 4]) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; packet_length(header).map_err(invalid)?];
    packet[..4].copy_from_slice(&header);
    client.read_exact(&mut packet[4..]).await?;
    Ok(packet)
}

fn invalid(error: pg_startup::StartupError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

async fn refuse(
    mut client: impl AsyncWrite + Unpin,
    sqlstate: &str,
    message: &str,
) -> io::Result<()> {
    client.write_all(&fatal_response(sqlstate, message)).await?;
    client.shutdown().await
}

#[cfg(test)]
mod tests;
