//! The session's fence as its branches make it: which servers are fenced, for which databases, and what is said of it.

use std::net::{IpAddr, SocketAddr};

use model::PgUrl;
use model::pg_url::{Address, AddressError};
use supervisor::{FencePlan, FencedDatabase, FencedServer, KnownHosts, OnSource};

use super::branches::ReadyBranch;
use super::prepare::Plan;

/// Why there is no fence.
#[derive(Debug, thiserror::Error)]
pub(super) enum FenceError {
    #[error("cannot fence branch {id}: its door's address {host:?} is none of this machine")]
    Door { id: String, host: String },
    #[error("cannot fence branch {id}: a further address of its source cannot be read")]
    Address {
        id: String,
        #[source]
        source: AddressError,
    },
}

/// Every address of every source that a branch of `plan` stands in for.
pub(super) fn source_addresses(plan: &Plan) -> Vec<Address> {
    let urls = plan.branches.iter().map(|branch| &branch.source.url);
    urls.flat_map(addresses).collect()
}

/// The addresses that a connection string leads to, those included that it gives beside the names.
fn addresses(url: &PgUrl) -> Vec<Address> {
    let mut all = url.addresses();
    let given = url.param("hostaddr").unwrap_or_default();
    let numbers = given.split(',').zip(url.addresses());
    let numbers = numbers.filter(|(ip, _)| ip.parse::<IpAddr>().is_ok());
    all.extend(numbers.map(|(ip, named)| Address {
        host: ip.to_owned(),
        port: named.port,
    }));
    all
}

/// Every further address of those sources, as they were named by whoever administers them.
///
/// # Errors
/// For one that cannot be read: nobody would look after it.
pub(super) fn further_addresses(branches: &[ReadyBranch]) -> Result<Vec<Address>, FenceError> {
    let all = branches.iter().map(further);
    Ok(all.collect::<Result<Vec<_>, _>>()?.concat())
}

fn further(branch: &ReadyBranch) -> Result<Vec<Address>, FenceError> {
    let own = addresses(&branch.planned.source.url);
    let named = branch.connection.source_addresses.iter();
    let read = named.map(|text| text.parse::<Address>());
    let unreadable = |source| FenceError::Address {
        id: branch.view.id.to_string(),
        source,
    };
    let mut read = read.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    read.retain(|address| !own.contains(address));
    Ok(read)
}

/// The fence around the sources of `branches`. `tls` says, branch by branch, whether the program insists on TLS.
///
/// # Errors
/// When a door is not on this machine, or a further address of a source cannot be read.
pub(super) fn plan_fence(
    branches: &[ReadyBranch],
    tls: &[bool],
    on_source: OnSource,
    assert_isolated: bool,
) -> Result<FencePlan, FenceError> {
    let servers = branches.iter().zip(tls);
    let servers = servers.map(|(branch, needs_tls)| fence_one(branch, *needs_tls));
    Ok(FencePlan {
        servers: servers.collect::<Result<_, _>>()?,
        on_source,
        assert_isolated,
    })
}

fn fence_one(branch: &ReadyBranch, needs_tls: bool) -> Result<FencedServer, FenceError> {
    let (url, connection) = (&branch.planned.source.url, &branch.connection);
    let host = connection.host.parse::<IpAddr>();
    let host = host.map_err(|_| FenceError::Door {
        id: branch.view.id.to_string(),
        host: connection.host.clone(),
    })?;
    // A pooler's name for it, the server's own, and the branch's.
    let mut names: Vec<String> = url.database().into_iter().collect();
    for name in [&branch.view.spec.database, &connection.database] {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let database = FencedDatabase {
        names,
        branch: branch.view.id.to_string(),
        door: SocketAddr::new(host, connection.port),
        database: connection.database.clone(),
        needs_tls,
    };
    let mut addresses = addresses(url);
    addresses.extend(further(branch)?);
    Ok(FencedServer {
        addresses,
        databases: vec![database],
    })
}

/// What the fence does, for the opening line.
pub(super) fn describe(fence: &FencePlan, hosts: &KnownHosts) -> Vec<String> {
    let mut lines: Vec<String> = fence
        .servers
        .iter()
        .map(|server| describe_one(fence, server))
        .collect();
    let unknown: Vec<&str> = hosts.unknown().collect();
    if !unknown.is_empty() && fence.on_source != OnSource::Allow {
        lines.push(format!(
            "bough:   no address on this machine yet: {}; looked up again while the program runs",
            unknown.join(", ")
        ));
    }
    if fence.assert_isolated {
        lines.push(
            "bough: isolation is asserted: a session with PostgreSQL that does not end in a branch is refused, and \
             the exit code is 4 then"
                .to_owned(),
        );
    }
    lines
}

fn describe_one(fence: &FencePlan, server: &FencedServer) -> String {
    let places: Vec<String> = server.addresses.iter().map(Address::to_string).collect();
    let places = places.join(", ");
    let database = server.databases.first();
    let (name, branch) = database.map_or(("", ""), |database| {
        (database.names[0].as_str(), database.branch.as_str())
    });
    match fence.on_source {
        OnSource::Redirect => format!(
            "bough: the fence is in force: connections to {places} for {name} are led to branch {branch}"
        ),
        OnSource::Refuse => format!(
            "bough: the fence is in force: connections to {places} for {name} are refused; branch {branch} has its own \
             address"
        ),
        OnSource::Allow if fence.assert_isolated => format!(
            "bough: the fence is in force: connections to {places} for {name} are refused, as isolation is asserted"
        ),
        OnSource::Allow => format!(
            "bough: no fence, as asked: connections to {places} reach the source, and are counted"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_beside_the_name_is_the_sources_too() {
        let found = |url: &str| {
            let url = PgUrl::parse(url).expect("a URL");
            let found = addresses(&url);
            found.iter().map(Address::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found("postgres://db:5433/d"), ["db:5433"]);
        assert_eq!(
            found("host=a,b hostaddr=10.0.0.1,10.0.0.2 port=1,2 user=u"),
            ["a:1", "b:2", "10.0.0.1:1", "10.0.0.2:2"]
        );
        assert_eq!(
            found("postgres:///d?host=/run/postgresql"),
            ["/run/postgresql:5432"]
        );
    }
}
