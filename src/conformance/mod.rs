//! A conformance kit: it runs the contract of `proto/`, case by case, against a peer in any language.
//!
//! The kit dials the peer, or the peer dials the kit. Entry: [`run`], [`all`]. Each result names the paragraph of its
//! rule, the expected and the actual behaviour. Good cases show that an honest peer is accepted, hostile ones that
//! nobody else is. After each hostile case an honest link is tried again, and an observer's link shows which messages
//! the peer has forwarded.
//!
//! * `options`, `target`, `progress`: inputs and results of a run. `runner`, `worker`, `observer`, `preflight`: the run.
//! * `case`, `cases`: the cases. `expectations`: the checks of a reaction.
//! * `connector`, `latency_proxy`, `raw_peer`, `conn`, `raw_driver`, `streams`, `stream_handler`: connections in either
//!   direction.
//! * `scripted_handshake`, `script`, `round`, `tag_mutation`: handshakes, honest and mutated.
//! * `link`, `link_config`, `linking`, `gossip_stream`: links. `batch_builder`, `envelope`: batches.
//! * `received`, `rpc`, `rpc_message`, `frame`: gossip and frames.

mod batch_builder;
mod case;
mod cases;
mod conn;
mod connector;
mod envelope;
mod expectations;
#[doc(hidden)]
pub mod frame;
mod gossip_stream;
mod latency_proxy;
mod link;
mod link_config;
mod linking;
mod observer;
mod options;
mod preflight;
mod progress;
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
mod target;
mod worker;

pub use case::{Case, Kind, Outcome, Verdict};
pub use options::Options;
pub use progress::{PeerInfo, Progress};
pub use runner::run;
pub use target::{Mode, Target};

/// Returns every case, in the order in which they are listed.
pub fn all() -> impl Iterator<Item = &'static Case> {
    cases::all()
}
