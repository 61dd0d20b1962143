//! What a target's own network has that this machine does not: its listeners on loopback, and the names and addresses of
//! other targets. The same address is another server there.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use agent::relay::TARGETS_NETWORK;
use model::pg_url::Address;

use super::place::Place;
use super::registry::Record;

/// The state of a socket that listens, in `/proc/PID/net/tcp` (proc_pid_net(5)).
const LISTENS: &str = "0A";

/// The network namespace of a running target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnNetwork {
    /// Whose it is, for people.
    pub(crate) owner: String,
    /// The Unix socket of a SOCKS5 proxy in it.
    pub(crate) proxy: PathBuf,
    /// Names and addresses, as the target sees them.
    hosts: PathBuf,
    process: i32,
}

impl OwnNetwork {
    /// That of the target of `record`; none where it shares this machine's, or has no proxy.
    pub(super) fn of(record: &Record) -> Option<Self> {
        if !record.has_own_network() {
            return None;
        }
        let place = Place::of(record.place.clone()?);
        let proxy = place.proxy_socket();
        proxy.exists().then(|| Self {
            owner: format!("{} -n {}", record.target, record.namespace),
            proxy,
            hosts: place.hosts(),
            process: record.process.identity().pid(),
        })
    }

    /// Whether `address` leads to the target itself or to another one. `here` is what its name stands for on this
    /// machine.
    pub(crate) fn has(&self, address: &Address, here: &[IpAddr]) -> bool {
        let table = fs::read_to_string(&self.hosts).unwrap_or_default();
        if names_target(&table, &address.host) || here.iter().any(|ip| is_targets(*ip)) {
            return true;
        }
        let is_own = |ip: &IpAddr| ip.is_loopback() || ip.is_unspecified();
        here.iter().any(is_own) && self.listens(address.port)
    }

    /// Whether anybody listens on `port` there. The relay's own listeners have ports that nobody asks for.
    fn listens(&self, port: u16) -> bool {
        let read = |family: &str| -> io::Result<String> {
            let process = PathBuf::from(format!("/proc/{}/net", self.process));
            fs::read_to_string(Path::new(&process).join(family))
        };
        ["tcp", "tcp6"]
            .iter()
            .any(|family| read(family).is_ok_and(|table| has_listener(&table, port)))
    }
}

fn is_targets(ip: IpAddr) -> bool {
    let (network, bits) = TARGETS_NETWORK;
    let of = |ip: Ipv4Addr| ip.to_bits() >> (32 - u32::from(bits));
    matches!(ip, IpAddr::V4(ip) if of(ip) == of(network))
}

/// Whether a table of hosts (hosts(5)) has `name` as a target's.
fn names_target(table: &str, name: &str) -> bool {
    let name = name.trim_end_matches('.');
    table.lines().any(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let ip = words.next().and_then(|word| word.parse().ok());
        ip.is_some_and(is_targets) && words.any(|word| word.eq_ignore_ascii_case(name))
    })
}

/// Whether a table of sockets has a listener on `port`.
fn has_listener(table: &str, port: u16) -> bool {
    let end = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, state) = (words.next(), words.nth(1));
        local.is_some_and(|local| local.ends_with(&end)) && state == Some(LISTENS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_known_by_name_and_address() {
        let table = "127.0.0.1 localhost db\n# 198.18.0.9 gone\n198.18.0.1 cart cart.shop # c\n";
        for (name, is_one) in [
            ("cart", true),
            ("Cart.Shop.", true),
            ("db", false),
            ("gone", false),
            ("198.18.0.1", false),
        ] {
            assert_eq!(names_target(table, name), is_one, "{name}");
        }
        assert!(is_targets("198.19.255.254".parse().unwrap()));
        assert!(!is_targets("198.20.0.1".parse().unwrap()));
    }

    #[test]
    fn listeners_are_told_from_connections() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n\
               0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000\n\
               1: 0100007F:1F92 0100007F:1538 01 00000000:00000000 00:00000000 00000000\n";
        assert!(has_listener(table, 0x1538));
        assert!(!has_listener(table, 0x1F92));
        assert!(!has_listener(table, 0x38));
    }
}
