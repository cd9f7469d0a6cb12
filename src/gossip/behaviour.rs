//! Configuration of libp2p's gossipsub, on parts of which other implementations must agree.
//!
//! Entry type: [`Behaviour`]. The rules it keeps: message ids are those of the contract ([`MessageIds`]), no message is
//! forwarded before the node has verified it, and every size and queue has a bound.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use libp2p::gossipsub::{
    self, ConfigBuilderError, DataTransform, IdentTopic, MaxCountSubscriptionFilter, Message,
    MessageAuthenticity, PeerScoreParams, PeerScoreThresholds, RawMessage, TopicHash,
    TopicSubscriptionFilter, ValidationMode,
};

use super::ids::MessageIds;
use super::message::MAX_MESSAGE;
use crate::model::RoomName;

/// libp2p's gossipsub with this configuration.
pub type Behaviour =
    gossipsub::Behaviour<StrictNoSign, MaxCountSubscriptionFilter<WellFormedRooms>>;

/// Protocol ids of gossip, in order of preference. libp2p's gossipsub also supports `/meshsub/1.3.0` and has no option
/// against it, so the gate filters it out.
pub const PROTOCOLS: [&str; 3] = ["/meshsub/1.2.0", "/meshsub/1.1.0", "/meshsub/1.0.0"];

/// Maximum number of rooms that a peer may subscribe to.
pub const MAX_ROOMS: usize = 32;
/// Bytes above the largest message in gossipsub's size limit. gossipsub compares the limit with its whole read buffer, so
/// large messages back to back would kill the stream without an error; with this margin they do not.
const BUFFER_SLACK: usize = 128 * 1024;
/// Maximum size of the control messages (IHAVE, IWANT and others) of one RPC, in bytes. js-libp2p sends up to 5,000 ids of 32
/// bytes at once, and over the limit the stream closes silently.
const MAX_CONTROL: usize = 256 * 1024;
/// Maximum number of messages in one RPC.
const MAX_MESSAGES_PER_RPC: usize = 500;
/// Maximum number of ids that are requested from a neighbour (IWANT) in one heartbeat, and announced to it (IHAVE): as many
/// as the response may carry in one RPC. With [`PROMISE_TIMEOUT`] it bounds the memory for promises: at 400 bytes each,
/// 0.8 MB for each neighbour.
pub const MAX_IWANT_IDS: usize = MAX_MESSAGES_PER_RPC;
/// Time in which a neighbour must send a message that it announced and that was requested. After it, at the next heartbeat,
/// the message may be requested from another neighbour.
pub const PROMISE_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum number of messages in the queue of one link. At 256 KiB, the size of batches under load, they take 256 MiB.
const MAX_QUEUE: usize = 1024;
/// Maximum time that a message waits in the queue of a slow link before it is dropped there.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time that gossipsub keeps a message id for dedup: several times the time in which a message crosses the mesh.
const DEDUP_TIME: Duration = Duration::from_secs(300);
/// Minimum size of a batch, in bytes, for which IDONTWANT is sent; an id costs 40 bytes on each link.
pub const MIN_IDONTWANT_BYTES: usize = 16 * 1024;

/// Returns the behaviour with message ids of its own.
///
/// # Errors
///
/// Returns gossipsub's message when it refuses the configuration.
pub fn behaviour() -> Result<Behaviour, String> {
    behaviour_with(Arc::default())
}

/// Returns the behaviour, which takes its message ids from `ids`.
///
/// # Errors
///
/// Returns gossipsub's message when it refuses the configuration.
pub fn behaviour_with(ids: Arc<MessageIds>) -> Result<Behaviour, String> {
    let config = config(ids).map_err(|e| format!("gossipsub refuses its configuration: {e}"))?;
    let filter = MaxCountSubscriptionFilter {
        filter: WellFormedRooms,
        max_subscribed_topics: MAX_ROOMS,
        max_subscriptions_per_request: MAX_ROOMS,
    };
    let mut behaviour = gossipsub::Behaviour::new_with_subscription_filter(
        MessageAuthenticity::Anonymous,
        config,
        filter,
    )
    .map_err(str::to_owned)?;
    behaviour.with_peer_score(neutral_scores(), thresholds())?;
    Ok(behaviour)
}

