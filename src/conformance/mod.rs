//! A conformance kit: it runs the contract of `proto/`, case by case, against a peer in any language.
//!
//! The kit dials the peer, or the peer dials the kit. Entry: [`run`], [`all`]. Each result names the paragraph of its
//! rule, the expected and the actual behaviour. Good cases show that an honest peer is accepted, hostile ones that
//! nobody else is. After each hostile case an honest link is tried again, and an observer's link shows which messages
//! the peer has forwarded.
//!
//! * `runner`, `worker`, `observer`, `preflight`: the run. `case`, `cases`: the cases. `expectations`: the checks of a
//!   reaction.
//! * `connector`, `latency_proxy`, `raw_peer`, `raw_driver`, `streams`, `stream_handler`: connections in either
//!   direction.
//! * `scripted_handshake`, `script`, `round`, `tag_mutation`: handshakes, honest and mutated.
//! * `link`, `link_config`, `batch_builder`, `received`, `rpc`, `rpc_message`, `frame`: links, batches, gossip, frames.

mod batch_builder;
mod case;
mod cases;
mod connector;
mod expectations;
#[doc(hidden)]
pub mod frame;
mod latency_proxy;
mod link;
mod link_config;
mod observer;
mod preflight;
mod raw_driver;
#[doc(hidden)]
pub mod raw_peer;
mod received;
mod round;
#[doc(hidden)]
pub mod rpc;
#[doc(hidden)]
pub mod rpc_message;
mod runner;
mod script;
mod scripted_handshake;
mod stream_handler;
#[doc(hidden)]
pub mod streams;
mod tag_mutation;
mod worker;

pub use case::{Case, Kind, Mode, Outcome, Verdict};
pub use runner::{Options, PeerInfo, Progress, Target, run};

/// Returns every case, in the order in which they are listed.
pub fn all() -> impl Iterator<Item = &'static Case> {
    cases::all()
}
