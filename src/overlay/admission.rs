//! Admission: which verified peer gets a place. A node has at most `max_links` links, and one provisional link more at a time.
//!
//! Entry type: [`Overlay`], its `admit`. The rule kept here: a place is reserved before the link is up, because every verified
//! connection carries gossip at once and so counts from then on.

use rand::Rng;

use super::address::{Address, NodeId, Remote};
use super::event::{Admission, Direction};
use super::options::MAX_REFERRALS;
use super::state::{Out, Overlay};
use crate::clock::Time;

impl<I: NodeId, A: Address, R: Rng> Overlay<I, A, R> {
    /// Decides whether a verified peer may become a link. If so, a place is reserved for it for a while: call
    /// [`Overlay::dismiss`] when it does not become a link, and ask again when the reservation has expired.
    pub fn admit(
        &mut self,
        now: Time,
        peer: I,
        direction: Direction,
        remote: &Remote<A>,
        out: &mut Out<I, A>,
    ) -> Admission<I, A> {
        self.core.links.release_expired(now);
        if self.core.links.has_reservation(now, peer) {
            return Admission::Accept;
        }
        // A linked peer has dialled again. Its old link may end before the new one is up: the place is reserved, or another peer
        // would get it, and both links would come up.
        let network = A::network(remote.host);
        let is_linked = self.core.links.contains(peer);
        if is_linked || self.find_place(now, peer, direction, network, out) {
            let until = now + self.core.options.admit_timeout;
            self.core.links.reserve(peer, until);
            return Admission::Accept;
        }
        let referrals = match direction {
            Direction::Inbound => {
                self.core.waitlist.record_refusal(now, network);
                let reach = self.reach_of_connection(direction, remote);
                self.core.contacts_for(peer, Some(reach), MAX_REFERRALS)
            }
            Direction::Outbound => Vec::new(),
        };
        Admission::Busy { referrals }
    }

    /// Finds a place for a peer that is not linked. Returns whether there is one. On a full node the peer gets a provisional
    /// link, or replaces another link.
    pub(super) fn find_place(
        &mut self,
        now: Time,
        peer: I,
        direction: Direction,
        network: A::Host,
        out: &mut Out<I, A>,
    ) -> bool {
        let is_expected = self.slot.expects(peer, direction);
        if direction == Direction::Inbound && !is_expected {
            self.free_slot(now, out);
        }
        let is_engaged = peer == self.core.me || self.core.links.is_closing(peer);
        if self.is_stopped || is_engaged || !self.serves(direction) {
            return false;
        }
        let max = self.core.options.max_links;
        let occupied = self.core.links.occupied();
        if self.slot.expects(peer, direction) {
            // The moved node frees a slot when its coordinator closes the old link; the receiver needs a free one.
            return occupied < max || (occupied == max && self.slot.may_exceed_limit());
        }
        // A redirect hint is no longer followed when its handover is over: only an expected peer may exceed the limit.
        if direction == Direction::Outbound && self.dialer.is_dialling_hint(peer) {
            return false;
        }
        if occupied + self.slot.reserved(&self.core.links) < max {
            return true;
        }
        occupied == max
            && self.slot.is_free()
            && match direction {
                Direction::Outbound => self.try_replace(now, peer),
                Direction::Inbound => self.try_admit_provisional(now, peer, network, out),
            }
    }

    /// Frees the slot for handovers, which a full node needs to admit a newcomer, if its holder makes no progress.
    fn free_slot(&mut self, now: Time, out: &mut Out<I, A>) {
        let (mut cx, slot, _) = self.split(now, out);
        let next = slot.free_for_newcomer(&mut cx);
        self.follow(now, next, out);
        self.enforce_max_links(now, out);
    }

    /// Admits a newcomer to a full node with one provisional link more. Returns whether it is admitted.
    fn try_admit_provisional(
        &mut self,
        now: Time,
        peer: I,
        network: A::Host,
        out: &mut Out<I, A>,
    ) -> bool {
        let (cx, slot, _) = self.split(now, out);
        let core = &*cx.core;
        let has_share = core.links.inbound_of(network) >= core.options.network_links;
        let waitlist = &core.waitlist;
        let may_admit =
            !cx.is_penalised(peer) && waitlist.may_admit(now, network, has_share, &core.options);
        if may_admit {
            slot.hold_provisional(peer, now + core.options.admit_timeout);
        }
        may_admit
    }

    /// Connects a full node to a peer of its own choice, if there is a link that it can replace. Returns whether there is.
    fn try_replace(&mut self, now: Time, peer: I) -> bool {
        let eviction = self.eviction(now);
        let may_replace =
            self.dialer.is_chosen(peer) && eviction.lacks_own_links() && eviction.can_replace();
        if may_replace {
            let deadline = now + self.core.options.admit_timeout;
            self.slot.hold_replacement(peer, deadline);
        }
        may_replace
    }

    /// Releases the place of a peer that was admitted and will not become a link.
    pub fn dismiss(&mut self, peer: I) {
        self.core.links.release(peer);
        if !self.core.links.contains(peer) {
            self.slot.release(peer);
        }
    }

    /// Returns whether this node admits peers. A newcomer that was never linked can help no other node in. A node that once was
    /// linked, or that knows peers, must: after a power cut every node is without links.
    fn serves(&self, direction: Direction) -> bool {
        let is_newcomer =
            self.core.links.is_empty() && !self.was_ever_linked && self.core.peers.is_empty();
        direction == Direction::Outbound || !is_newcomer || !self.dialer.has_entries()
    }
}
