//! Connection limits: the quota of half-open sockets and of connections that have not finished their handshake, for
//! each source and in total.
//!
//! Entry type: [`Behaviour`], which denies connections and closes half-open ones. The rule it keeps is that of
//! [`SlotTable`]: neither a source nor a network can use up the slots of the others. It reports in [`Event`]s, which
//! the node logs at a limited rate.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use super::half_open::HalfOpenConnections;
use super::slots::{QuotaExceeded, SlotTable};
use crate::wire::{Source, is_loopback};

/// Maximum numbers of connections without a finished handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caps {
    /// Maximum number of half-open inbound connections.
    pub(crate) pending: usize,
    /// Maximum number of half-open inbound connections of one source.
    pub(crate) pending_per_source: usize,
    /// Maximum number of inbound connections that await their handshake.
    pub(crate) unverified: usize,
    /// Maximum number of inbound connections of one source that await their handshake.
    pub(crate) unverified_per_source: usize,
    /// Exempts loopback addresses from the quotas of a source.
    pub(crate) exempt_loopback: bool,
}

impl Default for Caps {
    fn default() -> Self {
        Caps {
            pending: 256,
            pending_per_source: 8,
            unverified: 64,
            unverified_per_source: 4,
            exempt_loopback: false,
        }
    }
}

/// A connection was refused because its source has used up its quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    waiting: &'static str,
    source: Source,
    cap: usize,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refused {
            waiting,
            source,
            cap,
        } = self;
        write!(
            f,
            "{source} has {cap} {waiting} already; raise the cap with --per-address-limit"
        )
    }
}

impl std::error::Error for Refused {}

impl Refused {
    /// Returns the source that has used up its quota.
    pub(crate) fn source(&self) -> Source {
        self.source
    }
}

/// A report of the connection limits, for the node to act on or to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// An inbound connection lost its slot to a newer one before its handshake finished: the node closes it.
    Evicted(ConnectionId),
    /// An inbound connection was refused because its source has used up its quota.
    Refused(Refused),
    /// All slots of one kind were taken, so that a newer connection evicted an older one.
    Full(Full),
}

/// All slots of one kind are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    waiting: &'static str,
    cap: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Full { waiting, cap } = self;
        write!(
            f,
            "there are {cap} {waiting}: the oldest from the network that has most of them gives way to each new one"
        )
    }
}

const HALF_OPEN: &str = "half-open connections";
const UNVERIFIED: &str = "connections without a finished handshake";

/// Denies inbound connections of a source over its quota, and evicts connections when all slots are taken.
pub(crate) struct Behaviour {
    caps: Caps,
    pending: SlotTable<ConnectionId>,
    /// The local and the remote end of each connection in `pending`.
    ends: HashMap<ConnectionId, (Multiaddr, Multiaddr)>,
    half_open: HalfOpenConnections,
    unverified: SlotTable<ConnectionId>,
    events: VecDeque<Event>,
}

impl Behaviour {
    /// Creates the limits without any connection. `half_open` closes connections of the node's transport.
    pub(crate) fn new(caps: Caps, half_open: HalfOpenConnections) -> Behaviour {
        Behaviour {
            caps,
            pending: SlotTable::new(caps.pending, caps.pending_per_source),
            ends: HashMap::new(),
            half_open,
            unverified: SlotTable::new(caps.unverified, caps.unverified_per_source),
            events: VecDeque::new(),
        }
    }

    /// Frees the slot of a connection that has finished its handshake.
    pub(crate) fn verified(&mut self, connection_id: ConnectionId) {
        self.unverified.release(connection_id);
    }

    fn release(&mut self, connection_id: ConnectionId) {
        self.pending.release(connection_id);
        self.ends.remove(&connection_id);
        self.unverified.release(connection_id);
    }

    /// Returns whether this address is exempt from the quotas of a source.
    fn is_exempt(&self, address: &Multiaddr) -> bool {
        self.caps.exempt_loopback && is_loopback(address)
    }

    fn deny(&mut self, waiting: &'static str, source: Source, cap: usize) -> ConnectionDenied {
        let refused = Refused {
            waiting,
            source,
            cap,
        };
        self.events.push_back(Event::Refused(refused.clone()));
        ConnectionDenied::new(refused)
    }

    fn report_full(&mut self, waiting: &'static str, cap: usize) {
        self.events.push_back(Event::Full(Full { waiting, cap }));
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Event;

    fn handle_pending_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let source = Source::of(remote);
        let gone = self
            .pending
            .claim(connection_id, source, self.is_exempt(remote))
            .map_err(|QuotaExceeded| self.deny(HALF_OPEN, source, self.caps.pending_per_source))?;
        self.ends
            .insert(connection_id, (local.clone(), remote.clone()));
        if let Some((local, remote)) = gone.and_then(|gone| self.ends.remove(&gone)) {
            self.half_open.close(&local, &remote);
            self.report_full(HALF_OPEN, self.caps.pending);
        }
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.release(connection_id);
        let source = Source::of(remote);
        let gone = self
            .unverified
            .claim(connection_id, source, self.is_exempt(remote))
            .map_err(|QuotaExceeded| {
                self.deny(UNVERIFIED, source, self.caps.unverified_per_source)
            })?;
        if let Some(gone) = gone {
            self.events.push_back(Event::Evicted(gone));
            self.report_full(UNVERIFIED, self.caps.unverified);
        }
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => self.release(closed.connection_id),
            FromSwarm::ListenFailure(failure) => self.release(failure.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // The swarm polls after each call that adds an event, so no waker is needed.
        match self.events.pop_front() {
            Some(event) => Poll::Ready(ToSwarm::GenerateEvent(event)),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests;
