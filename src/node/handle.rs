//! The handle by which an application uses a running node.
//!
//! Entry type: [`Node`]. The rule it keeps: every call answers, with a result or with the reason why
//! not, also when the node has stopped.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use super::builder::NodeBuilder;
use super::clocks::ClockStatus;
use super::crowding::Crowding;
use super::error::{BroadcastError, ConnectError, JoinError};
use super::event::{Direction, EventBus, Events};
use super::history_stream::{History, HistoryQuery};
use super::links::Link;
use super::outbox::{self, Outgoing, Sent};
use super::runner::Command;
use super::store::{RoomStatus, Store};
use super::supervisor::{NodeFailure, Supervisor};
use crate::clock::Time;
use crate::gossip::{self, MAX_EVENT_DATA, MAX_EVENT_NAME, MessageIds};
use crate::identity::NetworkId;
use crate::model::RoomName;
use crate::net::address::Address;
use crate::net::tls::certificate::OwnCertificate;

/// A running node. Cloning it gives another handle to the same one; when the last is dropped, the
/// node stops.
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
    pub(super) bell: Arc<Notify>,
    pub(super) bus: EventBus,
    pub(super) store: Store,
    /// Messages that gossip was given, every copy counted.
    pub(super) ids: Arc<MessageIds>,
    pub(super) network: NetworkId,
    pub(super) supervisor: Supervisor,
    /// Weak, because it is watched for as long as the transport uses it.
    pub(super) certificate: Option<Weak<OwnCertificate>>,
}

/// An event that waits in the queue.
#[derive(Debug)]
pub struct Sending {
    answer: oneshot::Receiver<Result<Sent, BroadcastError>>,
}

impl Sending {
    /// Resolves when the event is signed and on its way, or says why it is not. The event is sent
    /// whether or not anybody waits for this.
    pub async fn sent(self) -> Result<Sent, BroadcastError> {
        self.answer.await.unwrap_or(Err(BroadcastError::Stopped))
    }
}

/// A link, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct LinkInfo {
    /// Who is at the other end.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::model::serialize::text")
    )]
    pub peer_id: PeerId,
    /// Where.
    pub address: Multiaddr,
    /// Which side dialled.
    pub direction: Direction,
    /// The last round-trip time, once it was measured.
    pub rtt: Option<Duration>,
    /// How long the link has stood.
    pub age: Duration,
    /// How many milliseconds the peer's clock is ahead of this node's, by its own account in the handshake.
    pub clock_offset_ms: i64,
}

impl LinkInfo {
    pub(super) fn of(link: &Link, now: Time) -> LinkInfo {
        LinkInfo {
            peer_id: link.peer_id,
            address: link.address.clone(),
            direction: link.direction,
            rtt: link.rtt,
            age: now.since(link.since),
            clock_offset_ms: link.clock_offset_ms,
        }
    }
}

impl Node {
    /// How to start one.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// The node's public id.
    pub fn peer_id(&self) -> PeerId {
        self.shared.peer_id
    }

    /// Where the node could be dialled when it came online, `/p2p/` included. Addresses that come
    /// up later are told as [`super::Event::Listening`].
    pub fn addresses(&self) -> &[Multiaddr] {
        &self.shared.addresses
    }

    /// A reader of the node's events, from now on.
    pub fn events(&self) -> Events {
        self.shared.bus.subscribe()
    }

    /// Dials `address` once. Resolves when the link is proved in both rounds, or says at which stage
    /// it failed and why. A peer that is linked already is not dialled again.
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

    /// Dials `address` until it answers, and again whenever its link is lost: with back-off and
    /// jitter, for as long as the node runs. The first failure in a row is told as
    /// [`super::Event::Refused`].
    pub async fn keep_dialing(&self, address: Address) {
        // A node that has stopped dials nobody; there is nothing else to say about it here.
        let _ = self
            .shared
            .commands
            .send(Command::KeepDialing { address })
            .await;
    }

    /// Sends an event to everyone in `room`. Resolves when the event is signed and on its way, with
    /// the number of links that took it; waits while the queues are full.
    ///
    /// Errors say why nothing was sent, among them [`BroadcastError::NoLinks`].
    pub async fn broadcast(
        &self,
        room: &str,
        name: &str,
        data: impl Into<Bytes>,
    ) -> Result<Sent, BroadcastError> {
        let (room, event) = self.event(room, name, data.into())?;
        self.send(room, event).await
    }

