//! Filters by destination: one side, and the entries that are meant by it. Pure.

use std::net::{IpAddr, SocketAddr};

/// Where something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// In the target's network.
    Target,
    /// On this machine.
    Here,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Target => Self::Here,
            Self::Here => Self::Target,
        }
    }
}

/// What carries bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The destinations of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Every one.
    Any,
    /// One address; the unspecified one is every one.
    Ip(IpAddr),
    /// A network, and how many of its bits count.
    Network(IpAddr, u8),
    /// Names that hold this text, in whatever case.
    Name(String),
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The protocol; none is both.
    pub protocol: Option<Protocol>,
    /// The destinations.
    pub place: Place,
    /// The port; none is every one.
    pub port: Option<u16>,
}

/// A filter: what an entry matches is done on `side`, all else on the other one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// What the entries are about.
    pub side: Side,
    /// The entries.
    pub entries: Vec<Entry>,
}

impl Filter {
    /// The side of a connection to `address`, which goes by `names`.
    pub(crate) fn side_of(
        &self,
        protocol: Protocol,
        address: SocketAddr,
        names: &[String],
    ) -> Side {
        let matches = self
            .entries
            .iter()
            .any(|entry| entry.matches(protocol, address, names));
        self.judge(matches)
    }

    /// The side of looking `name` up. Entries by number are about no name, unless the name is one.
    pub(crate) fn side_of_name(&self, name: &str) -> Side {
        let ip = name.parse::<IpAddr>().ok();
        let matches = self.entries.iter().any(|entry| match &entry.place {
            Place::Any => true,
            Place::Name(part) => holds(name, part),
            place @ (Place::Ip(_) | Place::Network(..)) => ip.is_some_and(|ip| place.holds_ip(ip)),
        });
        self.judge(matches)
    }

    /// Whether an entry goes by name.
    pub(crate) fn has_names(&self) -> bool {
        let is_name = |entry: &Entry| matches!(entry.place, Place::Name(_));
        self.entries.iter().any(is_name)
    }

    fn judge(&self, matches: bool) -> Side {
        if matches {
            self.side
        } else {
            self.side.other()
        }
    }
}

impl Entry {
    fn matches(&self, protocol: Protocol, address: SocketAddr, names: &[String]) -> bool {
        self.protocol.is_none_or(|wanted| wanted == protocol)
            && self.port.is_none_or(|port| port == address.port())
            && match &self.place {
                Place::Any => true,
                Place::Name(part) => names.iter().any(|name| holds(name, part)),
                place @ (Place::Ip(_) | Place::Network(..)) => place.holds_ip(address.ip()),
            }
    }
}

impl Place {
    fn holds_ip(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        match self {
            Self::Any => true,
            Self::Ip(own) => own.is_unspecified() || own.to_canonical() == ip,
            Self::Network(base, bits) => in_network(ip, base.to_canonical(), *bits),
            Self::Name(_) => false,
        }
    }
}

fn in_network(ip: IpAddr, base: IpAddr, bits: u8) -> bool {
    match (ip, base) {
        (IpAddr::V4(ip), IpAddr::V4(base)) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits.into()));
            let mask = mask.unwrap_or(0);
            ip.to_bits() & mask == base.to_bits() & mask
        }
        (IpAddr::V6(ip), IpAddr::V6(base)) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits.into()));
            let mask = mask.unwrap_or(0);
            ip.to_bits() & mask == base.to_bits() & mask
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// The format has always matched names by any part of them.
fn holds(name: &str, part: &str) -> bool {
    name.to_ascii_lowercase()
        .contains(&part.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(side: Side, protocol: Option<Protocol>, place: Place, port: Option<u16>) -> Filter {
        let entry = Entry {
            protocol,
            place,
            port,
        };
        Filter {
            side,
            entries: vec![entry],
        }
    }

    fn side(filter: &Filter, address: &str) -> Side {
        let names = ["Orders.shop.svc".to_owned()];
        filter.side_of(Protocol::Tcp, address.parse().unwrap(), &names)
    }

    #[test]
    fn only_an_entry_that_goes_by_name_needs_names() {
        let by_name = filter(Side::Target, None, Place::Name("shop".to_owned()), None);
        assert!(by_name.has_names());
        assert!(!filter(Side::Target, None, Place::Any, Some(80)).has_names());
    }

    #[test]
    fn what_matches_is_on_the_filters_side_and_all_else_on_the_other() {
        let ten = "10.0.0.0".parse().unwrap();
        for own in [Side::Target, Side::Here] {
            let network = filter(own, Some(Protocol::Tcp), Place::Network(ten, 8), Some(5432));
            assert_eq!(side(&network, "10.200.1.1:5432"), own);
            for other in ["10.200.1.1:5433", "11.0.0.1:5432", "[2001:db8::1]:5432"] {
                assert_eq!(side(&network, other), own.other(), "{other}");
            }
            let names = ["x".to_owned()];
            let address = "10.0.0.1:5432".parse().unwrap();
            assert_eq!(
                network.side_of(Protocol::Udp, address, &names),
                own.other(),
                "the protocol is another"
            );
        }
    }

    #[test]
    fn names_match_by_any_part_and_addresses_by_all_ways_of_writing_them() {
        let name = filter(Side::Here, None, Place::Name("orders".to_owned()), None);
        assert_eq!(side(&name, "192.0.2.1:80"), Side::Here);
        let other = filter(Side::Here, None, Place::Name("stock".to_owned()), None);
        assert_eq!(side(&other, "192.0.2.1:80"), Side::Target);
        let ip = filter(
            Side::Target,
            None,
            Place::Ip("192.0.2.1".parse().unwrap()),
            None,
        );
        assert_eq!(side(&ip, "[::ffff:192.0.2.1]:80"), Side::Target);
        assert_eq!(side(&ip, "192.0.2.2:80"), Side::Here);
        let any = filter(
            Side::Target,
            None,
            Place::Ip("0.0.0.0".parse().unwrap()),
            Some(80),
        );
        assert_eq!(side(&any, "192.0.2.2:80"), Side::Target);
        assert_eq!(side(&any, "192.0.2.2:81"), Side::Here);
    }

    #[test]
    fn every_width_of_a_network_counts() {
        let network = |text: &str, bits| Place::Network(text.parse().unwrap(), bits);
        let holds = |place: &Place, ip: &str| place.holds_ip(ip.parse().unwrap());
        assert!(holds(&network("0.0.0.0", 0), "203.0.113.9"));
        assert!(holds(&network("::", 0), "2001:db8::1"));
        assert!(!holds(&network("0.0.0.0", 0), "2001:db8::1"));
        assert!(holds(&network("192.0.2.1", 32), "192.0.2.1"));
        assert!(!holds(&network("192.0.2.1", 32), "192.0.2.0"));
        assert!(holds(&network("2001:db8::", 32), "2001:db8:ffff::1"));
        assert!(!holds(&network("2001:db8::", 33), "2001:db8:ffff::1"));
    }
}
