//! A link with the peer under test: both rounds passed, gossip streams both ways, and what is heard.
//!
//! Entry types: [`Link`], [`Received`]. The rule it keeps: it behaves as an honest node does, until a
//! case has it send something else.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::{AsyncWriteExt, StreamExt};
use libp2p::swarm::Stream;
use prost::Message as _;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::connector::Connector;
use super::frame::{self, framed};
use super::raw_peer::{Conn, RawPeer};
use super::round::Party;
use super::rpc::{self, Rpc};
use super::scripted_handshake::{End, HandshakeTrace, Script, run_handshake};
use super::streams::{InboundStream, MESHSUB, OpenError};
use crate::gossip::{self, Author};
use crate::handshake::{self, RejectCode};
use crate::identity::{Identity, NetworkId, NetworkKey};
use crate::model::{self, BatchId, RoomName};
use crate::wire::envelope::{MessageId, bad_id};
use crate::wire::proto::gossip as proto;

/// How long a peer that is busy is asked again.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(20);
pub(crate) const BUSY_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// More than the largest RPC that a peer may send.
const MAX_RPC: usize = 1_400_000;
/// How long a peer may take to open its gossip stream and say in which rooms it is.
pub(crate) const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);

/// How it is told that the link is gone by which the kit observes.
pub(crate) const OBSERVER_LOST: &str = "the link to observe by was lost";

/// What all links of the kit have in common.
#[derive(Clone)]
pub(crate) struct LinkConfig {
    pub(crate) room: RoomName,
    pub(crate) network: Option<NetworkKey>,
}

/// What came over the peer's gossip streams.
#[derive(Default)]
pub(crate) struct Received {
    /// How often each message came, by the id that it must have.
    pub(crate) messages: HashMap<[u8; 32], usize>,
    /// The topics that the peer is in.
    pub(crate) topics: HashSet<String>,
    /// The gossip streams that it has opened.
    pub(crate) streams: usize,
    /// The protocols of those.
    pub(crate) protocols: HashSet<String>,
    /// What it said that it must not.
    pub(crate) wrong: Option<String>,
}

/// A link, and a gossip stream of ours on it.
pub(crate) struct Link {
    pub(crate) raw: RawPeer,
    pub(crate) conn: Conn,
    pub(crate) peer: Option<crate::wire::proto::handshake::Core>,
    pub(crate) passed: Instant,
    pub(crate) received: watch::Receiver<Received>,
    link_config: LinkConfig,
    writer: mpsc::UnboundedSender<Vec<u8>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    next_seq: u64,
    /// The honest batch before, once there is one.
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

    /// An honest link under a fresh key; a busy peer is asked again.
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

    /// A link on a connection whose handshake has passed.
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

/// Our gossip stream.
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

/// A batch as an honest author makes it, before it is signed.
pub(crate) fn batch(link: &Link, ahead_ms: i64, events: Vec<(&str, Vec<u8>)>) -> proto::Batch {
    proto::Batch {
        author: link.raw.identity.public_key_protobuf().into(),
        instance_id: link.raw.instance_id.to_vec().into(),
        first_seq: link.next_seq,
        sent_at_ms: now_ms().saturating_add_signed(ahead_ms),
        room: link.link_config.room.as_str().to_owned(),
        prev: Vec::new(),
        events: events
            .into_iter()
            .map(|(name, data)| proto::Event {
                name: name.to_owned(),
                data: data.into(),
            })
            .collect(),
    }
}

/// The bytes that a batch's signature is over, in the kit's network.
pub(crate) fn signed_text(link: &Link, body: &[u8]) -> Vec<u8> {
    let hash = Sha256::digest(body);
    let network = link.network_id();
    [&b"diatribe-batch-v2"[..], network.as_bytes(), &hash].concat()
}

/// An envelope in its one spelling.
pub(crate) fn envelope(body: &[u8], signature: &[u8; 64]) -> Vec<u8> {
    let mut bytes = vec![0x0a];
    bytes.extend(framed(body));
    bytes.extend([0x12, 0x40]);
    bytes.extend(signature);
    bytes
}

/// A body, signed and in its envelope.
pub(crate) fn seal(link: &Link, body: &[u8]) -> Vec<u8> {
    envelope(body, &link.raw.identity.sign(&signed_text(link, body)))
}

/// A body in its envelope, with the signature of a text that is not quite what it must be.
pub(crate) fn sign_as(link: &Link, body: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut text = signed_text(link, body);
    change(&mut text);
    envelope(body, &link.raw.identity.sign(&text))
}

/// The id of the message that has this data in this topic.
pub(crate) fn id_of(topic: &str, data: &[u8]) -> [u8; 32] {
    let room = RoomName::from_topic(topic);
    let id = room.and_then(|room| MessageId::of(room.as_str(), data));
    id.map_or_else(|| bad_id(topic, data), |id| *id.as_bytes())
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

impl Link {
    /// Sends the bytes of an RPC.
    pub(crate) fn send(&self, rpc: Vec<u8>) {
        // A link that is gone is noticed by whoever waits for what this brings.
        let _ = self.writer.send(rpc);
    }

    /// Publishes data in the kit's room; the id that it has.
    pub(crate) fn publish(&self, data: &[u8]) -> [u8; 32] {
        self.send(rpc::publish(&self.link_config.topic(), data));
        self.id_of(data)
    }

    pub(crate) fn network_id(&self) -> NetworkId {
        self.link_config.network_id()
    }

    /// The id that data has in the kit's room.
    pub(crate) fn id_of(&self, data: &[u8]) -> [u8; 32] {
        id_of(&self.link_config.topic(), data)
    }

    /// An envelope of one event that is dated after now.
    pub(crate) fn dated(&mut self, ahead_ms: i64, name: &str, data: Vec<u8>) -> Vec<u8> {
        let mut batch = batch(self, ahead_ms, vec![(name, data)]);
        batch.prev = self.prev.iter().map(|id| id.0.to_vec().into()).collect();
        let data = seal(self, &batch.encode_to_vec());
        self.next_seq += 1;
        self.prev = vec![model::BatchId(self.id_of(&data))];
        data
    }

    /// An honest envelope of one event.
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

    /// Waits until `holds`.
    pub(crate) async fn until(
        &self,
        within: Duration,
        holds: impl FnMut(&Received) -> bool,
    ) -> bool {
        let mut received = self.received.clone();
        matches!(timeout(within, received.wait_for(holds)).await, Ok(Ok(_)))
    }

    /// Waits until the peer has said that it is in the room.
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

/// Waits until an honest message has come out at the link that observes.
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

async fn write(mut stream: Stream, mut written: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(bytes) = written.recv().await {
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

struct GossipReader {
    received: Arc<watch::Sender<Received>>,
    writer: mpsc::UnboundedSender<Vec<u8>>,
}

impl GossipReader {
    /// Hears all gossip streams that the peer opens.
    async fn run(
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

/// An end as it is told.
pub(crate) fn describe(end: &End) -> String {
    match end {
        End::Passed => "it passed".to_owned(),
        End::Withheld => "this side stopped".to_owned(),
        End::Rejected(code) => format!("Reject {}", code_name(*code)),
        End::Closed => "closed without a word".to_owned(),
        End::Silent => "silence, and the connection stays".to_owned(),
        End::Continued(frame) => format!("it goes on with {frame}"),
        End::Violation(what) => format!("it sent {what}"),
    }
}

/// A code as the contract calls it.
pub(crate) fn code_name(code: u32) -> String {
    let known = RejectCode::from_number(code);
    match known.number() == code {
        true => known.name().to_owned(),
        false => format!("of an unknown code, {code}"),
    }
}
