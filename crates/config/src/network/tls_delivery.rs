//! `tls_delivery`: how TLS connections that were stolen come to the process.

use crate::decode::{record, words};

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
    pub struct TlsDelivery {
        /// What the process speaks.
        protocol: DeliveryProtocol = DeliveryProtocol::Tls,
        /// Files, or folders of files, with the certificates to trust; without them any certificate is trusted.
        /// Example: `["certs/dev-ca.pem"]`
        trust_roots: Option<Vec<String>>,
        /// The name to ask the process's server for.
        /// Example: `"inventory.internal"`
        server_name: Option<String>,
        /// A file with the one certificate to expect.
        /// Example: `"certs/inventory.pem"`
        server_cert: Option<String>,
    }
}