    /// The same, but waits for somebody to be linked in the room when nobody is.
    pub async fn broadcast_when_linked(
        &self,
        room: &str,
        name: &str,
        data: impl Into<Bytes>,
    ) -> Result<Sent, BroadcastError> {
        let (room, event) = self.event(room, name, data.into())?;
        loop {
            let came = self.shared.bell.notified();
            tokio::pin!(came);
            came.as_mut().enable();
            match self.send(room.clone(), event.clone()).await {
                Err(BroadcastError::NoLinks(_)) => came.await,
                result => return result,
            }
        }
    }

    /// [`Node::broadcast`] in two steps: resolves when the event has its place in the queue, behind
    /// those that were queued before it; what comes of it is told by [`Sending::sent`]. So that a
    /// quick sender need not wait for each answer.
    pub async fn enqueue(
        &self,
        room: &str,
        name: &str,
        data: impl Into<Bytes>,
    ) -> Result<Sending, BroadcastError> {
        let (room, event) = self.event(room, name, data.into())?;
        self.queue(room, event).await
    }

    /// Checks what the application gave.
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

    async fn send(&self, room: RoomName, event: gossip::Event) -> Result<Sent, BroadcastError> {
        self.queue(room, event).await?.sent().await
    }

    async fn queue(&self, room: RoomName, event: gossip::Event) -> Result<Sending, BroadcastError> {
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
        Ok(Sending { answer })
    }

    /// Joins a room: what is said there from now on arrives as events.
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

    /// Leaves a room; whether the node was in it.
    pub async fn leave(&self, room: RoomName) -> bool {
        self.ask(|reply| Command::Leave { room, reply })
            .await
            .unwrap_or(false)
    }

    /// The rooms the node is in.
    pub async fn rooms(&self) -> Vec<RoomName> {
        self.ask(|reply| Command::Rooms { reply })
            .await
            .unwrap_or_default()
    }

    /// The links as they stand, longest first.
    pub async fn peers(&self) -> Vec<LinkInfo> {
        self.ask(|reply| Command::Peers { reply })
            .await
            .unwrap_or_default()
    }

    /// What the log holds of what was said, also by this node itself; see [`HistoryQuery`].
    pub fn history(&self, query: HistoryQuery) -> History {
        History::new(self.shared.store.clone(), self.shared.network, query)
    }

    /// How each of the node's rooms stands: what is kept, and how many neighbours hold the same.
    pub async fn status(&self) -> Vec<RoomStatus> {
        self.ask(|reply| Command::Status { reply })
            .await
            .unwrap_or_default()
    }

    /// How this machine's clock stands to the linked peers' clocks, and whether it is followed.
    pub async fn clocks(&self) -> ClockStatus {
        self.ask(|reply| Command::Clocks { reply })
            .await
            .unwrap_or_default()
    }

    /// Who has taken more than its share of the log in the last ten minutes, the last one first: its own oldest messages
    /// made room for what came.
    pub fn crowding(&self) -> Vec<Crowding> {
        self.shared.store.crowders.recent()
    }

    /// How many copies of batches there were since the start: every one that came over a link by gossip
    /// or after an offer, and every batch of its own that the node gossiped.
    pub fn message_copies(&self) -> u64 {
        self.shared.ids.copies()
    }

    /// Puts other peer lists in place of those that the node was built with: [`NodeBuilder::trust`] and
    /// [`NodeBuilder::deny`] say what they mean. Links with peers that they no longer admit are closed.
    pub async fn set_peer_lists(&self, trust: Vec<PeerId>, deny: Vec<PeerId>) {
        // A node that has stopped has no links.
        self.ask(|reply| Command::SetPeerLists { trust, deny, reply })
            .await;
    }

    /// Reads the node's TLS certificate and its key again, at once instead of within 10 seconds. Returns until when it is
    /// valid, for people; none for a node without one.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the files. The certificate stays what it was.
    pub fn reload_certificate(&self) -> Option<Result<String, String>> {
        let certificate = self.shared.certificate.as_ref()?.upgrade()?;
        Some(certificate.reload())
    }

    /// Returns why the node ended by itself, if it did: one of its tasks failed. Its events have ended then, or are about
    /// to, after an [`super::Event::Error`] with the reason.
    pub fn failure(&self) -> Option<NodeFailure> {
        self.shared.supervisor.failure()
    }

    /// Stops the node: the peers are told, and the events end.
    pub async fn shutdown(&self) {
        self.ask(|reply| Command::Shutdown { reply }).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.shared.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}
