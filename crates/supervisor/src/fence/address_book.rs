//! The addresses of the sources: as given, as their names resolve, and as programs of this machine may write them.
//!
//! An address once known stays: names of databases that fail over answer with other addresses later, and the old one is
//! still the source's. A source on this machine has all of this machine's addresses: which of them its server listens
//! on cannot be seen from here, and a wrong guess must not be a gap.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use model::pg_url::Address;

use super::known_hosts::{KnownHosts, name};
use crate::remote::{Destination, Remote, is_of_this_machine};
use crate::socket::canonical;
use crate::unix_sockets;

/// Addresses that are remembered: a name that answers with others without end must not fill the memory.
const ADDRESSES_MAX: usize = 4096;

/// What the name of a PostgreSQL server's Unix socket begins with; its port follows.
const SOCKET_PREFIX: &str = ".s.PGSQL.";

/// Who is where.
#[derive(Debug, Default)]
struct Pages {
    tcp: HashMap<SocketAddr, BTreeSet<usize>>,
    /// Ports of sources on this machine.
    local: HashMap<u16, BTreeSet<usize>>,
    paths: HashMap<PathBuf, BTreeSet<usize>>,
    /// Ports of sources by a name that has more addresses than one answer says.
    varying: HashMap<u16, BTreeSet<usize>>,
}

/// The sources' addresses, by the sources' numbers.
#[derive(Debug)]
pub(crate) struct AddressBook {
    given: Vec<Vec<Address>>,
    pages: RwLock<Pages>,
}

impl AddressBook {
    /// Knows what needs no lookup.
    pub(crate) fn new(given: Vec<Vec<Address>>) -> Self {
        let book = Self {
            given: Vec::new(),
            pages: RwLock::default(),
        };
        for (server, addresses) in given.iter().enumerate() {
            for Address { host, port } in addresses {
                if host.starts_with('/') {
                    book.add_path(server, Path::new(host), *port);
                } else if let Ok(ip) = host.parse() {
                    book.add_ip(server, ip, *port);
                } else if host == "localhost" || host.ends_with(".localhost") {
                    // RFC 6761, section 6.3: these are the loopback addresses whatever a resolver says.
                    book.add_local(server, *port);
                }
            }
        }
        Self { given, ..book }
    }

    /// Learns the addresses of names.
    pub(crate) fn learn(&self, hosts: &KnownHosts) {
        let all = self.given.iter().enumerate();
        for (server, address) in all.flat_map(|(n, list)| list.iter().map(move |a| (n, a))) {
            for ip in name(address).map_or(&[][..], |host| hosts.get(host)) {
                self.add_ip(server, *ip, address.port);
            }
            let ips = ips_of(address, hosts);
            if ips.iter().any(|ip| hosts.is_own(*ip)) {
                self.add_local(server, address.port);
            }
            if name(address).is_some_and(|host| hosts.varies(host)) {
                let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
                pages
                    .varying
                    .entry(address.port)
                    .or_default()
                    .insert(server);
            }
        }
    }

    /// Whether `address`, which no source is known by, may still be one's: by the name of one that has the port.
    pub(crate) fn may_be_named(&self, address: SocketAddr) -> bool {
        let mut all = self.given.iter().flatten();
        // No name of another machine leads here.
        !address.ip().is_loopback()
            && all.any(|given| given.port == address.port() && name(given).is_some())
    }

    /// Takes `address` for that of every source whose name has more addresses than one answer says, and that has the port;
    /// whether there is one.
    pub(crate) fn adopt(&self, address: SocketAddr) -> bool {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        let servers = pages.varying.get(&address.port()).cloned();
        drop(pages);
        let servers = servers.unwrap_or_default();
        for server in &servers {
            self.add_ip(*server, address.ip(), address.port());
        }
        !servers.is_empty()
    }

    /// Learns that `host` was answered with `ip`, where a source has that name.
    pub(crate) fn learn_answer(&self, host: &str, ip: IpAddr) {
        let all = self.given.iter().enumerate();
        for (server, address) in all.flat_map(|(n, list)| list.iter().map(move |a| (n, a))) {
            let is_it = |name: &str| name.trim_end_matches('.').eq_ignore_ascii_case(host);
            if name(address).is_some_and(is_it) {
                self.add_ip(server, ip, address.port);
            }
        }
    }

    /// Whether a source listens on every address of the place that it is in, on `port`.
    pub(crate) fn has_local_port(&self, port: u16) -> bool {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        pages.local.contains_key(&port)
    }

    /// Looks every name up again and learns its addresses.
    pub(crate) async fn refresh(&self, remote: &Arc<dyn Remote>) {
        self.learn(&KnownHosts::look_up(remote, self.given.iter().flatten()).await);
    }

    /// Whether a name has to be looked up.
    pub(crate) fn has_names(&self) -> bool {
        self.given
            .iter()
            .flatten()
            .any(|address| name(address).is_some())
    }

    fn add_ip(&self, server: usize, ip: IpAddr, port: u16) {
        let address = canonical(SocketAddr::new(ip, port));
        if is_of_this_machine(address.ip()) {
            self.add_local(server, port);
        }
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        if pages.tcp.len() < ADDRESSES_MAX || pages.tcp.contains_key(&address) {
            pages.tcp.entry(address).or_default().insert(server);
        }
    }

    fn add_local(&self, server: usize, port: u16) {
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        pages.local.entry(port).or_default().insert(server);
    }

