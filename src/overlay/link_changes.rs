//! The beginning and the end of links.
//!
//! Entry type: [`Overlay`]. The rules kept here: nothing becomes a link without a place; a link is provisional until it is
//! confirmed; and outside a handover at most `max_links` links survive.

use rand::Rng;

use super::address::{Address, NodeId, Remote};
use super::event::{DialId, Direction, Output, Purpose, Reason, Report};
use super::joins::join;
use super::link::Link;
use super::message::{Contact, Request};
use super::options::MAX_CONTACTS;
use super::scope::Reach;
use super::state::{Out, Overlay};
use crate::clock::Time;

impl<I: NodeId, A: Address, R: Rng> Overlay<I, A, R> {
    /// Handles a verified connection that has become a link.
    pub(super) fn on_link_up(
        &mut self,
        now: Time,
        peer: I,
        direction: Direction,
        remote: Remote<A>,
        dial: Option<DialId>,
        out: &mut Out<I, A>,
    ) {
        let links = &self.core.links;
        let has_place = links.has_reservation(now, peer)
            || links.contains(peer)
            || self.find_place(now, peer, direction, A::network(remote.host), out);
        self.core.links.release(peer);
        let address = remote.address.as_ref();
        let dialled = self.dialer.on_link_up(peer, dial, address);
        if let Some(link) = self.core.links.get_mut(peer) {
            link.reconnect(direction);
            return;
        }
        if self.is_stopped || peer == self.core.me {
            let reason = Reason::Leaving;
            out.push(Output::Close { peer, reason });
            return;
        }
        if !has_place {
            // Its reservation has expired, and another peer has the place.
            let reason = Reason::Surplus;
            self.core.links.close_unlinked(peer, reason);
            out.push(Output::Close { peer, reason });
            return;
        }
        self.was_ever_linked = true;
        let remote = Remote {
            reach: self.reach_of_connection(direction, &remote),
            ..remote
        };
        self.add_link(Link::new(now, peer, direction, remote));
        let purpose = dialled.map(|dial| dial.purpose);
        self.start_link(now, peer, direction, purpose, out);
    }

    /// Adds the link to the table, and confirms it if it has a place of its own.
    fn add_link(&mut self, mut link: Link<I, A>) {
        let (peer, direction) = (link.peer(), link.direction());
        let core = &mut self.core;
        if direction == Direction::Outbound {
            let listens = link.listens().clone();
            core.peers
                .add_verified(&core.options, &mut core.rng, peer, listens, true);
        }
        let has_purpose = self.slot.is_held_by(peer) || self.slot.expects(peer, direction);
        let has_room = core.links.len() < core.options.max_links;
        if direction == Direction::Inbound && !has_purpose && has_room {
            link.confirm();
        }
        core.links.push(link);
    }

    /// Takes the first step on a new link: claims a handover, joins, or awaits the peer's Join.
    fn start_link(
        &mut self,
        now: Time,
        peer: I,
        direction: Direction,
        purpose: Option<Purpose<I>>,
        out: &mut Out<I, A>,
    ) {
        let max_links = self.core.options.max_links;
        let (mut cx, slot, dialer) = self.split(now, out);
        if slot.expects(peer, direction) {
            slot.on_expected_link(&mut cx, direction);
        } else if direction == Direction::Outbound {
            if slot.replacement() == Some(peer) {
                slot.hold_replacement(peer, now + cx.core.options.participant_timeout);
            }
            dialer.restart(now);
            join(&mut cx, slot, peer, purpose);
        } else if slot.is_held_by(peer) || (cx.core.links.len() > max_links && slot.is_free()) {
            slot.hold_provisional(peer, now + cx.core.options.provisional_timeout);
        }
    }

    /// Returns the scope of a connection. Behind a proxy all inbound connections count as public.
    pub(super) fn reach_of_connection(&self, direction: Direction, remote: &Remote<A>) -> Reach {
        match direction {
            Direction::Inbound if self.core.options.behind_proxy => Reach::Public,
            _ => remote.reach,
        }
    }

    /// Handles the end of a link's last connection.
    pub(super) fn on_link_down(&mut self, now: Time, peer: I, out: &mut Out<I, A>) {
        self.core.requests.forget(peer);
        if let Some(reason) = self.core.links.end_closing(peer) {
            out.push(Output::Report(Report::LinkEnded { peer, reason }));
            return;
        }
        let Some(link) = self.core.links.remove(peer) else {
            return;
        };
        let (mut cx, slot, _) = self.split(now, out);
        let (reason, next) = slot.on_link_down(&mut cx, &link);
        self.follow(now, next, out);
        out.push(Output::Report(Report::LinkEnded { peer, reason }));
        if self.core.links.is_empty() {
            // All links are lost, as after the machine's sleep: peers that failed before may answer now.
            self.core.peers.retry_all(now);
            self.dialer.restart(now);
        } else if self.core.links.len() < self.core.options.wanted_links {
            self.dialer.restart_unless_failing(now);
        }
    }

    /// Handles the shutdown: sends a Leave on all links, and closes them.
    pub(super) fn on_shutdown(&mut self, now: Time, out: &mut Out<I, A>) {
        self.is_stopped = true;
        self.slot.clear();
        let (mut cx, ..) = self.split(now, out);
        let peers = cx.core.links.peers();
        for peer in &peers {
            let contacts = cx.core.contacts_for_link(*peer, MAX_CONTACTS);
            cx.notify(*peer, Request::Leave { contacts });
        }
        for peer in peers {
            cx.close(peer, Reason::Leaving);
        }
    }

    /// Handles a peer's Leave, which names its other links.
    pub(super) fn on_leave(&mut self, from: I, contacts: Vec<Contact<I, A>>) {
        self.core.learn_from_link(from, contacts, MAX_CONTACTS);
        if let Some(link) = self.core.links.get_mut(from) {
            link.mark_leaving();
        }
    }

    /// Closes links above the limit while no handover runs: provisional ones first, then the newest.
    pub(super) fn enforce_max_links(&mut self, now: Time, out: &mut Out<I, A>) {
        let (mut cx, slot, _) = self.split(now, out);
        let max = cx.core.options.max_links;
        while slot.is_free()
            && let Some(peer) = cx.core.links.surplus(max)
        {
            cx.close(peer, Reason::Surplus);
        }
    }

    /// Completes a replacement once its link is confirmed: another link makes place for it. No other link of this node's choice
    /// closes a useful link.
    pub(super) fn finish_replacing(&mut self, now: Time, out: &mut Out<I, A>) {
        let (mut cx, slot, _) = self.split(now, out);
        let links = &cx.core.links;
        let is_confirmed = |peer: &I| links.get(*peer).is_some_and(Link::is_confirmed);
        let Some(peer) = slot.replacement().filter(is_confirmed) else {
            return;
        };
        slot.clear();
        if links.len() > cx.core.options.max_links {
            let (other, reason) = cx.eviction().for_replacement(peer);
            cx.close(other, reason);
        }
    }
}
