//! Effects: the consequences that an event in one protocol has for the others. They cross here and in `link_lifecycle`, and
//! nowhere else.
//!
//! Entry type: [`Effect`]. The rule it keeps: drivers know nothing of one another; a driver queues effects, and the runner
//! applies them (`apply_effects`).

use std::collections::VecDeque;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use crate::gossip::VerifiedBatch;
use crate::net::stage::StageError;
use crate::node::ingest::SyncCommand;
use crate::node::links::Link;
use crate::overlay::Reason;

/// A consequence for another driver.
#[derive(Debug)]
pub(super) enum Effect {
    /// A dial, or its handshake, has failed.
    DialFailed(DialFailure),
    /// The set of entry nodes that have answered has changed.
    EntriesChanged,
    /// A peer's last connection is closed or about to close.
    LinkDown { link: Link, reason: String },
    /// The overlay has given up the link with this peer.
    GiveUpLink { peer_id: PeerId, reason: Reason },
    /// A link has brought a batch that was new here.
    Brought(PeerId),
    /// Gossipsub knows the rooms of a linked peer.
    Subscribed(PeerId),
    /// A linked peer has left a room.
    Unsubscribed(PeerId),
    /// A linked peer does not support gossipsub, and will never subscribe.
    NoGossip(PeerId),
    /// A linked peer does not support data checking.
    NoSync(PeerId),
    /// The time on a peer's clock, by its request, in Unix milliseconds.
    PeerClock { peer_id: PeerId, theirs_ms: u64 },
    /// A command for the ingest task, after the effects before it.
    Sync(SyncCommand),
    /// Gossip a batch that was fetched after an announcement.
    Gossip(VerifiedBatch),
    /// Close the links with a peer that broke a rule, and ban it for a while.
    Ban {
        peer_id: PeerId,
        reason: String,
        code: &'static str,
    },
}

/// Effects that are not applied yet.
pub(super) type Effects = VecDeque<Effect>;

/// A dial that has failed, or failed in the handshake.
#[derive(Clone, Debug)]
pub(super) struct DialFailure {
    pub(super) connection_id: ConnectionId,
    /// The peer that has answered, or was expected.
    pub(super) peer_id: Option<PeerId>,
    /// The dialled address, if the event has it.
    pub(super) address: Option<Multiaddr>,
    pub(super) error: StageError,
}
