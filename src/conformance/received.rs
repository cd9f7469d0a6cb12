//! Reads the gossip streams that the peer opens and records what arrives.
//!
//! Entry types: [`Received`], [`GossipReader`]. The rule it keeps: announced messages are requested, as an honest node
//! does, and anything that the contract forbids is recorded.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::envelope::id_of;
use super::frame;
use super::rpc;
use super::rpc_message::Rpc;
use super::streams::InboundStream;
use crate::handshake;

/// Maximum size of an RPC that is read: more than a peer may send.
const MAX_RPC: usize = 1_400_000;

/// The message about a lost observer's link.
pub(crate) const OBSERVER_LOST: &str = "the link to observe by was lost";

/// Everything that has arrived on the peer's gossip streams.
#[derive(Default)]
pub(crate) struct Received {
    /// Number of times that each message arrived, by the id that it must have.
    pub(crate) messages: HashMap<[u8; 32], usize>,
    /// The topics that the peer is subscribed to.
    pub(crate) topics: HashSet<String>,
    /// Number of gossip streams that the peer has opened.
    pub(crate) streams: usize,
    /// The protocols of those streams.
    pub(crate) protocols: HashSet<String>,
    /// The last violation of the contract, if any.
    pub(crate) wrong: Option<String>,
}

/// Waits until an honest message has arrived at the observer's link.
pub(crate) async fn await_message(
    observer: &mut watch::Receiver<Received>,
    id: [u8; 32],
    within: Duration,
) -> Result<(), String> {
    let came = |received: &Received| received.messages.contains_key(&id);
    match timeout(within, observer.wait_for(came)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(OBSERVER_LOST.to_owned()),
        Err(_) => Err(format!(
            "an honest message was not forwarded within {within:?}"
        )),
    }
}

pub(super) struct GossipReader {
    pub(super) received: Arc<watch::Sender<Received>>,
    pub(super) writer: mpsc::UnboundedSender<Vec<u8>>,
}

impl GossipReader {
    /// Reads all gossip streams that the peer opens.
    pub(super) async fn run(
        self,
        early: Vec<InboundStream>,
        mut inbound: mpsc::UnboundedReceiver<InboundStream>,
    ) {
        let mut streams = futures::stream::FuturesUnordered::new();
        for inbound in early {
            streams.push(self.hear(inbound));
        }
        loop {
            tokio::select! {
                Some(inbound) = inbound.recv() => streams.push(self.hear(inbound)),
                Some(()) = streams.next() => {}
                else => return,
            }
        }
    }

    async fn hear(
        &self,
        InboundStream {
            protocol,
            mut stream,
            ..
        }: InboundStream,
    ) {
        if protocol.as_ref() == handshake::PROTOCOL {
            return self.wrong("a handshake stream after the pass".to_owned());
        }
        self.received.send_modify(|received| {
            received.streams += 1;
            received.protocols.insert(protocol.to_string());
        });
        loop {
            let body = match frame::read(&mut stream, MAX_RPC).await {
                Ok(body) => body,
                Err(frame::FrameError::Ended) => return,
                Err(frame::FrameError::Malformed(what)) => return self.wrong(what),
            };
            match Rpc::decode(&body[..]) {
                Ok(rpc) => self.on_rpc(rpc),
                Err(error) => return self.wrong(format!("an RPC that does not parse: {error}")),
            }
        }
    }

    fn wrong(&self, what: String) {
        self.received
            .send_modify(|received| received.wrong = Some(what));
    }

    fn on_rpc(&self, rpc: Rpc) {
        let mut wanted = Vec::new();
        self.received.send_modify(|received| {
            for subscription in rpc.subscriptions {
                match subscription.subscribe {
                    true => received.topics.insert(subscription.topic),
                    false => received.topics.remove(&subscription.topic),
                };
            }
            for message in rpc.publish {
                let signed = message.from.is_some()
                    || message.seqno.is_some()
                    || message.signature.is_some()
                    || message.key.is_some();
                if signed {
                    received.wrong =
                        Some("a message with from, seqno, signature or key".to_owned());
                }
                let id = id_of(&message.topic, &message.data);
                *received.messages.entry(id).or_default() += 1;
            }
            for id in rpc
                .control
                .into_iter()
                .flat_map(|c| c.ihave)
                .flat_map(|h| h.ids)
            {
                let known = <[u8; 32]>::try_from(&id[..])
                    .is_ok_and(|id| received.messages.contains_key(&id));
                if !known {
                    wanted.push(id);
                }
            }
        });
        if !wanted.is_empty() {
            let _ = self.writer.send(rpc::iwant(wanted));
        }
    }
}
