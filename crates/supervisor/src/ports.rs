//! Ports that programs of the session listen on, where somebody else has the one that they ask for.
//!
//! ```text
//!   bind PORT ─┬─ free: theirs
//!              ├─ taken by the session itself, or by nobody who listens there: EADDRINUSE, as ever
//!              └─ somebody else listens there, or it is below 1024 without the right to it: another port, told;
//!                 getsockname says PORT, and the session's own connections to PORT on this machine lead there
//! ```
//!
//! Owns which port stands for which. Leaves the calls to `intercept`.

mod holder;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::incoming::Listening;
pub use holder::Holder;
pub(crate) use holder::{
    bound_datagram_ports, find_descriptor, find_holder, holds_one_of, is_bound_by, is_listened_on,
    ports_on_their_way,
};

/// A program listens on another port than it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortTaken {
    /// What it asked for.
    pub asked: SocketAddr,
    /// The port that it got.
    pub real: u16,
    /// Who has the one that it asked for; none where that cannot be seen, or the port needs a right that it has not.
    pub holder: Option<Holder>,
    /// The program.
    pub program: String,
}

/// A port that stands for another.
#[derive(Debug, Clone, Copy)]
struct Given {
    asked: SocketAddr,
    /// The socket that it was given to.
    cookie: u64,
    /// Somebody was seen to listen on it. Before that, only the socket itself can tell that it is there.
    has_listened: bool,
}

/// Which port stands for which, and which sockets listen.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    /// By the real one.
    given: Mutex<HashMap<u16, Given>>,
    /// By the socket; kept in a target's network alone.
    listening: Mutex<HashMap<u64, Listening>>,
}

impl Ports {
    /// `real`, which the socket `cookie` was bound to, stands for `asked` from now on.
    pub(crate) fn add(&self, asked: SocketAddr, real: u16, cookie: u64) {
        let given = Given {
            asked,
            cookie,
            has_listened: false,
        };
        self.lock().insert(real, given);
    }

    /// The port that was asked for where `real` was given, for the socket `cookie` whose own port that is: the one that it
    /// was given to, or one that this one accepted. None where it is nobody's any more.
    pub(crate) fn asked(&self, real: u16, cookie: u64) -> Option<u16> {
        let given = self.lock().get(&real).copied()?;
        let is_its = given.cookie == cookie || self.keep_if_open(real);
        is_its.then_some(given.asked.port())
    }

    /// The port that was given where `asked` was asked for.
    pub(crate) fn real(&self, asked: u16) -> Option<u16> {
        self.find_real(|given| given.asked.port() == asked)
    }

    /// The port that was given to whoever listens at `address`, one of this machine's.
    pub(crate) fn real_at(&self, address: SocketAddr) -> Option<u16> {
        self.find_real(|given| leads(address, given.asked.ip(), given.asked.port()))
    }

    fn find_real(&self, is_meant: impl Fn(&Given) -> bool) -> Option<u16> {
        let given = self.lock();
        let found = given.iter().filter(|(_, given)| is_meant(given));
        let found: Vec<u16> = found.map(|(real, _)| *real).collect();
        drop(given);
        found.into_iter().find(|real| self.keep_if_open(*real))
    }

    /// A socket listens; whether it did not before.
    pub(crate) fn listen(&self, listening: Listening) -> bool {
        let mut all = self.listeners();
        all.insert(listening.cookie, listening).is_none()
    }

    /// A socket is gone; whether it listened.
    pub(crate) fn unlisten(&self, cookie: u64) -> bool {
        self.lock().retain(|_, given| given.cookie != cookie);
        self.listeners().remove(&cookie).is_some()
    }

    /// Whether the session listens at `address`, one of this machine's, by the port that it asked for or by the real one.
    pub(crate) fn is_listened_at(&self, address: SocketAddr) -> bool {
        let listeners = self.listeners();
        let mut all = listeners.values();
        all.any(|listening| {
            let ip = listening.asked.ip();
            let ports = [listening.asked.port(), listening.real];
            ports.iter().any(|port| leads(address, ip, *port))
        })
    }

    /// Sockets that listened and whose ports are nobody's now.
    pub(crate) fn closed_listeners(&self) -> Vec<u64> {
        self.closed(|_| true)
    }

    /// Those of whose end the kernel does not tell.
    pub(crate) fn closed_untold(&self) -> Vec<u64> {
        self.closed(|listening| listening.is_multipath)
    }

    fn closed(&self, is_meant: impl Fn(&Listening) -> bool) -> Vec<u64> {
        let listeners = self.listeners();
        let meant = listeners.values().filter(|listening| is_meant(listening));
        let closed = meant.filter(|listening| !is_listened_on(listening.real));
        closed.map(|listening| listening.cookie).collect()
    }

    fn listeners(&self) -> MutexGuard<'_, HashMap<u64, Listening>> {
        let locked = self.listening.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether every port is itself.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Forgets a port that nobody listens on any more: the kernel may give it to a connection.
    fn keep_if_open(&self, real: u16) -> bool {
        let is_open = is_listened_on(real);
        if let Entry::Occupied(mut given) = self.lock().entry(real) {
            if is_open {
                given.get_mut().has_listened = true;
            } else if given.get().has_listened {
                given.remove();
            }
        }
        is_open
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u16, Given>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `address`, one of this machine's, leads to what listens on `ip` and `port`. Every loopback address
/// does, whichever of them it listens on.
fn leads(address: SocketAddr, ip: IpAddr, port: u16) -> bool {
    let ip = ip.to_canonical();
    let is_there = match ip {
        // Of IPv4 as well (ipv6(7), IPV6_V6ONLY).
        IpAddr::V6(any) if any.is_unspecified() => true,
        IpAddr::V4(any) if any.is_unspecified() => address.is_ipv4(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip == address.ip(),
    };
    address.port() == port && (address.ip().is_loopback() || is_there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leads_to_what_listens_on_it_or_on_every_one() {
        let leads = |address: &str, listening: &str| {
            let listening: SocketAddr = listening.parse().unwrap();
            leads(address.parse().unwrap(), listening.ip(), listening.port())
        };
        for listening in [
            "0.0.0.0:80",
            "[::]:80",
            "[::ffff:0.0.0.0]:80",
            "192.0.2.2:80",
        ] {
            assert!(leads("192.0.2.2:80", listening), "{listening}");
            assert!(!leads("192.0.2.2:81", listening), "{listening}");
            assert!(leads("127.0.0.1:80", listening), "{listening}");
        }
        for listening in ["127.0.0.1:80", "192.0.2.3:80", "[2001:db8::1]:80"] {
            assert!(!leads("192.0.2.2:80", listening), "{listening}");
        }
        assert!(leads("[2001:db8::1]:80", "[::]:80"));
        assert!(!leads("[2001:db8::1]:80", "0.0.0.0:80"));
    }
}
