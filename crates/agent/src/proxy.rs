//! A proxy into the target's network for programs that hold no session: the engine reaches databases through it that only
//! the target reaches.
//!
//! Owns its protocol, SOCKS version 5 (RFC 1928): CONNECT without authentication, as whoever may open the Unix socket is
//! let in; everything else is refused by its own code. Where connections are made is a [`Network`]'s: the agent's own by
//! `outgoing` and `dns`, or what somebody else has of a target's.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes,
};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use wire::{Endpoint, Errno};

use crate::Settings;
use crate::dns::Resolver;
use crate::outgoing;

/// The protocol's version.
const VERSION: u8 = 5;

/// The one method of authentication that is offered: none.
const NO_AUTHENTICATION: u8 = 0;
/// What is answered where a client does not know it.
const NONE_ACCEPTABLE: u8 = 0xff;

/// The one command that is carried out.
const CONNECT: u8 = 1;

/// Types of addresses.
const VERSION_4: u8 = 1;
const NAME: u8 = 3;
const VERSION_6: u8 = 4;

/// How long a client may take to say where it wants to.
const WORD_WITHIN: Duration = Duration::from_secs(10);

/// How long a connection may take to be made: what waits longer has given up.
const DIAL_WITHIN: Duration = Duration::from_secs(60);

/// Connections at once: those of a copy are a handful, those of somebody's pool some hundred.
const CONNECTIONS_MAX: usize = 512;

/// Bytes that are held in each direction: what makes a copy cheap next to its two calls.
const BUFFER: usize = 64 * 1024;

/// The wait after a failed `accept`, which says that descriptors are short.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What a request comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Reply {
    Succeeded = 0,
    GeneralFailure = 1,
    NotAllowed = 2,
    NetworkUnreachable = 3,
    HostUnreachable = 4,
    ConnectionRefused = 5,
    TimedOut = 6,
    CommandNotSupported = 7,
    AddressNotSupported = 8,
}

impl From<Errno> for Reply {
    fn from(errno: Errno) -> Self {
        const EPERM: Errno = Errno(1);
        const ENETUNREACH: Errno = Errno(101);
        match errno {
            Errno::ECONNREFUSED => Self::ConnectionRefused,
            Errno::ETIMEDOUT => Self::TimedOut,
            // A name that nobody knows has no code of its own.
            Errno::EHOSTUNREACH | Errno::ENOENT => Self::HostUnreachable,
            ENETUNREACH => Self::NetworkUnreachable,
            EPERM | Errno::EACCES => Self::NotAllowed,
            _ => Self::GeneralFailure,
        }
    }
}

/// Where a proxy's connections are made.
pub trait Network: Send + Sync + 'static {
    /// A connection there. Dropped after both of its directions have ended, it ends in order.
    type Connection: AsyncRead + AsyncWrite + Send + Unpin;

    /// Connects; [`Errno`] as the target itself would see it.
    fn dial(&self, to: Endpoint) -> impl Future<Output = Result<Self::Connection, Errno>> + Send;

    /// Cuts a connection that broke: the other side sees no orderly end.
    fn cut(connection: &Self::Connection);
}

/// The network that this program is in.
struct OwnNetwork(Resolver);

impl Network for OwnNetwork {
    type Connection = TcpStream;

    async fn dial(&self, to: Endpoint) -> Result<TcpStream, Errno> {
        let server = outgoing::dial(&self.0, to).await?;
        server.set_nodelay(true).ok();
        Ok(server)
    }

    fn cut(connection: &TcpStream) {
        connection.set_zero_linger().ok();
    }
}

/// Serves whoever comes to `listener`, for ever.
pub async fn serve(settings: &Settings, listener: UnixListener) -> Infallible {
    let resolver = Resolver::new(settings.resolv_conf.clone(), settings.hosts.clone());
    serve_into(OwnNetwork(resolver), listener).await
}

