//! What one process of an author says in a room.
//!
//! Entry type: [`AuthorStream`].

/// The events of one process of one author in one room.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuthorStream {
    /// The room.
    pub room: String,
    /// The author's libp2p `PublicKey`.
    pub author: bytes::Bytes,
    /// The author's process.
    pub instance: [u8; 16],
}
