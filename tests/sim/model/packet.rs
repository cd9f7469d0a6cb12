//! Packets between the nodes, and their falsification by a liar.
//!
//! Entry type: [`Packet`].

use diatribe::overlay::*;

use crate::conditions::Place;
use crate::world::Id;

type Reply = Result<Response<Id, Place>, ExchangeError>;

/// A packet between two nodes.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    /// The dialler's proof.
    Prove {
        from: Id,
        to: Id,
        dial: DialId,
    },
    /// The dialled node's proof.
    Proved {
        from: Id,
        to: Id,
        dial: DialId,
    },
    Failed {
        at: Id,
        dial: DialId,
        error: DialError<Id, Place>,
    },
    Up {
        at: Id,
        peer: Id,
        conn: u32,
    },
    Down {
        at: Id,
        peer: Id,
        conn: u32,
    },
    Ask {
        at: Id,
        from: Id,
        conn: u32,
        id: ExchangeId,
        request: Request<Id, Place>,
    },
    Answer {
        at: Id,
        from: Id,
        conn: u32,
        id: ExchangeId,
        result: Reply,
    },
}

/// Returns whether a packet announces the loss of another one, which takes seconds.
pub(super) fn is_late(packet: &Packet) -> bool {
    matches!(packet, Packet::Answer { result: Err(_), .. })
}

/// Returns the sender of a message of the overlay.
pub(super) fn sender(packet: &Packet) -> Option<Id> {
    match packet {
        Packet::Ask { from, .. } => Some(*from),
        Packet::Answer {
            from,
            result: Ok(_),
            ..
        } => Some(*from),
        _ => None,
    }
}

/// Returns a packet that claims the opposite.
pub(super) fn lie(mut packet: Packet) -> Packet {
    match &mut packet {
        Packet::Ask { request, .. } => match request {
            Request::Report { linked, .. } => *linked = !*linked,
            Request::Cancel { keep, .. } => *keep = !*keep,
            Request::Redirect { to, .. } => {
                *to = Contact {
                    id: 1,
                    addresses: to.addresses.clone(),
                }
            }
            Request::Join { need, .. } => *need = 2 - (*need).min(2),
            Request::Attach { nonce } => *nonce ^= 1,
            Request::ProposeHandover { .. }
            | Request::DropRedundantLink { .. }
            | Request::Shuffle { .. }
            | Request::Leave { .. } => {}
        },
        Packet::Answer {
            result: Ok(response),
            ..
        } => match response {
            Response::Joined { answer, .. } => {
                *answer = match answer {
                    Answer::Accepted => Answer::Split,
                    _ => Answer::Accepted,
                }
            }
            Response::Redirected { refusal, .. } => {
                *refusal = match refusal {
                    Some(_) => None,
                    None => Some(Refusal::Busy),
                }
            }
            Response::Done { ok } => *ok = !*ok,
            Response::HandoverReply(terms) => *terms = None,
            Response::Contacts(contacts) => contacts.clear(),
        },
        _ => {}
    }
    packet
}
