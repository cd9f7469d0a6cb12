//! Identifies the events of one process of an author in one room: the unit in which events are numbered and ordered.
//!
//! Entry type: [`AuthorStream`].

use super::room_name::RoomName;

/// Key of a numbered stream of events: room, author and process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuthorStream {
    /// Room of the events.
    pub room: RoomName,
    /// The author's libp2p `PublicKey`.
    pub author: bytes::Bytes,
    /// Random id of the author's process, new for each start.
    pub instance: [u8; 16],
}
