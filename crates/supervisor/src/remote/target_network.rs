//! The target's network, reached through its agent, as far as the session's plan leads there; the rest is this machine's.
//!
//! Owns the way of a connection, a datagram or a question from the plan to an agent's session. A result is the target's
//! own: an errno is what a program there would have seen. What is for the target never goes out from this machine instead:
//! without an agent it waits, and fails.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::rr::RecordType;
use tokio::sync::mpsc;
use wire::pump::{Inbox, OpenFailure, Session, Stream as WireStream};
use wire::{
    Answer, CallError, DnsAnswer, DnsFailure, DnsQuery, Endpoint, Errno, OpenRequest, Opened,
    Request,
};

use super::target_agent::{Agents, JoinError, Joining, TargetAgent};
use super::{Destination, Dialled, Pending, Remote, ThisMachine, Upstream};
use crate::network::{NameBook, NetworkPlan, Protocol, Side};
use crate::socket::canonical;

/// Any port: what is asked is how the kernel would go to an address.
const ANY_PORT: u16 = 9;

/// Agents that one request is brought to, where each ends before it answers.
const AGENTS_TRIED_MAX: usize = 4;

/// The target's network as one session sees it.
pub struct TargetNetwork {
    plan: NetworkPlan,
    agents: Agents,
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
    /// What `plan` says, carried out through `session`, with whose end it ends.
    pub fn new(plan: NetworkPlan, session: Session) -> Arc<Self> {
        Self::following(plan, session, Duration::ZERO)
    }

    /// What `plan` says, carried out through `session` and through those of agents that join. While there is none,
    /// whoever wants something of the target waits up to `patience` for the next.
    pub fn following(plan: NetworkPlan, session: Session, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            plan,
            agents: Agents::new(session, patience),
            names: NameBook::default(),
        })
    }

    /// Whether agents may join.
    pub(crate) fn is_followed(&self) -> bool {
        self.agents.is_followed()
    }

    /// The agents that there are, living or not.
    pub fn agents(&self) -> Vec<Arc<TargetAgent>> {
        self.agents.all()
    }

    /// One more agent, with what comes from it: what the program listens on is asked of it as well.
    ///
    /// # Errors
    /// [`JoinError`]; `session` is closed, and nothing goes by it.
    pub fn join(&self, session: Session, inbox: Inbox) -> Result<Arc<TargetAgent>, JoinError> {
        self.agents.join(session, inbox)
    }

    /// An agent that is about to end: what is begun from here on goes by another, if there is one.
    pub fn retire(&self, agent: &TargetAgent) {
        Agents::retire(agent);
    }

    /// An agent that is gone. Connections through it break off.
    pub fn part(&self, agent: &Arc<TargetAgent>) {
        self.agents.part(agent);
    }

    /// Agents that join, for the one who serves them.
    pub(crate) fn joining(&self) -> Option<mpsc::Receiver<Joining>> {
        self.agents.joining()
    }

    /// The plan.
    pub fn plan(&self) -> &NetworkPlan {
        &self.plan
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
        for _ in 0..AGENTS_TRIED_MAX {
            let Some(agent) = self.agents.pick().await else {
                break;
            };
            match agent.session().call(Request::Dns(query.clone())).await {
                Ok(Answer::Dns(answer)) => return answer,
                Ok(Answer::Subscribe(_) | Answer::Unsubscribe) | Err(CallError::TooMany) => break,
                // The next one can tell as well.
                Err(CallError::Closed) => {}
                Err(CallError::Unsayable { .. }) => return Err(DnsFailure::BadName),
            }
        }
        Err(DnsFailure::ServerFailed)
    }

    /// A stream of an agent. One that ends before it answers has carried nothing yet, so that the next one is asked.
    async fn open(&self, request: OpenRequest) -> io::Result<(WireStream, Opened)> {
        let mut last: io::Error = Errno::EHOSTUNREACH.into();
        for _ in 0..AGENTS_TRIED_MAX {
            let Some(agent) = self.agents.pick().await else {
                break;
            };
            match agent.session().open(request.clone()).await {
                Ok(opened) => return Ok(opened),
                Err(error) if agent.session().is_closed() => last = failure(&error),
                Err(error) => return Err(failure(&error)),
            }
        }
        Err(last)
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
        self.open(request).await
    }

    /// Connects in the target's network, whatever the plan says: who calls has asked it.
    pub(crate) async fn dial_there(&self, to: &Destination) -> io::Result<Dialled> {
        let request = match to {
            Destination::Tcp(address) => OpenRequest::Tcp {
                // This machine's interfaces are none there.
                destination: Endpoint::Address(canonical(*address)),
            },
            Destination::Unix(path) => OpenRequest::Unix {
                path: path.as_os_str().as_bytes().to_vec().into(),
            },
        };
        let (stream, opened) = self.open(request).await?;
        Ok(Dialled {
            stream: Upstream::Agent(stream),
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
