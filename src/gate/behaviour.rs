//! The gate as a libp2p behaviour: tracks admitted connections and filters the swarm's events for the inner behaviours.
//!
//! Entry type: [`Gate`]. The rule it keeps: the inner behaviours learn of a connection only after a [`Permit`] for it,
//! and every count that they get covers admitted connections alone.

use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::Permit;
use super::handler::{FromHandler, Handler, ToHandler};
use super::strict_negotiation::Protocols;

/// Events of the gate and of the behaviours inside it.
#[derive(Debug)]
pub enum Event<E> {
    /// The connection now accepts the peer's streams through the gate: the handshake may continue.
    Open {
        /// The peer of the connection.
        peer_id: PeerId,
        /// The connection.
        connection_id: ConnectionId,
    },
    /// An inner behaviour has stopped offering a protocol on this connection, for good. libp2p's gossipsub does so after
    /// a few failed streams, without an event.
    GaveUp {
        /// The peer of the connection.
        peer_id: PeerId,
        /// The connection.
        connection_id: ConnectionId,
    },
    /// An event of an inner behaviour.
    Inner(E),
}

type Action<B> = ToSwarm<Event<<B as NetworkBehaviour>::ToSwarm>, ToHandler<THandler<B>>>;

/// Wraps behaviours that only verified peers may reach.
///
/// # Examples
///
/// ```
/// use diatribe::gate::Gate;
/// use libp2p::{PeerId, ping};
///
/// let gate = Gate::new(ping::Behaviour::default());
/// assert!(!gate.is_open(&PeerId::random()));
/// ```
pub struct Gate<B: NetworkBehaviour> {
    inner: B,
    protocols: Protocols,
    /// Every connection, admitted or not. The connection limits outside the gate bound their number.
    pub(super) connections: HashMap<ConnectionId, Entry>,
    actions: VecDeque<Action<B>>,
}

pub(super) struct Entry {
    peer_id: PeerId,
    endpoint: ConnectedPoint,
    admitted: bool,
}

impl<B: NetworkBehaviour> Gate<B> {
    /// Puts `inner` behind a gate.
    pub fn new(inner: B) -> Self {
        Gate {
            inner,
            protocols: Protocols(None),
            connections: HashMap::new(),
            actions: VecDeque::new(),
        }
    }

