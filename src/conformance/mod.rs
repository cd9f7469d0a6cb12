//! A conformance kit: the contract of `proto/`, case by case, against a running peer in whatever
//! language, which the kit dials or which dials the kit.
//!
//! Entry: [`run`], [`all`]. What it promises: every case names its paragraph, says what was expected
//! and what came; good cases show that an honest peer gets through, hostile ones that nobody else
//! does, and after each hostile case an honest link is tried again. What a peer forwards is seen at
//! another link of the kit's.
//!
//! * `runner`, `first`: the run. `case`, `cases`: what is run. `judge`: whether it is as it must be.
//! * `way`, `raw`, `streams`: connections, whoever makes them.
//! * `run_handshake`, `script`, `forge`, `tagging`: handshakes, honest and twisted.
//! * `link`, `rpc`, `frame`: links, gossip, bytes.

mod batch_builder;
mod case;
mod cases;
mod connector;
mod expectations;
mod forge;
pub mod frame;
mod latency_proxy;
mod link;
mod observer;
mod preflight;
mod raw_driver;
mod raw_peer;
mod received;
mod round;
pub mod rpc;
pub mod rpc_message;
mod runner;
mod script;
mod scripted_handshake;
mod stream_handler;
pub mod streams;
mod tag_mutation;
mod worker;

pub use case::{Case, Kind, Mode, Outcome, Verdict};
pub use runner::{Options, PeerInfo, Progress, Target, run};

/// Every case, in the order in which people read them.
pub fn all() -> impl Iterator<Item = &'static Case> {
    cases::all()
}
