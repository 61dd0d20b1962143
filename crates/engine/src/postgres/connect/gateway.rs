//! A gateway to one source: a Unix socket of the engine's, behind which is an address that only a proxy reaches.
//!
//! ```text
//!   the engine, pg_dump, psql ──▶ DIRECTORY/.s.PGSQL.5432 ──▶ proxy ──▶ (TLS) ──▶ the source
//! ```
//!
//! So whatever dials a source needs no word of proxies. Owns the socket, and TLS to the source as its URL wants it:
//! libpq speaks none on Unix sockets. Whoever may open the directory (mode 0700) is let in. What keeps a connection from
//! being made is told as a server would tell it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::PgUrl;
use model::engine_api::SourceProxy;
use model::pg_startup::{SSL_REQUEST_PACKET, fatal_response};
use rustls::pki_types::ServerName;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsConnector;

use super::target::{Attempt, Target};
use super::{ConnectError, socks, tls};
use crate::door::read_packet;
use crate::postgres::settings::socket_path;

/// Connections at once: a copy has a handful, and somebody else's network is at the other end.
const CONNECTIONS_MAX: usize = 64;

/// How long a client may take for its first packet: it is the engine, or a program that it started.
const STARTUP_TIME_MAX: Duration = Duration::from_secs(60);

/// How long a connection to the source may take until bytes can be sent, with its TLS.
const DIAL_TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes that wait in each direction.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long is waited after the kernel refused a descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// SQLSTATE `sqlclient_unable_to_establish_sqlconnection`: what a gateway says where it makes no connection.
pub(super) const NO_CONNECTION: &str = "08001";

/// A gateway. Dropping it closes it, and every connection through it.
#[derive(Debug)]
pub struct Gateway {
    directory: PathBuf,
    serving: AbortHandle,
}

/// Gateways are what they lead to: two of them are never the same.
impl PartialEq for Gateway {
    fn eq(&self, other: &Self) -> bool {
        self.directory == other.directory
    }
}

impl Eq for Gateway {}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.close();
    }
}

impl Gateway {
    /// Opens a gateway in `directory`, which is made, to the one address of `url` by `proxy`. Inside a runtime.
    ///
    /// # Errors
    /// [`ConnectError`] for a URL that asks for more than a gateway can do, or a directory that cannot be made.
    pub fn open(directory: PathBuf, proxy: SourceProxy, url: &PgUrl) -> Result<Self, ConnectError> {
        let way = Way::read(proxy, url)?;
        let unusable = |source| ConnectError::Gateway {
            path: directory.clone(),
            source,
        };
        let made = DirBuilder::new().mode(0o700).create(&directory);
        made.map_err(unusable)?;
        let listener = UnixListener::bind(socket_path(&directory)).map_err(unusable)?;
        let serving = tokio::spawn(serve(listener, Arc::new(way))).abort_handle();
        Ok(Self { directory, serving })
    }

    /// Closes it, whoever holds it: nothing gets through any more.
    pub fn close(&self) {
        self.serving.abort();
        match fs::remove_dir_all(&self.directory) {
            // The next engine removes what stays.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(directory = %self.directory.display(), %error, "a gateway's socket stays");
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// The directory of its socket.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// The way from a gateway to its source.
struct Way {
    proxy: SourceProxy,
    host: String,
    port: u16,
    tls: Option<Tls>,
}

/// TLS to the source.
struct Tls {
    connector: TlsConnector,
    server_name: ServerName<'static>,
    /// Whether there is no connection without it.
    is_required: bool,
}

impl Way {
    fn read(proxy: SourceProxy, url: &PgUrl) -> Result<Self, ConnectError> {
        let target = Target::read(url, None, [])?;
        target.check_for_gateway()?;
        let [address] = target.addresses.as_slice() else {
            return Err(ConnectError::Url {
                problem: "names several hosts, and a proxy leads to one".to_owned(),
            });
        };
        let given = target.hostaddrs.first();
        Ok(Self {
            proxy,
            host: given.map_or_else(|| address.host.clone(), ToString::to_string),
            port: address.port,
            tls: Tls::of(&target, &address.host)?,
        })
    }

    /// A connection to the source within [`DIAL_TIME_MAX`]; why there is none, in words.
    async fn dial(&self) -> Result<Box<dyn Server>, String> {
        let dialled = tokio::time::timeout(DIAL_TIME_MAX, self.dial_in_time()).await;
        dialled.unwrap_or_else(|_| {
            let seconds = DIAL_TIME_MAX.as_secs();
            Err(format!("no answer within {seconds} s"))
        })
    }

    async fn dial_in_time(&self) -> Result<Box<dyn Server>, String> {
        let dialled = socks::connect(&self.proxy.socket, &self.host, self.port).await;
        let network = &self.proxy.network;
        let mut stream = dialled.map_err(|why| format!("{why}, in the network of {network}"))?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let offered = ask_for_tls(&mut stream).await;
        if offered.map_err(|why| why.to_string())? {
            let connected = tls.connector.connect(tls.server_name.clone(), stream);
            let stream = connected.await;
            let stream = stream.map_err(|why| format!("no TLS connection: {why}"))?;
            Ok(Box::new(stream))
        } else if tls.is_required {
            Err("the server speaks no TLS".to_owned())
        } else {
            Ok(Box::new(stream))
        }
    }
}

impl Tls {
    /// What the URL wants; none where it wants none first.
    fn of(target: &Target, host: &str) -> Result<Option<Self>, ConnectError> {
        let is_required = match target.tls.attempts().first() {
            None | Some(Attempt::Plain) => return Ok(None),
            Some(Attempt::TlsIfOffered) => false,
            Some(Attempt::Tls) => true,
        };
        let host = host.to_owned();
        let server_name = ServerName::try_from(host.clone());
        Ok(Some(Self {
            connector: Arc::new(tls::client(target.tls, &target.certificates)?).into(),
            server_name: server_name.map_err(|_| ConnectError::NoSuchHost { host })?,
            is_required,
        }))
    }
}

/// The source's end of a connection.
trait Server: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Server for T {}

/// Whether the server speaks TLS (protocol section 55.2.10).
async fn ask_for_tls(stream: &mut UnixStream) -> io::Result<bool> {
    stream.write_all(&SSL_REQUEST_PACKET).await?;
    match stream.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(io::Error::other(
            "what answers there speaks no protocol of PostgreSQL's",
        )),
    }
}

async fn serve(listener: UnixListener, way: Arc<Way>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((client, _)) => {
                    let way = Arc::clone(&way);
                    connections.spawn(async move {
                        if let Err(error) = lead(client, &way).await {
                            tracing::debug!(%error, "a connection through a gateway ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a gateway cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn lead(mut client: UnixStream, way: &Way) -> io::Result<()> {
    // Nobody asks for TLS here: the first packet is the start-up, or a request to cancel.
    let read = tokio::time::timeout(STARTUP_TIME_MAX, read_packet(&mut client)).await;
    let packet = read.map_err(|_| io::ErrorKind::TimedOut)??;
    match way.dial().await {
        Ok(mut server) => {
            server.write_all(&packet).await?;
            let carried =
                copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER_BYTES, BUFFER_BYTES);
            carried.await.map(drop)
        }
        Err(why) => {
            let said = fatal_response(NO_CONNECTION, &why);
            client.write_all(&said).await?;
            client.shutdown().await
        }
    }
}
