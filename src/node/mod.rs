//! A node: the behaviours composed, one event loop, and the handle for applications.
//!
//! * [`NodeBuilder`] starts one, [`Node`] is the handle, [`Events`] what it tells.
//! * `runner` is the loop; whatever crosses between protocols crosses there.
//! * `outbox` signs what the application sends; `keeper` checks what the mesh brings (`inbox`) and has it
//!   stored. Each is a task of its own, so that the loop only moves bytes.
//! * `supervisor` ends the node as a whole when one of its tasks fails.
//! * `clocks` compares this machine's clock with the neighbours' and says when not to trust it.
//! * `links`, `dialing`, `admission`, `rooms` are plain state, without any network.

mod admission;
mod behaviour;
mod book;
mod builder;
mod clocks;
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
pub use handle::{LinkInfo, Node, Sending};
pub use history_stream::{History, HistoryQuery};
#[cfg(feature = "cli")]
pub(crate) use offline::{pages, reopen};
pub use outbox::Sent;
pub use probe::{Probe, ProbeStep, Probed};
pub use store::RoomStatus;
pub use supervisor::NodeFailure;
