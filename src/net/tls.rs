//! TLS 1.2 and 1.3 for `/tls/ws` and `/wss`.
//!
//! Entry function: [`load`]. The rule it keeps: every error names the file and its fault. Without the feature `tls` the
//! module `absent` replaces `certificate` and `context`.

#[cfg(not(feature = "tls"))]
pub(crate) mod absent;
#[cfg(feature = "tls")]
pub(crate) mod certificate;
#[cfg(feature = "tls")]
mod context;
pub(super) mod layer;
#[cfg(feature = "tls")]
mod verifier;

use std::path::PathBuf;

#[cfg(not(feature = "tls"))]
pub(crate) use absent as certificate;
#[cfg(not(feature = "tls"))]
use absent as context;
use context::{Acceptor, TlsStream};

pub(super) use context::CANNOT_LISTEN;
pub(crate) use context::{TlsContext, load};

/// Paths of PEM files for TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFiles {
    /// The node's certificate chain and its private key.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    /// Certificates to trust in outbound connections, in addition to the public authorities.
    pub(crate) authorities: Vec<PathBuf>,
}
