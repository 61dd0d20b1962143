//! How the engine is to reach the source of a branch: by itself, or by a proxy in the target's network.
//!
//! The connection string is the target's, and means what the target reaches by it. So what the target's network has of
//! its own is reached there; and whatever else only the target reaches, as well. Everything else is reached without a
//! detour, by this machine or in a cluster by the branch host. A host has no proxy of a target's: it is lent one while the
//! session waits for its branches.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use model::engine_api::SourceProxy;
use model::pg_url::Address;
use model::{ExitCode, PgUrl, TargetRef};
use supervisor::TargetNetwork;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use wire::pump::{ConnectError, Session};
use wire::{CloseReason, Endpoint, OpenRequest};

use super::prepare::{Plan, PlannedBranch};
use crate::contexts::{AgentLink, BranchHost, Loan};
use crate::error::CommandError;

/// How long looking a name up or dialling may take, here or there: what takes longer is no way that anybody would use.
const LOOK_WITHIN: Duration = Duration::from_secs(3);

/// For how long a session that only carries a copy tries to come back.
const COPY_GRACE: Duration = Duration::from_secs(60);

/// Why a source of a cluster is not reached.
#[derive(Debug, thiserror::Error)]
enum WayError {
    /// A branch host's own loopback is never meant.
    #[error(
        "the source of branch {id} is at {address}, which is the loopback of whoever connects there, and the session has no \
         target"
    )]
    NobodysLoopback { id: String, address: Address },
    /// Nor its own sockets, nor its loopback as one of several.
    #[error(
        "the source of branch {id} is at {place}: a branch host's own loopback and sockets are never meant, and a way through \
         the target leads to one address"
    )]
    NobodysPlace { id: String, place: String },
    /// The agent is not reached.
    #[error(
        "cannot reach the agent of {target}, through which the source of branch {id} would be copied"
    )]
    Agent {
        id: String,
        target: TargetRef,
        #[source]
        source: ConnectError,
    },
}

/// A way to a source.
#[derive(Debug)]
pub(super) struct SourceWay {
    /// As the engine is told of it.
    pub(super) proxy: SourceProxy,
    /// What keeps it open, where nobody else does.
    _loan: Option<Loan>,
}

/// The ways of one session.
pub(super) struct SourceWays<'a> {
    plan: &'a Plan,
    /// The target's network, where the session takes part in it.
    network: Option<&'a Arc<TargetNetwork>>,
    /// A session with the agent for copies alone, where it does not: the agent waits for one session, and has none yet.
    own: OnceCell<Session>,
}

impl Drop for SourceWays<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.own.get() {
            session.close(CloseReason::Done);
        }
    }
}

impl<'a> SourceWays<'a> {
    pub(super) fn new(plan: &'a Plan, network: Option<&'a Arc<TargetNetwork>>) -> Self {
        Self {
            plan,
            network,
            own: OnceCell::new(),
        }
    }

    /// The way to the source of `branch`, whose engine is in `host`, or this machine's; none: as that reaches it by itself.
    ///
    /// # Errors
    /// Exit code 4 where only the target can be meant, and does not get the engine there.
    pub(super) async fn find(
        &self,
        branch: &PlannedBranch,
        host: Option<&BranchHost>,
    ) -> Result<Option<SourceWay>, CommandError> {
        let url = &branch.source.url;
        let address = one_address(url);
        let Some(host) = host else {
            let Some(address) = address else {
                return Ok(None);
            };
            let proxy = find_here(self.plan, &address).await;
            return Ok(proxy.map(|proxy| SourceWay { proxy, _loan: None }));
        };
        match address {
            Some(address) => self.lend(branch, host, &address).await,
            None if !is_of_whoever_connects(url) => Ok(None),
            None => {
                let (id, place) = (branch.wanted.id.to_string(), places(url));
                let error = WayError::NobodysPlace { id, place };
                let hint = "name the one address by which the target reaches it";
                Err(CommandError::new(ExitCode::Branch, error).with_hint(hint))
            }
        }
    }

    /// What a branch host is lent.
    async fn lend(
        &self,
        branch: &PlannedBranch,
        host: &BranchHost,
        address: &Address,
    ) -> Result<Option<SourceWay>, CommandError> {
        let id = branch.wanted.id.to_string();
        let is_loopback = is_loopback(&address.host);
        let (Some(target), Some(agent)) = (self.plan.target(), self.plan.agent()) else {
            if !is_loopback {
                return Ok(None);
            }
            let address = address.clone();
            let error =
                CommandError::new(ExitCode::Branch, WayError::NobodysLoopback { id, address });
            return Err(error.with_hint("name the workload that has the database as the target"));
        };
        let borrower = match host.borrower(address, !is_loopback).await {
            Ok(Some(borrower)) => borrower,
            Ok(None) => return Ok(None),
            Err(error) if is_loopback => {
                return Err(CommandError::from(error).with_exit(ExitCode::Branch));
            }
            // It tries by itself then, and says what comes of it.
            Err(error) => {
                tracing::info!(%error, "the branch host is lent no way to the source");
                return Ok(None);
            }
        };
        let session = self.session(&agent).await.map_err(|source| {
            let target = target.clone();
            let error = WayError::Agent { id, target, source };
            CommandError::new(ExitCode::Branch, error).with_hint(agent.hint())
        })?;
        if !is_loopback && !opens(&session, address).await {
            return Ok(None);
        }
        let network = format!("{target} -n {}", self.plan.namespace);
        let loan = borrower.lend(network, session);
        Ok(Some(SourceWay {
            proxy: loan.proxy.clone(),
            _loan: Some(loan),
        }))
    }

