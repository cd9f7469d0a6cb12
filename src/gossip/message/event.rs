//! Events as applications broadcast them.
//!
//! Entry type: [`Event`]. The rule it keeps: the limits of an event are checked before it is signed, and again when it is
//! received.

use std::fmt;

use bytes::Bytes;
use prost::encoding;

use super::error::BatchError;
use super::limits::MAX_EVENT_NAME;
use crate::model::EVENT_BYTES;
use crate::wire::envelope::MAX_EVENT_DATA;
use crate::wire::proto::gossip as proto;

/// Bytes that each event counts for beyond its own size in queues, in an author's share of the log and in quotas. A node
/// spends about that much on an empty event.
pub const EVENT_OVERHEAD: usize = 64;

/// The log counts events in the same way.
const _: () = assert!(EVENT_BYTES == EVENT_OVERHEAD as u64);

/// An event that an application broadcasts.
///
/// # Examples
///
/// ```
/// use diatribe::gossip::Event;
///
/// let event = Event::new("chat", "hello");
/// assert!(event.check().is_ok());
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Event {
    /// The application's name for this kind of event, of at most [`MAX_EVENT_NAME`] bytes.
    pub name: String,
    /// The application's data, of at most [`MAX_EVENT_DATA`] bytes.
    pub data: Bytes,
}

impl Event {
    /// Returns an event with this name and data. Its limits are checked when it is sent.
    pub fn new(name: impl Into<String>, data: impl Into<Bytes>) -> Event {
        Event {
            name: name.into(),
            data: data.into(),
        }
    }

    /// Checks the limits of the event.
    ///
    /// # Errors
    ///
    /// Returns the limit that the name or the data exceeds.
    pub fn check(&self) -> Result<(), BatchError> {
        check_event(self.name.len(), self.data.len())
    }

    /// Returns the bytes that the event counts for: its size in a batch, and [`EVENT_OVERHEAD`]. A sender fills a batch up
    /// to [`MAX_BATCH_BYTES`](super::MAX_BATCH_BYTES) of them.
    pub fn cost(&self) -> usize {
        self.len_in_batch() + EVENT_OVERHEAD
    }

    /// Returns the size of the event in a batch, in bytes.
    pub fn len_in_batch(&self) -> usize {
        let field = |len: usize| match len {
            0 => 0,
            len => 1 + encoding::encoded_len_varint(len as u64) + len,
        };
        let len = field(self.name.len()) + field(self.data.len());
        1 + encoding::encoded_len_varint(len as u64) + len
    }
}

/// Checks the sizes of an event's name and data.
pub(super) fn check_event(name: usize, data: usize) -> Result<(), BatchError> {
    if name > MAX_EVENT_NAME {
        return Err(BatchError::NameTooLong(name));
    }
    if data > MAX_EVENT_DATA {
        return Err(BatchError::EventTooLarge(data));
    }
    Ok(())
}

impl From<Event> for proto::Event {
    fn from(Event { name, data }: Event) -> proto::Event {
        proto::Event { name, data }
    }
}

impl From<proto::Event> for Event {
    fn from(proto::Event { name, data }: proto::Event) -> Event {
        Event { name, data }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Event({:?}, {} bytes)", self.name, self.data.len())
    }
}
