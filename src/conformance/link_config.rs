//! The configuration of the kit's links, and how a link is created.
//!
//! Entry type: [`LinkConfig`]. The rule it keeps: a link is created only by an honest handshake that has passed.

use std::time::{Duration, Instant};

use libp2p::swarm::Stream;
use tokio::time::sleep;

use super::connector::Connector;
use super::link::Link;
use super::raw_peer::{Conn, RawPeer};
use super::round::Party;
use super::script::{End, HandshakeTrace, Script, describe};
use super::scripted_handshake::run_handshake;
use super::streams::{MESHSUB, OpenError};
use crate::handshake::RejectCode;
use crate::identity::{Identity, NetworkId, NetworkKey};
use crate::model::RoomName;

/// Maximum time for which a handshake with a busy peer is retried.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause before a busy peer is tried again.
pub(crate) const BUSY_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// The room and network of all links of the kit.
#[derive(Clone)]
pub(crate) struct LinkConfig {
    pub(crate) room: RoomName,
    pub(crate) network: Option<NetworkKey>,
}

impl LinkConfig {
    pub(crate) fn topic(&self) -> String {
        self.room.topic()
    }

    pub(crate) fn network_id(&self) -> NetworkId {
        NetworkId::of(self.network.as_ref())
    }

    pub(crate) fn party(&self, raw: &RawPeer) -> Party {
        Party {
            identity: raw.identity.clone(),
            network: self.network.clone(),
            instance_id: raw.instance_id,
            noise_id: raw.identity.peer_id(),
            relays: false,
        }
    }

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

/// Opens the kit's gossip stream.
pub(crate) async fn gossip_stream(conn: &Conn) -> Result<Stream, String> {
    match conn.open(MESHSUB).await {
        Ok(stream) => Ok(stream),
        Err(OpenError::Refused) => match conn.open("/meshsub/1.0.0").await {
            Ok(stream) => Ok(stream),
            Err(_) => Err("a link takes no gossip stream: it answers na".to_owned()),
        },
        Err(OpenError::Lost(why)) => Err(format!("a link takes no gossip stream: {why}")),
    }
}
