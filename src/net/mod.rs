//! The transport of a node: TCP, TLS, WebSocket, noise and yamux, its addresses and its limits.
//!
//! Entry function: `transport::build`. The rule it keeps: it knows nothing of the node above it, and reports in values.
//!
//! * [`Address`] is an address to dial; [`Stage`] and [`StageError`] name the layer at which a connection failed.
//! * `tcp` dials and listens: `resolver` looks names up, `happy_eyeballs` and `staggered_dial` try several addresses,
//!   `link_local` listens on one interface. `listening` starts the listeners after `port_check`.
//! * `tls` adds TLS in `tls/layer`; `upgrade_request` answers clients that do not request WebSocket.
//! * `transport` composes the layers; `observed_upgrade` reports on noise and yamux; `diagnosis` turns errors into stages.
//! * `limits` is the quota of connections without a finished handshake (`slots`: eviction; `half_open`: closes sockets).
//! * `dial_guard` refuses to dial malformed addresses; `socket_addresses` knows the address to which a name led.
//! * `backpressure`, `coalesce` and `half_close` wrap a connection's streams as layers of `muxer_layer`: send windows, fewer flushes,
//!   late half-close.

pub(crate) mod address;
pub(crate) mod backpressure;
mod coalesce;
pub(crate) mod diagnosis;
mod dial_guard;
pub(crate) mod dial_progress;
pub(crate) mod half_close;
pub(crate) mod half_open;
mod happy_eyeballs;
pub(crate) mod limits;
mod link_local;
pub(crate) mod listening;
mod muxer_layer;
mod observed_upgrade;
mod port_check;
mod resolver;
mod slots;
pub(crate) mod socket_addresses;
pub(crate) mod stage;
pub(crate) mod staggered_dial;
mod tcp;
pub(crate) mod tls;
pub(crate) mod transport;
mod upgrade_request;

pub use address::{Address, AddressError};
pub use stage::{Stage, StageError};
