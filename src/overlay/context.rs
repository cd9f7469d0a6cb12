//! What all rules of the overlay share: the links, the known peers, the requests under way, randomness and the outputs.
//!
//! Entry types: [`Core`], which lives as long as the node, and [`Context`], which lends it out while one input is handled. The
//! rule it keeps: every message and every end of a link goes out through here, so that none is forgotten in the tables.

use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, RngExt};

use super::address::{Address, NodeId, in_scope};
use super::event::{Direction, ExchangeId, Output, Reason, Report};
use super::eviction::Eviction;
use super::link::Link;
use super::link_table::LinkTable;
use super::message::{Contact, Request, Terms};
use super::options::{MAX_CONTACTS, MAX_LISTENS, MAX_NAMED_LINKS, Options};
use super::peer_store::PeerStore;
use super::penalties::Penalties;
use super::requests::{Pending, Requests};
use super::scope::Reach;
use super::waitlist::Waitlist;
use crate::clock::Time;

/// The state that all rules share.
#[derive(Clone, Debug)]
pub(super) struct Core<I, A: Address, R> {
    pub(super) me: I,
    pub(super) options: Options,
    pub(super) rng: R,
    pub(super) links: LinkTable<I, A>,
    pub(super) peers: PeerStore<I, A>,
    pub(super) requests: Requests<I>,
    pub(super) waitlist: Waitlist<A::Host>,
    penalties: Penalties<I>,
    listens: Arc<[A]>,
    is_dialable: bool,
    last_id: u64,
}

/// The shared state while one input is handled: the time, the state, and the outputs so far.
pub(super) struct Context<'a, I, A: Address, R> {
    pub(super) now: Time,
    pub(super) core: &'a mut Core<I, A, R>,
    pub(super) out: &'a mut Vec<Output<I, A>>,
}

impl<I: NodeId, A: Address, R: Rng> Core<I, A, R> {
    pub(super) fn new(
        now: Time,
        me: I,
        options: Options,
        rng: R,
        peers: PeerStore<I, A>,
    ) -> Core<I, A, R> {
        Core {
            me,
            options,
            rng,
            links: LinkTable::new(now),
            peers,
            requests: Requests::new(),
            waitlist: Waitlist::new(now),
            penalties: Penalties::new(),
            listens: Arc::new([]),
            is_dialable: false,
            last_id: 0,
        }
    }

    /// Sets the addresses at which this node listens, and whether others can dial it there.
    pub(super) fn set_listens(&mut self, addresses: Vec<A>, is_dialable: bool) {
        self.listens = addresses.into_iter().take(MAX_LISTENS).collect();
        self.is_dialable = is_dialable && !self.listens.is_empty();
    }

    pub(super) fn is_dialable(&self) -> bool {
        self.is_dialable
    }

    /// Returns the addresses of this node's that may be named over the link with `peer`; none while nobody can dial it.
    pub(super) fn listens_for(&self, peer: I) -> Arc<[A]> {
        match self.is_dialable {
            true => in_scope(self.links.reach_of(peer), &self.listens).into(),
            false => Arc::new([]),
        }
    }

    /// Returns the terms on which this node receives a link by way of `peer`.
    pub(super) fn terms(&self, peer: I, nonce: u64) -> Terms<I, A> {
        let addresses = self.listens_for(peer);
        let links = self.links.iter().map(Link::peer);
        Terms {
            nonce,
            links: links.take(MAX_NAMED_LINKS).collect(),
            dialable: !addresses.is_empty(),
            addresses,
        }
    }

    /// Returns a number that this node has not used for a dial or an exchange before.
    pub(super) fn fresh_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Returns `duration`, shortened or lengthened by up to half at random, so that nodes do not act in step.
    pub(super) fn jitter(&mut self, duration: Duration) -> Duration {
        duration.mul_f64(self.rng.random_range(0.5..1.5))
    }

    /// Returns contacts for a peer with a connection of the scope `reach`: linked peers, and peers that this node has been in
    /// contact with, at most `count` and only with addresses that may be named there.
    pub(super) fn contacts_for(
        &mut self,
        peer: I,
        reach: Option<Reach>,
        count: usize,
    ) -> Vec<Contact<I, A>> {
        let links = self.links.iter().filter(|link| link.is_confirmed());
        let mut known: Vec<Contact<I, A>> = links
            .map(|link| Contact {
                id: link.peer(),
                addresses: link.own_listens(),
            })
            .collect();
        for contact in self.peers.sample(&mut self.rng, MAX_CONTACTS) {
            if known.iter().all(|other| other.id != contact.id) {
                known.push(contact);
            }
        }
        known.retain(|contact| contact.id != peer);
        for contact in &mut known {
            contact.addresses = in_scope(reach, &contact.addresses).into();
        }
        known.retain(|contact| !contact.addresses.is_empty());
        while known.len() > count {
            known.swap_remove(self.rng.random_range(0..known.len()));
        }
        known
    }

    /// As [`Core::contacts_for`], for a linked peer.
    pub(super) fn contacts_for_link(&mut self, peer: I, count: usize) -> Vec<Contact<I, A>> {
        self.contacts_for(peer, self.links.reach_of(peer), count)
    }

