//! Messages between the ingest task, the loop and the outbox, and the task's channels.
//!
//! Entry types: [`SyncCommand`] to the task, [`NetworkRequest`] from it, [`TaskChannels`].

use std::sync::Arc;

use bytes::Bytes;
use libp2p::PeerId;
use tokio::sync::{mpsc, oneshot};

use crate::clock::UnixClock;
use crate::gossip::{MessageIds, VerifiedBatch};
use crate::identity::NetworkId;
use crate::model::RoomName;
use crate::net::backpressure::{AnnouncementGuard, SendWindows};
use crate::node::heads::Heads;
use crate::node::inbox::Inbox;
use crate::node::outbox::Unconfirmed;
use crate::node::store::RoomStatus;
use crate::store::Notice;
use crate::sync::RequestId;

/// Events and questions for the ingest task, from the loop and the outbox.
#[derive(Debug)]
pub(crate) enum SyncCommand {
    Join(RoomName),
    Leave(RoomName),
    LinkUp(PeerId),
    /// The neighbour understands announcements of large batches.
    SupportsAnnouncements(PeerId),
    LinkDown(PeerId),
    /// The neighbour's rooms; none when it does not take part in data checking.
    RoomsOf(PeerId, Vec<String>),
    /// A neighbour's request, answered with [`NetworkRequest::Reply`].
    Request(PeerId, RequestId, Bytes),
    /// A large answer to such a request was sent, or (false) could not be sent.
    Sent(RequestId, bool),
    /// The answer to [`NetworkRequest::Ask`] with this token.
    Response(u64, Bytes),
    /// [`NetworkRequest::Ask`] with this token gets no answer.
    Failed(u64),
    /// A batch of this node is stored. It is announced to neighbours when there is a guard. They are to confirm that they
    /// store it when there are senders that wait for that.
    OwnStored(
        VerifiedBatch,
        Option<AnnouncementGuard>,
        Option<Unconfirmed>,
    ),
    /// The time on the neighbour's clock, in Unix milliseconds.
    Clock(PeerId, u64),
    /// Asks for the state of each room.
    Status(oneshot::Sender<Vec<RoomStatus>>),
    /// Asks for an answer once no neighbour is about to fetch an announced batch.
    AllConfirmed(oneshot::Sender<()>),
}

/// Requests of the ingest task to the loop.
#[derive(Debug)]
pub(crate) enum NetworkRequest {
    /// Send a request to a neighbour.
    Ask {
        peer_id: PeerId,
        token: u64,
        request: Vec<u8>,
    },
    /// Answer a neighbour's request.
    Reply {
        request: RequestId,
        response: Vec<u8>,
    },
    /// Close the links with a neighbour that broke the protocol, and ban it.
    Drop { peer_id: PeerId, reason: String },
    /// Gossip a batch that was fetched after an announcement, if there are neighbours that understand no announcements.
    Gossip(VerifiedBatch),
}

/// The author of this node's batches: its key and this run of it, in a network.
#[derive(Clone, Debug)]
pub(crate) struct LocalAuthor {
    pub(crate) peer_id: PeerId,
    pub(crate) instance_id: [u8; 16],
    pub(crate) network: NetworkId,
    /// The batches that its next batches follow.
    pub(crate) heads: Arc<Heads>,
    /// The clock by which it dates batches and judges dates.
    pub(crate) unix: UnixClock,
}

/// The task's ends of its channels.
pub(crate) struct TaskChannels {
    pub(crate) inbox: Inbox,
    pub(crate) commands: mpsc::UnboundedReceiver<SyncCommand>,
    /// The log's own notices.
    pub(crate) notices: mpsc::UnboundedReceiver<Notice>,
    pub(crate) sync: SyncChannels,
}

/// The connections of anti-entropy to the rest of the node.
pub(crate) struct SyncChannels {
    pub(crate) network_requests: mpsc::Sender<NetworkRequest>,
    /// Gets the number of announced bytes that each neighbour has not fetched.
    pub(crate) send_windows: SendWindows,
    /// Counts the copies of batches, fetched ones included.
    pub(crate) ids: Arc<MessageIds>,
    /// Number of neighbours that must store an own batch before it counts as sent.
    pub(crate) confirmed_by: usize,
}
