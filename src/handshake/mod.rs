//! Mutual authentication of two nodes that noise has connected: challenge and signature, in two rounds, one in each
//! direction. Only success yields a [`VerifiedPeer`].
//!
//! In each round the client introduces itself (Hello). The server introduces itself, seals the client's nonce and a secret
//! of its own to the client's key, and signs that (Challenge). The client checks it, and does the same in the other
//! direction (Answer). The server checks that, and ends the round (Pass). Every signature, ciphertext and confirmation
//! covers all frames before it, both ids and the connection, so replayed, reflected and relayed frames fail.
//! `proto/handshake.proto` is the specification, and `proto/vectors/handshake.json` has its bytes.
//!
//! * `behaviour`: libp2p in and out. `session`: one connection. `rate_limit`: handshakes that strangers may begin.
//! * [`state`]: the [`Machine`] of one connection. `io`: its inputs and outputs. `deadlines`: its timeouts.
//! * `round`: one round as a chain of steps, with the checks in the protocol's order.
//! * `transcript`, `crypto`: hashes; sealing, opening and confirming.
//! * `tags`: private matching of network keys.
//! * `referrals`: refusals, and referrals to other nodes.
//! * `forge`: invalid proofs, for the tests and for the conformance kit.
//! * `protocol`: ids, roles, rounds, kinds of frames and codes of refusals.
//! * `message`: frames as bytes and as types. [`reason`]: every failure by name.

mod behaviour;
pub(crate) mod crypto;
mod deadlines;
mod encode;
mod event;
#[cfg(any(test, feature = "conformance"))]
#[cfg_attr(not(feature = "conformance"), allow(dead_code))]
pub(crate) mod forge;
mod io;
pub(crate) mod message;
mod protocol;
mod rate_limit;
pub mod reason;
mod referrals;
mod round;
mod session;
pub mod state;
pub(crate) mod tags;
pub(crate) mod transcript;
mod verified;

#[cfg(test)]
mod tests;

/// Feature bit of a dialer that only tests the connection: it does not become a link. `diatribe check` sets it.
pub const VISIT: u64 = 2;

pub use behaviour::Behaviour;
pub use crypto::Entropy;
pub use deadlines::{FRAME_TIMEOUT, HANDSHAKE_TIMEOUT};
pub use event::{Event, VerifiedConnection};
pub use io::{Input, Output};
pub use message::MAX_FRAME;
pub use protocol::{FrameKind, PROTOCOL, RejectCode, Role, Stage};
pub use rate_limit::{HandshakeLimit, HandshakeRateLimiter};
pub use reason::{Failure, FailureOrigin, NetworkMismatch, Reason};
pub use referrals::{MAX_REFERRALS, Referrals, Refusal};
pub use round::Local;
pub use session::REJECT_TIMEOUT;
pub use state::Machine;
pub use verified::VerifiedPeer;
