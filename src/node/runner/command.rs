//! Commands of the application to the loop, and the loop's channels.
//!
//! Entry types: [`Command`], [`Channels`]. The rule it keeps: a command with a reply is answered, or its sender is dropped when
//! the node stops.

use std::sync::Arc;

use libp2p::PeerId;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::model::RoomName;
use crate::net::address::Address;
use crate::node::clocks::ClockStatus;
use crate::node::error::{ConnectError, JoinError};
use crate::node::handle::LinkInfo;
use crate::node::inbox::{Incoming, Verdict};
use crate::node::ingest::{NetworkRequest, SyncCommand};
use crate::node::outbox::Publish;
use crate::node::store::RoomStatus;

/// A command of the application.
pub(crate) enum Command {
    Connect {
        address: Address,
        reply: oneshot::Sender<Result<LinkInfo, ConnectError>>,
    },
    KeepDialing {
        address: Address,
    },
    Join {
        room: RoomName,
        reply: oneshot::Sender<Result<(), JoinError>>,
    },
    Leave {
        room: RoomName,
        reply: oneshot::Sender<bool>,
    },
    Rooms {
        reply: oneshot::Sender<Vec<RoomName>>,
    },
    Peers {
        reply: oneshot::Sender<Vec<LinkInfo>>,
    },
    Status {
        reply: oneshot::Sender<Vec<RoomStatus>>,
    },
    Clocks {
        reply: oneshot::Sender<ClockStatus>,
    },
    SetPeerLists {
        trust: Vec<PeerId>,
        deny: Vec<PeerId>,
        reply: oneshot::Sender<()>,
    },
    Shutdown {
        reply: oneshot::Sender<()>,
    },
}

/// The loop's channels to the application and to the tasks beside it.
pub(crate) struct Channels {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) publishes: mpsc::Receiver<Publish>,
    pub(crate) ingest: IngestChannels,
    /// Notified whenever a neighbour joins a room.
    pub(crate) peer_joined: Arc<Notify>,
}

/// The loop's channels to the ingest task.
pub(crate) struct IngestChannels {
    pub(crate) messages: mpsc::Sender<Incoming>,
    pub(crate) verdicts: mpsc::Receiver<Verdict>,
    pub(crate) commands: mpsc::UnboundedSender<SyncCommand>,
    pub(crate) network_requests: mpsc::Receiver<NetworkRequest>,
    /// The task, which ends after `network_requests` is dropped.
    pub(crate) task: JoinHandle<()>,
}
