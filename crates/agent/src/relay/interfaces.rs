//! The loopback interface of a new namespace, by rtnetlink(7): up, with the target's addresses, and every address of the
//! world routed to it, where the rules see what is sent there.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::netlink::{ACK, CREATE, Messages, Socket};

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;

const INET: u8 = 2;
const INET6: u8 = 10;

/// The loopback interface is the first one of every namespace.
const LOOPBACK: u32 = 1;
/// `IFF_UP`.
const UP: u32 = 1;
/// `IFA_F_NODAD`: nobody else could have it.
const NO_DUPLICATES: u8 = 2;

/// The first part of targets' addresses of version 6: a network of ours alone (RFC 4193). Their address of version 4
/// ends it.
const PREFIX_6: [u16; 6] = [0xfd62, 0x6f75, 0x6768, 0, 0, 0];

/// Where the kernel lists its routes of version 6 (in hexadecimal digits: destination, its length, ..., interface).
const ROUTES_6: &str = "/proc/net/ipv6_route";

/// The target's address of version 6.
fn version_6(address: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = address.octets();
    let [p, q, r, s, t, u] = PREFIX_6;
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Ipv6Addr::new(p, q, r, s, t, u, high, low)
}

/// Whether this machine reaches anything by version 6; then its targets try to.
pub(super) fn machine_has_version_6() -> bool {
    fs::read_to_string(ROUTES_6).is_ok_and(|table| has_default_route(&table))
}

fn has_default_route(table: &str) -> bool {
    table.lines().any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns.get(1) == Some(&"00") && columns.last().is_some_and(|name| *name != "lo")
    })
}

/// Sets the calling thread's namespace up.
///
/// # Errors
/// The kernel's.
pub(super) fn set_up(address: Ipv4Addr, has_version_6: bool) -> io::Result<()> {
    let socket = Socket::open(None)?;
    let mut messages = Messages::default();
    messages.message(NEW_LINK, ACK, |content| {
        // struct ifinfomsg: family, type, index, flags, which of them change.
        content.raw(&[0; 4]);
        content.raw(&LOOPBACK.to_ne_bytes());
        content.raw(&UP.to_ne_bytes());
        content.raw(&UP.to_ne_bytes());
    });
    socket.tell(&messages)?;
    socket.tell(&address_and_route(INET, &address.octets()))?;
    if has_version_6 {
        // A kernel without it has no use for it either.
        let _absent = socket.tell(&address_and_route(INET6, &version_6(address).octets()));
    }
    Ok(())
}

fn address_and_route(family: u8, address: &[u8]) -> Messages {
    /// `IFA_ADDRESS`, `IFA_LOCAL`.
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    /// `RTA_OIF`, `RTA_PREFSRC`.
    const INTERFACE: u16 = 4;
    const SOURCE: u16 = 7;
    /// `RT_TABLE_LOCAL`, `RTPROT_STATIC`, `RT_SCOPE_HOST`, `RTN_LOCAL`.
    const ROUTE_TO_OURSELVES: [u8; 4] = [255, 4, 254, 2];
    let bits = u8::try_from(8 * address.len()).expect("an address has at most 128 bits");
    let mut messages = Messages::default();
    messages.message(NEW_ADDRESS, ACK | CREATE, |content| {
        content.raw(&[family, bits, NO_DUPLICATES, 0]);
        content.raw(&LOOPBACK.to_ne_bytes());
        content.attribute(LOCAL, address);
        content.attribute(ADDRESS, address);
    });
    messages.message(NEW_ROUTE, ACK | CREATE, |content| {
        // struct rtmsg: no bits of the destination, so every one; then table, protocol, scope, type.
        content.raw(&[family, 0, 0, 0]);
        content.raw(&ROUTE_TO_OURSELVES);
        content.raw(&[0; 4]);
        content.attribute(INTERFACE, &LOOPBACK.to_ne_bytes());
        content.attribute(SOURCE, address);
    });
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_an_address_of_version_6() {
        let address = version_6(Ipv4Addr::new(198, 18, 3, 4));
        assert_eq!(address.to_string(), "fd62:6f75:6768::c612:304");
    }

    #[test]
    fn a_default_route_that_leads_away_counts() {
        let zero = "0".repeat(32);
        let line = |length: &str, name: &str| {
            format!("{zero} {length} {zero} 00 {zero} ffffffff 00000001 00000000 00200200 {name}\n")
        };
        assert!(has_default_route(&line("00", "eth0")));
        assert!(!has_default_route(&line("00", "lo")));
        assert!(!has_default_route(&line("40", "eth0")));
        assert!(!has_default_route(""));
    }
}
