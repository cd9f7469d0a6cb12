//! The transport of a node: TCP, TLS, WebSocket, noise and yamux, its addresses and its limits.
//!
//! Entry function: [`transport::build`]. The rule it keeps: it knows nothing of the node above it, and reports in values.
//!
//! * [`Address`] is an address to dial; [`Stage`] and [`StageError`] name the layer at which a connection failed.
//! * `tcp` dials and listens (`names`: host names; `race` and `turns`: several addresses; `zone`: link-local ones).
//! * `tls` and `secure` add TLS (`certificate`: the node's own, `verifier`: those of others), and `door` answers clients
//!   that do not request WebSocket. `listening` starts the listeners (`ports`: is a port free).
//! * `transport` composes the layers; `upgrade` observes noise and yamux; `diagnosis` turns their errors into stages.
//! * `limits` bounds connections without a finished handshake (`places`: eviction; `give_way`: closes half-open ones).
//! * `remote` finds the address that a socket really has, and refuses to dial malformed addresses.
//! * `coalesce`, `pressure` and `half_close` wrap a connection's streams: coalesced writes, backpressure, half-close.

pub(crate) mod address;
pub(crate) mod certificate;
mod coalesce;
pub(crate) mod diagnosis;
mod door;
pub(crate) mod give_way;
pub(crate) mod half_close;
pub(crate) mod limits;
pub(crate) mod listening;
mod names;
mod places;
mod ports;
pub(crate) mod pressure;
mod race;
pub(crate) mod remote;
mod secure;
pub(crate) mod stage;
mod tcp;
pub(crate) mod tls;
pub(crate) mod transport;
pub(crate) mod turns;
mod upgrade;
mod verifier;
mod zone;

pub use address::{Address, AddressError};
pub use stage::{Stage, StageError};
