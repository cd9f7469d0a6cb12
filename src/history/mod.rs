//! Nothing is lost: every node keeps the batches of its rooms, and neighbours compare what they hold
//! and repair the difference.
//!
//! * The log ([`Log`], on threads of its own: [`Writer`]) is an SQLite file that a person can read; small
//!   batches come into it half a second later, through a plain file beside it. What it acknowledges
//!   survives the end of the process at once. It holds a batch once, knows an author that gives the same
//!   numbers twice, and when it is full takes room from who fills it, their oldest first.
//! * Data checking ([`Checks`]) compares each room with the neighbours in turn, which costs some 60 bytes
//!   when both hold the same, and fetches what is lacking ([`message`] is what goes over the wire). Large
//!   batches that have just come travel in the same way: they are offered, and fetched once.
//! * [`Order`] hands what the log stored to the application: once, an author's events in the order sent.
//!
//! The rule it keeps: what a neighbour sends is nothing until the verifier has said so; only a
//! [`Verified`](crate::model::Verified) batch enters the log.

mod answering;
mod behaviour;
mod care;
mod checkpoint;
mod disk_space;
mod errand;
mod error;
mod facts;
mod front;
mod held;
mod in_place;
mod items;
mod keep;
mod log;
pub mod message;
mod neighbour;
mod numbered;
mod offering;
mod offers;
mod order;
mod own;
mod pace;
mod prune;
mod rate;
mod read;
pub mod reconcile;
mod remake;
mod removed;
mod removed_there;
mod repair;
mod room;
mod rows;
mod salvage;
mod schedule;
mod schema;
mod serve;
mod share;
mod shelf;
mod space;
mod state;
mod tail;
#[cfg(test)]
mod tests;
mod writer;
mod writing;

pub use behaviour::behaviour;
pub use care::{Imported, Refused, Report, check, export, import};
pub use errand::Fault;
pub use error::LogError;
pub use facts::{Checked, Config, INTERVAL, Input, Output, Owed, RequestId};
pub use held::Held;
pub use items::{Items, Sum};
pub use keep::Keep;
pub use log::Log;
pub use numbered::{NumberedPage, Numbers};
pub use offers::{OFFER_ABOVE, OFFERS};
pub use order::{Arrival, COMING_WAIT, Delivery, GAP_WAIT, Order};
pub use own::Said;
pub use prune::{Crowding, Pruned};
pub use read::{Archive, Cursor, History, PAGE_BYTES, PAGE_ROWS, Page, Query, Reader, RoomStats};
pub use remake::Remade;
pub use repair::{Repaired, network_in, repair};
pub use room::{Agreement, Room};
pub use schedule::SETTLE;
pub use schema::{FILE_NAME, Sync};
pub use state::Checks;
pub use writer::{Appended, QueueFull, Writer};
pub use writing::Notice;

/// The envelope bytes of an answer to a fetch, as long as it has more than one: the answer stays below
/// [`message::MAX_RESPONSE`] whatever their number.
const FETCH_BYTES: usize = 1 << 20;
