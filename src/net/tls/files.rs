//! The PEM files that the configuration of TLS names.

use std::path::PathBuf;

/// Paths of PEM files for TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFiles {
    /// The node's certificate chain and its private key.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    /// Certificates to trust in outbound connections, in addition to the public authorities.
    pub(crate) authorities: Vec<PathBuf>,
}
