//! TLS on both sides of the proxy: a certificate of the session's own for programs that ask for TLS, and none asked of
//! the source that a program is passed on to.
//!
//! A program that only wants encryption (`sslmode` prefer or require) is served. One that verifies sees a certificate
//! for the source's names by an authority that lives as long as the session; it is believed by whoever is given
//! [`Authority::certificate`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::remote::Stream;

/// The name of PostgreSQL's protocol in TLS (documentation section 55.2.11).
pub(super) const ALPN: &[u8] = b"postgresql";

/// The session's certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A key or certificate could not be made.
    #[error("cannot make the session's certificate")]
    Certificate(#[from] rcgen::Error),
    /// The certificate could not be used.
    #[error("cannot use the session's certificate")]
    Config(#[from] rustls::Error),
}

/// The session's own authority, and its one certificate.
#[derive(Clone)]
pub(crate) struct Authority {
    certificate: Arc<str>,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// An authority with a certificate for `names`, each a host's name or address.
    ///
    /// # Errors
    /// [`TlsError`], for want of randomness.
    pub(crate) fn new(names: Vec<String>) -> Result<Self, TlsError> {
        let root_key = KeyPair::generate()?;
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        // A name of its own: a client would take another session's authority of the same name for a forgery.
        let mark: String = root_key
            .public_key_raw()
            .iter()
            .rev()
            .take(8)
            .map(|b| format!("{b:02x}"))
            .collect();
        root.distinguished_name
            .push(DnType::CommonName, format!("bough session {mark}"));
        let certificate = root.self_signed(&root_key)?.pem().into();
        let issuer = Issuer::new(root, root_key);
        let key = KeyPair::generate()?;
        let mut server = CertificateParams::new(names)?;
        server
            .distinguished_name
            .push(DnType::CommonName, "bough fence");
        let signed = server.signed_by(&key, &issuer)?;
        let private = PrivateKeyDer::try_from(key.serialize_der())
            .expect("a key that was just made is well-formed");
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![signed.der().clone()], private)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self {
            certificate,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// The authority's certificate, in PEM: who believes it believes the proxy.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The server's side of TLS with a program.
    ///
    /// # Errors
    /// As the handshake fails; [`is_disbelief`] tells a program that did not believe the certificate.
    pub(super) async fn accept(&self, client: Box<dyn Stream>) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(self.acceptor.accept(client).await?))
    }
}

/// Whether a handshake failed because the other side did not believe the certificate (RFC 8446, section 6.2).
pub(super) fn is_disbelief(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(
        inner,
        Some(rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::DecryptError
        ))
    )
}

/// The client's side of TLS with a source, as `sslmode=require` has it: whoever answers is believed.
///
/// Gives the stream, and whether the source asked for a certificate of the client's, which the proxy does not have.
///
/// # Errors
/// As the handshake fails.
pub(super) async fn connect(
    server: Box<dyn Stream>,
) -> io::Result<(Box<dyn Stream>, Arc<AtomicBool>)> {
    let provider = Arc::new(ring::default_provider());
    let asked = Arc::new(AtomicBool::new(false));
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believer(provider)))
        .with_client_cert_resolver(Arc::new(Witness(Arc::clone(&asked))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // libpq sends the host's name; the proxy knows addresses only, and nothing is verified by it.
    let name = ServerName::try_from("source").expect("a plain word is a name");
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, server)
        .await?;
    Ok((Box::new(stream), asked))
}

/// Has no certificate, and notices that it is asked for one.
#[derive(Debug)]
struct Witness(Arc<AtomicBool>);

impl ResolvesClientCert for Witness {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        // Else it would not be asked.
        true
    }
}

/// Believes every certificate, and checks that its owner signed the handshake.
#[derive(Debug)]
struct Believer(Arc<CryptoProvider>);

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