    /// Adds the first `limit` contacts received over a connection of this scope to the hearsay.
    pub(super) fn learn(
        &mut self,
        reach: Option<Reach>,
        contacts: Vec<Contact<I, A>>,
        limit: usize,
    ) {
        for Contact { id, addresses } in contacts.into_iter().take(limit) {
            let addresses: Arc<[A]> = in_scope(reach, &addresses).into();
            if id != self.me && !self.links.contains(id) {
                let contact = Contact { id, addresses };
                self.peers
                    .add_hearsay(&self.options, &mut self.rng, contact);
            }
        }
    }

    /// Adds contacts that the linked peer `from` has named to the hearsay.
    pub(super) fn learn_from_link(&mut self, from: I, contacts: Vec<Contact<I, A>>, limit: usize) {
        self.learn(self.links.reach_of(from), contacts, limit);
    }

    /// Records the addresses at which the peer of a new inbound link says that it listens, cut to those that its link may
    /// name, and returns these. Only addresses on the host that the connection is with count as verified; all others are
    /// hearsay.
    pub(super) fn record_listens(&mut self, from: I, terms: &Terms<I, A>) -> Arc<[A]> {
        let listens = self.usable_addresses(from, terms);
        let Some(link) = self.links.get_mut(from) else {
            return listens;
        };
        if link.direction() == Direction::Inbound {
            link.set_listens(listens.clone());
            let own = link.own_listens();
            let (options, rng) = (&self.options, &mut self.rng);
            if own.is_empty() {
                let (id, addresses) = (from, listens.clone());
                self.peers
                    .add_hearsay(options, rng, Contact { id, addresses });
            } else {
                self.peers.add_verified(options, rng, from, own, false);
            }
        }
        listens
    }

    /// Returns the addresses in a peer's terms that its link may name; none when it cannot be dialled.
    pub(super) fn usable_addresses(&self, from: I, terms: &Terms<I, A>) -> Arc<[A]> {
        let addresses: &[A] = match terms.dialable {
            true => &terms.addresses,
            false => &[],
        };
        in_scope(self.links.reach_of(from), addresses).into()
    }
}

impl<I: NodeId, A: Address, R: Rng> Context<'_, I, A, R> {
    /// Returns the links, as the rules of eviction see them.
    pub(super) fn eviction(&self) -> Eviction<'_, I, A> {
        Eviction::new(self.now, &self.core.options, &self.core.links)
    }

    /// Sends a request to a linked peer.
    pub(super) fn send(&mut self, to: I, pending: Pending, request: Request<I, A>) {
        let id = ExchangeId(self.core.fresh_id());
        self.core.requests.add(id, to, pending);
        self.out.push(Output::Send { to, id, request });
    }

    /// Sends a request whose response has no meaning.
    pub(super) fn notify(&mut self, to: I, request: Request<I, A>) {
        self.send(to, Pending::Notify, request);
    }

    /// Tells the linked peer `to` that a handover ends without effect. Unless its link is kept, the message names contacts
    /// that it may try. Does nothing without a link.
    pub(super) fn send_cancel(&mut self, to: I, nonce: u64, keep: bool) {
        if !self.core.links.contains(to) {
            return;
        }
        let contacts = match keep {
            true => Vec::new(),
            false => self.core.contacts_for_link(to, MAX_CONTACTS),
        };
        self.notify(
            to,
            Request::Cancel {
                nonce,
                keep,
                contacts,
            },
        );
    }

    /// Closes the link with `peer`, if there is one.
    pub(super) fn close(&mut self, peer: I, reason: Reason) {
        if self.core.links.close(peer, reason) {
            self.core.requests.forget(peer);
            self.out.push(Output::Close { peer, reason });
        }
    }

    /// Closes the provisional link of a peer that made no use of it, and records that against its network.
    pub(super) fn close_wasteful(&mut self, peer: I) {
        self.record_waste(peer);
        self.close(peer, Reason::Surplus);
    }

    /// Records that the linked peer `peer` wasted its provisional link.
    pub(super) fn record_waste(&mut self, peer: I) {
        if let Some(link) = self.core.links.get(peer) {
            let network = link.network();
            self.core.waitlist.record_waste(self.now, network);
        }
    }

    /// Closes the link that yields to the one with `newcomer`. Returns whether there was one.
    pub(super) fn make_room(&mut self, newcomer: I) -> bool {
        let found = self.eviction().for_newcomer(newcomer);
        if let Some((peer, reason)) = found {
            self.close(peer, reason);
        }
        found.is_some()
    }

    pub(super) fn report(&mut self, report: Report<I, A>) {
        self.out.push(Output::Report(report));
    }

    /// Reports an offence of a linked peer, once for each link.
    pub(super) fn report_offence(&mut self, peer: I, what: &'static str) {
        let link = self.core.links.get_mut(peer);
        if link.is_some_and(Link::mark_reported) {
            self.report(Report::Offence { peer, what });
        }
    }

    /// Keeps `peer` from other handovers for a while.
    pub(super) fn penalise(&mut self, peer: I) {
        let until = self.now + self.core.options.penalty;
        self.core.penalties.add(self.now, peer, until);
    }

    pub(super) fn is_penalised(&self, peer: I) -> bool {
        self.core.penalties.contains(self.now, peer)
    }
}