    /// A session with the target's first agent: a pod that takes its place has another loopback, and so another source.
    async fn session(&self, agent: &AgentLink) -> Result<Session, ConnectError> {
        if let Some(network) = self.network {
            let agents = network.agents();
            let first = agents.first().map(|first| first.session().clone());
            return first.ok_or_else(|| ConnectError::Dial {
                source: std::io::ErrorKind::NotConnected.into(),
            });
        }
        let connected = self.own.get_or_try_init(|| async {
            let (session, _inbox) = agent.connect(COPY_GRACE).await?;
            Ok(session)
        });
        connected.await.cloned()
    }
}

/// The one address of a source; none where it has several, or is a socket: those are the engine's own business, as a proxy
/// leads to one.
fn one_address(url: &PgUrl) -> Option<Address> {
    let addresses = url.addresses();
    let [address] = addresses.as_slice() else {
        return None;
    };
    if address.host.starts_with('/') {
        return None;
    }
    let given = url.param("hostaddr");
    Some(Address {
        host: given.unwrap_or_else(|| address.host.clone()),
        port: address.port,
    })
}

/// Whether one of a source's several places is another one for whoever connects there.
fn is_of_whoever_connects(url: &PgUrl) -> bool {
    let addresses = url.addresses();
    let mut hosts = addresses.iter().map(|address| address.host.as_str());
    addresses.is_empty() || hosts.any(|host| host.starts_with('/') || is_loopback(host))
}

fn places(url: &PgUrl) -> String {
    let addresses: Vec<_> = url.addresses().iter().map(ToString::to_string).collect();
    addresses.join(", ")
}

/// Whether a host is whoever connects there.
fn is_loopback(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let ip = host.parse::<IpAddr>().map(|ip| ip.to_canonical());
    ip.is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
        || name == "localhost"
        || name.ends_with(".localhost")
}

/// The way to `address` by a target of this machine; none: as this machine reaches it.
async fn find_here(plan: &Plan, address: &Address) -> Option<SourceProxy> {
    let own = plan.own_network()?;
    let here = look_up(address).await;
    let ips: Vec<IpAddr> = here.iter().map(SocketAddr::ip).collect();
    let is_there = own.has(address, &ips)
        || !answers_here(&here).await && answers_there(&plan.agent()?, address).await;
    is_there.then(|| SourceProxy {
        network: own.owner.clone(),
        socket: own.proxy.clone(),
    })
}

/// What `address` stands for on this machine.
async fn look_up(address: &Address) -> Vec<SocketAddr> {
    let found = timeout(
        LOOK_WITHIN,
        lookup_host((address.host.as_str(), address.port)),
    );
    match found.await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

async fn answers_here(addresses: &[SocketAddr]) -> bool {
    let dialled = timeout(LOOK_WITHIN, TcpStream::connect(addresses)).await;
    dialled.is_ok_and(|dialled| dialled.is_ok())
}

async fn answers_there(agent: &AgentLink, address: &Address) -> bool {
    let asked = async {
        let (session, _inbox) = agent.connect(LOOK_WITHIN).await.ok()?;
        let opened = opens(&session, address).await;
        session.leave(CloseReason::Done).await;
        Some(opened)
    };
    let asked = timeout(LOOK_WITHIN, asked).await;
    asked.ok().flatten().unwrap_or_default()
}

/// Whether the target gets an answer from `address`.
async fn opens(session: &Session, address: &Address) -> bool {
    let port = address.port;
    let destination = match address.host.parse() {
        Ok(ip) => Endpoint::Address(SocketAddr::new(ip, port)),
        Err(_) => Endpoint::Name {
            host: address.host.clone(),
            port,
        },
    };
    let opened = session.open(OpenRequest::Tcp { destination });
    let opened = timeout(LOOK_WITHIN, opened).await;
    opened.is_ok_and(|opened| opened.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_way_leads_to_is_one_address_and_what_is_nobodys_is_told_from_the_cluster_s() {
        let read = |text: &str| {
            let url = PgUrl::parse(text).unwrap();
            let address = one_address(&url).map(|address| address.to_string());
            (address, is_of_whoever_connects(&url))
        };
        let one = |address: &str, is_own| (Some(address.to_owned()), is_own);
        assert_eq!(read("postgres://u@db/x"), one("db:5432", false));
        assert_eq!(read("postgres://u@127.0.0.1:6/x"), one("127.0.0.1:6", true));
        let given = "postgres://u@db:6/x?hostaddr=10.0.0.1";
        assert_eq!(read(given), one("10.0.0.1:6", false));
        assert_eq!(read("postgres://u@a,b/x"), (None, false));
        assert_eq!(read("postgres://u@a,localhost/x"), (None, true));
        assert_eq!(read("postgres:///x?host=/run/postgresql"), (None, true));
    }

    #[test]
    fn a_host_is_loopback_by_every_spelling_of_it_and_by_no_other_name() {
        for host in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "0.0.0.0",
            "::",
            "::ffff:127.0.0.1",
            "localhost",
            "LocalHost.",
            "db.localhost",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "10.0.0.1",
            "localhost.example",
            "mylocalhost",
            "postgres",
            "::2",
            "",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