/// The same into a network of somebody else's.
pub async fn serve_into<N: Network>(network: N, listener: UnixListener) -> Infallible {
    let network = Arc::new(network);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((client, _)) => {
                    let network = Arc::clone(&network);
                    connections.spawn(async move {
                        if let Err(error) = lead(client, &*network).await {
                            tracing::debug!(%error, "a connection through the proxy broke");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the proxy cannot accept");
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn lead<N: Network>(mut client: UnixStream, network: &N) -> io::Result<()> {
    let heard = timeout(WORD_WITHIN, hear(&mut client)).await;
    let destination = match heard.map_err(|_| io::ErrorKind::TimedOut)?? {
        Ok(destination) => destination,
        Err(reply) => return answer(&mut client, reply).await,
    };
    let dialled = timeout(DIAL_WITHIN, network.dial(destination)).await;
    let mut server = match dialled.unwrap_or(Err(Errno::ETIMEDOUT)) {
        Ok(server) => server,
        Err(errno) => return answer(&mut client, errno.into()).await,
    };
    answer(&mut client, Reply::Succeeded).await?;
    let carried = copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await;
    if carried.is_err() {
        N::cut(&server);
    }
    carried.map(drop)
}

/// Where a client wants to; the reply to one that wants something else.
async fn hear(client: &mut UnixStream) -> io::Result<Result<Endpoint, Reply>> {
    if client.read_u8().await? != VERSION {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut methods = vec![0; client.read_u8().await?.into()];
    client.read_exact(&mut methods).await?;
    if !methods.contains(&NO_AUTHENTICATION) {
        client.write_all(&[VERSION, NONE_ACCEPTABLE]).await?;
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    client.write_all(&[VERSION, NO_AUTHENTICATION]).await?;
    let mut head = [0; 4];
    client.read_exact(&mut head).await?;
    let [version, command, _reserved, kind] = head;
    if version != VERSION {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let host = match kind {
        VERSION_4 => Some(Ipv4Addr::from_bits(client.read_u32().await?).into()),
        VERSION_6 => Some(Ipv6Addr::from_bits(client.read_u128().await?).into()),
        NAME => None,
        _ => return Ok(Err(Reply::AddressNotSupported)),
    };
    let name = if host.is_none() {
        let mut name = vec![0; client.read_u8().await?.into()];
        client.read_exact(&mut name).await?;
        String::from_utf8(name).map_err(|_| io::ErrorKind::InvalidData)?
    } else {
        String::new()
    };
    let port = client.read_u16().await?;
    if command != CONNECT {
        return Ok(Err(Reply::CommandNotSupported));
    }
    Ok(Ok(match host {
        Some(ip) => Endpoint::Address(SocketAddr::new(ip, port)),
        None => Endpoint::Name { host: name, port },
    }))
}

/// Tells what became of the request. The address that it would tell is of no use to anybody here.
async fn answer(client: &mut UnixStream, reply: Reply) -> io::Result<()> {
    let nowhere = [0; 6];
    let head = [VERSION, reply as u8, 0, VERSION_4];
    client.write_all(&[&head[..], &nowhere].concat()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a proxy hears of these bytes, and what it says to them.
    async fn heard(bytes: &[u8]) -> (io::Result<Result<Endpoint, Reply>>, Vec<u8>) {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        ours.write_all(bytes).await.unwrap();
        ours.shutdown().await.unwrap();
        let heard = hear(&mut theirs).await;
        drop(theirs);
        let mut said = Vec::new();
        // What was not heard to its end resets the connection, after what was said.
        ours.read_to_end(&mut said).await.ok();
        (heard, said)
    }

    #[tokio::test]
    async fn names_and_addresses_of_both_versions_are_heard() {
        let greeting = [5, 2, 2, 0];
        let of = |request: &[u8]| [&greeting[..], request].concat();
        let (name, said) = heard(&of(b"\x05\x01\x00\x03\x05db.ns\x15\x38")).await;
        let host = "db.ns".to_owned();
        assert_eq!(name.unwrap(), Ok(Endpoint::Name { host, port: 5432 }));
        assert_eq!(said, [5, 0]);
        let (four, _) = heard(&of(b"\x05\x01\x00\x01\x7f\x00\x00\x01\x15\x38")).await;
        let expected = "127.0.0.1:5432".parse().unwrap();
        assert_eq!(four.unwrap(), Ok(Endpoint::Address(expected)));
        let six = [b"\x05\x01\x00\x04".as_slice(), &[0; 15], &[1, 0, 80]].concat();
        let (six, _) = heard(&of(&six)).await;
        let expected = "[::1]:80".parse().unwrap();
        assert_eq!(six.unwrap(), Ok(Endpoint::Address(expected)));
    }

    #[tokio::test]
    async fn what_is_not_offered_is_refused_by_its_own_code() {
        let bind = [5, 1, 0, 5, 2, 0, 1, 127, 0, 0, 1, 0, 80];
        let (bind, _) = heard(&bind).await;
        assert_eq!(bind.unwrap(), Err(Reply::CommandNotSupported));
        let (kind, _) = heard(&[5, 1, 0, 5, 1, 0, 9]).await;
        assert_eq!(kind.unwrap(), Err(Reply::AddressNotSupported));
        let (password, said) = heard(&[5, 1, 2]).await;
        assert!(password.is_err());
        assert_eq!(said, [5, 0xff]);
        for cut in [
            &b"\x04\x01"[..],
            b"\x05",
            b"\x05\x01\x00\x05\x01\x00\x03\x09db",
        ] {
            assert!(heard(cut).await.0.is_err(), "{cut:?}");
        }
    }

    #[test]
    fn failures_have_the_protocols_codes() {
        for (errno, reply) in [
            (Errno::ECONNREFUSED, Reply::ConnectionRefused),
            (Errno::ENOENT, Reply::HostUnreachable),
            (Errno::ETIMEDOUT, Reply::TimedOut),
            (Errno(101), Reply::NetworkUnreachable),
            (Errno::EACCES, Reply::NotAllowed),
            (Errno::EIO, Reply::GeneralFailure),
        ] {
            assert_eq!(Reply::from(errno), reply);
        }
    }
}
