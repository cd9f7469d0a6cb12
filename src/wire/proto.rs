//! The types of `proto/*.proto`, one module for each file. They are generated and committed: a test in `tests/it/` compares
//! them with the files, and rewrites them on request.

/// `proto/handshake.proto`: mutual authentication of two nodes.
#[allow(clippy::all)]
pub mod handshake {
    include!("generated/diatribe.handshake.v1.rs");
}

/// `proto/gossip.proto`: signed batches of events in rooms.
#[allow(clippy::all)]
pub mod gossip {
    include!("generated/diatribe.gossip.v1.rs");
}

/// `proto/sync.proto`: anti-entropy between neighbours.
#[allow(clippy::all)]
pub mod sync {
    include!("generated/diatribe.sync.v1.rs");
}

/// `proto/overlay.proto`: links between nodes, redirect hints and handovers.
#[allow(clippy::all)]
pub mod overlay {
    include!("generated/diatribe.overlay.v1.rs");
}

/// `proto/members.proto`: who belongs to a founded network, and how somebody comes in.
#[allow(clippy::all)]
pub mod members {
    include!("generated/diatribe.members.v1.rs");
}
