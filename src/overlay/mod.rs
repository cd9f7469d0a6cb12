//! The overlay: which nodes are linked, how a newcomer gets in, and how the mesh heals.
//!
//! Each node keeps five links. A full node admits a newcomer by a handover: it sends a redirect hint, which asks one of its links
//! to connect to the newcomer, and closes its own link with that peer once the two are linked. The newcomer is then between them,
//! and no node was without a link at any time. A node that loses links dials the peers that it knows. In every round a few links
//! move, so that the graph stays random: about log N hops wide, connected after a third of the nodes has died, and not in the hands
//! of peers that merely stay for long.
//!
//! Entry type: [`Overlay`]. The rule it keeps: at most five links, and a sixth only during one handover.
//!
//! Reading order: `event` (inputs and outputs), `link`, `activity`, `link_table`, `context` (shared state), `state`; `admission`,
//! `waitlist`, `eviction`, `link_changes`; `joins` and `handover` (how links move); `dialer`, `upkeep`; then
//! `peer_store`, `dial_rate_limit`; `scope`, `address` and `peer_address` for addresses; `message` for the bytes.

mod activity;
mod address;
mod admission;
mod behaviour;
mod context;
mod dial_rate_limit;
mod dialer;
mod event;
mod eviction;
mod handover;
mod joins;
mod link;
mod link_changes;
mod link_table;
mod message;
mod options;
mod peer_address;
mod peer_store;
mod penalties;
mod requests;
mod scope;
mod state;
#[cfg(test)]
mod tests;
mod upkeep;
mod waitlist;

pub use address::{Address, NodeId, Remote};
pub use behaviour::{Behaviour, Event, PROTOCOL};
pub use event::{
    Admission, DialError, DialId, Direction, ExchangeError, ExchangeId, HintOutcome, Input, Output,
    Purpose, Reason, Report, Target,
};
pub use link::{Link, Origin};
pub use message::{
    Answer, Contact, MAX_FRAME, MessageError, NodeRequest, NodeResponse, Refusal, Request,
    Response, Role, Terms, decode_contacts, decode_request, decode_response, encode_contacts,
    encode_request, encode_response,
};
pub use options::Options;
pub use peer_address::{PeerAddress, PeerAddressError};
pub use peer_store::Saved;
pub use scope::{Reach, reach_of};
pub use state::Overlay;
