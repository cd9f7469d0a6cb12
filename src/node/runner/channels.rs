//! The event loop's channels to the application and to the other tasks of the node.
//!
//! Entry type: [`Channels`]. The rule it keeps: the outbox's batches are read only while the links have room for them.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::node::command::Command;
use crate::node::inbox::{Incoming, Verdict};
use crate::node::ingest::{NetworkRequest, SyncCommand};
use crate::node::outbox::Publish;

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
