//! Where the session's connections are made from.
//!
//! Owns the one door that everything outgoing passes ([`Remote`]), and its simplest form: this machine itself. The
//! target's namespaces, reached through the agent, are another form of it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A connection's two directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An answer that takes its time.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// What a program meant to connect to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A place that connections are made from.
pub trait Remote: fmt::Debug + Send + Sync {
    /// Connects. An error carries the errno that the program is to see, where there is one.
    fn dial<'a>(&'a self, to: &'a Destination) -> Pending<'a, Box<dyn Stream>>;

    /// Every address of `host`; an address stands for itself.
    fn resolve<'a>(&'a self, host: &'a str) -> Pending<'a, Vec<IpAddr>>;
}

/// This machine, in the network namespace of this process.
///
/// Names are looked up by the machine's `resolv.conf` and `hosts`, without the C library, whose name service modules a
/// static program cannot load.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThisMachine;

impl Remote for ThisMachine {
    fn dial<'a>(&'a self, to: &'a Destination) -> Pending<'a, Box<dyn Stream>> {
        Box::pin(async move {
            Ok(match to {
                Destination::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    Box::new(stream) as Box<dyn Stream>
                }
                Destination::Unix(path) => Box::new(UnixStream::connect(path).await?),
            })
        })
    }

    fn resolve<'a>(&'a self, host: &'a str) -> Pending<'a, Vec<IpAddr>> {
        Box::pin(async move {
            if let Ok(ip) = host.parse() {
                return Ok(vec![ip]);
            }
            // A machine without resolv.conf still has its hosts.
            let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
                TokioResolver::builder_with_config(
                    ResolverConfig::default(),
                    TokioRuntimeProvider::default(),
                )
            });
            builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            let resolver = builder.build().map_err(io::Error::other)?;
            let found = resolver.lookup_ip(host).await.map_err(io::Error::other)?;
            Ok(found.iter().collect())
        })
    }
}
