//! Which connections begin at the target. Pure.

use std::net::SocketAddr;
use std::path::Path;

use fancy_regex::Regex;

use super::filter::{Filter, Protocol, Side};

/// Connections and datagrams that the program sends.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// Whether TCP goes through the target.
    pub tcp: bool,
    /// Whether UDP goes through the target.
    pub udp: bool,
    /// Whether loopback addresses stay this machine's.
    pub ignore_localhost: bool,
    /// Which destinations are meant; without it all are.
    pub filter: Option<Filter>,
    /// Unix sockets that are the target's.
    pub unix_streams: UnixStreams,
}

impl Outgoing {
    /// Where a connection to `address`, in its canonical form, is made. `names` are what the address goes by.
    pub(crate) fn side(&self, protocol: Protocol, address: SocketAddr, names: &[String]) -> Side {
        let is_on = match protocol {
            Protocol::Tcp => self.tcp,
            Protocol::Udp => self.udp,
        };
        if !is_on || (self.ignore_localhost && address.ip().is_loopback()) {
            return Side::Here;
        }
        match &self.filter {
            Some(filter) => filter.side_of(protocol, address, names),
            None => Side::Target,
        }
    }
}

/// Paths of Unix sockets that are the target's.
#[derive(Debug, Clone, Default)]
pub struct UnixStreams(Vec<Regex>);

impl UnixStreams {
    /// The paths that one of `patterns` matches: regular expressions.
    ///
    /// # Errors
    /// When a pattern cannot be read.
    pub fn new(patterns: &[String]) -> Result<Self, fancy_regex::Error> {
        let compiled = patterns.iter().map(|pattern| Regex::new(pattern));
        Ok(Self(compiled.collect::<Result<_, _>>()?))
    }

    pub(crate) fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    /// Where a connection to `path` is made. A pattern that takes too long does not match, nor does what is not UTF-8.
    pub(crate) fn side(&self, path: &Path) -> Side {
        let matches = |path: &str| {
            let matches = |pattern: &Regex| pattern.is_match(path).unwrap_or(false);
            self.0.iter().any(matches)
        };
        if path.to_str().is_some_and(matches) {
            Side::Target
        } else {
            Side::Here
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::{Entry, Place};
    use super::*;

    #[test]
    fn switches_come_before_filters() {
        let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let side =
            |outgoing: &Outgoing, protocol, text: &str| outgoing.side(protocol, address(text), &[]);
        let all = Outgoing {
            tcp: true,
            udp: true,
            ..Outgoing::default()
        };
        assert_eq!(side(&all, Protocol::Tcp, "127.0.0.1:6379"), Side::Target);
        let no_udp = Outgoing {
            udp: false,
            ..all.clone()
        };
        assert_eq!(side(&no_udp, Protocol::Udp, "192.0.2.1:9"), Side::Here);
        assert_eq!(side(&no_udp, Protocol::Tcp, "192.0.2.1:9"), Side::Target);
        let own = Outgoing {
            ignore_localhost: true,
            ..all.clone()
        };
        assert_eq!(side(&own, Protocol::Tcp, "127.0.0.1:6379"), Side::Here);
        assert_eq!(side(&own, Protocol::Tcp, "[::1]:6379"), Side::Here);
        let filtered = Outgoing {
            filter: Some(Filter {
                side: Side::Target,
                entries: vec![Entry {
                    protocol: None,
                    place: Place::Any,
                    port: Some(80),
                }],
            }),
            ..no_udp
        };
        assert_eq!(side(&filtered, Protocol::Tcp, "192.0.2.1:80"), Side::Target);
        assert_eq!(side(&filtered, Protocol::Tcp, "192.0.2.1:81"), Side::Here);
        assert_eq!(side(&filtered, Protocol::Udp, "192.0.2.1:80"), Side::Here);
    }

    #[test]
    fn unix_sockets_are_the_targets_where_a_pattern_says_so() {
        let streams = UnixStreams::new(&["^/run/shared/.+".to_owned()]).unwrap();
        let side = |streams: &UnixStreams, path: &str| streams.side(Path::new(path));
        assert_eq!(side(&streams, "/run/shared/a.sock"), Side::Target);
        assert_eq!(side(&streams, "/run/docker.sock"), Side::Here);
        let none = UnixStreams::default();
        assert_eq!(side(&none, "/run/shared/a.sock"), Side::Here);
        assert!(UnixStreams::new(&["(".to_owned()]).is_err());
    }
}
