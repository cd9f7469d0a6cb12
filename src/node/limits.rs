//! How many strangers may stand before the gate: half-open sockets and connections that wait for
//! their handshake, each by source and in all.
//!
//! Entry type: [`Behaviour`], which denies and does nothing else. The rule it keeps: no source
//! can use up the places of the others; a small cap for all alone would let 64 idle sockets lock
//! everyone out.

use std::collections::HashMap;
use std::fmt;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use super::event::{Cause, EventBus, Kind};
use crate::wire::{Source, is_loopback};

/// The caps before the gate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caps {
    /// Half-open inbound connections in all.
    pub(crate) pending: usize,
    /// Half-open inbound connections of one source.
    pub(crate) pending_per_source: usize,
    /// Inbound connections that wait for their handshake, in all.
    pub(crate) unverified: usize,
    /// Inbound connections that wait for their handshake, of one source.
    pub(crate) unverified_per_source: usize,
    /// Whether loopback addresses are left out of the caps by source.
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

/// Why a connection was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    waiting: &'static str,
    source: Option<Source>,
    cap: usize,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Some(source) => write!(
                f,
                "{source} has {} {} already; raise the cap with --per-address-limit",
                self.cap, self.waiting
            ),
            None => write!(f, "there are {} {} already", self.cap, self.waiting),
        }
    }
}

impl std::error::Error for Refused {}

/// Denies inbound connections over the caps.
pub(crate) struct Behaviour {
    caps: Caps,
    pending: Waiting,
    unverified: Waiting,
    /// Bounds what is logged of refusals.
    bus: EventBus,
}

#[derive(Default)]
struct Waiting {
    connections: HashMap<ConnectionId, Source>,
    by_source: HashMap<Source, usize>,
}

impl Waiting {
    fn enter(&mut self, id: ConnectionId, source: Source) {
        if self.connections.insert(id, source).is_none() {
            *self.by_source.entry(source).or_default() += 1;
        }
    }

    fn leave(&mut self, id: ConnectionId) {
        let Some(source) = self.connections.remove(&id) else {
            return;
        };
        if let Some(count) = self.by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&source);
            }
        }
    }

    fn check(
        &self,
        source: Option<Source>,
        waiting: &'static str,
        all: usize,
        per_source: usize,
    ) -> Result<(), Refused> {
        if self.connections.len() >= all {
            return Err(Refused {
                waiting,
                source: None,
                cap: all,
            });
        }
        match source {
            Some(source)
                if self
                    .by_source
                    .get(&source)
                    .is_some_and(|n| *n >= per_source) =>
            {
                Err(Refused {
                    waiting,
                    source: Some(source),
                    cap: per_source,
                })
            }
            _ => Ok(()),
        }
    }
}

impl Behaviour {
    /// Caps with nobody waiting. What is logged has the limits of `bus`.
    pub(crate) fn new(caps: Caps, bus: EventBus) -> Behaviour {
        Behaviour {
            caps,
            pending: Waiting::default(),
            unverified: Waiting::default(),
            bus,
        }
    }

    /// The connection's peer has passed: it waits no longer.
    pub(crate) fn verified(&mut self, connection_id: ConnectionId) {
        self.unverified.leave(connection_id);
    }

    fn leave(&mut self, connection_id: ConnectionId) {
        self.pending.leave(connection_id);
        self.unverified.leave(connection_id);
    }

    /// The source as the caps by source see it: none for exempt addresses.
    fn counted(&self, address: &Multiaddr) -> Option<Source> {
        (!(self.caps.exempt_loopback && is_loopback(address))).then(|| Source::of(address))
    }

    fn deny(&mut self, refused: Refused) -> ConnectionDenied {
        let cause = refused.source.map(Cause::Address);
        if self.bus.may_log(Kind::OverCap, cause) {
            tracing::warn!("a connection was refused: {refused}");
        }
        ConnectionDenied::new(refused)
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = std::convert::Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let caps = self.caps;
        self.pending
            .check(
                self.counted(remote),
                "half-open connections",
                caps.pending,
                caps.pending_per_source,
            )
            .map_err(|refused| self.deny(refused))?;
        self.pending.enter(connection_id, Source::of(remote));
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.leave(connection_id);
        let caps = self.caps;
        self.unverified
            .check(
                self.counted(remote),
                "connections without a finished handshake",
                caps.unverified,
                caps.unverified_per_source,
            )
            .map_err(|refused| self.deny(refused))?;
        self.unverified.enter(connection_id, Source::of(remote));
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
            FromSwarm::ConnectionClosed(closed) => self.leave(closed.connection_id),
            FromSwarm::ListenFailure(failure) => self.leave(failure.connection_id),
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
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn limits(caps: Caps) -> Behaviour {
        Behaviour::new(caps, EventBus::new(Clock::start()))
    }

    fn arrive(limits: &mut Behaviour, id: usize, address: &str) -> bool {
        let local = "/ip4/127.0.0.1/tcp/1/ws".parse().unwrap();
        let remote = address.parse().unwrap();
        limits
            .handle_pending_inbound_connection(ConnectionId::new_unchecked(id), &local, &remote)
            .is_ok()
    }

    #[test]
    fn one_source_cannot_take_the_places_of_others() {
        let mut limits = limits(Caps::default());
        let taken = (0..2000)
            .filter(|i| arrive(&mut limits, *i, "/ip4/192.0.2.1/tcp/7"))
            .count();
        assert_eq!(taken, 8);
        assert!(arrive(&mut limits, 5000, "/ip4/192.0.2.2/tcp/7"));
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let mut limits = limits(Caps::default());
        assert_eq!(
            (0..9)
                .filter(|i| arrive(&mut limits, *i, "/ip6/::1/tcp/7"))
                .count(),
            8
        );
        limits.leave(ConnectionId::new_unchecked(3));
        assert!(arrive(&mut limits, 10, "/ip6/::1/tcp/7"));
        assert!(!arrive(&mut limits, 11, "/ip6/::1/tcp/7"));
    }

    #[test]
    fn loopback_is_exempt_from_caps_by_source_only_when_asked_for() {
        let mut limits = limits(Caps {
            exempt_loopback: true,
            ..Caps::default()
        });
        let taken = (0..2000)
            .filter(|i| arrive(&mut limits, *i, "/ip6/::1/tcp/7"))
            .count();
        assert_eq!(taken, 256);
    }
}
