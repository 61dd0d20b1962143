//! The fence: while a branch stands in for a source database, the session does not reach that database.
//!
//! ```text
//!   connect to a source's address ──▶ the proxy reads the start-up packet ─┬─ a branched database ──▶ its branch's door
//!                                                                          └─ another one ─────────▶ where it was going
//!   connect to the port of a source ▶ what begins as PostgreSQL has the source's names looked up again first: they may
//!   that has a name                   have led there meanwhile, or have more addresses than one answer says
//!   connect to a branch's door ─────▶ counted, goes on
//!   connect to anything else ───────▶ counted, goes on; under `assert_isolated` through the proxy, which refuses every
//!                                     PostgreSQL start-up in it
//! ```
//!
//! Owns who is fenced, the proxy with its conversations, and the counts. Leaves to `intercept` the sockets themselves,
//! to the caller the branches and all words on the screen. A guard against accidents, not against a hostile program:
//! an address can be changed after it was looked at.

mod address_book;
mod arrivals;
mod cancel_keys;
mod conversation;
mod known_hosts;
mod ledger;
mod proxy;
mod relay;
mod sniff;
mod tls;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::pg_startup::is_same_database;
use model::pg_url::Address;

pub(crate) use address_book::{AddressBook, socket_port};
pub(crate) use arrivals::{Arrival, Arrivals, Peer};
pub(crate) use cancel_keys::CancelKeys;
pub use known_hosts::KnownHosts;
pub use ledger::{
    BranchCount, DatabaseCount, DestinationCount, InheritedSocket, ProgramCount, Report,
};
pub(crate) use ledger::{Ledger, Look};
pub(crate) use proxy::{Proxy, begin, serve};
pub(crate) use tls::Authority;
pub use tls::TlsError;

use crate::remote::{Destination, Remote};

/// How long the sources' names may take when a connection is in doubt.
const DOUBT_TIME_MAX: Duration = Duration::from_secs(2);

/// What is fenced, and how.
#[derive(Debug, Clone)]
pub struct FencePlan {
    /// The sources that branches stand in for.
    pub servers: Vec<FencedServer>,
    /// What becomes of a connection to a source's address.
    pub on_source: OnSource,
    /// Whether every PostgreSQL start-up that does not end in a branch is refused.
    pub assert_isolated: bool,
}

/// What becomes of a connection of the session to a source's address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnSource {
    /// The branched database is its branch, another one is itself.
    #[default]
    Redirect,
    /// The branched database is refused, another one is itself.
    Refuse,
    /// It goes on, counted and not looked into.
    Allow,
}

/// One source.
#[derive(Debug, Clone)]
pub struct FencedServer {
    /// Its names, addresses and socket directories, each with the port.
    pub addresses: Vec<Address>,
    /// The databases on it that branches stand in for.
    pub databases: Vec<FencedDatabase>,
}

/// A database that a branch stands in for.
#[derive(Debug, Clone)]
pub struct FencedDatabase {
    /// Its name, and the names that poolers have for it.
    pub names: Vec<String>,
    /// The branch's id, for messages and the report.
    pub branch: String,
    /// The branch's door.
    pub door: SocketAddr,
    /// The database's name in the branch.
    pub database: String,
    /// Whether programs ask for TLS at the door, which it does not speak: then they have it with the proxy.
    pub needs_tls: bool,
}

/// Where a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// On, counted as another destination.
    Elsewhere,
    /// On, to the door of the branch with this number.
    Door(usize),
    /// To the proxy, which speaks TLS for a door.
    TlsDoor,
    /// On, to a source, as its owner allowed.
    Allowed,
    /// To the proxy, which talks PostgreSQL with it.
    Source,
    /// To the proxy, which passes on all but PostgreSQL.
    Watched,
    /// To the proxy, which asks again whether PostgreSQL there is a source's, and passes on all else.
    Doubtful,
}

/// The plan with what is known of its addresses.
#[derive(Debug)]
pub(crate) struct Fence {
    /// Every branched database, by the number that counts name it by; with its server's number.
    databases: Vec<(usize, FencedDatabase)>,
    on_source: OnSource,
    assert_isolated: bool,
    pub(crate) book: AddressBook,
}

