//! The relay: a target's network namespace, its way out of it and the ways in.
//!
//! ```text
//!   inside (the target's namespace)                            outside (where the relay was started)
//!     target ─SYN─▶ rules ─▶ queue ─▶ outward: dials ────────▶ a socket made by `outside`, or another target's relay
//!                     └──◀── the outcome: accepted, refused or dropped as the other end was
//!     target ─datagram─▶ rules ─▶ datagrams ─────────────────▶ a socket made by `outside`
//!     target's port ◀──────────── inward ◀──────────────────── published ports, and whoever comes to the relay's socket
//! ```
//!
//! A socket belongs to the namespace of the thread that made it, whichever thread uses it: one thread stays outside and
//! makes sockets, everything else happens inside. Needs no device and no privilege but those that a user namespace
//! gives over its own network. What the target itself listens on stays inside; everything else is reached as this
//! machine reaches it, this machine's own loopback included.
//!
//! The relay is no agent: it lives exactly as long as its target, and sessions never touch it.

mod carry;
mod datagrams;
mod interfaces;
mod inward;
mod namespaces;
mod outside;
mod outward;
mod packet;
mod queue;
mod rules;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

pub use inward::visit;
pub use namespaces::{EnterError, Ground, join};

use inward::Inward;
use outside::Outside;

/// Where targets of one machine have their addresses: a network for measurements (RFC 2544), which nobody routes.
pub const TARGETS_NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 18, 0, 0), 15);

/// The name of a relay's socket in its target's folder.
pub const SOCKET_NAME: &str = "relay.sock";

/// What a relay has to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The target's own address.
    pub address: Ipv4Addr,
    /// The folder of the target, with its `hosts`; the relay's socket is made there. The folders of other targets are
    /// beside it, each named by its address.
    pub folder: PathBuf,
    /// Ports of this machine's loopback that lead to ports of the target.
    pub published: Vec<Published>,
    /// Whose namespaces are joined; none to make new ones.
    pub ground: Ground,
}

/// A port of this machine that leads to one of the target's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The address on this machine.
    pub host: SocketAddr,
    /// The target's port.
    pub port: u16,
}

/// Why there is no relay.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// A published port is not to be had.
    #[error("cannot listen on {address}")]
    Publish {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There are no namespaces.
    #[error(transparent)]
    Enter(#[from] EnterError),
    /// The namespace's network cannot be set up.
    #[error("cannot {tried} in the target's network namespace")]
    Network {
        /// What was tried.
        tried: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl RelayError {
    fn network(tried: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Network { tried, source }
    }
}

/// A relay that stands inside and serves nobody yet.
#[derive(Debug)]
pub struct Relay {
    settings: Settings,
    published: Vec<(std::net::TcpListener, u16)>,
    outside: Outside,
}

/// Takes this process, which must have one thread, into the target's namespaces; one thread of it stays outside.
///
/// # Errors
/// [`RelayError`]; the process is of no further use then.
pub fn enter(settings: Settings) -> Result<Relay, RelayError> {
    let published = inward::listen(&settings.published)?;
    let has_version_6 = interfaces::machine_has_version_6();
    let entered = namespaces::enter(&settings.ground)?;
    let outside = Outside::start().map_err(RelayError::network("start a thread"))?;
    entered.enter_network()?;
    if let Ground::New = settings.ground {
        interfaces::set_up(settings.address, has_version_6)
            .map_err(RelayError::network("set loopback up"))?;
        namespaces::mount_hosts(&settings.folder.join("hosts"))?;
    }
    Ok(Relay {
        settings,
        published,
        outside,
    })
}

impl Relay {
    /// Serves until `target_ended` ends; says so through `ready` once it does. Inside a runtime.
    ///
    /// # Errors
    /// [`RelayError`] when the kernel lacks a part, before `ready` is called.
    pub async fn serve(
        self,
        ready: impl FnOnce(),
        target_ended: impl Future<Output = ()>,
    ) -> Result<(), RelayError> {
        let Self {
            settings,
            published,
            outside,
        } = self;
        crate::server::allow_descriptors();
        let outside = Arc::new(outside);
        let others = settings.folder.parent().map(PathBuf::from);
        let streams = outward::Listeners::open().map_err(RelayError::network("listen"))?;
        let datagrams =
            datagrams::Listeners::open().map_err(RelayError::network("take datagrams"))?;
        let (queue, packets_rx) =
            queue::open().map_err(RelayError::network("take packets by nfnetlink_queue"))?;
        let ports = rules::Ports {
            streams: streams.port(),
            datagrams: datagrams.port(),
        };
        rules::install(ports).map_err(RelayError::network("set rules of nf_tables"))?;
        let inward =
            Inward::open(&settings, published).map_err(RelayError::network("be reached"))?;
        let outward = outward::Outward::new(Arc::clone(&outside), queue, settings.address, others);
        ready();
        tokio::select! {
            () = outward.serve(streams, packets_rx) => {}
            () = datagrams::serve(datagrams, outside, settings.address) => {}
            () = inward.serve() => {}
            () = target_ended => {}
        }
        Ok(())
    }
}
