//! Verification of the certificates of dialled servers.
//!
//! Entry type: [`Verifier`]. The rule it keeps: a certificate is accepted when a trusted authority has signed it, as on
//! the web, or when the operator has named it; in either case it must be for the dialled host, and within its dates.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::ring;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::certificate::certificates;

/// Verifies the certificates of dialled servers.
#[derive(Debug)]
pub(super) struct Verifier {
    by_authority: Arc<WebPkiServerVerifier>,
    /// Certificates that the operator has named. They are accepted as they are, even if they claim to be an
    /// authority's, as `openssl req -x509` makes them.
    named: Vec<CertificateDer<'static>>,
}

impl Verifier {
    /// Trusts the public authorities, and the certificates in these PEM files.
    ///
    /// # Errors
    ///
    /// The name of the file and its fault.
    pub(super) fn new(files: &[PathBuf]) -> Result<Verifier, String> {
        let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let mut named = Vec::new();
        for path in files {
            for certificate in certificates(path)? {
                roots
                    .add(certificate.clone())
                    .map_err(|e| format!("{} cannot be trusted: {e}", path.display()))?;
                named.push(certificate);
            }
        }
        let provider = Arc::new(ring::default_provider());
        let by_authority = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| format!("certificates cannot be checked: {e}"))?;
        Ok(Verifier {
            by_authority,
            named,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked =
            self.by_authority
                .verify_server_cert(certificate, intermediates, name, ocsp, now);
        match checked {
            // The verifier checks the dates before anything else.
            Err(Error::InvalidCertificate(
                CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYetContext { .. },
            )) => checked,
            Err(_) if self.named.iter().any(|named| named == certificate) => {
                is_for(certificate, name)?;
                Ok(ServerCertVerified::assertion())
            }
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authority
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authority
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authority.supported_verify_schemes()
    }
}

/// Checks that a certificate named by the operator is for this host. One without any host name, as `openssl req -x509`
/// makes it from a common name alone, is accepted for every host.
fn is_for(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    match verify_server_name(&ParsedCertificate::try_from(certificate)?, name) {
        Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented,
            ..
        })) if presented.is_empty() => Ok(()),
        checked => checked,
    }
}
