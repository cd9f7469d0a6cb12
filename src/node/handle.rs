//! The handle by which an application uses a running node.
//!
//! Entry type: [`Node`]. The rule it keeps: every call returns, with a result or an error, also after the node has stopped.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use super::builder::NodeBuilder;
use super::clocks::ClockStatus;
use super::command::Command;
use super::crowding::Crowding;
use super::error::{BroadcastError, ConnectError, JoinError};
use super::event::{EventBus, Events};
use super::history_stream::{History, HistoryQuery};
use super::link_info::LinkInfo;
use super::outbox::{self, BroadcastReceipt, Outgoing};
use super::store::{RoomStatus, Store};
use super::supervisor::{NodeFailure, Supervisor};
use crate::gossip::{self, MAX_EVENT_DATA, MAX_EVENT_NAME, MessageIds};
use crate::identity::NetworkId;
use crate::model::RoomName;
use crate::net::address::Address;
use crate::net::tls::certificate::OwnCertificate;

/// A running node. A clone is another handle to the same node, which stops when the last handle is dropped.
///
/// # Examples
///
/// ```no_run
/// use diatribe::{Event, Identity, Node};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder().identity(Identity::generate()).start().await?;
/// let mut events = node.events();
/// node.connect("[2001:db8::1]:9000".parse()?).await?;
/// node.broadcast("lobby", "chat", "hello").await?;
/// while let Some(event) = events.next().await {
///     if let Event::Message(message) = event {
///         println!("{}: {:?}", message.author, message.data);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Node {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) peer_id: PeerId,
    pub(super) addresses: Vec<Multiaddr>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) outbox: mpsc::Sender<Outgoing>,
    pub(super) outbox_bytes: Arc<Semaphore>,
    /// Notified whenever a neighbour joins a room.
    pub(super) peer_joined: Arc<Notify>,
    pub(super) bus: EventBus,
    pub(super) store: Store,
    /// Counts the copies of batches.
    pub(super) ids: Arc<MessageIds>,
    pub(super) network: NetworkId,
    pub(super) supervisor: Supervisor,
    /// Weak, because it is watched while the transport uses it.
    pub(super) certificate: Option<Weak<OwnCertificate>>,
}

/// An event in the outbox's queue.
#[derive(Debug)]
pub struct PendingBroadcast {
    answer: oneshot::Receiver<Result<BroadcastReceipt, BroadcastError>>,
}

impl PendingBroadcast {
    /// Waits until the event is signed, published and stored. The event is sent even if this is dropped.
    ///
    /// # Errors
    ///
    /// The reason for which the event was not sent.
    pub async fn sent(self) -> Result<BroadcastReceipt, BroadcastError> {
        self.answer.await.unwrap_or(Err(BroadcastError::Stopped))
    }
}

impl Node {
    /// Returns the default options of a node, with which it can be started.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// Returns the node's public id.
    pub fn peer_id(&self) -> PeerId {
        self.shared.peer_id
    }

    /// Returns the addresses at which the node could be dialled at its start, `/p2p/` included. Later addresses are reported
    /// as [`super::Event::Listening`].
    pub fn addresses(&self) -> &[Multiaddr] {
        &self.shared.addresses
    }

    /// Returns a reader of the node's events from now on.
    pub fn events(&self) -> Events {
        self.shared.bus.subscribe()
    }

