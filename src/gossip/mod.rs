//! Gossip: signed batches of events in rooms.
//!
//! A room is a gossipsub topic. An application broadcasts an [`Event`]. Events travel in batches: the author signs each
//! batch ([`Author::seal`]), and every node verifies it once ([`open`]) before forwarding it. `proto/gossip.proto` is the
//! specification.
//!
//! * `message`: bytes to batches and back. Only the signer and the verifier create a [`VerifiedBatch`].
//! * `ids`: message ids of gossipsub, and its dedup cache's keys.
//! * `behaviour`: libp2p's gossipsub (eager tree and lazy links), with the settings on which implementations must agree.

mod behaviour;
mod ids;
mod message;

pub use behaviour::{
    Behaviour, MAX_IWANT_IDS, MAX_ROOMS, MIN_IDONTWANT_BYTES, PROMISE_TIMEOUT, PROTOCOLS,
    StrictNoSign, WellFormedRooms, behaviour, behaviour_with, topic,
};
pub use ids::MessageIds;
pub use message::{
    Author, BatchError, EVENT_OVERHEAD, Event, MAX_AHEAD_MS, MAX_BATCH_BYTES, MAX_EVENT_DATA,
    MAX_EVENT_NAME, MAX_EVENTS, MAX_MESSAGE, MAX_PREV, MAX_SEQ, Sealed, VerifiedBatch, open,
    room_of,
};
pub(crate) use message::{open_as, prev_of};
