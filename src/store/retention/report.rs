//! Reports of removed batches.
//!
//! Entry types: [`Pruned`], [`Crowding`].

use bytes::Bytes;

use crate::model::RoomName;

/// Report that batches of a room were removed or its low watermark rose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// The room.
    pub room: RoomName,
    /// Low watermark in Unix milliseconds: older batches are neither stored nor compared.
    pub low_watermark_ms: u64,
    /// Number of removed batches.
    pub batches: u64,
    /// Number of tombstones of the room; anti-entropy counts them as held.
    pub removed: u64,
    /// Author that caused the removal by holding more than its share.
    pub crowding: Option<Crowding>,
}

/// An author or a link that fills the log faster than its share allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crowding {
    /// Author of the removed batches (a libp2p `PublicKey`).
    pub author: Bytes,
    /// PeerId of the neighbour that delivered most of the author's batches; none if this node made them or it is
    /// unknown.
    pub link: Option<Bytes>,
    /// Whether the share exceeded is that of new authors, of which the link delivered the most.
    pub is_by_link: bool,
    /// Bytes in the log of the author, or of all new authors that the link delivered.
    pub bytes: u64,
    /// Bytes that it may hold while others hold less.
    pub share: u64,
    /// Number of batches removed just now from authors over their share.
    pub batches: u64,
}
