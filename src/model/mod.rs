//! The values that several protocols and the log have in common; it imports nothing of the crate.
//!
//! * [`RoomName`], [`BatchId`], [`AuthorStream`]: names of a room, of a batch, and of what one process of an author says.
//! * [`Record`] and [`Verified`]: a batch as it is stored, and the types that only the signer and the verifier make.
//! * [`Item`], [`Found`], [`MAX_ITEMS`], [`MIN_RETENTION_MS`]: what the log and the comparison of rooms agree on.

mod author_stream;
mod batch_id;
mod found;
mod item;
mod low_watermark;
mod record;
mod room_name;
#[cfg(feature = "serde")]
pub(crate) mod serialize;
#[cfg(test)]
pub(crate) mod tests;

pub use author_stream::AuthorStream;
pub use batch_id::BatchId;
pub use found::Found;
pub use item::Item;
pub(crate) use low_watermark::{DEFAULT_RETENTION_AGE, low_watermark_at};
pub use low_watermark::{MAX_ITEMS, MIN_RETENTION_MS};
pub(crate) use record::Seal;
pub use record::{EVENT_BYTES, Id, Outcome, Record, Stored, Verified};
pub use room_name::{MAX_ROOM_NAME_BYTES, RoomName, RoomNameError, TOPIC_PREFIX};