impl Fence {
    pub(crate) fn new(plan: FencePlan, hosts: &KnownHosts) -> Self {
        let addresses = plan.servers.iter().map(|server| server.addresses.clone());
        let book = AddressBook::new(addresses.collect());
        book.learn(hosts);
        let servers = plan.servers.into_iter().enumerate();
        let databases = servers.flat_map(|(number, server)| {
            let databases = server.databases.into_iter();
            databases.map(move |database| (number, database))
        });
        Self {
            databases: databases.collect(),
            on_source: plan.on_source,
            assert_isolated: plan.assert_isolated,
            book,
        }
    }

    /// The ids of the branches, by number.
    pub(crate) fn branches(&self) -> impl Iterator<Item = &str> {
        self.databases
            .iter()
            .map(|(_, database)| database.branch.as_str())
    }

    /// The branched database of this number.
    pub(crate) fn database(&self, number: usize) -> &FencedDatabase {
        &self.databases[number].1
    }

    pub(crate) fn on_source(&self) -> OnSource {
        self.on_source
    }

    pub(crate) fn asserts_isolation(&self) -> bool {
        self.assert_isolated
    }

    /// The number of the branch whose door is at `address`.
    pub(crate) fn door_at(&self, address: SocketAddr) -> Option<usize> {
        self.databases
            .iter()
            .position(|(_, database)| database.door == address)
    }

    /// Where a TCP connection to `address`, in its canonical form, goes.
    pub(crate) fn route(&self, address: SocketAddr) -> Route {
        if let Some(number) = self.door_at(address) {
            return if self.database(number).needs_tls {
                Route::TlsDoor
            } else {
                Route::Door(number)
            };
        }
        let route = self.route_source(self.book.has_tcp(address));
        let is_doubtful = route == Route::Elsewhere
            && self.on_source != OnSource::Allow
            && self.book.may_be_named(address);
        if is_doubtful { Route::Doubtful } else { route }
    }

    /// Whether a connection to `address`, that begins as PostgreSQL does, is a source's after all.
    pub(crate) async fn resolve_doubt(
        &self,
        address: SocketAddr,
        remote: &Arc<dyn Remote>,
    ) -> bool {
        // Whoever hangs here holds up a program that means somebody else, most of the time.
        let looking = self.book.refresh(remote);
        let _late = tokio::time::timeout(DOUBT_TIME_MAX, looking).await;
        self.book.has_tcp(address) || self.book.adopt(address)
    }

    /// Where a connection to the socket that was bound to `path` goes, be it a PostgreSQL server's.
    pub(crate) fn route_path(&self, path: &Path) -> Route {
        self.route_source(self.book.has_path(path))
    }

    /// Where a connection to the socket at `real`, without links in it and written `written`, goes, and the name of it that
    /// says why.
    pub(crate) fn route_socket(&self, written: &Path, real: PathBuf) -> (Route, PathBuf) {
        let source = self.book.source_name(written, &real);
        (self.route_source(source.is_some()), source.unwrap_or(real))
    }

    fn route_source(&self, is_source: bool) -> Route {
        match self.on_source {
            OnSource::Allow if is_source && !self.assert_isolated => Route::Allowed,
            OnSource::Redirect | OnSource::Refuse | OnSource::Allow if is_source => Route::Source,
            OnSource::Redirect | OnSource::Refuse | OnSource::Allow if self.assert_isolated => {
                Route::Watched
            }
            OnSource::Redirect | OnSource::Refuse | OnSource::Allow => Route::Elsewhere,
        }
    }

