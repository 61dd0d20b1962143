//! Ports that programs of the session listen on, where somebody else has the one that they ask for.
//!
//! ```text
//!   bind PORT ─┬─ free: theirs
//!              ├─ taken by the session itself: EADDRINUSE, as ever
//!              └─ taken by somebody else, or below 1024 without the right to it: another port, told;
//!                 getsockname says PORT, and the session's own connections to PORT on this machine lead there
//! ```
//!
//! Owns which port stands for which. Leaves the calls to `intercept`.

mod holder;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::incoming::Listening;
pub use holder::Holder;
pub(crate) use holder::{bound_datagram_ports, find_holder, is_bound_by, is_listened_on};

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

/// Which port stands for which, and which sockets listen.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    /// By the real one.
    asked: Mutex<HashMap<u16, u16>>,
    /// By the socket; kept in a target's network alone.
    listening: Mutex<HashMap<u64, Listening>>,
}

impl Ports {
    /// `real` stands for `asked` from now on.
    pub(crate) fn add(&self, asked: u16, real: u16) {
        self.lock().insert(real, asked);
    }

    /// The port that was asked for where `real` was given; none where it is nobody's any more.
    pub(crate) fn asked(&self, real: u16) -> Option<u16> {
        let asked = self.lock().get(&real).copied()?;
        self.keep_if_open(real).then_some(asked)
    }

    /// The port that was given where `asked` was asked for.
    pub(crate) fn real(&self, asked: u16) -> Option<u16> {
        let found = self
            .lock()
            .iter()
            .find(|(_, a)| **a == asked)
            .map(|(real, _)| *real);
        found.filter(|real| self.keep_if_open(*real))
    }

    /// A socket listens; whether it did not before.
    pub(crate) fn listen(&self, listening: Listening) -> bool {
        let mut all = self.listeners();
        all.insert(listening.cookie, listening).is_none()
    }

    /// A socket is gone; whether it listened.
    pub(crate) fn unlisten(&self, cookie: u64) -> bool {
        self.listeners().remove(&cookie).is_some()
    }

    /// Whether the session listens on `port`, by the number that it asked for or by the real one.
    pub(crate) fn is_listened_on(&self, port: u16) -> bool {
        let listeners = self.listeners();
        let mut all = listeners.values();
        all.any(|listening| listening.asked.port() == port || listening.real == port)
    }

    /// Sockets that listened and whose ports are nobody's now.
    pub(crate) fn closed_listeners(&self) -> Vec<u64> {
        let listeners = self.listeners();
        let closed = listeners
            .values()
            .filter(|listening| !is_listened_on(listening.real));
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
        if !is_open {
            self.lock().remove(&real);
        }
        is_open
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u16, u16>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
