//! Five links: who is linked to whom, how a newcomer gets in, and how the mesh heals.
//!
//! A full node tells one of its links to connect to a newcomer (the redirect hint) and lets that
//! link go once the two are connected: the newcomer stands between them, and nobody was without a
//! link at any time. A node that loses links dials those it remembers. In every round a few links
//! change places, so that the graph stays random: some log N hops wide, whole after a third of it
//! has died, and owned by nobody who merely stays long enough.
//!
//! Entry type: [`Overlay`]. The rule it keeps: at most five links, and a sixth only while one
//! handover runs.
//!
//! Reading order: `event` (what goes in and out), `link`, `state`, `admission`, `eviction`, `links`,
//! `join`, `give`, `thin`, `handover`, `seek`, `upkeep`, then `book`, `budget`, `bucket`; `scope`, `address` and `peer_address` for
//! where peers are; `message` for the bytes.

mod address;
mod admission;
mod behaviour;
mod book;
mod bucket;
mod budget;
mod event;
mod eviction;
mod give;
mod handover;
mod join;
mod link;
mod links;
mod message;
mod options;
mod peer_address;
mod scope;
mod seek;
mod state;
#[cfg(test)]
mod tests;
mod thin;
mod upkeep;

pub use address::{Address, Remote};
pub use behaviour::{Behaviour, Event, PROTOCOL};
pub use book::Saved;
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
pub use scope::{Reach, reach_of};
pub use state::Overlay;
