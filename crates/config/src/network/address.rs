//! Entries of filters: `[tcp|udp|any://](name|address|[v6]|network/bits)[:port]`, or `:port`; 0 stands for any.
//!
//! Owns the grammar. Leaves matching to the supervisor.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::decode::{Decode, Doc, Field, OneOrMany, RecordShape, Render, Report, Shape, record};
use crate::json::Json;
use crate::tree::Node;

/// The protocol that an entry is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Both.
    #[default]
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The destinations that an entry is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressMatch {
    /// Every one.
    Any,
    /// One address; the unspecified one (`0.0.0.0`, `::`) is every one.
    Ip(IpAddr),
    /// A network and how many bits of it count.
    Network(IpAddr, u8),
    /// Names that hold this text.
    Name(String),
}

/// One entry of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressEntry {
    /// The protocol.
    pub protocol: Protocol,
    /// The destinations.
    pub address: AddressMatch,
    /// The port; 0 is any.
    pub port: u16,
}

/// Why a text is no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressEntryError {
    /// The protocol is none of ours.
    #[error("{0:?} is no protocol: expected tcp, udp or any")]
    Protocol(String),
    /// The port is no number from 0 to 65535.
    #[error("{0:?} is no port: expected a number from 0 to 65535")]
    Port(String),
    /// A `/` after something that is no IP address, or too many bits for it.
    #[error("{0:?} is no network: expected an IP address and at most its bits, such as 10.0.0.0/8")]
    Network(String),
    /// A character that no name has.
    #[error("{0:?} is neither an address nor a name; an IPv6 address stands in brackets")]
    Name(String),
    /// Nothing at all.
    #[error("an entry names an address, a name, a network or a port")]
    Empty,
}

impl fmt::Display for AddressEntry {
    /// As it is written in a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.protocol {
            Protocol::Any => "",
            Protocol::Tcp => "tcp://",
            Protocol::Udp => "udp://",
        })?;
        match &self.address {
            AddressMatch::Any => {}
            AddressMatch::Ip(IpAddr::V4(address)) => write!(f, "{address}")?,
            AddressMatch::Ip(IpAddr::V6(address)) => write!(f, "[{address}]")?,
            AddressMatch::Network(IpAddr::V4(address), bits) => write!(f, "{address}/{bits}")?,
            AddressMatch::Network(IpAddr::V6(address), bits) => write!(f, "[{address}]/{bits}")?,
            AddressMatch::Name(name) => f.write_str(name)?,
        }
        // Without address and port nothing would be left of it.
        if self.port != 0 || self.address == AddressMatch::Any {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

impl FromStr for AddressEntry {
    type Err = AddressEntryError;

    fn from_str(text: &str) -> Result<Self, AddressEntryError> {
        let (protocol, rest) = match text.split_once("://") {
            Some((word, rest)) => (read_protocol(word)?, rest),
            None => (Protocol::Any, text),
        };
        let (host, port) = split_port(rest)?;
        let address = match host.split_once('/') {
            Some((base, bits)) => read_network(base, bits)?,
            None if host.is_empty() => AddressMatch::Any,
            None => read_host(host)?,
        };
        Ok(Self {
            protocol,
            address,
            port,
        })
    }
}

fn read_protocol(word: &str) -> Result<Protocol, AddressEntryError> {
    match word.to_lowercase().as_str() {
        "any" => Ok(Protocol::Any),
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => Err(AddressEntryError::Protocol(word.to_owned())),
    }
}

/// Splits the port off; a colon within brackets is part of an IPv6 address.
fn split_port(text: &str) -> Result<(&str, u16), AddressEntryError> {
    let after_brackets = text.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = text[after_brackets..].find(':') else {
        return Ok((text, 0));
    };
    let (host, port) = text.split_at(after_brackets + colon);
    let digits = &port[1..];
    let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
    match digits.parse() {
        Ok(port) if is_number => Ok((host, port)),
        Ok(_) | Err(_) => Err(AddressEntryError::Port(digits.to_owned())),
    }
}

fn strip_brackets(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

fn read_network(base: &str, bits: &str) -> Result<AddressMatch, AddressEntryError> {
    let wrong = || AddressEntryError::Network(format!("{base}/{bits}"));
    let address: IpAddr = strip_brackets(base)
        .unwrap_or(base)
        .parse()
        .map_err(|_| wrong())?;
    let bits: u8 = bits.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    if bits > most {
        return Err(wrong());
    }
    Ok(AddressMatch::Network(address, bits))
}

fn read_host(host: &str) -> Result<AddressMatch, AddressEntryError> {
    let wrong = || AddressEntryError::Name(host.to_owned());
    if let Some(inner) = strip_brackets(host) {
        return inner.parse().map(AddressMatch::Ip).map_err(|_| wrong());
    }
    if let Ok(address) = host.parse() {
        return Ok(AddressMatch::Ip(address));
    }
    let is_name = host
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if is_name {
        Ok(AddressMatch::Name(host.to_owned()))
    } else {
        Err(wrong())
    }
}

/// Which side a filter is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What matches goes through the target, all else stays here.
    Remote,
    /// What matches stays here, all else goes through the target.
    Local,
}

/// A filter by destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideFilter {
    /// What its entries are about.
    pub side: Side,
    /// The entries.
    pub entries: Vec<AddressEntry>,
}

impl SideFilter {
    /// The names among its entries.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .filter_map(|entry| match &entry.address {
                AddressMatch::Name(name) => Some(name.as_str()),
                AddressMatch::Any | AddressMatch::Ip(_) | AddressMatch::Network(..) => None,
            })
    }
}

