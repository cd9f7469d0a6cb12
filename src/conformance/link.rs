//! A link with the peer under test: both rounds of the handshake have passed, and gossip streams are open.
//!
//! Entry types: [`Link`], [`LinkConfig`]. The rule it keeps: a link behaves as an honest node does, except for the data
//! that a case sends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::AsyncWriteExt;
use libp2p::swarm::Stream;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::batch_builder::{batch, id_of, now_ms, seal};
use super::connector::Connector;
use super::raw_peer::{Conn, RawPeer};
use super::received::{GossipReader, Received};
use super::round::Party;
use super::rpc;
use super::script::{End, HandshakeTrace, Script, describe};
use super::scripted_handshake::run_handshake;
use super::streams::{MESHSUB, OpenError};
use crate::gossip::{self, Author};
use crate::handshake::RejectCode;
use crate::identity::{Identity, NetworkId, NetworkKey};
use crate::model::{self, BatchId, RoomName};

/// Maximum time for which a handshake with a busy peer is retried.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(20);
pub(crate) const BUSY_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// The time in which a peer must open its gossip stream and send its subscriptions.
pub(crate) const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);

/// The room and network of all links of the kit.
#[derive(Clone)]
pub(crate) struct LinkConfig {
    pub(crate) room: RoomName,
    pub(crate) network: Option<NetworkKey>,
}

/// A link and the kit's gossip stream on it.
pub(crate) struct Link {
    pub(crate) raw: RawPeer,
    pub(crate) conn: Conn,
    pub(crate) peer: Option<crate::wire::proto::handshake::Core>,
    pub(crate) passed: Instant,
    pub(crate) received: watch::Receiver<Received>,
    pub(super) link_config: LinkConfig,
    writer: mpsc::UnboundedSender<Vec<u8>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    pub(super) next_seq: u64,
    /// The ids that the next honest batch follows: that of the previous one, once there is one.
    prev: Vec<BatchId>,
}

impl Drop for Link {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
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
        mut conn: Conn,
        trace: HandshakeTrace,
    ) -> Result<Link, String> {
        let passed = Instant::now();
        let stream = match trace.early {
            Some(stream) => stream,
            None => gossip_stream(&conn).await?,
        };
        let (heard_out, received) = watch::channel(Received::default());
        let (writer, written) = mpsc::unbounded_channel();
        let inbound = conn.take_inbound();
        let hearing = GossipReader {
            received: Arc::new(heard_out),
            writer: writer.clone(),
        };
        let early = trace
            .gossip
            .into_iter()
            .map(|(_, inbound)| inbound)
            .collect();
        let tasks = vec![
            tokio::spawn(write(stream, written)),
            tokio::spawn(hearing.run(early, inbound)),
        ];
        let _ = writer.send(rpc::subscribe(&self.topic()));
        let _ = writer.send(rpc::graft(&self.topic()));
        Ok(Link {
            raw,
            conn,
            peer: trace.peer,
            passed,
            received,
            link_config: self.clone(),
            writer,
            tasks,
            next_seq: 1,
            prev: Vec::new(),
        })
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

impl Link {
    /// Sends the bytes of an RPC.
    pub(crate) fn send(&self, rpc: Vec<u8>) {
        // If the link is gone, the wait for the effect of this RPC reports it.
        let _ = self.writer.send(rpc);
    }

    /// Publishes data in the kit's room and returns its message id.
    pub(crate) fn publish(&self, data: &[u8]) -> [u8; 32] {
        self.send(rpc::publish(&self.link_config.topic(), data));
        self.id_of(data)
    }

    pub(crate) fn network_id(&self) -> NetworkId {
        self.link_config.network_id()
    }

    /// Returns the message id of data in the kit's room.
    pub(crate) fn id_of(&self, data: &[u8]) -> [u8; 32] {
        id_of(&self.link_config.topic(), data)
    }

    /// Returns an envelope of one event, dated `ahead_ms` after now.
    pub(crate) fn dated(&mut self, ahead_ms: i64, name: &str, data: Vec<u8>) -> Vec<u8> {
        let mut batch = batch(self, ahead_ms, vec![(name, data)]);
        batch.prev = self.prev.iter().map(|id| id.0.to_vec().into()).collect();
        let data = seal(self, &batch.encode_to_vec());
        self.next_seq += 1;
        self.prev = vec![model::BatchId(self.id_of(&data))];
        data
    }

    /// Returns an honest envelope of one event.
    pub(crate) fn honest(&mut self, name: &str, data: Vec<u8>) -> Result<Vec<u8>, String> {
        let events = vec![gossip::Event::new(name, data)];
        let network = self.link_config.network_id();
        let author = Author::new(self.raw.identity.clone(), network, self.raw.instance_id);
        let room = &self.link_config.room;
        let sealed = author.seal(room, self.next_seq, now_ms(), &self.prev, events);
        let sealed = sealed.map_err(|e| e.to_string())?;
        self.next_seq += 1;
        self.prev = vec![sealed.id()];
        Ok(sealed.bytes().to_vec())
    }

    /// Waits until `holds` returns true; returns whether that happened within `within`.
    pub(crate) async fn until(
        &self,
        within: Duration,
        holds: impl FnMut(&Received) -> bool,
    ) -> bool {
        let mut received = self.received.clone();
        matches!(timeout(within, received.wait_for(holds)).await, Ok(Ok(_)))
    }

    /// Waits until the peer has subscribed to the kit's room.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        let topic = self.link_config.topic();
        let in_room = |received: &Received| received.topics.contains(&topic);
        match self.until(SUBSCRIBE_TIMEOUT, in_room).await {
            true => Ok(()),
            false if self.received.borrow().streams == 0 => Err(format!(
                "the peer opened no gossip stream within {SUBSCRIBE_TIMEOUT:?} of the pass"
            )),
            false => Err(format!(
                "the peer did not say within {SUBSCRIBE_TIMEOUT:?} that it is in the room {:?}: start it with that room, or name another with --room",
                self.link_config.room.as_str()
            )),
        }
    }
}

async fn write(mut stream: Stream, mut written: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(bytes) = written.recv().await {
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}
