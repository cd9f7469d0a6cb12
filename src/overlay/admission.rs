//! Who gets a place: at most `max_links`, and a sixth only while nobody else is the sixth.
//!
//! Entry type: [`Overlay`], its `admit`. The rule kept here: a place is given before the link is up,
//! because every proved connection carries gossip at once and so counts from then on.

use rand::Rng;

use super::address::{Address, Remote};
use super::event::*;
use super::link::Lock;
use super::options::MAX_REFERRALS;
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
        out: &mut Vec<Output<I, A>>,
    ) -> Admission<I, A> {
        self.reserved.retain(|(_, until)| *until > now);
        if self.reserved.iter().any(|(id, _)| *id == peer) {
            return Admission::Accept;
        }
        // A peer that is linked has dialled again. Its old link may end before the new one is up:
        // the place is held, or others would get it and both would come.
        let network = A::network(remote.host);
        if self.linked(peer) || self.find_place(now, peer, direction, network, out) {
            self.reserved.push((peer, now + self.options.admit_timeout));
            return Admission::Accept;
        }
        let referrals = match direction {
            Direction::Inbound => {
                self.note_waiting(now, network);
                let reach = self.scope_of(direction, remote);
                self.contacts_for(peer, Some(reach), MAX_REFERRALS)
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

    /// Finds a place for a peer that is not linked; whether there is one. On a full node it becomes
    /// the visitor, or what takes the place of another link.
    pub(super) fn find_place(
        &mut self,
        now: Time,
        peer: I,
        direction: Direction,
        network: A::Host,
        out: &mut Vec<Output<I, A>>,
    ) -> bool {
        let max = self.options.max_links;
        if direction == Direction::Inbound && !self.expected_by(peer, direction) {
            self.free_lock(now, out);
        }
        let occupied = self.occupied();
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
            if self.dials.iter().any(stale) {
                return false;
            }
            occupied + self.held() < max || self.start_replacing(now, peer)
        } else if occupied + self.held() < max {
            true
        } else if occupied == max
            && self.lock.is_none()
            && !self.penalised(now, peer)
            && self.may_visit(now, network)
        {
            let deadline = now + self.options.admit_timeout;
            self.lock = Some(Lock::Visit { peer, deadline });
            true
        } else {
            false
        }
    }

    /// A newcomer needs the lock of a full node: ends what holds it, if that does nothing. A visit
    /// that has not begun yet, or has brought no Join, is not awaited for as long as it could take
    /// if nobody else came; nor is a handover.
    fn free_lock(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        if self.occupied() + self.held() < self.options.max_links {
            return;
        }
        let left = |deadline: Time| deadline.since(now);
        let options = &self.options;
        let (handshake, join) = options.contended_visit;
        match &self.lock {
            Some(Lock::Visit { peer, deadline }) => {
                let (peer, left) = (*peer, left(*deadline));
                match self.links.iter().find(|link| link.peer == peer) {
                    None if left + handshake <= options.admit_timeout => self.dismiss(peer),
                    Some(link) if link.thinned || left + join > options.visit_timeout => {}
                    // It has had its answer, and time to go.
                    Some(link) if link.joined => {
                        self.lock = None;
                        self.close(peer, Reason::Surplus, out);
                    }
                    Some(_) => self.put_out(now, peer, out),
                    _ => {}
                }
            }
            Some(Lock::Give(give)) => {
                // Once one of the two is linked, the other's word is under way.
                let nothing_yet = !give.taker_reported && !give.victim_reported;
                if nothing_yet
                    && left(give.deadline) + options.contended_timeout <= options.give_timeout
                {
                    self.abort_give(now, out);
                }
            }
            Some(Lock::Yield(part) | Lock::Take(part)) if !part.attached => {
                if left(part.deadline) + options.contended_timeout <= options.lock_timeout {
                    self.give_up_part(out);
                }
            }
            Some(Lock::Yield(_) | Lock::Take(_) | Lock::Replace { .. }) | None => {}
        }
        self.shed(out);
    }

    /// Ends the visit of a peer that did nothing with it.
    pub(super) fn put_out(&mut self, now: Time, peer: I, out: &mut Vec<Output<I, A>>) {
        self.lock = None;
        if let Some(link) = self.links.iter().find(|link| link.peer == peer) {
            let network = A::network(link.host);
            self.note_wasted(now, network);
        }
        self.close(peer, Reason::Surplus, out);
    }

    /// A full node gets a sixth link of its own choice, if there is one that it can replace.
    fn start_replacing(&mut self, now: Time, peer: I) -> bool {
        let ours = |d: &&Dialling<I>| d.peer.is_none_or(|dialled| dialled == peer);
        let mut ours = self.dials.iter().filter(ours).peekable();
        // What is not a dial of the overlay's is the operator's.
        let chosen = ours.peek().is_none() || ours.any(|d| d.purpose == Purpose::Anchor);
        let may = chosen
            && self.lock.is_none()
            && self.occupied() == self.options.max_links
            && self.lacks_own_links()
            && self.can_replace(now);
        if may {
            let deadline = now + self.options.admit_timeout;
            self.lock = Some(Lock::Replace { peer, deadline });
        }
        may
    }

    /// A peer that was admitted will not become a link.
    pub fn dismiss(&mut self, peer: I) {
        self.reserved.retain(|(id, _)| *id != peer);
        let ours = match &self.lock {
            Some(Lock::Visit { peer: held, .. } | Lock::Replace { peer: held, .. }) => {
                *held == peer
            }
            _ => false,
        };
        if ours && !self.linked(peer) {
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
