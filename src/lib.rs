//! diatribe: a private peer-to-peer broadcast layer over WebSocket, with no server in the middle.
//!
//! A node listens on a port and dials other nodes. Both ends of a connection prove their keys in a
//! handshake before either accepts messages from the other. Each node in a room receives every message
//! that is broadcast in it, signed by its author.
//!
//! ```text
//!  application ── Node ◄───────────────────────── events, once and in order
//!       │ broadcast                                          ▲
//!       ▼                                                    │
//!    outbox: number, batch, sign ─────► ingest: verify, store, compare with neighbours
//!       │                                                    ▲
//!       ▼                 the one event loop                 │
//!  ┌─────────────────────────────────────────────────────────────────────┐
//!  │ gate: only for peers that have passed the handshake                 │
//!  │    gossip: rooms, batches, forwarding                               │
//!  │    overlay: five links, redirect hints, repair                      │
//!  │    sync: anti-entropy ("data checking") between neighbours          │
//!  ├─────────────────────────────────────────────────────────────────────┤
//!  │ handshake: challenge and signature, in two rounds, both ways        │
//!  ├─────────────────────────────────────────────────────────────────────┤
//!  │ tcp → websocket (→ TLS) → noise → yamux; limits for strangers       │
//!  └─────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The modules, in reading order from the bottom up; imports go down only:
//!
//! * [`model`]: names of rooms, ids of batches, and other types that several modules share.
//! * [`clock`], `rate_limit`, [`identity`], [`wire`]: time, rate limits, keys, and the bounded codec.
//! * [`handshake`]: two connected nodes prove their keys to each other.
//! * [`gate`]: the protocols behind it see a connection only after its peer is verified.
//! * [`gossip`]: rooms and signed batches.
//! * [`overlay`]: the choice of links, and the repair of the mesh.
//! * [`store`]: the log on disk, with its journal and retention.
//! * [`sync`]: anti-entropy between neighbours: they compare their logs and fetch missing batches.
//! * [`members`]: records of a founded network and the state that they give. Nodes do not use them yet.
//! * [`net`]: the transport, from TCP to yamux, its addresses, limits and backpressure.
//! * [`node`]: all of it composed. Applications need [`Node`], [`Event`] and [`Identity`].
//!
//! # Examples
//!
//! Two nodes in one process; one receives the other's message.
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
pub mod members;
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
