//! How the engine is to reach the source of a branch: as this machine does, or by a proxy in the target's network.
//!
//! The connection string is the target's, and means what the target reaches by it. So what the target's network has of
//! its own is reached there; and whatever else only the target reaches, as well. Everything else is this machine's, and
//! is reached without a detour.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use model::engine_api::SourceProxy;
use model::pg_url::Address;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use wire::{CloseReason, Endpoint, OpenRequest};

use super::prepare::{Plan, PlannedBranch};
use crate::contexts::AgentLink;

/// How long looking a name up or dialling may take, here or there: what takes longer is no way that anybody would use.
const LOOK_WITHIN: Duration = Duration::from_secs(3);

/// The way to the source of `branch`; none: as this machine reaches it.
pub(super) async fn find(plan: &Plan, branch: &PlannedBranch) -> Option<SourceProxy> {
    let own = plan.own_network.as_ref()?;
    let addresses = branch.source.url.addresses();
    // A list of hosts is this machine's business: a proxy leads to one.
    let [address] = addresses.as_slice() else {
        return None;
    };
    if address.host.starts_with('/') {
        return None;
    }
    let given = branch.source.url.param("hostaddr");
    let address = &Address {
        host: given.unwrap_or_else(|| address.host.clone()),
        port: address.port,
    };
    let here = look_up(address).await;
    let ips: Vec<IpAddr> = here.iter().map(SocketAddr::ip).collect();
    let is_there = own.has(address, &ips)
        || !answers_here(&here).await && answers_there(plan.agent.as_ref()?, address).await;
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
        let port = address.port;
        let destination = match address.host.parse() {
            Ok(ip) => Endpoint::Address(SocketAddr::new(ip, port)),
            Err(_) => Endpoint::Name {
                host: address.host.clone(),
                port,
            },
        };
        let opened = session.open(OpenRequest::Tcp { destination }).await;
        session.leave(CloseReason::Done).await;
        opened.ok()
    };
    timeout(LOOK_WITHIN, asked)
        .await
        .is_ok_and(|opened| opened.is_some())
}
