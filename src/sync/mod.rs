//! Anti-entropy ("data checking"): neighbours compare their batches and repair the difference, so that none is lost.
//!
//! [`AntiEntropy`] compares each room with the neighbours in turn, which costs about 60 bytes when both hold the same
//! batches, and fetches those that are lacking ([`message`] defines the wire format). Large new batches travel the same
//! way: they are announced, and fetched once.
//!
//! The rule it keeps: it holds no batch and reads no log. It requests reads and writes with [`Output`], and learns
//! their results from [`Input`].

mod announce;
mod announcements;
mod behaviour;
mod event;
mod held;
mod items;
pub mod message;
mod peer_state;
mod quota;
pub mod reconcile;
mod removed_by_peer;
mod responder;
mod room;
mod scheduler;
mod state;
mod sync_round;
#[cfg(test)]
mod tests;
mod throughput;
mod timing;
mod upload_scheduler;

pub use announce::{ANNOUNCE_ABOVE, ANNOUNCE_FEATURE};
pub use behaviour::behaviour;
pub use event::{Checked, Config, INTERVAL, Input, Output, OwnPending, RequestId};
pub use held::Held;
pub use items::{Items, Sum};
pub use room::{Agreement, Room};
pub use scheduler::SETTLE_DELAY;
pub use state::AntiEntropy;
pub use sync_round::Fault;

/// Maximum size of the envelopes in a response to a fetch, if it has more than one. The response stays below
/// [`message::MAX_RESPONSE`] for any number of them.
const FETCH_BYTES: usize = 1 << 20;
