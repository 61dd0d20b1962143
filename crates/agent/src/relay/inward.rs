//! The ways in: ports of this machine that lead to the target's, and the relay's own socket, by which other targets'
//! relays come, and whoever wants to know whether the target listens.
//!
//! A visitor of the socket says a port (two bytes, the high one first), hears an errno (four bytes, 0 for success), and
//! is connected from then on.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::carry::carry;
use super::outward::unspecified;
use super::{Published, RelayError, SOCKET_NAME, Settings};
use crate::marks::INWARD_MARK;

/// How long a visitor may take to say the port.
const WORD_WITHIN: Duration = Duration::from_secs(10);

/// Visitors that are served at once, and connections through one published port: a pool's worth of everybody.
const CONNECTIONS_MAX: usize = 4096;

/// The wait after a failed `accept`, which says that descriptors are short.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Listens on the published ports, outside.
///
/// # Errors
/// [`RelayError::Publish`] names the first that is not to be had.
pub(super) fn listen(
    published: &[Published],
) -> Result<Vec<(std::net::TcpListener, u16)>, RelayError> {
    let listen = |published: &Published| {
        let address = published.host;
        let listener = std::net::TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|source| RelayError::Publish { address, source })?;
        Ok((listener, published.port))
    };
    published.iter().map(listen).collect()
}

/// Everything that leads in.
#[derive(Debug)]
pub(super) struct Inward {
    address: Ipv4Addr,
    visitors: UnixListener,
    published: Vec<(TcpListener, u16)>,
}

impl Inward {
    /// Opens the relay's socket, in place of one that an earlier relay left.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn open(
        settings: &Settings,
        published: Vec<(std::net::TcpListener, u16)>,
    ) -> io::Result<Self> {
        let path = settings.folder.join(SOCKET_NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let visitors = UnixListener::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let published = published
            .into_iter()
            .map(|(listener, port)| Ok((TcpListener::from_std(listener)?, port)))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            address: settings.address,
            visitors,
            published,
        })
    }

    /// Serves, for ever.
    pub(super) async fn serve(self) {
        let mut serving = JoinSet::new();
        for (listener, port) in self.published {
            serving.spawn(serve_published(listener, port));
        }
        serving.spawn(serve_visitors(self.visitors, self.address));
        while serving.join_next().await.is_some() {}
    }
}

async fn serve_published(listener: TcpListener, port: u16) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((client, _)) => {
                    connections.spawn(lead_in(client, port));
                }
                Err(error) => wait_after(&error).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn lead_in(client: TcpStream, port: u16) {
    client.set_nodelay(true).ok();
    // As a forwarded port of a cluster: the target's own loopback.
    let places = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let whole = match connect_inside(&places, port).await {
        Ok(stream) => {
            let whole = carry(&client, &stream).await;
            if !whole {
                stream.set_zero_linger().ok();
            }
            whole
        }
        Err(error) => {
            tracing::debug!(%error, port, "a published port leads to nobody");
            false
        }
    };
    if !whole {
        client.set_zero_linger().ok();
    }
}

async fn serve_visitors(listener: UnixListener, address: Ipv4Addr) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((visitor, _)) => {
                    connections.spawn(receive(visitor, address));
                }
                Err(error) => wait_after(&error).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn wait_after(error: &io::Error) {
    tracing::warn!(%error, "a connection into the target cannot be accepted");
    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
}

async fn receive(mut visitor: UnixStream, address: Ipv4Addr) {
    let Ok(Ok(port)) = timeout(WORD_WITHIN, visitor.read_u16()).await else {
        return;
    };
    // Who listens on loopback alone is found as well: on one's own machine that is meant by it.
    let places = [
        address.into(),
        Ipv4Addr::LOCALHOST.into(),
        Ipv6Addr::LOCALHOST.into(),
    ];
    match connect_inside(&places, port).await {
        Ok(stream) => {
            if visitor.write_i32(0).await.is_ok() && !carry(&visitor, &stream).await {
                stream.set_zero_linger().ok();
            }
        }
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(nix::libc::ECONNREFUSED);
            // A visitor that is gone needs no answer.
            let _gone = visitor.write_i32(errno).await;
        }
    }
}

/// Connects to the target's `port` by the relay's socket at `path`.
///
/// # Errors
/// The target's own answer; `NotFound` where there is no relay.
pub async fn visit(path: &Path, port: u16) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_u16(port).await?;
    match stream.read_i32().await? {
        0 => Ok(stream),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Connects to a port of the target's at the first of these addresses where somebody listens.
async fn connect_inside(places: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut failure = io::Error::from(ErrorKind::ConnectionRefused);
    for ip in places {
        match connect_marked(SocketAddr::new(*ip, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// A connection that the rules let through to the target, and that the agent redirects as any client's.
async fn connect_marked(address: SocketAddr) -> io::Result<TcpStream> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_mark(INWARD_MARK)?;
    socket.bind(&SocketAddr::new(unspecified(&address.ip()), 0).into())?;
    let stream = TcpSocket::from_std_stream(socket.into())
        .connect(address)
        .await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
