//! `feature.network.incoming`: what comes to the target and whether the process gets it or a copy.

use std::collections::HashSet;

use model::IncomingMode;

use super::http_filter::HttpFilter;
use super::tls_delivery::TlsDelivery;
use crate::decode::{Decode, Record, Report, Shape, Word, defaults, record, report_kind, words};
use crate::tree::{Node, Value};

words! {
    of IncomingMode: "\"mirror\", \"steal\" or \"off\"" {
        /// The target answers, the process gets a copy.
        Mirror,
        /// The process answers.
        Steal,
        /// The target alone.
        Off,
    }
}

words! {
    /// What happens when somebody else steals from the target already.
    pub enum ConcurrentSteal: "\"abort\", \"continue\" or \"override\"" {
        /// This session ends.
        Abort = "abort",
        /// Both go on.
        Continue = "continue",
        /// The other one ends.
        Override = "override",
    }
}

record! {
    /// What comes to the target, and who gets it. A mode alone is the same as an object with that mode; `true` is
    /// `"mirror"`, `false` is `"off"`.
    pub struct Incoming in more forms {
        /// Who gets it.
        /// Example: `"steal"`
        mode: IncomingMode = IncomingMode::Mirror,
        /// Which HTTP requests are meant; without it all traffic is.
        /// Example: `{"header_filter": "^baggage: .*session={{ key }}"}`
        http_filter: HttpFilter = HttpFilter::default(),
        /// Pairs of a port of the process and the port of the target that it stands for. Each port stands once on its
        /// side.
        /// Example: `[[8080, 80]]`
        port_mapping: Vec<(u16, u16)> = Vec::new(),
        /// Whether ports that the process has on a loopback address alone stay its own.
        ignore_localhost: bool = false,
        /// Ports of the process that stay its own.
        /// Example: `[9090]`
        ignore_ports: Vec<u16> = Vec::new(),
        /// Pairs of a port that the process asks for and the one that it listens on here.
        /// Example: `[[80, 8080]]`
        listen_ports: Vec<(u16, u16)> = Vec::new(),
        /// What happens when somebody else steals from the target already.
        on_concurrent_steal: ConcurrentSteal = ConcurrentSteal::Abort,
        /// The only ports of the process that take part. Not beside `ignore_ports`.
        /// Example: `[8080]`
        ports: Option<Vec<u16>>,
        /// How stolen TLS comes to the process.
        /// Example: `{"protocol": "tcp"}`
        tls_delivery: Option<TlsDelivery>,
        /// The old name of `tls_delivery`.
        /// Example: `{"protocol": "tcp"}`
        https_delivery: Option<TlsDelivery>,
    }
}

impl Default for Incoming {
    fn default() -> Self {
        defaults()
    }
}

impl Incoming {
    pub(super) fn off() -> Self {
        Self::of_mode(IncomingMode::Off)
    }

    fn of_mode(mode: IncomingMode) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }
}

impl Decode for Incoming {
    const EXPECTED: &'static str = "a mode, true, false or an object";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        if let Some(on) = node.truth() {
            return Some(if on { Self::default() } else { Self::off() });
        }
        match node.tree.value {
            Value::Text(_) => {
                IncomingMode::decode_word(node, Self::EXPECTED, report).map(Self::of_mode)
            }
            Value::Object(_) => {
                let incoming = Self::decode_record(node, report)?;
                check(&incoming, node, report);
                Some(incoming)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) => {
                report_kind(node, Self::EXPECTED, report)
            }
        }
    }

    fn shape() -> Shape {
        Shape::one_of([Shape::Bool, IncomingMode::shape(), Self::object_shape()])
    }
}

fn check(incoming: &Incoming, node: &Node<'_>, report: &mut Report) {
    for (key, pairs) in [
        ("port_mapping", &incoming.port_mapping),
        ("listen_ports", &incoming.listen_ports),
    ] {
        if let Some(list) = node.get(key) {
            check_pairs(pairs, &list, report);
        }
    }
    if let Some(same) = incoming
        .port_mapping
        .iter()
        .find(|(here, there)| here == there)
        && let Some(list) = node.get("port_mapping")
    {
        report.warning(
            &list,
            format!("{} stands for the same port: that needs no pair", same.0),
        );
    }
    if let (Some(_), false, Some(ports)) = (
        &incoming.ports,
        incoming.ignore_ports.is_empty(),
        node.get("ports"),
    ) {
        report.exclusive(&ports, "ports", "ignore_ports");
    }
    if incoming.https_delivery.is_some()
        && let Some(old) = node.get("https_delivery")
    {
        if incoming.tls_delivery.is_some() {
            report
                .problem(
                    &old,
                    "\"https_delivery\" is the old name of \"tls_delivery\": both are given",
                )
                .hint("keep \"tls_delivery\"");
        } else {
            report
                .warning(
                    &old,
                    "\"https_delivery\" is the old name of \"tls_delivery\"",
                )
                .hint("write \"tls_delivery\"");
        }
    }
}

/// Each port stands once on its side: otherwise who gets a connection would be chance.
fn check_pairs(pairs: &[(u16, u16)], list: &Node<'_>, report: &mut Report) {
    let (mut firsts, mut seconds) = (HashSet::new(), HashSet::new());
    for ((first, second), item) in pairs.iter().zip(list.items()) {
        let (is_new_first, is_new_second) = (firsts.insert(first), seconds.insert(second));
        if !(is_new_first && is_new_second) {
            let port = if is_new_first { second } else { first };
            report.problem(&item, format!("the port {port} is in another pair already"));
        }
    }
}
