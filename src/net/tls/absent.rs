//! Replaces TLS in a build without the feature `tls`.
//!
//! Entry function: [`load`]. The rule it keeps: nothing goes over a plain connection that was to be protected by TLS.

use std::sync::{Arc, Weak};

use libp2p::Multiaddr;

use super::files::TlsFiles;
use crate::net::stage::{Stage, StageError};

/// Reason why nothing can listen with TLS.
pub(crate) const CANNOT_LISTEN: &str =
    "this build has no TLS: build it with the feature `tls`, or listen on /ws";

const CANNOT_DIAL: &str = "this build has no TLS, which /tls/ws and wss:// need: build it with the feature `tls`, or dial a port \
                           of the peer that speaks /ws";

/// A stream inside TLS: there are none.
pub(crate) type TlsStream<S> = S;

/// TLS of a build that has none.
#[derive(Clone)]
pub(crate) struct TlsContext {
    pub(crate) certificate: Option<Arc<OwnCertificate>>,
}

/// Accepts a configuration without files.
///
/// # Errors
///
/// Fails when a file is named, which cannot be used.
pub(crate) fn load(tls: &TlsFiles) -> Result<TlsContext, String> {
    match tls.certificate.is_some() || !tls.authorities.is_empty() {
        true => Err(
            "this build has no TLS: build it with the feature `tls`, or name no certificate"
                .to_owned(),
        ),
        false => Ok(TlsContext { certificate: None }),
    }
}

impl TlsContext {
    /// Refuses to dial with TLS.
    ///
    /// # Errors
    ///
    /// Always fails.
    pub(crate) fn connector(&self, _: &Multiaddr) -> Result<Connector, StageError> {
        Err(StageError::new(Stage::Tls, CANNOT_DIAL))
    }

    /// Returns none: nothing accepts TLS.
    pub(crate) fn acceptor(&self) -> Option<Acceptor> {
        None
    }
}

/// The node's own certificate, of which there are none.
#[derive(Debug)]
pub(crate) enum OwnCertificate {}

impl OwnCertificate {
    pub(crate) fn reload(&self) -> Result<String, String> {
        match *self {}
    }
}

/// Watches nothing.
pub(crate) async fn watch(_: Weak<OwnCertificate>, _: impl Fn(String)) {}

/// A TLS client, of which there are none.
pub(crate) enum Connector {}

impl Connector {
    pub(crate) async fn connect<S>(self, _: S) -> Result<TlsStream<S>, StageError> {
        match self {}
    }
}

/// A TLS server, of which there are none.
pub(crate) enum Acceptor {}

impl Acceptor {
    pub(crate) async fn accept<S>(self, _: S) -> Result<TlsStream<S>, StageError> {
        match self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_certificates_that_need_tls_are_refused_with_a_sentence() {
        let tls = load(&TlsFiles::default()).expect("no file is named");
        let address = "/dns/example.org/tcp/443".parse().expect("a multiaddr");
        let error = tls.connector(&address).map(|_| ()).unwrap_err();
        assert_eq!((error.stage, &*error.reason), (Stage::Tls, CANNOT_DIAL));
        assert!(tls.acceptor().is_none());
        let named = TlsFiles {
            authorities: vec!["ca.pem".into()],
            ..TlsFiles::default()
        };
        assert!(load(&named).is_err_and(|reason| reason.contains("feature `tls`")));
    }
}
