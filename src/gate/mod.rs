//! Keeps connections of unverified peers away from the behaviours inside it.
//!
//! [`Gate`] wraps the behaviours for gossip, redirect hints and anti-entropy. A new connection gets an empty handler: it
//! offers none of their protocols, a stream for one of them is refused with `na`, and the inner behaviours do not learn
//! that the peer exists. The end of the handshake yields a [`Permit`]. With it the gate *admits* the connection: it asks
//! the inner behaviours for a handler, sends that to the connection, and then announces the connection to them.
//!
//! The rule: for the behaviours inside, "connected" means "verified". A gate opens in two steps, because a gossip stream
//! that reaches a shut gate is refused, and gossipsub never tries again on that connection:
//!
//! 1. [`Gate::open_inbound`] accepts the peer's streams; our own wait. [`Event::Open`] follows when the connection
//!    accepts them, and only then may the caller tell the peer.
//! 2. [`Gate::open_outbound`], or the peer's first stream through the gate, lets our own streams open.
//!
//! An open gate never shuts again: close the connection instead.

mod behaviour;
mod gated_upgrade;
mod handler;
mod strict_negotiation;
#[cfg(test)]
mod tests;

pub use behaviour::{Event, Gate};
pub use handler::Handler;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

/// Proof that the handshake of a connection has succeeded: it opens the connection's gate.
///
/// The trait is sealed. In this crate the result of a handshake implements it, and no other crate can:
///
/// ```compile_fail
/// struct Forged(libp2p::PeerId, libp2p::swarm::ConnectionId);
///
/// impl diatribe::gate::Permit for Forged {
///     fn peer_id(&self) -> libp2p::PeerId {
///         self.0
///     }
///     fn connection_id(&self) -> libp2p::swarm::ConnectionId {
///         self.1
///     }
/// }
/// ```
pub trait Permit: sealed::Sealed {
    /// Returns the peer that proved its key.
    fn peer_id(&self) -> PeerId;
    /// Returns the connection on which it did.
    fn connection_id(&self) -> ConnectionId;
}

/// Seals [`Permit`].
pub(crate) mod sealed {
    /// A type that may be a [`Permit`](super::Permit).
    pub trait Sealed {}
}
