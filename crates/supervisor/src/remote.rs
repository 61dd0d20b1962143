//! Where the session's connections are made from.
//!
//! Owns the one door that everything outgoing passes ([`Remote`]), and its two forms: this machine itself, and the
//! target's network, reached through the agent as far as the session's plan leads there ([`TargetNetwork`]).

mod target_agent;
mod target_network;
mod upstream;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::pin::Pin;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use wire::pump::TcpEnd;

pub use target_agent::{JoinError, TargetAgent};
pub use target_network::TargetNetwork;
pub use upstream::Upstream;

use crate::network::Side;

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

/// A connection that stands.
pub struct Dialled {
    /// Its bytes.
    pub stream: Upstream,
    /// Where it was made.
    pub side: Side,
    /// The address that it has where it was made, if that is another place than this machine.
    pub local: Option<SocketAddr>,
}

impl fmt::Debug for Dialled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialled")
            .field("side", &self.side)
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

impl Dialled {
    fn here(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Upstream::Socket(Box::new(stream)),
            side: Side::Here,
            local: None,
        }
    }
}

/// A place that connections are made from.
pub trait Remote: fmt::Debug + Send + Sync {
    /// Connects. An error carries the errno that the program is to see, where there is one.
    fn dial<'a>(&'a self, to: &'a Destination) -> Pending<'a, Dialled>;

    /// Every address of `host`; an address stands for itself.
    fn resolve<'a>(&'a self, host: &'a str) -> Pending<'a, Vec<IpAddr>>;

    /// Whether `ip` is an address of the place itself, so that its loopback addresses lead to the same servers.
    fn owns(&self, ip: IpAddr) -> Pending<'_, bool>;
}

/// The addresses of IPv6 that this network namespace has, a line each (proc_net(5), Documentation/networking).
const OWN_IPV6: &str = "/proc/net/if_inet6";

/// Whether `ip` is an address of this machine: the kernel binds a socket to no other. What cannot be found out counts as
/// one, since a wrong guess must not be a gap in the fence.
pub(crate) fn is_of_this_machine(ip: IpAddr) -> bool {
    match ip {
        _ if ip.is_loopback() => true,
        // Nobody's own.
        _ if ip.is_multicast() => false,
        // It is bound by an interface alone, and whoever wrote it may have named none.
        IpAddr::V6(v6) if v6.is_unicast_link_local() => std::fs::read_to_string(OWN_IPV6)
            .map_or_else(
                |error| error.kind() != io::ErrorKind::NotFound,
                |own| lists(&own, v6),
            ),
        IpAddr::V4(_) | IpAddr::V6(_) => is_own(UdpSocket::bind((ip, 0))),
    }
}

/// Whether an address is this machine's, going by what came of binding to it. Where there is no IPv6, neither this
/// process nor the session has an address of it.
fn is_own<T>(bound: io::Result<T>) -> bool {
    bound.map_or_else(
        |error| {
            !matches!(
                error.raw_os_error(),
                Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)
            )
        },
        |_| true,
    )
}

/// Whether the kernel's list of IPv6 addresses has `ip`: each line begins with one, in 32 digits.
fn lists(own: &str, ip: Ipv6Addr) -> bool {
    let digits = format!("{:032x}", ip.to_bits());
    own.lines().any(|line| line.starts_with(&digits))
}

/// This machine, in the network namespace of this process.
///
/// Names are looked up by the machine's `resolv.conf` and `hosts`, without the C library, whose name service modules a
/// static program cannot load.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThisMachine;

impl Remote for ThisMachine {
    fn dial<'a>(&'a self, to: &'a Destination) -> Pending<'a, Dialled> {
        Box::pin(async move {
            Ok(match to {
                Destination::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    Dialled::here(TcpEnd::new(stream))
                }
                Destination::Unix(path) => Dialled::here(UnixStream::connect(path).await?),
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

    fn owns(&self, ip: IpAddr) -> Pending<'_, bool> {
        Box::pin(std::future::ready(Ok(is_of_this_machine(ip))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernel_says_that_an_address_is_another_machines() {
        let bound = |errno| is_own::<()>(Err(io::Error::from_raw_os_error(errno)));
        assert!(is_own(Ok(())));
        assert!(!bound(libc::EADDRNOTAVAIL));
        assert!(!bound(libc::EAFNOSUPPORT));
        for unknown in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EINVAL] {
            assert!(bound(unknown), "{unknown}");
        }
        assert!(!is_of_this_machine("192.0.2.7".parse().unwrap()));
        assert!(!is_of_this_machine("fe80::dead:beef".parse().unwrap()));
    }

    #[test]
    fn the_kernels_list_is_read() {
        let list = "00000000000000000000000000000001 01 80 10 80       lo\n\
                    fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n";
        assert!(lists(list, "fe80::fc:ff:fe00:1".parse().unwrap()));
        assert!(!lists(list, "fe80::fc:ff:fe00:2".parse().unwrap()));
    }
}