record! {
    /// The filter as written: one of both.
    struct WrittenFilter {
        /// Through the target.
        remote: Option<OneOrMany<String>>,
        /// Here.
        local: Option<OneOrMany<String>>,
    }
}

impl Render for SideFilter {
    fn render(&self) -> Json {
        let key = match self.side {
            Side::Remote => "remote",
            Side::Local => "local",
        };
        let entries = self
            .entries
            .iter()
            .map(|entry| Json::text(entry.to_string()));
        Json::object([(key, Json::list(entries))])
    }
}

/// The shape of a filter over connections.
pub(super) fn connection_filter_shape() -> Shape {
    filter_shape(
        "OutgoingFilter",
        "destination, such as `tcp://10.0.0.0/8:5432`",
    )
}

/// The shape of a filter over names.
pub(super) fn name_filter_shape() -> Shape {
    filter_shape("DnsFilter", "name, such as `orders.shop`")
}

fn filter_shape(name: &str, entry: &'static str) -> Shape {
    let side = |key, text: &str, example: &str| Field {
        key,
        doc: Doc {
            text: text.to_owned(),
            examples: vec![example.to_owned()],
        },
        shape: Shape::one_of([Shape::text(entry), Shape::text(entry).list()]),
        is_required: false,
        is_nullable: true,
        default: None,
    };
    Shape::Record(Box::new(RecordShape {
        name: name.to_owned(),
        doc: Doc {
            text: "A filter by destination: one of both sides.".to_owned(),
            examples: Vec::new(),
        },
        fields: vec![
            side(
                "remote",
                "What matches goes through the target, all else stays here.",
                "[\"orders.shop\"]",
            ),
            side(
                "local",
                "What matches stays here, all else goes through the target.",
                "[\"localhost\"]",
            ),
        ],
    }))
}

/// What an entry may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grammar {
    /// With a protocol; an empty one matches everything.
    Connections,
    /// Without a protocol, and not empty.
    Names,
}

/// Reads a filter object.
pub(super) fn side_filter(
    node: &Node<'_>,
    grammar: Grammar,
    report: &mut Report,
) -> Option<SideFilter> {
    let written = WrittenFilter::decode(node, report)?;
    let (side, key, OneOrMany(texts)) = match (written.remote, written.local) {
        (Some(list), None) => (Side::Remote, "remote", list),
        (None, Some(list)) => (Side::Local, "local", list),
        (Some(_), Some(_)) | (None, None) => {
            report
                .problem(node, "a filter has one of \"remote\" and \"local\"")
                .hint("\"remote\" lists what goes through the target, \"local\" what stays here");
            return None;
        }
    };
    let list = node.get(key)?;
    if texts.is_empty() {
        let what = match side {
            Side::Remote => "the list is empty: nothing goes through the target",
            Side::Local => "the list is empty: nothing stays here",
        };
        report.warning(&list, what);
    }
    let items = match list.items() {
        items if items.is_empty() => vec![list],
        items => items,
    };
    let mut entries = Vec::with_capacity(texts.len());
    for (text, item) in texts.iter().zip(items) {
        match read_entry(text, grammar) {
            Ok(entry) => entries.push(entry),
            Err(error) => {
                report.problem(&item, error.to_string());
            }
        }
    }
    Some(SideFilter { side, entries })
}

fn read_entry(text: &str, grammar: Grammar) -> Result<AddressEntry, AddressEntryError> {
    match grammar {
        Grammar::Connections => text.parse(),
        Grammar::Names if text.is_empty() => Err(AddressEntryError::Empty),
        Grammar::Names => match text.split_once("://") {
            Some(_) => Err(AddressEntryError::Name(text.to_owned())),
            None => text.parse(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(protocol: Protocol, address: AddressMatch, port: u16) -> AddressEntry {
        AddressEntry {
            protocol,
            address,
            port,
        }
    }

    #[test]
    fn every_form_is_read() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let name = |text: &str| AddressMatch::Name(text.to_owned());
        for (text, expected) in [
            (
                "tcp://1.2.3.0/24:7777",
                entry(
                    Protocol::Tcp,
                    AddressMatch::Network(ip("1.2.3.0"), 24),
                    7777,
                ),
            ),
            (
                "[2800::4]:7777",
                entry(Protocol::Any, AddressMatch::Ip(ip("2800::4")), 7777),
            ),
            (
                "[2800::]/16",
                entry(Protocol::Any, AddressMatch::Network(ip("2800::"), 16), 0),
            ),
            ("UDP://:53", entry(Protocol::Udp, AddressMatch::Any, 53)),
            ("tcp://", entry(Protocol::Tcp, AddressMatch::Any, 0)),
            ("", entry(Protocol::Any, AddressMatch::Any, 0)),
            (
                "my_service.ns",
                entry(Protocol::Any, name("my_service.ns"), 0),
            ),
            ("localhost:80", entry(Protocol::Any, name("localhost"), 80)),
            (
                "1.1.1.1",
                entry(Protocol::Any, AddressMatch::Ip(ip("1.1.1.1")), 0),
            ),
        ] {
            assert_eq!(text.parse::<AddressEntry>(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for text in [
            "foo://x",
            "a b",
            "tcp://google.com/24:7777",
            ":7777udp://",
            "meow://",
            "1.2.3.4/33",
            "a:",
            "a:70000",
            "a:+1",
            "2800::4",
            "[2800::4",
            "1.2.3.4/",
            "tcp://a/b",
        ] {
            assert!(text.parse::<AddressEntry>().is_err(), "{text}");
        }
    }
}
