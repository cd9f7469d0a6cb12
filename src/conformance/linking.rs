//! Creates the kit's links: an honest handshake, and a gossip stream.
//!
//! Entry functions: [`LinkConfig::link`], [`LinkConfig::linked`]. The rule they keep: a link is created only by an honest
//! handshake that has passed.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::connector::Connector;
use super::gossip_stream::gossip_stream;
use super::link::Link;
use super::link_config::LinkConfig;
use super::raw_peer::{Conn, RawPeer};
use super::script::{End, HandshakeTrace, Script, describe};
use super::scripted_handshake::run_handshake;
use crate::handshake::RejectCode;
use crate::identity::Identity;

/// Maximum time for which a handshake with a busy peer is retried.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause before a busy peer is tried again.
pub(crate) const BUSY_RETRY_INTERVAL: Duration = Duration::from_millis(500);

impl LinkConfig {
    /// Creates an honest link with a fresh key, and retries while the peer is busy.
    pub(crate) async fn link(&self, connector: &Connector) -> Result<Link, String> {
        let until = Instant::now() + BUSY_TIMEOUT;
        loop {
            let (raw, mut conn) = connector.connect(Identity::generate()).await?;
            let script = Script::honest(self.party(&raw));
            let trace = run_handshake(&mut conn, connector.role(), script).await;
            match &trace.end {
                End::Passed => return self.linked(raw, conn, trace).await,
                End::Rejected(code)
                    if *code == RejectCode::Busy.number() && Instant::now() < until =>
                {
                    drop(conn);
                    sleep(BUSY_RETRY_INTERVAL).await;
                }
                end => {
                    return Err(format!(
                        "an honest handshake did not pass: {}",
                        describe(end)
                    ));
                }
            }
        }
    }

    /// Creates a link on a connection whose handshake has passed.
    pub(crate) async fn linked(
        &self,
        raw: RawPeer,
        conn: Conn,
        mut trace: HandshakeTrace,
    ) -> Result<Link, String> {
        let passed = Instant::now();
        let stream = match trace.early.take() {
            Some(stream) => stream,
            None => gossip_stream(&conn).await?,
        };
        Ok(Link::new(self.clone(), raw, conn, stream, trace, passed))
    }
}
