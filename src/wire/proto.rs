//! The types of `proto/*.proto`, one module for each file. Generated and committed; a test in
//! `tests/it/` compares them with the files and, asked to, writes them anew.

/// `proto/handshake.proto`: two nodes prove their keys to each other.
#[allow(clippy::all)]
pub mod handshake {
    include!("generated/diatribe.handshake.v1.rs");
}

/// `proto/gossip.proto`: what travels in a room.
#[allow(clippy::all)]
pub mod gossip {
    include!("generated/diatribe.gossip.v1.rs");
}

/// `proto/sync.proto`: neighbours compare what they hold and repair the difference.
#[allow(clippy::all)]
pub mod sync {
    include!("generated/diatribe.sync.v1.rs");
}

/// `proto/overlay.proto`: who is linked to whom.
#[allow(clippy::all)]
pub mod overlay {
    include!("generated/diatribe.overlay.v1.rs");
}
