//! TLS at a branch's door, where the application's URL demands it: outside a session nobody else speaks it for the branch.
//!
//! Owns the certificate, which the engine draws for itself at its start and which proves nothing: the bytes never leave the
//! machine. Where nobody demands TLS the door declines it, since libpq would otherwise encrypt unasked. Leaves which URLs
//! demand it to `model::pg_url`.

use std::fmt;
use std::io;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The protocol's name in TLS (PostgreSQL documentation, section 55.2.11).
const ALPN: &[u8] = b"postgresql";

/// What a record of TLS that holds a handshake begins with (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// There is no certificate for doors.
#[derive(Debug, thiserror::Error)]
pub enum EncryptionError {
    /// It cannot be made.
    #[error("cannot make a certificate for the doors of branches")]
    Certificate(#[from] rcgen::Error),
    /// It cannot be used.
    #[error("cannot use the certificate that was made for the doors of branches")]
    Use(#[from] rustls::Error),
}

/// What doors speak TLS with.
#[derive(Clone)]
pub struct Encryption(TlsAcceptor);

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encryption")
    }
}

impl Encryption {
    /// Draws a key and signs its certificate with it.
    ///
    /// # Errors
    /// [`EncryptionError`], for want of randomness.
    pub fn draw() -> Result<Self, EncryptionError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "bough branch");
        let certificate = params.self_signed(&key)?;
        let private = PrivateKeyDer::try_from(key.serialize_der())
            .expect("a key that was just made is well-formed");
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Whether a client begins with TLS itself (`sslnegotiation=direct`). Nothing is taken of what it says.
    pub(super) async fn is_direct(client: &TcpStream) -> io::Result<bool> {
        let mut first = [0];
        Ok(client.peek(&mut first).await? == 1 && first == [HANDSHAKE])
    }

    /// The server's side of TLS.
    ///
    /// # Errors
    /// As the handshake fails.
    pub(super) async fn accept(&self, client: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.0.accept(client).await
    }
}
