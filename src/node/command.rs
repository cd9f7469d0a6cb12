//! The commands of the application to the event loop.
//!
//! Entry type: [`Command`]. The rule it keeps: a command with a reply is answered, or its sender is dropped when the node
//! stops.

use libp2p::PeerId;
use tokio::sync::oneshot;

use super::clocks::ClockStatus;
use super::error::{ConnectError, JoinError};
use super::link_info::LinkInfo;
use super::store::RoomStatus;
use crate::model::RoomName;
use crate::net::address::Address;

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
