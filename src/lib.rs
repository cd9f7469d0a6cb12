//! diatribe: a private peer-to-peer broadcast layer over WebSocket, with no server in the middle.
//!
//! A node listens on a port, dials others, proves itself to them and has them prove themselves in
//! turn; then whatever one of them broadcasts in a room reaches everyone in it, signed by its author.
//!
//! ```text
//!  application ── Node ──────────────────────────────────────────────┐ events
//!       │ broadcast                                                  │
//!       ▼                                                            │
//!    outbox: number, batch, sign                    inbox: check, deliver
//!       │                                                  ▲
//!       ▼                 the one event loop               │
//!  ┌─────────────────────────────────────────────────────────────────────┐
//!  │ gate: only for peers that have passed                               │
//!  │    gossip: rooms, batches, forwarding                               │
//!  ├─────────────────────────────────────────────────────────────────────┤
//!  │ handshake: challenge and signature, in two rounds, both ways        │
//!  ├─────────────────────────────────────────────────────────────────────┤
//!  │ tcp → websocket (→ TLS) → noise → yamux; limits for strangers       │
//!  └─────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! In reading order, from the bottom up; imports go down only:
//!
//! * [`clock`], [`identity`], [`wire`]: time, keys, frames.
//! * [`handshake`]: two connected nodes prove their keys to each other.
//! * [`gate`]: for what stands behind it, "connected" means "verified".
//! * [`gossip`]: rooms and signed batches.
//! * [`node`]: all of it composed. Applications need [`Node`], [`Event`] and [`Identity`].

pub mod clock;
pub mod gate;
pub mod gossip;
pub mod handshake;
pub mod identity;
pub mod wire;
