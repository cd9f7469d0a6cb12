//! Who gets a place: at most `max_links`, and a sixth only while nobody else is the sixth.
//!
//! Entry type: [`Overlay`], its `admit`. The rule kept here: a place is given before the link is up,
//! because every proved connection carries gossip at once and so counts from then on.

use rand::Rng;

use super::address::{Address, Remote};
use super::event::*;
use super::link::Lock;
use super::options::MAX_CONTACTS;
use super::state::{Dialling, Overlay};
use crate::clock::Time;

impl<I, A, R> Overlay<I, A, R>
where
    I: Copy + Ord + std::hash::Hash + std::fmt::Debug,
    A: Address,
    R: Rng,
{
    /// Decides whether a peer that has proved its key may become a link. If so its place is held
    /// for a while; call [`Overlay::dismiss`] when it does not become one after all, and ask again
    /// when it passes: a place is not held for ever.
    pub fn admit(
        &mut self,
        now: Time,
        peer: I,
        direction: Direction,
        remote: &Remote<A>,
    ) -> Admission<I, A> {
        self.reserved.retain(|(_, until)| *until > now);
        if self.reserved.iter().any(|(id, _)| *id == peer) {
            return Admission::Accept;
        }
        // A peer that is linked has dialled again. Its old link may end before the new one is up:
        // the place is held, or others would get it and both would come.
        if self.linked(peer) || self.find_place(now, peer, direction) {
            self.reserved.push((peer, now + self.options.admit_timeout));
            return Admission::Accept;
        }
        let referrals = match direction {
            Direction::Inbound => {
                self.turned_away = Some(now);
                let reach = self.scope_of(direction, remote);
                self.contacts_for(peer, Some(reach), MAX_CONTACTS)
            }
            Direction::Outbound => Vec::new(),
        };
        Admission::Busy { referrals }
    }

    /// Peers that have a link or a place held for them.
    pub(super) fn occupied(&self) -> usize {
        let held = self.reserved.iter().filter(|(id, _)| !self.linked(*id));
        self.links.len() + held.count()
    }

    /// Whether there is a place for a peer that is not linked. On a full node it becomes the visitor.
    pub(super) fn find_place(&mut self, now: Time, peer: I, direction: Direction) -> bool {
        let (max, occupied) = (self.options.max_links, self.occupied());
        let closing = self.closing.iter().any(|(id, _)| *id == peer);
        if self.stopped || peer == self.me || closing || !self.serves(direction) {
            false
        } else if self.expected_by(peer, direction) {
            // F gives its link with the giver for it; C must have room.
            occupied < max || (occupied == max && matches!(self.lock, Some(Lock::Yield(_))))
        } else if direction == Direction::Outbound {
            // A hint whose handover is over leads nowhere; and only an expected peer is a sixth.
            let stale =
                |d: &Dialling<I>| d.peer == Some(peer) && matches!(d.purpose, Purpose::Hint(_));
            !self.dials.iter().any(stale) && occupied + self.held() < max
        } else if occupied + self.held() < max {
            true
        } else if occupied == max && self.lock.is_none() {
            let deadline = now + self.options.admit_timeout;
            self.lock = Some(Lock::Visit { peer, deadline });
            true
        } else {
            false
        }
    }

    /// A peer that was admitted will not become a link.
    pub fn dismiss(&mut self, peer: I) {
        self.reserved.retain(|(id, _)| *id != peer);
        if matches!(&self.lock, Some(Lock::Visit { peer: visitor, .. }) if *visitor == peer)
            && !self.linked(peer)
        {
            self.lock = None;
        }
    }

    /// A newcomer that has never been linked helps nobody in. A node that once was, or that
    /// remembers peers, must: after a power cut everybody stands alone.
    fn serves(&self, direction: Direction) -> bool {
        let newcomer = self.links.is_empty() && !self.ever_linked && self.book.is_empty();
        direction == Direction::Outbound || !newcomer || self.entries.is_empty()
    }

    /// Whom the handover we take part in links us with.
    pub(super) fn expected(&self) -> Option<I> {
        match &self.lock {
            Some(Lock::Yield(part) | Lock::Take(part)) => part.other,
            _ => None,
        }
    }

    /// Whether it is for the handover that this connection was made: dialled by whom it told to.
    pub(super) fn expected_by(&self, peer: I, direction: Direction) -> bool {
        match &self.lock {
            Some(Lock::Yield(part) | Lock::Take(part)) => {
                part.other == Some(peer) && part.dialled_by(direction)
            }
            _ => false,
        }
    }

    /// Places kept for the link that we are to take. A yielded link brings its own place.
    fn held(&self) -> usize {
        match &self.lock {
            Some(Lock::Take(part)) => {
                usize::from(!part.other.is_some_and(|peer| self.linked(peer)))
            }
            _ => 0,
        }
    }
}
