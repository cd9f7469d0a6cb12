//! Identifies the events of one process of an author in one room: the unit in which events are numbered and ordered.
//!
//! Entry types: [`AuthorStream`], [`InstanceId`].

use super::room_name::RoomName;

/// Random id of an author's process, new for each start.
pub type InstanceId = [u8; 16];

/// Key of a numbered stream of events: room, author and process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuthorStream {
    /// Room of the events.
    pub room: RoomName,
    /// The author's libp2p `PublicKey`.
    pub author: bytes::Bytes,
    /// Random id of the author's process, new for each start.
    pub instance: InstanceId,
}
