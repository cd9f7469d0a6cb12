//! TLS as a node speaks it: versions 1.2 and 1.3, for `/tls/ws` and `/wss`.
//!
//! Entry function: [`load`]. The rule it keeps: every error names the file and what is wrong with it.

pub(crate) mod certificate;
pub(super) mod layer;
mod verifier;

use std::path::PathBuf;
use std::sync::Arc;

use futures_rustls::{TlsAcceptor, TlsConnector};
use rustls::crypto::ring;
use rustls::{ClientConfig, ServerConfig};

use self::certificate::OwnCertificate;
use self::verifier::Verifier;

/// Which files.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFiles {
    /// The certificate chain and its key.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    /// Certificates to trust when dialling, beside the usual authorities.
    pub(crate) authorities: Vec<PathBuf>,
}

/// What the files hold, ready for use.
#[derive(Clone)]
pub(crate) struct TlsContext {
    pub(super) client: TlsConnector,
    /// None: nothing can be listened on with TLS.
    pub(super) server: Option<TlsAcceptor>,
    pub(crate) certificate: Option<Arc<OwnCertificate>>,
}

/// Reads the files; none are needed to dial peers with ordinary certificates.
///
/// # Errors
///
/// Names the file and what is wrong with it.
pub(crate) fn load(tls: &TlsFiles) -> Result<TlsContext, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new(&tls.authorities)?;
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let mut loaded = TlsContext {
        client: Arc::new(client).into(),
        server: None,
        certificate: None,
    };
    if let Some((chain, key)) = &tls.certificate {
        let certificate = Arc::new(OwnCertificate::read(chain, key)?);
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_no_client_auth()
            .with_cert_resolver(certificate.clone());
        loaded.server = Some(Arc::new(server).into());
        loaded.certificate = Some(certificate);
    }
    Ok(loaded)
}