    /// The number of the branched database called `name` on the server at `destination`; `is_own`: an address of the
    /// target itself.
    pub(crate) fn branch_of(
        &self,
        destination: &Destination,
        is_own: bool,
        name: &str,
    ) -> Option<usize> {
        let ranks = self.book.servers_at(destination, is_own);
        ranks.iter().find_map(|servers| {
            self.databases.iter().position(|(server, database)| {
                let mut names = database.names.iter();
                servers.contains(server) && names.any(|known| is_same_database(name, known))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(on_source: OnSource, assert_isolated: bool) -> Fence {
        let database = |name: &str, branch: &str, port: u16| FencedDatabase {
            names: vec![name.to_owned()],
            branch: branch.to_owned(),
            door: SocketAddr::from(([127, 0, 0, 1], port)),
            database: name.to_owned(),
            needs_tls: false,
        };
        let server = |host: &str, databases| FencedServer {
            addresses: vec![Address {
                host: host.to_owned(),
                port: 5432,
            }],
            databases,
        };
        let plan = FencePlan {
            servers: vec![
                server(
                    "10.0.0.5",
                    vec![
                        database("shop", "a", 20_001),
                        database("stock", "b", 20_002),
                    ],
                ),
                server("10.0.0.6", vec![database("shop", "c", 20_003)]),
            ],
            on_source,
            assert_isolated,
        };
        Fence::new(plan, &KnownHosts::default())
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn sources_doors_and_the_rest_are_told_apart() {
        let routes = |fence: &Fence| {
            let all = [
                "10.0.0.5:5432",
                "127.0.0.1:20002",
                "10.0.0.5:5433",
                "10.0.0.7:5432",
            ];
            all.map(|text| fence.route(address(text)))
        };
        let [source, door, other] = [Route::Source, Route::Door(1), Route::Elsewhere];
        for on_source in [OnSource::Redirect, OnSource::Refuse] {
            assert_eq!(
                routes(&fence(on_source, false)),
                [source, door, other, other]
            );
        }
        let allowed = fence(OnSource::Allow, false);
        assert_eq!(routes(&allowed), [Route::Allowed, door, other, other]);
        let watched = Route::Watched;
        for on_source in [OnSource::Redirect, OnSource::Allow] {
            let asserted = fence(on_source, true);
            assert_eq!(routes(&asserted), [source, door, watched, watched]);
        }
    }

    #[test]
    fn a_database_is_known_by_its_name_on_its_server() {
        let fence = fence(OnSource::Redirect, false);
        let at =
            |text: &str, name: &str| fence.branch_of(&Destination::Tcp(address(text)), false, name);
        assert_eq!(at("10.0.0.5:5432", "shop"), Some(0));
        assert_eq!(at("10.0.0.5:5432", "stock"), Some(1));
        assert_eq!(at("10.0.0.5:5432", "postgres"), None);
        assert_eq!(at("10.0.0.6:5432", "shop"), Some(2));
        assert_eq!(at("10.0.0.6:5432", "stock"), None);
    }

    #[test]
    fn branches_of_one_server_are_found_by_every_address_that_one_of_them_has() {
        let hosts = ["/run/postgresql", "localhost", "127.0.0.1"];
        let server = |(number, host): (usize, &&str)| FencedServer {
            addresses: vec![Address {
                host: (*host).to_owned(),
                port: 5432,
            }],
            databases: vec![FencedDatabase {
                names: vec![format!("d{number}")],
                branch: format!("b{number}"),
                door: SocketAddr::from(([127, 0, 0, 1], 20_000)),
                database: format!("d{number}"),
                needs_tls: false,
            }],
        };
        let plan = FencePlan {
            servers: hosts.iter().enumerate().map(server).collect(),
            on_source: OnSource::Redirect,
            assert_isolated: false,
        };
        let fence = Fence::new(plan, &KnownHosts::default());
        let places = [
            Destination::Unix("/run/postgresql/.s.PGSQL.5432".into()),
            Destination::Unix("/tmp/.s.PGSQL.5432".into()),
            Destination::Tcp(address("127.0.0.1:5432")),
            Destination::Tcp(address("127.0.0.9:5432")),
            Destination::Tcp(address("[::1]:5432")),
        ];
        for place in places {
            for number in 0..hosts.len() {
                let found = fence.branch_of(&place, false, &format!("d{number}"));
                assert_eq!(found, Some(number), "d{number} at {place}");
            }
            assert_eq!(fence.branch_of(&place, false, "postgres"), None);
        }
        let other = Destination::Tcp(address("127.0.0.1:5433"));
        assert_eq!(fence.branch_of(&other, false, "d2"), None);
    }

    #[test]
    fn sources_that_share_a_port_keep_their_own_databases() {
        let mut plan = FencePlan {
            servers: Vec::new(),
            on_source: OnSource::Redirect,
            assert_isolated: false,
        };
        for host in ["127.0.0.1", "127.0.0.2"] {
            plan.servers.push(FencedServer {
                addresses: vec![Address {
                    host: host.to_owned(),
                    port: 5432,
                }],
                databases: vec![FencedDatabase {
                    names: vec!["shop".to_owned()],
                    branch: host.to_owned(),
                    door: SocketAddr::from(([127, 0, 0, 1], 20_000)),
                    database: "shop".to_owned(),
                    needs_tls: false,
                }],
            });
        }
        let fence = Fence::new(plan, &KnownHosts::default());
        let at = |text: &str| fence.branch_of(&Destination::Tcp(address(text)), false, "shop");
        assert_eq!(at("127.0.0.1:5432"), Some(0));
        assert_eq!(at("127.0.0.2:5432"), Some(1));
    }
}
