//! `tls_delivery`: how TLS connections that were stolen come to the process.

use std::net::IpAddr;

use crate::decode::{Decode, Record, Report, Shape, record, words};
use crate::tree::Node;

words! {
    /// What the process speaks.
    pub enum DeliveryProtocol: "\"tcp\" or \"tls\"" {
        /// Plain TCP.
        Tcp = "tcp",
        /// TLS.
        Tls = "tls",
    }
}

record! {
    /// How stolen TLS comes to the process.
    pub struct TlsDelivery in more forms {
        /// What the process speaks.
        /// Example: `"tls"`
        protocol: DeliveryProtocol,
        /// Files, or folders of files, with the certificates to trust; without them any certificate is trusted. Not
        /// beside `server_cert`.
        /// Example: `["certs/dev-ca.pem"]`
        trust_roots: Option<Vec<String>>,
        /// The name to ask the process's server for: a DNS name or an IP address.
        /// Example: `"inventory.internal"`
        server_name: Option<String>,
        /// A file with the one certificate to expect.
        /// Example: `"certs/inventory.pem"`
        server_cert: Option<String>,
    }
}

impl Decode for TlsDelivery {
    const EXPECTED: &'static str = "an object such as {\"protocol\": \"tls\"}";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let delivery = Self::decode_record(node, report)?;
        delivery.check(node, report);
        Some(delivery)
    }

    fn shape() -> Shape {
        Self::object_shape()
    }
}

impl TlsDelivery {
    /// Of plain TCP the other keys mean nothing, and are let through.
    fn check(&self, node: &Node<'_>, report: &mut Report) {
        if self.protocol == DeliveryProtocol::Tls
            && let (Some(roots), Some(at)) = (&self.trust_roots, node.get("trust_roots"))
        {
            if self.server_cert.is_some() {
                report.exclusive(&at, "trust_roots", "server_cert");
            } else if roots.is_empty() {
                report
                    .problem(&at, "the list is empty: no certificate would be trusted")
                    .hint("leave it out to trust any");
            }
        }
        if let (Some(name), Some(at)) = (&self.server_name, node.get("server_name"))
            && !is_server_name(name)
        {
            report.problem(&at, "expected a DNS name or an IP address");
        }
    }
}

/// RFC 1123 section 2.1, with the underscores that certificates are made out to all the same.
fn is_server_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let labels = name.strip_suffix('.').unwrap_or(name);
    name.parse::<IpAddr>().is_ok() || (name.len() <= 253 && labels.split('.').all(is_label))
}
