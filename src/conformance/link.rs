//! A link with the peer under test: both rounds of the handshake have passed, and gossip streams are open.
//!
//! Entry type: [`Link`]. The rule it keeps: a link behaves as an honest node does, except for the data
//! that a case sends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::AsyncWriteExt;
use libp2p::swarm::Stream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::envelope::id_of;
use super::link_config::LinkConfig;
use super::raw_peer::{Conn, RawPeer};
use super::received::{GossipReader, Received};
use super::rpc;
use super::script::HandshakeTrace;
use crate::identity::NetworkId;
use crate::model::BatchId;

/// The time in which a peer must open its gossip stream and send its subscriptions.
pub(crate) const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);

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
    pub(super) prev: Vec<BatchId>,
}

impl Drop for Link {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Link {
    /// Creates a link from a connection whose handshake has passed, and starts to read and write gossip.
    pub(super) fn new(
        link_config: LinkConfig,
        raw: RawPeer,
        mut conn: Conn,
        stream: Stream,
        trace: HandshakeTrace,
        passed: Instant,
    ) -> Link {
        let (received_out, received) = watch::channel(Received::default());
        let (writer, written) = mpsc::unbounded_channel();
        let reader = GossipReader {
            received: Arc::new(received_out),
            writer: writer.clone(),
        };
        let early = trace.gossip.into_iter().map(|(_, inbound)| inbound);
        let tasks = vec![
            tokio::spawn(write(stream, written)),
            tokio::spawn(reader.run(early.collect(), conn.take_inbound())),
        ];
        let topic = link_config.topic();
        let _ = writer.send(rpc::subscribe(&topic));
        let _ = writer.send(rpc::graft(&topic));
        Link {
            raw,
            conn,
            peer: trace.peer,
            passed,
            received,
            link_config,
            writer,
            tasks,
            next_seq: 1,
            prev: Vec::new(),
        }
    }

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