    /// Allows `inner` these protocols only. Others that it supports are neither proposed, nor accepted, nor listed by
    /// identify.
    #[must_use]
    pub fn speaking_only(mut self, protocols: &'static [&'static str]) -> Self {
        self.protocols = Protocols(Some(protocols));
        self
    }

    /// Returns the inner behaviours.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// Returns the inner behaviours for changes.
    pub fn inner_mut(&mut self) -> &mut B {
        &mut self.inner
    }

    /// Returns whether the gate is open for a connection of `peer_id`.
    pub fn is_open(&self, peer_id: &PeerId) -> bool {
        self.count_admitted(peer_id) > 0
    }

    /// Admits the permitted connection: the peer may open streams to the inner behaviours. [`Event::Open`] follows when
    /// it can. Does nothing if the connection is closed or admitted already.
    pub fn open_inbound(&mut self, permit: &impl Permit) {
        let (peer_id, connection_id) = (permit.peer_id(), permit.connection_id());
        let others = self.count_admitted(&peer_id);
        let Some(entry) = self.connections.get_mut(&connection_id) else {
            return;
        };
        if entry.admitted || entry.peer_id != peer_id {
            return;
        }
        let handler = match &entry.endpoint {
            ConnectedPoint::Dialer {
                address,
                role_override,
                port_use,
            } => self.inner.handle_established_outbound_connection(
                connection_id,
                peer_id,
                address,
                *role_override,
                *port_use,
            ),
            ConnectedPoint::Listener {
                local_addr,
                send_back_addr,
            } => self.inner.handle_established_inbound_connection(
                connection_id,
                peer_id,
                local_addr,
                send_back_addr,
            ),
        };
        let handler = match handler {
            Ok(handler) => handler,
            Err(denied) => {
                tracing::debug!(%peer_id, %denied, "a behaviour behind the gate denied the connection");
                self.actions.push_back(ToSwarm::CloseConnection {
                    peer_id,
                    connection: CloseConnection::One(connection_id),
                });
                return;
            }
        };
        entry.admitted = true;
        self.actions.push_back(ToSwarm::NotifyHandler {
            peer_id,
            handler: NotifyHandler::One(connection_id),
            event: ToHandler::Admit(Box::new(handler)),
        });
        self.inner
            .on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint: &entry.endpoint,
                failed_addresses: &[],
                other_established: others,
            }));
    }

    /// Lets the inner behaviours open streams on the permitted connection. Does nothing unless it is admitted.
    pub fn open_outbound(&mut self, permit: &impl Permit) {
        let connection_id = permit.connection_id();
        if self
            .connections
            .get(&connection_id)
            .is_some_and(|entry| entry.admitted)
        {
            self.actions.push_back(ToSwarm::NotifyHandler {
                peer_id: permit.peer_id(),
                handler: NotifyHandler::One(connection_id),
                event: ToHandler::OpenOutbound,
            });
        }
    }

    fn count_admitted(&self, peer_id: &PeerId) -> usize {
        self.connections
            .values()
            .filter(|e| e.admitted && e.peer_id == *peer_id)
            .count()
    }

    fn track(&mut self, connection_id: ConnectionId, peer_id: PeerId, endpoint: ConnectedPoint) {
        self.connections.insert(
            connection_id,
            Entry {
                peer_id,
                endpoint,
                admitted: false,
            },
        );
    }

    fn on_connection_closed(&mut self, closed: ConnectionClosed<'_>) {
        let Some(entry) = self.connections.remove(&closed.connection_id) else {
            return;
        };
        if entry.admitted {
            let remaining_established = self.count_admitted(&entry.peer_id);
            self.inner
                .on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
                    remaining_established,
                    ..closed
                }));
        }
    }

    fn wrap(&self, action: ToSwarm<B::ToSwarm, THandlerInEvent<B>>) -> Option<Action<B>> {
        let action = action.map_out(Event::Inner);
        let ToSwarm::NotifyHandler {
            peer_id,
            handler,
            event,
        } = action
        else {
            return Some(action.map_in(ToHandler::Inner));
        };
        // "Any" means any admitted connection, not any of the swarm's.
        let connection_id = match handler {
            NotifyHandler::One(id) => self.connections.get(&id).filter(|e| e.admitted).map(|_| id),
            NotifyHandler::Any => self
                .connections
                .iter()
                .find(|(_, e)| e.admitted && e.peer_id == peer_id)
                .map(|(id, _)| *id),
        }?;
        Some(ToSwarm::NotifyHandler {
            peer_id,
            handler: NotifyHandler::One(connection_id),
            event: ToHandler::Inner(event),
        })
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Gate<B> {
    type ConnectionHandler = Handler<THandler<B>>;
    type ToSwarm = Event<B::ToSwarm>;

    fn handle_established_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer_id: PeerId,
        local_addr: &Multiaddr,
        send_back_addr: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let endpoint = ConnectedPoint::Listener {
            local_addr: local_addr.clone(),
            send_back_addr: send_back_addr.clone(),
        };
        self.track(connection_id, peer_id, endpoint);
        Ok(Handler::shut(self.protocols))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer_id: PeerId,
        address: &Multiaddr,
        role_override: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let endpoint = ConnectedPoint::Dialer {
            address: address.clone(),
            role_override,
            port_use,
        };
        self.track(connection_id, peer_id, endpoint);
        Ok(Handler::shut(self.protocols))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            // The inner behaviours get this event when the gate opens.
            FromSwarm::ConnectionEstablished(_) => {}
            FromSwarm::ConnectionClosed(closed) => self.on_connection_closed(closed),
            FromSwarm::AddressChange(change) => {
                if self
                    .connections
                    .get(&change.connection_id)
                    .is_some_and(|e| e.admitted)
                {
                    self.inner.on_swarm_event(event);
                }
            }
            // Another behaviour denied the connection after `handle_established_*`.
            FromSwarm::DialFailure(failure) => {
                self.connections.remove(&failure.connection_id);
                self.inner.on_swarm_event(event);
            }
            FromSwarm::ListenFailure(failure) => {
                self.connections.remove(&failure.connection_id);
                self.inner.on_swarm_event(event);
            }
            // Addresses that an unverified peer claims are withheld too.
            FromSwarm::NewExternalAddrOfPeer(new) if !self.is_open(&new.peer_id) => {}
            other => self.inner.on_swarm_event(other),
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer_id: PeerId,
        connection_id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {
            FromHandler::Admitted => {
                self.actions.push_back(ToSwarm::GenerateEvent(Event::Open {
                    peer_id,
                    connection_id,
                }));
            }
            FromHandler::GaveUp => {
                self.actions
                    .push_back(ToSwarm::GenerateEvent(Event::GaveUp {
                        peer_id,
                        connection_id,
                    }));
            }
            FromHandler::Inner(event) => {
                self.inner
                    .on_connection_handler_event(peer_id, connection_id, event);
            }
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(action) = self.actions.pop_front() {
            return Poll::Ready(action);
        }
        while let Poll::Ready(action) = self.inner.poll(cx) {
            if let Some(action) = self.wrap(action) {
                return Poll::Ready(action);
            }
        }
        Poll::Pending
    }
}
