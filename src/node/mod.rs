//! A node: the behaviours composed, one event loop, and the handle for applications.
//!
//! * [`NodeBuilder`] starts a node, [`Node`] is the handle, [`Events`] a reader of its events.
//! * `command` is the one type in which the application's calls reach the loop.
//! * `runner` is the event loop: one driver for each protocol, and one place where effects cross between them.
//! * `outbox` batches and signs the application's events. `ingest` verifies received messages (`inbox`), has them stored,
//!   delivers them in order (`reorder_buffer`), and runs anti-entropy ("data checking"). Each is a task of its own, so that
//!   the loop only moves bytes.
//! * `supervisor` stops the node as a whole when one of its tasks fails.
//! * `clocks` compares this machine's clock with the neighbours' clocks, and decides when not to trust it.
//! * `links`, `dialing`, `admission` (peer lists and bans) and `rooms` are pure state, without a network.

mod admission;
mod behaviour;
mod book;
mod builder;
mod clocks;
mod command;
mod crowding;
mod dialing;
mod error;
mod event;
mod failure;
mod handle;
mod heads;
mod history_stream;
mod identify;
mod identify_report;
mod inbox;
mod ingest;
mod link_info;
mod links;
#[cfg(feature = "cli")]
mod offline;
mod outbox;
mod probe;
mod reorder_buffer;
mod rooms;
mod runner;
#[cfg(all(test, feature = "serde"))]
mod serialize_tests;
mod store;
mod supervisor;

pub use builder::{DEFAULT_LISTEN, DEFAULT_ROOM, EPHEMERAL_BYTES, NodeBuilder};
pub use clocks::{ClockReport, ClockState, ClockStatus, WrongClock};
pub use crowding::Crowding;
pub use error::{BroadcastError, ConnectError, JoinError, StartError};
pub use event::{
    DatedThan, Direction, Event, Events, MAX_STRETCHES, MAX_WAITING_BYTES, MAX_WAITING_EVENTS,
    Message,
};
pub use handle::{Node, PendingBroadcast};
pub use history_stream::{History, HistoryQuery};
pub use link_info::LinkInfo;
#[cfg(feature = "cli")]
pub(crate) use offline::{pages, reopen};
pub use outbox::BroadcastReceipt;
pub use probe::{Probe, ProbeStep, Probed};
pub use store::RoomStatus;
pub use supervisor::NodeFailure;
