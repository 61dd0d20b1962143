//! Names of sources and the addresses that they have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use model::pg_url::Address;
use tokio::task::JoinSet;

use crate::remote::Remote;

/// How long looking a name up may take: what a C library gives a name server before it asks the next.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(5);

/// Lookups of a name at a time: one that is answered with some of its addresses each time shows that by differing answers.
const LOOKUPS: usize = 3;

/// What looking up the sources' names came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownHosts {
    names: BTreeMap<String, Vec<IpAddr>>,
    /// Names that were answered otherwise within one look.
    varying: BTreeSet<String>,
    /// Addresses, given or found, of the very place that connections are made from.
    own: BTreeSet<IpAddr>,
}

impl KnownHosts {
    /// Looks up every name among `addresses`, all at once and each several times; a name may be without an address.
    pub async fn look_up<'a>(
        remote: &Arc<dyn Remote>,
        addresses: impl IntoIterator<Item = &'a Address>,
    ) -> Self {
        let addresses: Vec<&Address> = addresses.into_iter().collect();
        let hosts: BTreeSet<&str> = addresses.iter().copied().filter_map(name).collect();
        let mut lookups = JoinSet::new();
        for host in hosts {
            for _ in 0..LOOKUPS {
                let (remote, host) = (Arc::clone(remote), host.to_owned());
                lookups.spawn(async move {
                    let resolving = tokio::time::timeout(LOOKUP_TIME_MAX, remote.resolve(&host));
                    let found = resolving.await.ok().and_then(Result::ok);
                    (host, found.unwrap_or_default())
                });
            }
        }
        let mut answers: BTreeMap<String, BTreeSet<BTreeSet<IpAddr>>> = BTreeMap::new();
        while let Some(looked) = lookups.join_next().await {
            let Ok((host, ips)) = looked else { continue };
            let known = answers.entry(host).or_default();
            // No answer is none that differs.
            if !ips.is_empty() {
                known.insert(ips.into_iter().collect());
            }
        }
        let varying = answers.iter().filter(|(_, known)| differ(known));
        let varying = varying.map(|(host, _)| host.clone()).collect();
        let all = |known: BTreeSet<BTreeSet<IpAddr>>| {
            let ips: BTreeSet<IpAddr> = known.into_iter().flatten().collect();
            ips.into_iter().collect()
        };
        let names: BTreeMap<String, Vec<IpAddr>> = answers
            .into_iter()
            .map(|(host, known)| (host, all(known)))
            .collect();
        let given = addresses.iter().filter_map(|a| a.host.parse().ok());
        let ips: BTreeSet<IpAddr> = names.values().flatten().copied().chain(given).collect();
        let mut own = BTreeSet::new();
        for ip in ips {
            let asking = tokio::time::timeout(LOOKUP_TIME_MAX, remote.owns(ip));
            if matches!(asking.await, Ok(Ok(true))) {
                own.insert(ip);
            }
        }
        Self {
            names,
            varying,
            own,
        }
    }

    /// Whether `host` was answered otherwise within this look, so that it may have addresses which nobody here knows.
    pub(super) fn varies(&self, host: &str) -> bool {
        self.varying.contains(host)
    }

    /// Whether `ip` is an address of the place that connections are made from.
    pub(super) fn is_own(&self, ip: IpAddr) -> bool {
        self.own.contains(&ip)
    }

    /// The addresses of `host`.
    pub(super) fn get(&self, host: &str) -> &[IpAddr] {
        self.names.get(host).map_or(&[], Vec::as_slice)
    }

    /// Names without an address: no program of this machine gets there by them either.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        let without = self.names.iter().filter(|(_, ips)| ips.is_empty());
        without.map(|(host, _)| host.as_str())
    }
}

/// Whether two of the answers each have what the other lacks. One that is a part of another is what is left where one of
/// several resolvers failed.
fn differ(answers: &BTreeSet<BTreeSet<IpAddr>>) -> bool {
    let mut pairs = answers
        .iter()
        .flat_map(|one| answers.iter().map(move |other| (one, other)));
    pairs.any(|(one, other)| !one.is_subset(other) && !other.is_subset(one))
}

/// The name that has to be looked up; none for an IP address or the directory of a Unix socket.
pub(super) fn name(address: &Address) -> Option<&str> {
    let host = address.host.as_str();
    let is_name = !host.starts_with('/') && host.parse::<IpAddr>().is_err();
    is_name.then_some(host)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;
    use crate::remote::{Destination, Dialled, Pending};

    #[derive(Debug, Default)]
    struct Table {
        asked: AtomicU8,
    }

    impl Remote for Table {
        fn dial<'a>(&'a self, _: &'a Destination) -> Pending<'a, Dialled> {
            Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
        }

        fn resolve<'a>(&'a self, host: &'a str) -> Pending<'a, Vec<IpAddr>> {
            Box::pin(async move {
                match host {
                    "db" => Ok(vec![IpAddr::from([192, 0, 2, 1])]),
                    // One of its addresses at a time.
                    "turns" => {
                        let number = self.asked.fetch_add(1, Ordering::Relaxed) % 2;
                        Ok(vec![IpAddr::from([192, 0, 2, 30 + number])])
                    }
                    // All of them, or what one resolver of two knows.
                    "part" => {
                        let count = 1 + usize::from(self.asked.fetch_add(1, Ordering::Relaxed) % 2);
                        Ok([40, 41].map(|last| IpAddr::from([192, 0, 2, last]))[..count].to_vec())
                    }
                    "slow" => std::future::pending().await,
                    _ => Err(io::ErrorKind::NotFound.into()),
                }
            })
        }

        fn owns(&self, ip: IpAddr) -> Pending<'_, bool> {
            Box::pin(std::future::ready(Ok(ip == IpAddr::from([192, 0, 2, 9]))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_looked_up_and_those_without_an_address_told() {
        let remote: Arc<dyn Remote> = Arc::new(Table::default());
        let hosts = [
            "db",
            "turns",
            "slow",
            "gone",
            "192.0.2.9",
            "/run/postgresql",
        ];
        let addresses = hosts.map(|host| Address {
            host: host.to_owned(),
            port: 5432,
        });
        let known = KnownHosts::look_up(&remote, &addresses).await;
        assert_eq!(known.get("db"), [IpAddr::from([192, 0, 2, 1])]);
        assert_eq!(
            known.get("turns"),
            [30, 31].map(|last| IpAddr::from([192, 0, 2, last]))
        );
        assert_eq!(
            ["db", "turns", "part", "slow"].map(|host| known.varies(host)),
            [false, true, false, false]
        );
        assert_eq!(known.unknown().collect::<Vec<_>>(), ["gone", "slow"]);
        assert!(known.is_own(IpAddr::from([192, 0, 2, 9])));
        assert!(!known.is_own(IpAddr::from([192, 0, 2, 1])));
    }
}
