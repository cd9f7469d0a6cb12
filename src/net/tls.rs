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
mod files;
pub(super) mod layer;
#[cfg(feature = "tls")]
mod verifier;

#[cfg(not(feature = "tls"))]
pub(crate) use absent as certificate;
#[cfg(not(feature = "tls"))]
use absent as context;

pub(super) use context::CANNOT_LISTEN;
pub(crate) use context::{TlsContext, load};
pub(crate) use files::TlsFiles;
