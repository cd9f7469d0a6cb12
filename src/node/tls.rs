//! Certificates and keys from PEM files, for `/tls/ws`.
//!
//! Entry function: [`load`]. The rule it keeps: every error names the file and what is wrong with it.

use std::path::{Path, PathBuf};

use libp2p_websocket::tls::{Certificate, Config, PrivateKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Which files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    /// The certificate chain and its key.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    /// Certificates to trust when dialling, beside the usual authorities.
    pub(crate) authorities: Vec<PathBuf>,
}

/// Reads the files; none are needed to dial peers with ordinary certificates.
pub(crate) fn load(tls: &Tls) -> Result<Option<Config>, String> {
    if tls.certificate.is_none() && tls.authorities.is_empty() {
        return Ok(None);
    }
    let mut builder = Config::builder();
    for path in &tls.authorities {
        for certificate in certificates(path)? {
            builder
                .add_trust(&certificate)
                .map_err(|e| format!("{} cannot be trusted: {e}", path.display()))?;
        }
    }
    if let Some((certificate, key)) = &tls.certificate {
        builder
            .server(private_key(key)?, certificates(certificate)?)
            .map_err(|e| {
                format!(
                    "{} and {} do not fit: {e}",
                    certificate.display(),
                    key.display()
                )
            })?;
    }
    Ok(Some(builder.finish()))
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, String> {
    let certificates: Vec<Certificate> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| format!("{}: {e}", path.display()))?
        .into_iter()
        .map(|der| Certificate::new(der.to_vec()))
        .collect();
    if certificates.is_empty() {
        return Err(format!("{} has no certificate in PEM form", path.display()));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKey, String> {
    let der = PrivateKeyDer::from_pem_file(path)
        .map_err(|e| format!("{} has no private key in PEM form: {e}", path.display()))?;
    let bytes = der.secret_der().to_vec();
    // The library panics on what it does not recognise.
    PrivateKeyDer::try_from(bytes.as_slice()).map_err(|e| {
        format!(
            "{} has no private key that TLS can use: {e}",
            path.display()
        )
    })?;
    Ok(PrivateKey::new(bytes))
}
