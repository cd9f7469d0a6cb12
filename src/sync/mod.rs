//! Data checking: neighbours compare what they hold and repair the difference, so that nothing is lost.
//!
//! Data checking ([`Checks`]) compares each room with the neighbours in turn, which costs some 60 bytes when both hold the
//! same, and fetches what is lacking ([`message`] is what goes over the wire). Large batches that have just come travel in
//! the same way: they are offered, and fetched once.
//!
//! The rule it keeps: it holds no batch and reads no log. What it wants read or stored it says ([`Output`]), and hears what
//! came of it ([`Input`]).

mod answering;
mod behaviour;
mod errand;
mod facts;
mod held;
mod items;
pub mod message;
mod neighbour;
mod offering;
mod offers;
mod pace;
mod rate;
pub mod reconcile;
mod removed_there;
mod room;
mod schedule;
mod serve;
mod state;
#[cfg(test)]
mod tests;

pub use behaviour::behaviour;
pub use errand::Fault;
pub use facts::{Checked, Config, INTERVAL, Input, Output, Owed, RequestId};
pub use held::Held;
pub use items::{Items, Sum};
pub use offers::{OFFER_ABOVE, OFFERS};
pub use room::{Agreement, Room};
pub use schedule::SETTLE;
pub use state::Checks;

/// The envelope bytes of an answer to a fetch, as long as it has more than one: the answer stays below
/// [`message::MAX_RESPONSE`] whatever their number.
const FETCH_BYTES: usize = 1 << 20;
