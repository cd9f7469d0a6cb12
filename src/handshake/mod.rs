//! Two nodes that noise has connected prove their keys to each other: challenge and signature, in
//! two rounds, both ways round. Success yields a [`VerifiedPeer`], and nothing else does.
//!
//! In each round the client introduces itself (Hello); the server introduces itself, seals the
//! client's nonce and a secret of its own to the client's key and signs that (Challenge); the client
//! checks, and does the same the other way (Answer); the server checks, and gives a pass (Pass).
//! Whatever is signed, sealed or confirmed stands for all that was said before it, between these two
//! ids, on this connection: replayed, reflected and relayed answers fail. `proto/handshake.proto` is
//! the specification, `proto/vectors/handshake.json` has its bytes.
//!
//! * [`state`]: the [`Machine`] of one connection: whose turn it is, until when. `io`: what goes
//!   into it and comes out.
//! * `round`: one round as a chain of steps, with the checks in their order.
//! * `transcript`, `crypto`: what is hashed; what is sealed, opened and confirmed.
//! * `tags`: how the two find a network key that both hold.
//! * `referrals`: a refusal, and whom the refused peer may ask instead.
//! * `message`: frames as bytes and as types. [`reason`]: everything that can be wrong, by name.

mod behaviour;
pub(crate) mod crypto;
mod event;
mod io;
pub(crate) mod message;
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

/// The bit of a Core's features by which a dialer says that it comes to look and not to stay: the connection is not to become a
/// link. It is `diatribe check` that says so.
pub const VISIT: u64 = 2;

pub use behaviour::Behaviour;
pub use crypto::Entropy;
pub use event::{Event, VerifiedConnection};
pub use io::{Input, Output, Role};
pub use message::{FrameKind, MAX_FRAME, PROTOCOL};
pub use rate_limit::{HandshakeLimit, HandshakeRateLimiter};
pub use reason::{Failure, FailureOrigin, NetworkMismatch, Reason, RejectCode, Stage};
pub use referrals::{MAX_REFERRALS, Referrals, Refusal};
pub use round::Local;
pub use state::{FRAME_TIMEOUT, Machine, REJECT_FLUSH, TIMEOUT};
pub use verified::VerifiedPeer;
