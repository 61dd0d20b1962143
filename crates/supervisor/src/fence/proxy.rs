//! The proxy's listeners, and the way of a connection from there to its conversation.
//!
//! Owns accepting on loopback, IPv4 and IPv6, and on an abstract Unix socket. Whoever does not come from the session
//! is dropped unanswered.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, getpeername, listen, socket_with,
};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};
use tokio::time::Instant;
use wire::pump::{Relay, TcpEnd};

use super::conversation::{self, STARTUP_TIME_MAX};
use super::sniff::{Verdict, judge};
use super::{Arrival, Look, OnSource, Peer, Route};
use crate::network::Side;
use crate::prefixed::Prefixed;
use crate::remote::{Destination, Dialled, Stream, TargetNetwork, Upstream};
use crate::resolver;
use crate::session::Session;
use crate::socket::canonical;

/// Connections that wait to be accepted: the kernel drops more, and a dropped one takes a second to come again.
const BACKLOG: u32 = 4096;

/// How long the proxy waits before it accepts again after the kernel refused it a descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the first bytes of a watched connection may be too few to judge before it is asked whether they matter: where
/// no source can be, whoever waits for an answer to so few is let go.
const JUDGE_WAIT_MAX: Duration = Duration::from_secs(1);

/// Where the proxy listens.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// On IPv4.
    pub(crate) v4: SocketAddr,
    /// On IPv6, where the machine has it.
    pub(crate) v6: Option<SocketAddr>,
    /// The abstract name of its Unix socket.
    pub(crate) unix: Vec<u8>,
}

/// Its listeners, not served yet.
pub(crate) struct Listeners {
    v4: TcpListener,
    v6: Option<TcpListener>,
    unix: UnixListener,
}

impl Proxy {
    /// Opens the listeners. Inside a runtime.
    ///
    /// # Errors
    /// When loopback or descriptors are wanting.
    pub(crate) fn open() -> io::Result<(Self, Listeners)> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let v4 = socket.listen(BACKLOG)?;
        let v6 = open_v6().ok();
        let unix = open_unix()?;
        let name = unix.local_addr()?;
        let name = name.as_abstract_name().unwrap_or_default().to_vec();
        let proxy = Self {
            v4: v4.local_addr()?,
            v6: v6.as_ref().map(TcpListener::local_addr).transpose()?,
            unix: name,
        };
        let unix = UnixListener::from_std(unix)?;
        Ok((proxy, Listeners { v4, v6, unix }))
    }
}

fn open_v6() -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    socket.bind((Ipv6Addr::LOCALHOST, 0).into())?;
    socket.listen(BACKLOG)
}

/// A Unix socket with a name of the kernel's choice (unix(7), "Autobind feature").
fn open_unix() -> io::Result<std::os::unix::net::UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddrUnix::new_unnamed())?;
    listen(&socket, BACKLOG.cast_signed())?;
    Ok(socket.into())
}

/// Accepts until the runtime ends.
pub(crate) async fn serve(session: Arc<Session>, listeners: Listeners) {
    let Listeners { v4, v6, unix } = listeners;
    let v6 = async {
        match &v6 {
            Some(listener) => accept_tcp(&session, listener).await,
            None => std::future::pending().await,
        }
    };
    tokio::join!(accept_tcp(&session, &v4), v6, accept_unix(&session, &unix));
}

async fn accept_tcp(session: &Arc<Session>, listener: &TcpListener) {
    loop {
        match listener.accept().await {
            Ok((client, from)) => {
                // Only latency is at stake.
                let _slower = client.set_nodelay(true);
                let client = Box::new(TcpEnd::new(client));
                begin(session, Peer::Tcp(canonical(from)), client);
            }
            Err(error) => pause(&error).await,
        }
    }
}

async fn accept_unix(session: &Arc<Session>, listener: &UnixListener) {
    loop {
        match listener.accept().await {
            // tokio gives an abstract name as no name at all.
            Ok((client, _)) => match peer_name(&client) {
                Ok(name) => begin(session, Peer::Unix(name), Box::new(client)),
                Err(error) => tracing::debug!(%error, "a stranger at the fence"),
            },
            Err(error) => pause(&error).await,
        }
    }
}

/// The abstract name of the socket on the other side.
fn peer_name(client: &UnixStream) -> io::Result<Vec<u8>> {
    let address = getpeername(client)?.map(SocketAddrUnix::try_from);
    let address = address.transpose()?;
    let name = address.as_ref().and_then(SocketAddrUnix::abstract_name);
    Ok(name.unwrap_or_default().to_vec())
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "the fence cannot accept");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Serves a connection of the session from `peer`, in a task of its own.
pub(crate) fn begin(session: &Arc<Session>, peer: Peer, client: Box<dyn Stream>) {
    let conversations = session.conversations.clone();
    let client = Box::new(session.uploads.of_program(client));
    let session = Arc::clone(session);
    conversations.spawn(async move {
        let Some(arrival) = session.arrivals.take(&peer).await else {
            tracing::debug!(?peer, "a stranger at the fence");
            return;
        };
        let cookie = arrival.cookie;
        serve_one(&session, client, arrival).await;
        session.names.forget(cookie);
    });
}

