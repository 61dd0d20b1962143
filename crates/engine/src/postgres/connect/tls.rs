//! TLS as libpq's `sslmode` has it, by rustls.
//!
//! Owns which certificate is believed. `prefer` and `require` encrypt without asking who the other side is, unless a
//! root certificate was given; `verify-ca` asks who signed it, `verify-full` also whether the name is right. Source:
//! PostgreSQL documentation, section 34.19 "SSL Support".

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::ConnectError;
use super::target::TlsMode;

/// Whom a server's certificate must come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    /// Nobody was named.
    Unset,
    /// The machine's own authorities (`sslrootcert=system`).
    System,
    /// Those in a PEM file.
    File(PathBuf),
}

/// The files that a URL names for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificates {
    pub(super) roots: Roots,
    /// The client's own certificate and key.
    pub(super) own: Option<(PathBuf, PathBuf)>,
}

/// The client's side of TLS for a mode. Cheap enough for each connection: a source is connected to rarely.
pub(super) fn client(
    mode: TlsMode,
    certificates: &Certificates,
) -> Result<ClientConfig, ConnectError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Verifier {
        believes: believed(mode, &certificates.roots)?,
        provider: provider.clone(),
    });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the ciphers of TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some((certificate, key)) = &certificates.own else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = read_certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error))?;
    let config = builder.with_client_auth_cert(chain, private);
    config.map_err(|error| unusable(certificate, error))
}

fn believed(mode: TlsMode, roots: &Roots) -> Result<Believes, ConnectError> {
    let checks_name = match mode {
        TlsMode::VerifyFull => true,
        TlsMode::VerifyCa => false,
        TlsMode::Disable | TlsMode::Allow | TlsMode::Prefer | TlsMode::Require => {
            if *roots == Roots::Unset {
                return Ok(Believes::Anyone);
            }
            false
        }
    };
    let certificates = match roots {
        Roots::Unset => {
            return Err(ConnectError::Url {
                problem: "asks to verify the server's certificate without naming a root: \
                          add sslrootcert=system or sslrootcert=/path/of/root.crt"
                    .to_owned(),
            });
        }
        Roots::System => of_system(rustls_native_certs::load_native_certs())?,
        Roots::File(path) => read_certificates(path)?,
    };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates.iter().cloned());
    Ok(Believes::SignedBy {
        store,
        certificates,
        checks_name,
    })
}

/// The system's roots: some that cannot be read are none of ours as long as others can.
///
/// # Errors
/// Where there is none, as in an image without them: every certificate would be of an unknown issuer.
fn of_system(
    loaded: rustls_native_certs::CertificateResult,
) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    if loaded.certs.is_empty() {
        let why = loaded.errors.first().map(|error| format!(" ({error})"));
        return Err(ConnectError::Url {
            problem: format!(
                "asks for the system's root certificates, and there are none here{}: install ca-certificates",
                why.unwrap_or_default()
            ),
        });
    }
    Ok(loaded.certs)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates: Vec<_> = read.map_err(|error| unusable(path, error))?;
    if certificates.is_empty() {
        return Err(unusable(path, "it has no certificate"));
    }
    Ok(certificates)
}

fn unusable(
    path: &Path,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ConnectError {
    ConnectError::Certificate {
        path: path.to_owned(),
        source: source.into(),
    }
}

#[derive(Debug)]
enum Believes {
    Anyone,
    SignedBy {
        store: RootCertStore,
        /// The same, for servers whose own certificate is the root: webpki takes no authority for a server's.
        certificates: Vec<CertificateDer<'static>>,
        checks_name: bool,
    },
}

#[derive(Debug)]
struct Verifier {
    believes: Believes,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Believes::SignedBy {
            store,
            certificates,
            checks_name,
        } = &self.believes
        else {
            return Ok(ServerCertVerified::assertion());
        };
        let parsed = ParsedCertificate::try_from(end_entity)?;
        if !certificates.contains(end_entity) {
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                store,
                intermediates,
                now,
                algorithms,
            )?;
        }
        if *checks_name {
            verify_server_name(&parsed, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match &self.believes {
            // Whoever it is: its certificate may even be of a form that webpki does not read.
            Believes::Anyone => Ok(HandshakeSignatureValid::assertion()),
            Believes::SignedBy { .. } => verify_tls12_signature(
                message,
                certificate,
                signed,
                &self.provider.signature_verification_algorithms,
            ),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match &self.believes {
            Believes::Anyone => Ok(HandshakeSignatureValid::assertion()),
            Believes::SignedBy { .. } => verify_tls13_signature(
                message,
                certificate,
                signed,
                &self.provider.signature_verification_algorithms,
            ),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_roots_is_told_so_and_not_of_an_unknown_issuer() {
        let none = of_system(rustls_native_certs::CertificateResult::default()).unwrap_err();
        assert!(
            matches!(&none, ConnectError::Url { problem } if problem.contains("ca-certificates")),
            "{none}"
        );
    }
}
