//! One link as the overlay sees it, and the lock that a handover puts on a node.
//!
//! Entry types: [`Link`], [`Lock`]. The rule they keep: a node takes part in one handover at a
//! time, and every lock has its end.

use std::sync::Arc;

use super::address::Address;
use super::event::Direction;
use super::message::{Role, Terms};
use super::scope::Reach;
use crate::clock::Time;

/// Who wanted a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// We have picked the peer.
    Chosen,
    /// The peer came.
    Inbound,
    /// Somebody else has picked it for us. At most half of all links: see `may_take_hint`.
    Hint,
}

/// A link.
#[derive(Clone, Debug)]
pub struct Link<I, A: Address> {
    /// With whom.
    pub peer: I,
    /// Which side we are.
    pub direction: Direction,
    /// Who wanted it.
    pub origin: Origin,
    /// Since when.
    pub since: Time,
    /// Where the peer listens, as far as we know.
    pub listens: Arc<[A]>,
    /// The scope of the connection: what the peer may name over it.
    pub(crate) reach: Reach,
    /// Where the connection comes from or leads to.
    pub(crate) host: A::Host,
    /// Whether it is here to stay; a visitor's is not yet.
    pub settled: bool,
    /// The peer does not speak the overlay's protocol.
    pub plain: bool,
    /// The peer has sent its join.
    pub(crate) joined: bool,
    /// We have joined through it, and it may still take its consent back.
    pub(crate) joined_through: bool,
    /// We have agreed to do without it.
    pub(crate) thinned: bool,
    /// The peer has taken its leave.
    pub(crate) leaving: bool,
    /// When its last offer of contacts was read.
    pub(crate) shuffled: Option<Time>,
    /// When it last gave us a link to take.
    pub(crate) took: Option<Time>,
    /// An offence of it was reported.
    pub(crate) reported: bool,
    /// When it last brought something: a batch that was new here, contacts, its part in a move.
    pub(crate) brought: Option<Time>,
    /// It has answered a request of ours, or asked for more than a place.
    pub(crate) spoke: bool,
    /// The last request that it should have answered was left without an answer.
    pub(crate) deaf: bool,
    /// It was asked once whether it speaks, because it had not yet.
    pub(crate) probed: bool,
}

/// What keeps a node from another handover.
#[derive(Clone, Debug)]
pub(crate) enum Lock<I, A> {
    /// A sixth link has been let in and has yet to say what it wants, or to go.
    Visit { peer: I, deadline: Time },
    /// We move a link of ours (E).
    Give(Give<I, A>),
    /// A link of ours moves to another peer (F).
    Yield(Part<I>),
    /// We get a link (C).
    Take(Part<I>),
    /// A sixth link, of our own choice, is to take the place of one that came by itself.
    Replace { peer: I, deadline: Time },
}

/// Why we move a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why<I> {
    /// A newcomer gets it.
    Split,
    /// To have room for this visitor.
    Room(I),
    /// To mix the graph; the taker gives one back.
    Flip,
    /// The way back of a flip.
    Return,
    /// To have room for a link with an anchor.
    Swap,
}

/// The giver's side of a handover.
#[derive(Clone, Debug)]
pub(crate) struct Give<I, A> {
    pub(crate) why: Why<I>,
    /// Takers still to be asked, the next one last.
    pub(crate) takers: Vec<I>,
    /// The taker that we ask, or that has agreed.
    pub(crate) taker: I,
    /// Its terms, once it has agreed.
    pub(crate) terms: Option<Terms<I, A>>,
    /// Links that may move, the next one last; drawn when the terms are known.
    pub(crate) victims: Vec<I>,
    /// The link that moves.
    pub(crate) victim: Option<I>,
    /// Neighbours that may still be asked to do without our link, when no taker has room.
    pub(crate) thinning: Option<Vec<I>>,
    pub(crate) taker_reported: bool,
    pub(crate) victim_reported: bool,
    /// Whose answer is awaited, and until when.
    pub(crate) awaited: Option<(I, Time)>,
    /// When all of it ends.
    pub(crate) deadline: Time,
}

/// The part of the two that are to be linked: F's with C, C's with F.
#[derive(Clone, Debug)]
pub(crate) struct Part<I> {
    /// Who moves the link.
    pub(crate) giver: I,
    pub(crate) nonce: u64,
    /// Whom to be linked with, once the giver has said.
    pub(crate) other: Option<I>,
    /// Whether we dial.
    pub(crate) role: Role,
    /// Both sides have agreed on the link.
    pub(crate) attached: bool,
    /// Taken in a flip: we give one back.
    pub(crate) pair: bool,
    pub(crate) deadline: Time,
}

impl<I, A: Address> Link<I, A> {
    /// Where the peer listens, as far as that is more than its word: addresses of the host that the connection is with.
    pub(crate) fn own_listens(&self) -> Arc<[A]> {
        let listens = self.listens.iter();
        listens.filter(|a| a.host() == self.host).cloned().collect()
    }
}

impl<I> Part<I> {
    /// Whether a connection of this direction is the one that the giver has told us of.
    pub(crate) fn dialled_by(&self, direction: Direction) -> bool {
        (self.role == Role::Dial) == (direction == Direction::Outbound)
    }
}

impl<I, A> Lock<I, A> {
    pub(crate) fn deadline(&self) -> Time {
        match self {
            Lock::Visit { deadline, .. } | Lock::Replace { deadline, .. } => *deadline,
            Lock::Give(give) => match give.awaited {
                Some((_, until)) => until.min(give.deadline),
                None => give.deadline,
            },
            Lock::Yield(part) | Lock::Take(part) => part.deadline,
        }
    }
}
