//! The behaviour's part in the swarm: connections, streams and polling.
//!
//! The rule kept here: events for the node are polled before the exchanges, and the timer last.

use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::{Behaviour, Event};
use crate::overlay::event::Input;
use crate::wire::RequestResponse;

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = THandler<RequestResponse>;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer_id: PeerId,
        local_addr: &Multiaddr,
        send_back_addr: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.exchange.handle_established_inbound_connection(
            connection_id,
            peer_id,
            local_addr,
            send_back_addr,
        )
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer_id: PeerId,
        address: &Multiaddr,
        role_override: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.exchange.handle_established_outbound_connection(
            connection_id,
            peer_id,
            address,
            role_override,
            port_use,
        )
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = &event
            && closed.remaining_established == 0
        {
            self.early.remove(&closed.peer_id);
        }
        self.exchange.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer_id: PeerId,
        connection_id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.exchange
            .on_connection_handler_event(peer_id, connection_id, event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(ToSwarm::GenerateEvent(event));
            }
            match self.exchange.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => self.on_exchange(event),
                Poll::Ready(ToSwarm::NotifyHandler {
                    peer_id,
                    handler,
                    event,
                }) => {
                    return Poll::Ready(ToSwarm::NotifyHandler {
                        peer_id,
                        handler,
                        event,
                    });
                }
                // A request for a link that has just ended: it fails by itself.
                Poll::Ready(ToSwarm::Dial { opts }) => {
                    if let Some(peer_id) = opts.get_peer_id() {
                        tracing::debug!(%peer_id, "a request for a link that is gone");
                    }
                }
                Poll::Ready(_) => {}
                Poll::Pending if self.sleep(cx).is_ready() => self.feed(Input::Tick),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
