//! The TLS configuration of a node, read from its files, and both ends of a TLS connection.
//!
//! Entry function: [`load`]. The rule it keeps: every error names the file or the host, and its fault.

use std::net::IpAddr;
use std::sync::Arc;

use futures::future::Either;
use futures::io::{AsyncRead, AsyncWrite};
use futures_rustls::{TlsAcceptor, TlsConnector, client, server};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use rustls::crypto::ring;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;

use super::certificate::OwnCertificate;
use super::files::TlsFiles;
use super::verifier::Verifier;
use crate::net::diagnosis::tls::{of_accept, of_connect};
use crate::net::stage::{Stage, StageError};

/// Reason why a node without a certificate cannot listen with TLS.
pub(crate) const CANNOT_LISTEN: &str = "TLS needs a certificate: give --tls-cert and --tls-key";

/// A stream inside TLS.
pub(crate) type TlsStream<S> = Either<client::TlsStream<S>, server::TlsStream<S>>;

/// The loaded configuration for both directions.
#[derive(Clone)]
pub(crate) struct TlsContext {
    client: TlsConnector,
    /// None when the node cannot listen with TLS.
    server: Option<TlsAcceptor>,
    pub(crate) certificate: Option<Arc<OwnCertificate>>,
}

/// Reads the files; none are needed to dial peers with ordinary certificates.
///
/// # Errors
///
/// The name of the file and its fault.
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

impl TlsContext {
    /// Returns a TLS client for the host of `address`.
    ///
    /// # Errors
    ///
    /// Fails when no certificate can be for that name.
    pub(super) fn connector(&self, address: &Multiaddr) -> Result<Connector, StageError> {
        Ok(Connector {
            tls: self.client.clone(),
            name: server_name(address)?,
        })
    }

    /// Returns the TLS server; none when the node has no certificate.
    pub(super) fn acceptor(&self) -> Option<Acceptor> {
        self.server.clone().map(Acceptor)
    }
}

/// The TLS client for one host.
pub(super) struct Connector {
    tls: TlsConnector,
    name: ServerName<'static>,
}

impl Connector {
    /// Starts TLS on `stream` as a client.
    ///
    /// # Errors
    ///
    /// The cause of the failure and a remedy.
    pub(super) async fn connect<S>(self, stream: S) -> Result<TlsStream<S>, StageError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let secure = self.tls.connect(self.name, stream).await;
        secure.map(Either::Left).map_err(|e| of_connect(&e))
    }
}

/// The TLS server of a node.
pub(super) struct Acceptor(TlsAcceptor);

impl Acceptor {
    /// Starts TLS on `stream` as a server.
    ///
    /// # Errors
    ///
    /// The cause of the failure and a remedy.
    pub(super) async fn accept<S>(self, stream: S) -> Result<TlsStream<S>, StageError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let secure = self.0.accept(stream).await;
        secure.map(Either::Right).map_err(|e| of_accept(&e))
    }
}

/// Returns the dialled name or IP address, which the certificate must be for.
fn server_name(address: &Multiaddr) -> Result<ServerName<'static>, StageError> {
    let mut parts = address
        .iter()
        .skip_while(|part| matches!(part, Protocol::Ip6zone(_)));
    let name = match parts.next() {
        Some(Protocol::Ip4(ip)) => Ok(ServerName::from(IpAddr::from(ip))),
        Some(Protocol::Ip6(ip)) => Ok(ServerName::from(IpAddr::from(ip))),
        Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) => {
            ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|_| name)
        }
        _ => Err("".into()),
    };
    name.map_err(|name| {
        let reason = format!("no certificate can be for `{name}`: dial another name of that host");
        StageError::new(Stage::Address, reason)
    })
}
