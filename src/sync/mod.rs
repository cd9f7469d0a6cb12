//! Data checking: neighbours compare what they hold and repair the difference, so that nothing is lost.
//!
//! Data checking ([`AntiEntropy`]) compares each room with the neighbours in turn, which costs some 60 bytes when both hold the
//! same, and fetches what is lacking ([`message`] is what goes over the wire). Large batches that have just come travel in
//! the same way: they are offered, and fetched once.
//!
//! The rule it keeps: it holds no batch and reads no log. What it pending_fetches read or stored it says ([`Output`]), and hears what
//! came of it ([`Input`]).

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

/// The envelope bytes of an answer to a fetch, as long as it has more than one: the answer stays below
/// [`message::MAX_RESPONSE`] whatever their number.
const FETCH_BYTES: usize = 1 << 20;
