//! Plain types shared by the protocols and the log; they import no protocol.
//!
//! * [`RoomName`], [`BatchId`], [`AuthorStream`]: names of a room, of a batch, and of the numbered events of one
//!   process of an author.
//! * [`Record`] and [`Verified`]: a batch as it is stored, and the trait of the types that only the signer and the
//!   verifier make.
//! * [`Item`], [`Found`], [`MAX_ITEMS`], [`MIN_RETENTION_MS`]: the interface between the log and anti-entropy.

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

pub use author_stream::{AuthorStream, InstanceId};
pub use batch_id::BatchId;
pub use found::Found;
pub use item::Item;
pub(crate) use low_watermark::{DEFAULT_RETENTION_AGE, low_watermark_at};
pub use low_watermark::{MAX_ITEMS, MIN_RETENTION_MS};
pub(crate) use record::Seal;
pub use record::{EVENT_BYTES, Id, Outcome, Record, Stored, Verified};
pub use room_name::{MAX_ROOM_NAME_BYTES, RoomName, RoomNameError, TOPIC_PREFIX};
