//! Handovers: how a link moves from one peer to another without parting the graph.
//!
//! Three nodes take part. The coordinator moves its link with the moved node to the receiver: the edge coordinator–moved
//! becomes moved–receiver, while coordinator–receiver stays. This is one half of the 1-flipper (Mahlmann and Schindelhauer,
//! 2005): every path over the old edge can take the other two, so the graph stays connected.
//!
//! 1. The coordinator learns the receiver's terms, by its Join or by its answer to a ProposeHandover.
//! 2. It sends the redirect hint to the moved node, and the counterpart to the receiver: one of the two dials the other.
//! 3. The dialling side claims the new link with an Attach. Both then send a Report to the coordinator.
//! 4. With both Reports the coordinator closes its link with the moved node.
//!
//! Entry type: [`HandoverSlot`]. The rules it keeps: a node takes part in one handover at a time, every part has a deadline, and
//! the old link is closed only when both ends have confirmed the new one.

mod coordinator;
mod ends;
mod expiry;
mod hint_guard;
mod moved;
mod participant;
mod receiver;
mod slot;

pub(super) use coordinator::MoveReason;
pub(super) use hint_guard::Hint;
pub(super) use receiver::Receiver;
pub(super) use slot::{HandoverSlot, Next};

use super::address::NodeId;
use crate::clock::Time;
use coordinator::Coordinator;
use moved::Moved;
use participant::Participant;

/// The handover in which a node takes part, or the provisional link that may lead to one.
#[derive(Clone, Debug)]
enum HandoverState<I, A> {
    /// A full node has admitted one provisional link more, and awaits its Join or its end.
    Provisional { peer: I, deadline: Time },
    /// This node moves a link of its own.
    Coordinator(Coordinator<I, A>),
    /// A link of this node's moves to another peer.
    Moved(Moved<I>),
    /// This node gets a link.
    Receiver(Receiver<I>),
    /// A full node connects to a peer of its own choice, in place of an inbound link.
    Replacement { peer: I, deadline: Time },
}

impl<I: NodeId, A> HandoverState<I, A> {
    fn deadline(&self) -> Time {
        match self {
            HandoverState::Provisional { deadline, .. }
            | HandoverState::Replacement { deadline, .. } => *deadline,
            HandoverState::Coordinator(coordinator) => coordinator.next_deadline(),
            HandoverState::Moved(moved) => moved.part().deadline(),
            HandoverState::Receiver(receiver) => receiver.part().deadline(),
        }
    }

    /// Returns this node's part as one end of the new link, if it has one.
    fn part(&self) -> Option<&Participant<I>> {
        match self {
            HandoverState::Moved(moved) => Some(moved.part()),
            HandoverState::Receiver(receiver) => Some(receiver.part()),
            _ => None,
        }
    }

    fn part_mut(&mut self) -> Option<&mut Participant<I>> {
        match self {
            HandoverState::Moved(moved) => Some(moved.part_mut()),
            HandoverState::Receiver(receiver) => Some(receiver.part_mut()),
            _ => None,
        }
    }
}
