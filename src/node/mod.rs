//! A node: the behaviours composed, one event loop, and the handle for applications.
//!
//! * [`NodeBuilder`] starts one, [`Node`] is the handle, [`Events`] what it tells.
//! * `runner` is the loop; whatever crosses between protocols crosses there.
//! * `outbox` signs what the application sends; `keeper` checks what the mesh brings (`inbox`) and has it
//!   stored. Each is a task of its own, so that the loop only moves bytes.
//! * `tcp` dials and listens (`names`: host names; `race` and `turns`: several addresses; `zone`: link-local ones).
//! * `tls` and `secure` put TLS in between (`certificate`: the node's own, `verifier`: those of others), and `door` answers whoever
//!   does not want WebSocket. `listening` brings the
//!   listeners up; `transport` and [`Stage`] say where a connection failed; `limits` bounds strangers
//!   (`places`: who gives way; `give_way`: how a half-open connection is closed); `remote` says where sockets really lead,
//!   and keeps odd addresses from being dialled.
//! * `coalesce`, `pressure` and `half_close` are what a connection's streams pass on their way to yamux.
//! * `supervisor` ends the node as a whole when one of its tasks fails.
//! * `clocks` compares this machine's clock with the neighbours' and says when not to trust it.
//! * `links`, `dialing`, `admission`, `rooms` are plain state, without any network.

mod address;
mod admission;
mod behaviour;
mod book;
mod builder;
mod certificate;
mod clocks;
mod coalesce;
mod crowding;
mod diagnosis;
mod dialing;
mod door;
mod error;
mod event;
mod failure;
mod give_way;
pub(crate) mod half_close;
mod handle;
mod heads;
mod identify;
mod inbox;
mod ingest;
mod limits;
mod links;
mod listening;
mod names;
#[cfg(feature = "cli")]
mod offline;
mod outbox;
mod past;
mod places;
mod ports;
mod pressure;
mod probe;
mod race;
mod remote;
mod rooms;
mod runner;
mod said;
mod secure;
mod stage;
mod store;
mod supervisor;
mod tcp;
mod tls;
mod transport;
mod turns;
mod upgrade;
mod verifier;
mod zone;

pub use address::{Address, AddressError};
pub use builder::{DEFAULT_LISTEN, DEFAULT_ROOM, EPHEMERAL_BYTES, NodeBuilder};
pub use clocks::{ClockReport, ClockState, ClockStatus, WrongClock};
pub use crowding::Crowding;
pub use error::{BroadcastError, ConnectError, JoinError, StartError};
pub use event::{
    DatedThan, Direction, Event, Events, MAX_STRETCHES, MAX_WAITING_BYTES, MAX_WAITING_EVENTS,
    Message,
};
pub use handle::{LinkInfo, Node, Sending};
#[cfg(feature = "cli")]
pub(crate) use offline::{pages, reopen};
pub use outbox::Sent;
pub use past::{History, HistoryQuery};
pub use probe::{Probe, ProbeStep, Probed};
pub use stage::{Stage, StageError};
pub use store::RoomStatus;
pub use supervisor::NodeFailure;
