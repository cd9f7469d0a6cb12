//! The gate: for the behaviours inside it, "connected" means "verified".
//!
//! [`Gate`] wraps the behaviours that carry gossip, redirects and data checking. A
//! connection comes up with an empty handler: it offers none of their protocols, so
//! that a stranger's stream is refused with `na`, and the inner behaviours are not
//! told that the peer exists. When the handshake yields its proof ([`Permit`]), the
//! gate *admits* it: it asks the inner behaviours for their handler, sends it down to the
//! connection and only then announces the connection to them.
//!
//! A gate opens in two steps, because a gossip stream that reaches a side whose gate
//! is still shut is refused, and gossipsub never tries again on that connection:
//!
//! 1. [`Gate::open_inbound`]: the peer's streams are taken; our own wait. The caller hears
//!    [`Event::Open`] once the connection really takes them, and only then says so to the
//!    peer.
//! 2. [`Gate::open_outbound`], or the peer's first gated stream: our own streams open too.
//!
//! A gate is never shut again: close the connection.

mod behaviour;
mod handler;
mod strict_negotiation;
#[cfg(test)]
mod tests;

pub use behaviour::{Event, Gate};
pub use handler::Handler;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

/// The proof that opens a gate. Implemented by nothing but the handshake's result.
pub trait Permit {
    /// Whom the handshake proved.
    fn peer_id(&self) -> PeerId;
    /// On which connection.
    fn connection_id(&self) -> ConnectionId;
}