async fn serve_one(session: &Session, client: Box<dyn Stream>, arrival: Arrival) {
    let place = arrival.destination;
    let served = match (arrival.upstream, &session.network) {
        (Some(server), _) => watch(session, client, server, &place).await,
        (None, Some(network)) if is_resolver(session, network, &place) => match place {
            Destination::Tcp(server) => resolver::serve(session, network, client, server).await,
            Destination::Unix(_) => Ok(()),
        },
        (None, Some(_) | None) => conversation::serve(session, client, &place)
            .await
            .map_err(io::Error::other),
    };
    if let Err(error) = served {
        tracing::debug!(%place, %error, "a connection through the fence ended");
    }
}

/// Whether the session itself answers at `place`, as a name server.
fn is_resolver(session: &Session, network: &TargetNetwork, place: &Destination) -> bool {
    match place {
        Destination::Tcp(address) => {
            network.plan().answers_names()
                && address.port() == resolver::PORT
                && session.fence.route(*address) != Route::Source
        }
        Destination::Unix(_) => false,
    }
}

/// Whether a session of PostgreSQL at `place` is the fence's to lead: it may be with a source.
async fn is_fenced(session: &Session, place: &Destination) -> bool {
    let Destination::Tcp(address) = place else {
        return true;
    };
    match session.fence.route(*address) {
        Route::Watched | Route::Source => true,
        Route::Allowed | Route::Door(_) | Route::TlsDoor => false,
        route @ (Route::Elsewhere | Route::Doubtful) => {
            let is_own = session.fence.on_source() != OnSource::Allow
                && conversation::is_own(session, place).await;
            is_own
                || (route == Route::Doubtful
                    && session.fence.resolve_doubt(*address, &session.remote).await)
        }
    }
}

/// What a watched connection turned out to be.
enum Watched {
    /// PostgreSQL's, and the fence's to lead.
    Fenced,
    /// Anything else.
    Free,
    /// It began as PostgreSQL does and did not come to the end of its packet.
    Unfinished,
}

/// Carries a connection to its end, unless it turns out to be PostgreSQL's and the fence's.
async fn watch(
    session: &Session,
    mut client: Box<dyn Stream>,
    server: Dialled,
    place: &Destination,
) -> io::Result<()> {
    let (mut server, side) = (server.stream.counted_by(&session.uploads), server.side);
    let (mut first, mut way) = (Vec::new(), Relay::default());
    match look(
        session,
        &mut client,
        &mut server,
        &mut way,
        &mut first,
        place,
    )
    .await?
    {
        Watched::Fenced => {
            drop(server);
            let client = Box::new(Prefixed::new(first, client));
            let conversation = conversation::serve(session, client, place);
            return conversation.await.map_err(io::Error::other);
        }
        Watched::Unfinished => {
            session.ledger.count_refused(place, "(an unfinished start)");
            return client.shutdown().await;
        }
        Watched::Free => {}
    }
    count(session, place, side);
    server.write_all(&first).await?;
    server.flush().await?;
    server.carry(way, client).await
}

/// Judges what the client says `first`, while the server may speak. Where a source can be, no pause ends that: the
/// server has nothing of it before it is whole.
async fn look(
    session: &Session,
    client: &mut Box<dyn Stream>,
    server: &mut Upstream,
    way: &mut Relay,
    first: &mut Vec<u8>,
    place: &Destination,
) -> io::Result<Watched> {
    // From when the client has begun; then until when it has to have said all.
    let (mut begun, mut until): (Option<Instant>, Option<Instant>) = (None, None);
    loop {
        let patience = match (begun, until) {
            (_, Some(until)) => until.saturating_duration_since(Instant::now()),
            (Some(_), None) => JUDGE_WAIT_MAX,
            (None, None) => Duration::MAX,
        };
        let verdict = match server.overhear(way, client, first, patience).await? {
            Some(0) => return Ok(Watched::Free),
            Some(_) => judge(first),
            None if until.is_some() => return Ok(Watched::Unfinished),
            None if is_fenced(session, place).await => {
                until = begun.map(|begun| begun + STARTUP_TIME_MAX);
                Verdict::Open
            }
            None => return Ok(Watched::Free),
        };
        match verdict {
            Verdict::Open => begun = begun.or_else(|| Some(Instant::now())),
            Verdict::Postgres if is_fenced(session, place).await => return Ok(Watched::Fenced),
            Verdict::Other | Verdict::Postgres => return Ok(Watched::Free),
        }
    }
}

fn count(session: &Session, place: &Destination, side: Side) {
    match place {
        Destination::Tcp(address) => match session.fence.route(*address) {
            Route::Watched | Route::Doubtful | Route::Elsewhere => {
                session.ledger.count_other(*address, side)
            }
            Route::Allowed | Route::Door(_) | Route::TlsDoor | Route::Source => {}
        },
        Destination::Unix(_) => session.ledger.count_socket(place, side, Look::Beginning),
    }
}