    /// Dials `address` once, and waits until both rounds of the handshake have passed. A peer that is linked already is not
    /// dialled again.
    ///
    /// # Errors
    ///
    /// The stage at which the dial or the handshake failed, and the reason.
    pub async fn connect(&self, address: Address) -> Result<LinkInfo, ConnectError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Connect { address, reply };
        self.shared
            .commands
            .send(command)
            .await
            .map_err(|_| ConnectError::Stopped)?;
        answer.await.unwrap_or(Err(ConnectError::Stopped))
    }

    /// Dials `address` until it answers, and again whenever its link is lost, with back-off and jitter, until the node stops.
    /// The first failure in a row is reported as [`super::Event::Refused`].
    pub async fn keep_dialing(&self, address: Address) {
        // A node that has stopped dials no address, and this call has no result to report.
        let _ = self
            .shared
            .commands
            .send(Command::KeepDialing { address })
            .await;
    }

    /// Sends an event to all members of `room`. Waits while the queues are full, and until the event is signed, published and
    /// stored.
    ///
    /// # Errors
    ///
    /// The reason for which the event was not sent, such as [`BroadcastError::NoLinks`].
    pub async fn broadcast(
        &self,
        room: &str,
        name: &str,
        data: impl Into<Bytes>,
    ) -> Result<BroadcastReceipt, BroadcastError> {
        let (room, event) = self.event(room, name, data.into())?;
        self.send(room, event).await
    }

    /// Sends an event as [`Node::broadcast`] does, but waits for a linked peer in the room while there is none.
    ///
    /// # Errors
    ///
    /// As those of [`Node::broadcast`], except [`BroadcastError::NoLinks`].
    pub async fn broadcast_when_linked(
        &self,
        room: &str,
        name: &str,
        data: impl Into<Bytes>,
    ) -> Result<BroadcastReceipt, BroadcastError> {
        let (room, event) = self.event(room, name, data.into())?;
        loop {
            let joined = self.shared.peer_joined.notified();
            tokio::pin!(joined);
            joined.as_mut().enable();
            match self.send(room.clone(), event.clone()).await {
                Err(BroadcastError::NoLinks(_)) => joined.await,
                result => return result,
            }
        }
    }

    /// Queues an event behind the earlier ones, and returns without waiting for the result, which [`PendingBroadcast::sent`]
    /// returns: a quick sender need not wait for each receipt.
    ///
    /// # Errors
    ///
    /// The event is invalid, or the node has stopped.
    pub async fn enqueue(
        &self,
        room: &str,
        name: &str,
        data: impl Into<Bytes>,
    ) -> Result<PendingBroadcast, BroadcastError> {
        let (room, event) = self.event(room, name, data.into())?;
        self.queue(room, event).await
    }

    /// Checks an event of the application.
    fn event(
        &self,
        room: &str,
        name: &str,
        data: Bytes,
    ) -> Result<(RoomName, gossip::Event), BroadcastError> {
        let room: RoomName = room
            .parse()
            .map_err(|e| BroadcastError::Unsendable(format!("{e}")))?;
        if data.len() > MAX_EVENT_DATA {
            return Err(BroadcastError::TooLarge { bytes: data.len() });
        }
        if name.len() > MAX_EVENT_NAME {
            return Err(BroadcastError::NameTooLong { bytes: name.len() });
        }
        Ok((room, gossip::Event::new(name, data)))
    }

    async fn send(
        &self,
        room: RoomName,
        event: gossip::Event,
    ) -> Result<BroadcastReceipt, BroadcastError> {
        self.queue(room, event).await?.sent().await
    }

    async fn queue(
        &self,
        room: RoomName,
        event: gossip::Event,
    ) -> Result<PendingBroadcast, BroadcastError> {
        let permit = outbox::permit(&self.shared.outbox_bytes, &event).await?;
        let (reply, answer) = oneshot::channel();
        let outgoing = Outgoing {
            room,
            event,
            reply,
            permit,
        };
        self.shared
            .outbox
            .send(outgoing)
            .await
            .map_err(|_| BroadcastError::Stopped)?;
        Ok(PendingBroadcast { answer })
    }

    /// Joins a room: its messages arrive as events from now on.
    ///
    /// # Errors
    ///
    /// [`JoinError::TooMany`] when the node is in the maximum number of rooms, [`JoinError::Stopped`] when it has stopped.
    pub async fn join(&self, room: RoomName) -> Result<(), JoinError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Join { room, reply };
        self.shared
            .commands
            .send(command)
            .await
            .map_err(|_| JoinError::Stopped)?;
        answer.await.unwrap_or(Err(JoinError::Stopped))
    }

    /// Leaves a room. Returns whether the node was in it.
    pub async fn leave(&self, room: RoomName) -> bool {
        self.ask(|reply| Command::Leave { room, reply })
            .await
            .unwrap_or(false)
    }

    /// Returns the rooms of the node.
    pub async fn rooms(&self) -> Vec<RoomName> {
        self.ask(|reply| Command::Rooms { reply })
            .await
            .unwrap_or_default()
    }

    /// Returns the links, the oldest first.
    pub async fn peers(&self) -> Vec<LinkInfo> {
        self.ask(|reply| Command::Peers { reply })
            .await
            .unwrap_or_default()
    }

    /// Reads the messages in the log, this node's own included; see [`HistoryQuery`].
    pub fn history(&self, query: HistoryQuery) -> History {
        History::new(self.shared.store.clone(), self.shared.network, query)
    }

    /// Returns the state of each room: the number of stored batches, and of neighbours that hold the same.
    pub async fn status(&self) -> Vec<RoomStatus> {
        self.ask(|reply| Command::Status { reply })
            .await
            .unwrap_or_default()
    }

    /// Compares this machine's clock with those of the linked peers, and returns whether the node trusts it.
    pub async fn clocks(&self) -> ClockStatus {
        self.ask(|reply| Command::Clocks { reply })
            .await
            .unwrap_or_default()
    }

    /// Returns the peers that have taken more than their share of the log in the last ten minutes, the last one first: their
    /// own oldest messages made room.
    pub fn crowding(&self) -> Vec<Crowding> {
        self.shared.store.crowders.recent()
    }

    /// Returns the number of copies of batches since the start: received by gossip or after an announcement, and gossiped by
    /// this node itself.
    pub fn message_copies(&self) -> u64 {
        self.shared.ids.copies()
    }

    /// Replaces the peer lists of [`NodeBuilder::trust`] and [`NodeBuilder::deny`]. Links with peers that they no longer admit
    /// are closed.
    pub async fn set_peer_lists(&self, trust: Vec<PeerId>, deny: Vec<PeerId>) {
        // A node that has stopped has no links.
        self.ask(|reply| Command::SetPeerLists { trust, deny, reply })
            .await;
    }

    /// Reads the node's TLS certificate and its key again, at once instead of within 10 seconds. Returns the end of its
    /// validity, for people; none for a node without one.
    ///
    /// # Errors
    ///
    /// The error in the files. The node keeps its present certificate.
    pub fn reload_certificate(&self) -> Option<Result<String, String>> {
        let certificate = self.shared.certificate.as_ref()?.upgrade()?;
        Some(certificate.reload())
    }

    /// Returns the failure of a task for which the node ended by itself, if it did. Its events have ended, or are about to
    /// end, after an [`super::Event::Error`] with the reason.
    pub fn failure(&self) -> Option<NodeFailure> {
        self.shared.supervisor.failure()
    }

    /// Stops the node: peers are notified, the log is closed, and the events end.
    pub async fn shutdown(&self) {
        self.ask(|reply| Command::Shutdown { reply }).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.shared.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}
