//! Connections from the target's network, with the results that a local process would see.

use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream as StdStream};
use std::path::Path;

use bytes::Bytes;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UdpSocket, UnixStream};
use wire::pump::{Offer, Stream, TcpEnd};
use wire::{DATAGRAM_MAX, Endpoint, Errno, Opened};

use crate::dns::Resolver;
use crate::server::Inner;

/// A TCP connection.
pub(crate) async fn tcp(agent: &Inner, offer: Offer, destination: Endpoint) {
    let connected = tokio::select! {
        connected = dial(&agent.resolver, destination) => connected,
        () = offer.withdrawn() => return,
    };
    let socket = match connected {
        Ok(socket) => socket,
        Err(errno) => return offer.refuse(errno),
    };
    // Small pieces were waited for once already, by the application or by its own choice.
    socket.set_nodelay(true).ok();
    let opened = Opened {
        local: socket.local_addr().ok(),
        peer: socket.peer_addr().ok(),
    };
    relay(offer.accept(opened), TcpEnd::new(socket)).await;
}

/// Connects to the first of the destination's addresses where somebody answers.
///
/// # Errors
/// The last one's, as the target itself would see it.
pub(crate) async fn dial(resolver: &Resolver, destination: Endpoint) -> Result<TcpStream, Errno> {
    let addresses = match destination {
        Endpoint::Address(address) => vec![address],
        Endpoint::Name { host, port } => resolver.addresses(&host, port).await?,
    };
    let mut failure = Errno::EHOSTUNREACH;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => failure = (&error).into(),
        }
    }
    Err(failure)
}

/// A connection to a Unix stream socket of the target.
pub(crate) async fn unix(agent: &Inner, offer: Offer, path: &Bytes) {
    let connected = tokio::select! {
        connected = connect_unix(agent, path) => connected,
        () = offer.withdrawn() => return,
    };
    match connected {
        Ok(socket) => relay(offer.accept(Opened::default()), socket).await,
        Err(error) => offer.refuse((&error).into()),
    }
}

async fn connect_unix(agent: &Inner, path: &Bytes) -> io::Result<UnixStream> {
    let (root, path) = (agent.settings.root.clone(), path.clone());
    // A Unix socket connects at once, or waits for a listener that is short of turns.
    let connecting = move || match path.split_first() {
        Some((0, name)) => StdStream::connect_addr(&UnixAddr::from_abstract_name(name)?),
        _ => connect_path(&root, OsStr::from_bytes(&path)),
    };
    let socket = tokio::task::spawn_blocking(connecting)
        .await
        .map_err(io::Error::other)??;
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

/// Connects to the socket at `path` as a process with this root directory does: its links, absolute ones as well, lead to
/// where they lead there, and its own length is what has a limit.
fn connect_path(root: &Path, path: &OsStr) -> io::Result<StdStream> {
    // What the kernel says to the target itself (unix(7)).
    UnixAddr::from_pathname(path)?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags | OFlags::DIRECTORY, Mode::empty())?;
    let found = rustix::fs::openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
    StdStream::connect(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

/// Carries bytes both ways until both ends are over.
async fn relay<S>(stream: Stream, mut socket: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Err(error) = wire::pump::relay(&stream, &mut socket).await {
        drop(socket);
        stream.reset_behind((&error).into()).await;
    }
}

/// A UDP socket.
pub(crate) async fn udp(offer: Offer, connected: Option<SocketAddr>, version_6: bool) {
    let socket = match bind(connected, version_6).await {
        Ok(socket) => socket,
        Err(error) => return offer.refuse((&error).into()),
    };
    let opened = Opened {
        local: socket.local_addr().ok(),
        peer: connected,
    };
    let stream = offer.accept(opened);
    if let Err(errno) = exchange(&stream, &socket, connected).await {
        stream.reset(errno);
    }
}

async fn bind(connected: Option<SocketAddr>, version_6: bool) -> io::Result<UdpSocket> {
    let version_6 = connected.map_or(version_6, |address| address.is_ipv6());
    let any: SocketAddr = if version_6 {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    if let Some(address) = connected {
        socket.connect(address).await?;
    }
    Ok(socket)
}

/// Carries datagrams both ways until the session has sent its last. A connected socket's error ends it, as it tells
/// the application that nobody is there; one that is not connected learns of none.
async fn exchange(
    stream: &Stream,
    socket: &UdpSocket,
    connected: Option<SocketAddr>,
) -> Result<(), Errno> {
    let outwards = async {
        while let Some((to, bytes)) = stream.receive_datagram().await? {
            let sent = match connected {
                Some(_) => socket.send(&bytes).await,
                None => socket.send_to(&bytes, to).await,
            };
            match sent {
                Ok(_) => {}
                Err(error) if connected.is_some() => return Err((&error).into()),
                // As lost as any other datagram.
                Err(_) => {}
            }
        }
        Ok(())
    };
    let inwards = async {
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            match socket.recv_from(&mut buffer).await {
                // A session that reads too slowly loses datagrams, as a full socket does.
                Ok((length, from)) => {
                    stream.send_datagram(from, &buffer[..length])?;
                }
                Err(error) => return Err(Errno::from(&error)),
            }
        }
    };
    tokio::select! {
        outcome = outwards => outcome,
        outcome = inwards => outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn links_of_a_target_lead_to_where_they_lead_there() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at("run")).unwrap();
        std::fs::create_dir_all(at("var")).unwrap();
        std::os::unix::fs::symlink("/run", at("var/run")).unwrap();
        std::os::unix::fs::symlink("../../../run/app.sock", at("up.sock")).unwrap();
        let _listener = UnixListener::bind(at("run/app.sock")).unwrap();
        for path in [
            "/run/app.sock",
            "/var/run/app.sock",
            "/up.sock",
            "run/app.sock",
        ] {
            let connected = connect_path(root.path(), OsStr::new(path));
            assert!(connected.is_ok(), "{path}: {connected:?}");
        }
        let absent = connect_path(root.path(), OsStr::new("/run/other.sock")).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_path_may_be_as_long_as_the_kernel_has_room_for() {
        let root = tempfile::tempdir().unwrap();
        let name = "x".repeat(100);
        // The way to it is longer than an address: bound by a shorter one.
        let folder = rustix::fs::open(root.path(), OFlags::PATH, Mode::empty()).unwrap();
        let short = format!("/proc/self/fd/{}/s", folder.as_raw_fd());
        let _listener = UnixListener::bind(short).unwrap();
        std::fs::rename(root.path().join("s"), root.path().join(&name)).unwrap();
        assert!(connect_path(root.path(), OsStr::new(&format!("/{name}"))).is_ok());
        let long = "x".repeat(120);
        let refused = connect_path(root.path(), OsStr::new(&long)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
}
