//! Which ports of the target the session wants, by what its program listens on. Pure.

use std::net::SocketAddr;

pub use model::IncomingMode;
use wire::Subscription;
pub use wire::{HttpFilter, OnConcurrentSteal};

/// Connections that come to the target.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Who gets them.
    pub mode: IncomingMode,
    /// The only ports of the program that take part; none: all but `ignore_ports`.
    pub ports: Option<Vec<u16>>,
    /// Ports of the program that stay its own.
    pub ignore_ports: Vec<u16>,
    /// Pairs of a port of the program and the port of the target that it stands for.
    pub port_mapping: Vec<(u16, u16)>,
    /// Pairs of a port that the program asks for and the one that it listens on here.
    pub listen_ports: Vec<(u16, u16)>,
    /// Whether what listens on a loopback address alone stays the program's own.
    pub ignore_localhost: bool,
    /// Which HTTP requests are stolen; without it whole connections.
    pub filter: Option<HttpFilter>,
    /// The ports of the target that the filter counts on; none: all.
    pub filter_ports: Option<Vec<u16>>,
    /// What happens when another session steals the port already.
    pub on_concurrent_steal: OnConcurrentSteal,
}

impl Default for Incoming {
    fn default() -> Self {
        Self {
            mode: IncomingMode::Off,
            ports: None,
            ignore_ports: Vec::new(),
            port_mapping: Vec::new(),
            listen_ports: Vec::new(),
            ignore_localhost: false,
            filter: None,
            filter_ports: None,
            on_concurrent_steal: OnConcurrentSteal::Abort,
        }
    }
}

impl Incoming {
    /// The subscription, with number `id`, of a program that listens on `asked`; none where the port stays its own.
    pub(crate) fn wish(&self, id: u32, asked: SocketAddr) -> Option<Subscription> {
        let port = asked.port();
        let is_chosen = match &self.ports {
            Some(ports) => ports.contains(&port),
            None => !self.ignore_ports.contains(&port),
        };
        if !is_chosen || (self.ignore_localhost && asked.ip().is_loopback()) {
            return None;
        }
        let port = self.target_port(port);
        let is_filtered = self
            .filter_ports
            .as_ref()
            .is_none_or(|ports| ports.contains(&port));
        let mode = match self.mode {
            IncomingMode::Off => return None,
            IncomingMode::Mirror => wire::IncomingMode::Mirror,
            IncomingMode::Steal => wire::IncomingMode::Steal {
                filter: self.filter.clone().filter(|_| is_filtered),
                on_concurrent: self.on_concurrent_steal,
            },
        };
        Some(Subscription {
            id,
            port,
            mode,
            end_established: false,
        })
    }

    /// The port of the target that `port` of the program stands for.
    pub(crate) fn target_port(&self, port: u16) -> u16 {
        let mapped = self.port_mapping.iter().find(|(own, _)| *own == port);
        mapped.map_or(port, |(_, theirs)| *theirs)
    }

    /// The port to listen on where `port` is asked for, if the user chose one.
    pub(crate) fn listen_port(&self, port: u16) -> Option<u16> {
        let chosen = self.listen_ports.iter().find(|(asked, _)| *asked == port);
        chosen.map(|(_, real)| *real)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port_of(incoming: &Incoming, asked: &str) -> Option<u16> {
        let wish = incoming.wish(1, asked.parse().unwrap());
        wish.map(|subscription| subscription.port)
    }

    fn mirror() -> Incoming {
        Incoming {
            mode: IncomingMode::Mirror,
            ..Incoming::default()
        }
    }

    #[test]
    fn ports_take_part_unless_they_are_left_out() {
        assert_eq!(port_of(&Incoming::default(), "0.0.0.0:8080"), None);
        assert_eq!(port_of(&mirror(), "0.0.0.0:8080"), Some(8080));
        assert_eq!(port_of(&mirror(), "127.0.0.1:8080"), Some(8080));
        let chosen = Incoming {
            ports: Some(vec![8080]),
            ..mirror()
        };
        assert_eq!(port_of(&chosen, "0.0.0.0:8080"), Some(8080));
        assert_eq!(port_of(&chosen, "0.0.0.0:9090"), None);
        let ignoring = Incoming {
            ignore_ports: vec![9090],
            ignore_localhost: true,
            ..mirror()
        };
        assert_eq!(port_of(&ignoring, "0.0.0.0:8080"), Some(8080));
        assert_eq!(port_of(&ignoring, "0.0.0.0:9090"), None);
        assert_eq!(port_of(&ignoring, "[::1]:8080"), None);
    }

    #[test]
    fn a_port_stands_for_another_of_the_target_and_the_filter_counts_on_that_one() {
        let incoming = Incoming {
            mode: IncomingMode::Steal,
            port_mapping: vec![(9333, 80)],
            listen_ports: vec![(80, 4480)],
            filter: Some(HttpFilter::Method("GET".to_owned())),
            filter_ports: Some(vec![80]),
            ..Incoming::default()
        };
        let filter_of = |port: u16| match incoming.wish(7, ([0, 0, 0, 0], port).into()) {
            Some(Subscription {
                mode: wire::IncomingMode::Steal { filter, .. },
                port,
                ..
            }) => (port, filter),
            other => panic!("{other:?}"),
        };
        let get = Some(HttpFilter::Method("GET".to_owned()));
        assert_eq!(filter_of(9333), (80, get));
        assert_eq!(filter_of(8080), (8080, None));
        assert_eq!(incoming.listen_port(80), Some(4480));
        assert_eq!(incoming.listen_port(81), None);
    }
}
