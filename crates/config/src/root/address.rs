//! Addresses in the keys that are read and not used: only whether they are addresses is known of them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::decode::{Decode, Render, Report, Shape, report_kind};
use crate::json::Json;
use crate::tree::Node;

/// A kind of address that the standard library reads and writes.
pub(crate) trait Kind: FromStr + fmt::Display {
    /// What is wanted where something else is written.
    const EXPECTED: &'static str;
    /// What the reference says of it.
    const SHAPE: &'static str;
}

impl Kind for IpAddr {
    const EXPECTED: &'static str = "an IP address";
    const SHAPE: &'static str = "IP address";
}

impl Kind for SocketAddr {
    const EXPECTED: &'static str = "an address and a port, such as \"0.0.0.0:9000\"";
    const SHAPE: &'static str = "address and port";
}

/// An address of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address<T>(T);

impl<T: Kind> Decode for Address<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let Some(text) = node.text() else {
            return report_kind(node, Self::EXPECTED, report);
        };
        let address = text.parse().ok();
        if address.is_none() {
            report.problem(node, format!("expected {}", Self::EXPECTED));
        }
        address.map(Self)
    }

    fn shape() -> Shape {
        Shape::text(T::SHAPE)
    }
}

impl<T: Kind> Render for Address<T> {
    fn render(&self) -> Json {
        Json::text(self.0.to_string())
    }
}
