//! The target's network, reached through its agent, as far as the session's plan leads there; the rest is this machine's.
//!
//! Owns the way of a connection, a datagram or a question from the plan to the agent's session. A result is the target's
//! own: an errno is what a program there would have seen.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use hickory_resolver::proto::rr::RecordType;
use wire::pump::{OpenFailure, Session, Stream as WireStream};
use wire::{
    Answer, CallError, DnsAnswer, DnsFailure, DnsQuery, Endpoint, Errno, OpenRequest, Opened,
    Request,
};

use super::{Destination, Dialled, Pending, Remote, ThisMachine};
use crate::network::{NameBook, NetworkPlan, Protocol, Side};

/// Any port: what is asked is how the kernel would go to an address.
const ANY_PORT: u16 = 9;

/// The target's network as one session sees it.
pub struct TargetNetwork {
    plan: NetworkPlan,
    session: Session,
    names: NameBook,
}

impl fmt::Debug for TargetNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetNetwork")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

impl TargetNetwork {
    /// What `plan` says, carried out through `session`.
    pub fn new(plan: NetworkPlan, session: Session) -> Arc<Self> {
        Arc::new(Self {
            plan,
            session,
            names: NameBook::default(),
        })
    }

    /// The plan.
    pub fn plan(&self) -> &NetworkPlan {
        &self.plan
    }

    /// The agent's session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn names(&self) -> &NameBook {
        &self.names
    }

    /// Where a connection to `address`, in its canonical form, is made.
    pub(crate) fn side(&self, protocol: Protocol, address: SocketAddr) -> Side {
        if address.is_ipv6() && !self.plan.ipv6 {
            return Side::Here;
        }
        let names = self.names.names(address.ip());
        self.plan.outgoing.side(protocol, address, &names)
    }

    /// What the target's resolver says.
    pub(crate) async fn look_up(&self, name: &str, kind: u16) -> DnsAnswer {
        let query = DnsQuery {
            name: name.to_owned(),
            kind,
        };
        match self.session.call(Request::Dns(query)).await {
            Ok(Answer::Dns(answer)) => answer,
            Ok(Answer::Subscribe(_) | Answer::Unsubscribe)
            | Err(CallError::Closed | CallError::TooMany) => Err(DnsFailure::ServerFailed),
            Err(CallError::Unsayable { .. }) => Err(DnsFailure::BadName),
        }
    }

    /// A UDP socket in the target's network: one that talks to `connected` alone, or one of a family.
    pub(crate) async fn open_udp(
        &self,
        connected: Option<SocketAddr>,
        version_6: bool,
    ) -> io::Result<(WireStream, Opened)> {
        let request = OpenRequest::Udp {
            connected,
            version_6,
        };
        self.session.open(request).await.map_err(|e| failure(&e))
    }

    /// Connects in the target's network, whatever the plan says: who calls has asked it.
    pub(crate) async fn dial_there(&self, to: &Destination) -> io::Result<Dialled> {
        let request = match to {
            Destination::Tcp(address) => OpenRequest::Tcp {
                destination: Endpoint::Address(*address),
            },
            Destination::Unix(path) => OpenRequest::Unix {
                path: path.as_os_str().as_bytes().to_vec().into(),
            },
        };
        let opened = self.session.open(request).await;
        let (stream, opened) = opened.map_err(|error| failure(&error))?;
        Ok(Dialled {
            stream: Box::new(stream),
            side: Side::Target,
            local: opened.local,
        })
    }

    /// Addresses that the target's resolver knows `host` by.
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let (version_4, version_6) = tokio::join!(
            self.look_up(host, RecordType::A.into()),
            self.look_up(host, RecordType::AAAA.into())
        );
        let mut ips = Vec::new();
        for record in version_4.into_iter().chain(version_6).flatten() {
            if let Ok(octets) = <[u8; 4]>::try_from(&record.data[..])
                && record.kind == u16::from(RecordType::A)
            {
                ips.push(Ipv4Addr::from(octets).into());
            } else if let Ok(octets) = <[u8; 16]>::try_from(&record.data[..])
                && record.kind == u16::from(RecordType::AAAA)
            {
                ips.push(Ipv6Addr::from(octets).into());
            }
        }
        if ips.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(ips)
    }
}

/// What a local socket would have said.
fn failure(error: &OpenFailure) -> io::Error {
    match error {
        OpenFailure::Refused { errno } => (*errno).into(),
        OpenFailure::NotAsked {
            source: wire::OpenError::TooMany,
        } => Errno::EMFILE.into(),
        OpenFailure::NotAsked { .. } => Errno::EHOSTUNREACH.into(),
    }
}

impl Remote for TargetNetwork {
    fn dial<'a>(&'a self, to: &'a Destination) -> Pending<'a, Dialled> {
        let side = match to {
            Destination::Tcp(address) => self.side(Protocol::Tcp, *address),
            Destination::Unix(path) => self.plan.outgoing.unix_streams.side(path),
        };
        match side {
            Side::Target => Box::pin(self.dial_there(to)),
            Side::Here => ThisMachine.dial(to),
        }
    }

    /// The addresses on both sides: a program may find a name in a file of this machine that the target knows as well.
    fn resolve<'a>(&'a self, host: &'a str) -> Pending<'a, Vec<IpAddr>> {
        Box::pin(async move {
            if let Ok(ip) = host.parse() {
                return Ok(vec![ip]);
            }
            let (theirs, ours) = tokio::join!(self.addresses(host), ThisMachine.resolve(host));
            match (theirs, ours) {
                (Ok(mut ips), Ok(ours)) => {
                    ips.extend(
                        ours.into_iter()
                            .filter(|ip| !ips.contains(ip))
                            .collect::<Vec<_>>(),
                    );
                    Ok(ips)
                }
                (Ok(ips), Err(_)) | (Err(_), Ok(ips)) => Ok(ips),
                (Err(error), Err(_)) => Err(error),
            }
        })
    }

    fn owns(&self, ip: IpAddr) -> Pending<'_, bool> {
        Box::pin(async move {
            if ip.is_loopback() {
                return Ok(true);
            }
            let address = SocketAddr::new(ip, ANY_PORT);
            let (_stream, opened) = self.open_udp(Some(address), ip.is_ipv6()).await?;
            // The kernel goes to an address of its own from that very address.
            Ok(opened.local.is_some_and(|local| local.ip() == ip))
        })
    }
}