/// Returns peer scores that are always 0. They are on because gossipsub forgets a promised (IHAVE) message that does not
/// arrive only if scores are on: without them a neighbour that never sends its promises makes that list grow without
/// bound, and a promised message is never requested from another neighbour. All weights are 0, so that no peer is ignored,
/// pruned or preferred for its score: offences and bans are decided elsewhere. The scores cost about 600 bytes for each
/// message of the last two minutes.
fn neutral_scores() -> PeerScoreParams {
    PeerScoreParams {
        topic_score_cap: 0.0,
        app_specific_weight: 0.0,
        // Many nodes behind one address are ordinary.
        ip_colocation_factor_weight: 0.0,
        behaviour_penalty_weight: 0.0,
        slow_peer_weight: 0.0,
        retain_score: Duration::ZERO,
        ..PeerScoreParams::default()
    }
}

/// Returns thresholds that no score reaches.
fn thresholds() -> PeerScoreThresholds {
    PeerScoreThresholds {
        gossip_threshold: -1.0,
        publish_threshold: -1.0,
        graylist_threshold: -1.0,
        // Peers from PX of a prune are not dialled.
        accept_px_threshold: f64::MAX,
        opportunistic_graft_threshold: 0.0,
    }
}

fn config(ids: Arc<MessageIds>) -> Result<gossipsub::Config, ConfigBuilderError> {
    gossipsub::ConfigBuilder::default()
        // StrictNoSign: a batch has its own signature, which is verified once, after dedup.
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        // gossipsub calls this for each copy, before dedup.
        .message_id_fn(move |message| ids.make(message.topic.as_str(), &message.data))
        .max_transmit_size(MAX_MESSAGE + BUFFER_SLACK)
        .max_control_message_size(MAX_CONTROL)
        .max_publish_messages(MAX_MESSAGES_PER_RPC)
        .max_control_messages_sent(MAX_IWANT_IDS)
        .iwant_followup_time(PROMISE_TIMEOUT)
        // The mesh is a part of the five links.
        .mesh_n(4)
        .mesh_n_low(3)
        .mesh_n_high(5)
        .mesh_outbound_min(2)
        .connection_handler_queue_len(MAX_QUEUE)
        .publish_queue_duration(QUEUE_TIMEOUT)
        .forward_queue_duration(QUEUE_TIMEOUT)
        .duplicate_cache_time(DEDUP_TIME)
        .idontwant_message_size_threshold(MIN_IDONTWANT_BYTES)
        // A publisher does not want its own message back either.
        .idontwant_on_publish(true)
        .build()
}

/// Returns the gossipsub topic of a room.
pub fn topic(room: &RoomName) -> IdentTopic {
    IdentTopic::new(room.topic())
}

/// Drops messages with a field of gossipsub's own signatures, even an empty one. gossipsub does so itself, but never checks
/// `key`. A dropped message gets no id, so it cannot hide another one from dedup.
#[derive(Clone, Copy, Debug, Default)]
pub struct StrictNoSign;

impl DataTransform for StrictNoSign {
    fn inbound_transform(&self, raw: RawMessage) -> Result<Message, io::Error> {
        let is_bare = raw.source.is_none()
            && raw.sequence_number.is_none()
            && raw.signature.is_none()
            && raw.key.is_none();
        match is_bare {
            true => Ok(Message {
                source: None,
                data: raw.data,
                sequence_number: None,
                topic: raw.topic,
            }),
            false => Err(io::Error::other(
                "a message with from, seqno, signature or key",
            )),
        }
    }

    fn outbound_transform(&self, _: &TopicHash, data: Vec<u8>) -> Result<Vec<u8>, io::Error> {
        Ok(data)
    }
}

/// Subscription filter that accepts only the topics of rooms.
#[derive(Clone, Copy, Debug, Default)]
pub struct WellFormedRooms;

impl TopicSubscriptionFilter for WellFormedRooms {
    fn can_subscribe(&mut self, topic: &TopicHash) -> bool {
        RoomName::from_topic(topic.as_str()).is_some()
    }
}
