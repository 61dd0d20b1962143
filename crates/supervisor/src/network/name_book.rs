//! The names that addresses were answered for, so that filters by name know a connection that comes by address.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Addresses that are remembered; the oldest is forgotten first.
const ADDRESSES_MAX: usize = 8192;

/// Names of one address: many services stand behind one proxy.
const NAMES_MAX: usize = 64;

#[derive(Debug, Default)]
struct Pages {
    names: HashMap<IpAddr, Vec<String>>,
    order: VecDeque<IpAddr>,
}

/// Which address goes by which names.
#[derive(Debug, Default)]
pub(crate) struct NameBook {
    pages: Mutex<Pages>,
}

impl NameBook {
    /// `name` was answered with `ip`.
    pub(crate) fn learn(&self, name: &str, ip: IpAddr) {
        let ip = ip.to_canonical();
        let mut pages = self.lock();
        if !pages.names.contains_key(&ip) {
            if pages.order.len() >= ADDRESSES_MAX
                && let Some(oldest) = pages.order.pop_front()
            {
                pages.names.remove(&oldest);
            }
            pages.order.push_back(ip);
        }
        let names = pages.names.entry(ip).or_default();
        if names.len() < NAMES_MAX && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }

    /// The names of `ip`.
    pub(crate) fn names(&self, ip: IpAddr) -> Vec<String> {
        let names = self.lock().names.get(&ip.to_canonical()).cloned();
        names.unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_without_end_push_out_the_oldest() {
        let book = NameBook::default();
        let first = IpAddr::from([10, 0, 0, 0]);
        book.learn("a", first);
        book.learn("b", first);
        book.learn("a", first);
        assert_eq!(book.names(first), ["a", "b"]);
        for number in 1..=u32::try_from(ADDRESSES_MAX).unwrap() {
            let ip = std::net::Ipv4Addr::from_bits(0x0a00_0000 + number);
            book.learn("x", ip.into());
        }
        assert!(book.names(first).is_empty());
        assert_eq!(book.names(IpAddr::from([10, 0, 0, 1])), ["x"]);
    }
}
