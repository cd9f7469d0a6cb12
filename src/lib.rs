//! diatribe: a private peer-to-peer broadcast layer over WebSocket, with no server in the middle.
//!
//! A node listens on a port, dials others, proves itself to them and has them prove themselves in
//! turn; then whatever one of them broadcasts in a room reaches everyone in it, signed by its author.
//!
//! ```text
//!  application ── Node ◄───────────────────────── events, once and in order
//!       │ broadcast                                          ▲
//!       ▼                                                    │
//!    outbox: number, batch, sign ─────► ingest: check, log, compare with neighbours
//!       │                                                    ▲
//!       ▼                 the one event loop                 │
//!  ┌─────────────────────────────────────────────────────────────────────┐
//!  │ gate: only for peers that have passed                               │
//!  │    gossip: rooms, batches, forwarding                               │
//!  │    overlay: five links, redirect hints, repair                      │
//!  │    sync: data checking between neighbours                           │
//!  ├─────────────────────────────────────────────────────────────────────┤
//!  │ handshake: challenge and signature, in two rounds, both ways        │
//!  ├─────────────────────────────────────────────────────────────────────┤
//!  │ tcp → websocket (→ TLS) → noise → yamux; limits for strangers       │
//!  └─────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! In reading order, from the bottom up; imports go down only:
//!
//! * [`model`]: names of rooms and batches, and what several of the following have in common.
//! * [`clock`], `rate_limit`, [`identity`], [`wire`]: time, how often is told what others bring about, keys, frames.
//! * [`handshake`]: two connected nodes prove their keys to each other.
//! * [`gate`]: for what stands behind it, "connected" means "verified".
//! * [`gossip`]: rooms and signed batches.
//! * [`overlay`]: who is linked to whom, and how the mesh heals.
//! * [`store`]: the log.
//! * [`sync`]: what neighbours compare.
//! * [`net`]: the transport, from TCP to yamux, its addresses and its limits.
//! * [`node`]: all of it composed. Applications need [`Node`], [`Event`] and [`Identity`].
//!
//! # In a program
//!
//! ```
//! use diatribe::{Event, Identity, Node};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listen = || ["/ip4/127.0.0.1/tcp/0/ws".parse().expect("a multiaddr")];
//! let alice = Node::builder().identity(Identity::generate()).listen(listen()).start().await?;
//! let bob = Node::builder().identity(Identity::generate()).listen(listen()).start().await?;
//!
//! let mut heard = bob.events();
//! alice.connect(bob.addresses()[0].clone().try_into()?).await?;
//! alice.broadcast_when_linked("lobby", "chat", "hello").await?;
//!
//! while let Some(event) = heard.next().await {
//!     if let Event::Message(message) = event {
//!         assert_eq!((message.author, &message.data[..]), (alice.peer_id(), &b"hello"[..]));
//!         break;
//!     }
//! }
//! alice.shutdown().await;
//! bob.shutdown().await;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod app;
pub mod clock;
#[cfg(feature = "conformance")]
#[doc(hidden)]
pub mod conformance;
pub mod gate;
pub mod gossip;
pub mod handshake;
pub mod identity;
pub mod model;
pub mod net;
pub mod node;
pub mod overlay;
mod rate_limit;
pub mod store;
pub mod sync;
pub mod wire;

pub use identity::{Identity, NetworkKey};
pub use libp2p::{Multiaddr, PeerId};
pub use model::{BatchId, RoomName, RoomNameError};
pub use net::{Address, AddressError, Stage, StageError};
pub use node::{
    BroadcastError, BroadcastReceipt, ClockReport, ClockState, ClockStatus, ConnectError, Crowding,
    DEFAULT_LISTEN, DEFAULT_ROOM, DatedThan, Direction, EPHEMERAL_BYTES, Event, Events, History,
    HistoryQuery, JoinError, LinkInfo, MAX_STRETCHES, MAX_WAITING_BYTES, MAX_WAITING_EVENTS,
    Message, Node, NodeBuilder, NodeFailure, PendingBroadcast, Probe, ProbeStep, Probed,
    RoomStatus, StartError, WrongClock,
};
pub use store::{LogError, RetentionPolicy, Sync};