    fn add_path(&self, server: usize, directory: &Path, port: u16) {
        let path = directory.join(format!("{SOCKET_PREFIX}{port}"));
        let path = path.canonicalize().unwrap_or(path);
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        pages.paths.entry(path).or_default().insert(server);
        // Who is reached by a socket of this machine may listen on its addresses too.
        pages.local.entry(port).or_default().insert(server);
    }

    /// Whether `address`, in its canonical form, is a source's.
    pub(crate) fn has_tcp(&self, address: SocketAddr) -> bool {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        // Of a source it is not known by which interface it is reached.
        pages.tcp.contains_key(&canonical(address))
            || (pages.local.contains_key(&address.port()) && is_of_this_machine(address.ip()))
    }

    /// Whether a socket that was bound to `path` is a source's: by its path, or by its port where the source is on this
    /// machine.
    pub(crate) fn has_path(&self, path: &Path) -> bool {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        pages.paths.contains_key(path)
            || socket_port(path).is_some_and(|port| pages.local.contains_key(&port))
    }

    /// The name by which the socket at `real`, without links in it and written `written`, is a source's. What it was bound
    /// to counts before what it is called: links, hard links and mounts may call it anything.
    pub(crate) fn source_name(&self, written: &Path, real: &Path) -> Option<PathBuf> {
        if self.has_path(real) {
            return Some(real.to_owned());
        }
        let mut names = self.socket_paths()?;
        let listened = unix_sockets::listened_names().into_iter();
        names.extend(listened.filter(|name| socket_port(name).is_some()));
        names.retain(|name| unix_sockets::is_same_file(name, real));
        if names.is_empty() && socket_port(real).is_none() {
            names.push(written.to_owned());
        }
        names.into_iter().find(|name| self.has_path(name))
    }

    /// The paths of sources' sockets; none where no source can have one.
    fn socket_paths(&self) -> Option<Vec<PathBuf>> {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        let is_anywhere = !pages.local.is_empty() || !pages.paths.is_empty();
        is_anywhere.then(|| pages.paths.keys().cloned().collect())
    }

    /// The numbers of the sources that `destination` may be: those with this very address, then those of the same place
    /// and port. One server may be among both, by two of its addresses, and two servers may share a port. `is_own`: it
    /// is an address of the target itself.
    pub(crate) fn servers_at(
        &self,
        destination: &Destination,
        is_own: bool,
    ) -> [BTreeSet<usize>; 2] {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        let (exact, port) = match destination {
            Destination::Tcp(address) => {
                let is_local = is_own || is_of_this_machine(address.ip());
                (
                    pages.tcp.get(&canonical(*address)),
                    is_local.then(|| address.port()),
                )
            }
            Destination::Unix(path) => (pages.paths.get(path), socket_port(path)),
        };
        let local = port.and_then(|port| pages.local.get(&port));
        [exact, local].map(|servers| servers.cloned().unwrap_or_default())
    }
}

/// The addresses that `address` stands for.
fn ips_of(address: &Address, hosts: &KnownHosts) -> Vec<IpAddr> {
    match address.host.parse() {
        Ok(ip) => vec![ip],
        Err(_) => hosts.get(&address.host).to_vec(),
    }
}

/// The port in the name of a PostgreSQL server's socket; none where the name is another.
pub(crate) fn socket_port(path: &Path) -> Option<u16> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix(SOCKET_PREFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(hosts: &[&str]) -> AddressBook {
        let address = |host: &&str| Address {
            host: (*host).to_owned(),
            port: 5432,
        };
        AddressBook::new(vec![hosts.iter().map(address).collect()])
    }

    fn has(book: &AddressBook, text: &str) -> bool {
        book.has_tcp(canonical(text.parse().unwrap()))
    }

    #[test]
    fn a_source_elsewhere_has_its_own_addresses_alone() {
        let book = book(&["192.0.2.7"]);
        assert!(has(&book, "192.0.2.7:5432"));
        assert!(has(&book, "[::ffff:192.0.2.7]:5432"));
        for other in ["192.0.2.7:5433", "192.0.2.8:5432", "127.0.0.1:5432"] {
            assert!(!has(&book, other), "{other}");
        }
        assert!(!book.has_path(Path::new("/run/postgresql/.s.PGSQL.5432")));
    }

    #[test]
    fn a_source_on_this_machine_has_every_address_of_it() {
        for host in [
            "127.0.0.1",
            "localhost",
            "::1",
            "/run/postgresql",
            "db.localhost",
        ] {
            let book = book(&[host]);
            for address in [
                "127.0.0.1:5432",
                "127.0.0.9:5432",
                "[::1]:5432",
                "0.0.0.0:5432",
            ] {
                assert!(has(&book, address), "{host}: {address}");
            }
            assert!(!has(&book, "127.0.0.1:5433"), "{host}");
            assert!(!has(&book, "192.0.2.7:5432"), "{host}");
            assert!(book.has_path(Path::new("/tmp/.s.PGSQL.5432")), "{host}");
        }
    }

    #[test]
    fn a_sockets_port_is_in_its_name() {
        assert_eq!(socket_port(Path::new("/tmp/.s.PGSQL.6432")), Some(6432));
        for path in [
            "/tmp/.s.PGSQL.x",
            "/tmp/.s.PGSQL.5432.lock",
            "/var/run/docker.sock",
            "/",
        ] {
            assert_eq!(socket_port(Path::new(path)), None, "{path}");
        }
    }
}
