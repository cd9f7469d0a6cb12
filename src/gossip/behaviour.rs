//! gossipsub as configured here: the settings on which other implementations must agree.
//!
//! Entry type: [`Behaviour`]. The rule it keeps: message ids are those of the contract ([`MessageIds`]), nothing
//! is forwarded before the application's verdict, and every size has a bound.

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

/// libp2p's gossipsub, as configured here.
pub type Behaviour =
    gossipsub::Behaviour<StrictNoSign, MaxCountSubscriptionFilter<WellFormedRooms>>;

/// The protocols of gossip, the one that is preferred first. libp2p's gossipsub knows another, `/meshsub/1.3.0`, and
/// cannot be told to leave it out: the gate does.
pub const PROTOCOLS: [&str; 3] = ["/meshsub/1.2.0", "/meshsub/1.1.0", "/meshsub/1.0.0"];

/// Rooms that one peer may be in.
pub const MAX_ROOMS: usize = 32;
/// gossipsub compares its limit with its whole read buffer, so that messages near it that come
/// back to back kill the stream without an error: this much above the largest message none does.
const BUFFER_SLACK: usize = 128 * 1024;
/// Control messages (ids offered and asked for) of one RPC, in bytes. js-libp2p sends up to 5,000
/// ids of 32 bytes at once; over the limit the stream closes silently.
const MAX_CONTROL: usize = 256 * 1024;
/// Messages that one RPC may carry.
const MAX_MESSAGES_PER_RPC: usize = 500;
/// Ids that are asked of one neighbour in a heartbeat, and announced to one: as many as the answer may carry in one
/// RPC. With [`PROMISE_TIMEOUT`] it bounds what is remembered of promises: at 400 bytes each, 0.8 MB a neighbour.
pub const MAX_ASKED: usize = MAX_MESSAGES_PER_RPC;
/// How long a neighbour may take to send what it has announced and was asked for. After that, at the next heartbeat,
/// the id may be asked of another one.
pub const PROMISE_TIMEOUT: Duration = Duration::from_secs(3);
/// Messages that wait for one link. At 256 KiB, the size that batches grow to under load, 256 MiB.
const QUEUE: usize = 1024;
/// How long a message may wait for a slow link before it is given up there.
const QUEUE_TIME: Duration = Duration::from_secs(30);
/// How long a message id is remembered: several times what a message needs to cross the mesh.
const DUPLICATE_TIME: Duration = Duration::from_secs(300);
/// Batches above this size are announced as "do not send me that": an id costs 40 bytes a link.
pub const IDONTWANT_ABOVE: usize = 16 * 1024;

/// Makes the behaviour.
pub fn behaviour() -> Result<Behaviour, String> {
    behaviour_with(Arc::default())
}

/// Makes the behaviour, which has its ids made by `ids`.
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

/// Scores that are always 0. They are on because gossipsub forgets a message that was promised (IHAVE) and did not
/// come only where scores are: without them a neighbour that announces what it never sends makes its list grow
/// without end, and an id that was promised once is never asked of anybody else. Every weight is 0, so that nobody
/// is ignored, pruned or preferred for a score: what an offence is, and what follows, is decided elsewhere. It costs
/// some 600 bytes for each message of the last two minutes.
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

/// No score reaches any of these.
fn thresholds() -> PeerScoreThresholds {
    PeerScoreThresholds {
        gossip_threshold: -1.0,
        publish_threshold: -1.0,
        graylist_threshold: -1.0,
        // Peers that others name on leaving are not dialled.
        accept_px_threshold: f64::MAX,
        opportunistic_graft_threshold: 0.0,
    }
}

fn config(ids: Arc<MessageIds>) -> Result<gossipsub::Config, ConfigBuilderError> {
    gossipsub::ConfigBuilder::default()
        // StrictNoSign: a batch has its own signature, checked once, after duplicates are dropped.
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        // Asked for once a copy, before duplicates are dropped.
        .message_id_fn(move |message| ids.make(message.topic.as_str(), &message.data))
        .max_transmit_size(MAX_MESSAGE + BUFFER_SLACK)
        .max_control_message_size(MAX_CONTROL)
        .max_publish_messages(MAX_MESSAGES_PER_RPC)
        .max_control_messages_sent(MAX_ASKED)
        .iwant_followup_time(PROMISE_TIMEOUT)
        // The mesh inside five links.
        .mesh_n(4)
        .mesh_n_low(3)
        .mesh_n_high(5)
        .mesh_outbound_min(2)
        .connection_handler_queue_len(QUEUE)
        .publish_queue_duration(QUEUE_TIME)
        .forward_queue_duration(QUEUE_TIME)
        .duplicate_cache_time(DUPLICATE_TIME)
        .idontwant_message_size_threshold(IDONTWANT_ABOVE)
        // Nor does a publisher want its own message back from a node that heard of it elsewhere first.
        .idontwant_on_publish(true)
        .build()
}

/// The gossipsub topic of a room.
pub fn topic(room: &RoomName) -> IdentTopic {
    IdentTopic::new(room.topic())
}

/// Drops messages in which a field of gossipsub's own signatures is present, even empty. gossipsub does so itself,
/// but never looks at `key`. What is dropped has no id, so that it stands in nobody's way.
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

/// Peers may subscribe to topics that are a room's, and to nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct WellFormedRooms;

impl TopicSubscriptionFilter for WellFormedRooms {
    fn can_subscribe(&mut self, topic: &TopicHash) -> bool {
        RoomName::from_topic(topic.as_str()).is_some()
    }
}
