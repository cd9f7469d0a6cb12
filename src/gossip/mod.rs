//! Rooms, and the signed batches that travel in them.
//!
//! A room is a gossipsub topic. What an application broadcasts is an [`Event`]; events travel in
//! batches, each signed by its author ([`Author::seal`]) and checked once by every node that receives it
//! ([`open`]), before it is handed on. `proto/gossip.proto` is the specification.
//!
//! * `message`: bytes ↔ batches. A [`VerifiedBatch`] comes from the signer or from the verifier, and
//!   from nowhere else.
//! * `ids`: what gossipsub calls its messages.
//! * `behaviour`: libp2p's gossipsub, with the settings on which implementations must agree.

mod behaviour;
mod ids;
mod message;

pub use behaviour::{
    Behaviour, IDONTWANT_ABOVE, MAX_ASKED, MAX_ROOMS, PROMISE_TIMEOUT, PROTOCOLS, StrictNoSign,
    WellFormedRooms, behaviour, behaviour_with, topic,
};
pub use ids::MessageIds;
pub use message::{
    Author, BatchError, EVENT_OVERHEAD, Event, MAX_AHEAD_MS, MAX_BATCH_BYTES, MAX_EVENT_DATA,
    MAX_EVENT_NAME, MAX_EVENTS, MAX_MESSAGE, MAX_PREV, MAX_SEQ, Sealed, VerifiedBatch, open,
    room_of,
};
pub(crate) use message::{open_as, prev_of};
