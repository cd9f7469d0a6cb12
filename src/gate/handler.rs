//! The gate on one connection: an empty handler that receives the inner handler when the connection is admitted.
//!
//! Entry type: [`Handler`]. The rule it keeps: it offers no protocol before the connection is admitted, and requests no
//! stream for the inner handler before the gate is open outbound.

use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll};

use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
    ListenUpgradeError, UpgradeInfoSend,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol};

use super::gated_upgrade::GatedUpgrade;
use super::strict_negotiation::{Protocols, StrictUpgrade, into_upgrade_error};

/// Commands of the gate's behaviour to the handler of one connection.
pub enum ToHandler<H: ConnectionHandler> {
    /// The peer is verified: accept its streams with this inner handler.
    Admit(Box<H>),
    /// The inner handler may open streams.
    OpenOutbound,
    /// A command for the inner handler.
    Inner(H::FromBehaviour),
}

impl<H: ConnectionHandler> fmt::Debug for ToHandler<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ToHandler::Admit(_) => f.write_str("Admit"),
            ToHandler::OpenOutbound => f.write_str("OpenOutbound"),
            ToHandler::Inner(event) => f.debug_tuple("Inner").field(event).finish(),
        }
    }
}

/// Events of the handler for the gate's behaviour.
#[derive(Debug)]
pub enum FromHandler<E> {
    /// The inner handler is in place and accepts inbound streams.
    Admitted,
    /// The inner handler offers fewer protocols than before.
    GaveUp,
    /// An event of the inner handler.
    Inner(E),
}

type OutboundRequest<H> = SubstreamProtocol<
    <H as ConnectionHandler>::OutboundProtocol,
    <H as ConnectionHandler>::OutboundOpenInfo,
>;

/// Connection handler of the gate: shut, admitted (inbound only), or open.
pub struct Handler<H: ConnectionHandler> {
    inner: Option<H>,
    protocols: Protocols,
    outbound_open: bool,
    /// Events that are queued for the behaviour.
    events: VecDeque<FromHandler<H::ToBehaviour>>,
    /// Number of protocols that the inner handler offered last.
    offered: usize,
    /// Outbound streams that the inner handler requested before the gate was open outbound: at most one for each
    /// protocol.
    pending_outbound: VecDeque<OutboundRequest<H>>,
}

impl<H: ConnectionHandler> Handler<H> {
    pub(super) fn shut(protocols: Protocols) -> Self {
        Handler {
            inner: None,
            protocols,
            outbound_open: false,
            events: VecDeque::new(),
            offered: 0,
            pending_outbound: VecDeque::new(),
        }
    }
}

impl<H: ConnectionHandler> ConnectionHandler for Handler<H> {
    type FromBehaviour = ToHandler<H>;
    type ToBehaviour = FromHandler<H::ToBehaviour>;
    type InboundProtocol = GatedUpgrade<H::InboundProtocol>;
    type OutboundProtocol = StrictUpgrade<H::OutboundProtocol>;
    type InboundOpenInfo = Option<H::InboundOpenInfo>;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        match &self.inner {
            None => SubstreamProtocol::new(GatedUpgrade(None, self.protocols), None),
            Some(inner) => inner
                .listen_protocol()
                .map_upgrade(|u| GatedUpgrade(Some(u), self.protocols))
                .map_info(Some),
        }
    }

    fn connection_keep_alive(&self) -> bool {
        // A link stays open without traffic. The handshake's deadline closes an unverified connection.
        self.inner.is_some()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<
        ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>,
    > {
        let Some(inner) = &mut self.inner else {
            return Poll::Pending;
        };
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if self.outbound_open
            && let Some(protocol) = self.pending_outbound.pop_front()
        {
            let protocol = protocol.map_upgrade(|upgrade| StrictUpgrade(upgrade, self.protocols));
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        loop {
            return match inner.poll(cx) {
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
                    if !self.outbound_open =>
                {
                    self.pending_outbound.push_back(protocol);
                    continue;
                }
                Poll::Ready(event) => {
                    let event = event.map_custom(FromHandler::Inner);
                    Poll::Ready(
                        event.map_protocol(|upgrade| StrictUpgrade(upgrade, self.protocols)),
                    )
                }
                Poll::Pending => Poll::Pending,
            };
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        match &mut self.inner {
            None => Poll::Ready(None),
            Some(inner) => inner.poll_close(cx).map(|e| e.map(FromHandler::Inner)),
        }
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        match event {
            ToHandler::Admit(inner) => {
                self.offered = offered(&*inner);
                self.inner = Some(*inner);
                self.events.push_back(FromHandler::Admitted);
            }
            ToHandler::OpenOutbound => self.outbound_open = true,
            ToHandler::Inner(event) => {
                if let Some(inner) = &mut self.inner {
                    inner.on_behaviour_event(event);
                }
            }
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        let Some(inner) = &mut self.inner else { return };
        let event = match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info }) => {
                // The peer's first stream through the gate shows that its own gate is open.
                self.outbound_open = true;
                let Some(info) = info else { return };
                ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info })
            }
            ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error }) => {
                let Some(info) = info else { return };
                ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error })
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                info,
            }) => {
                ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info })
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let error = into_upgrade_error(error);
                ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error })
            }
            ConnectionEvent::AddressChange(change) => ConnectionEvent::AddressChange(change),
            ConnectionEvent::LocalProtocolsChange(c) => ConnectionEvent::LocalProtocolsChange(c),
            ConnectionEvent::RemoteProtocolsChange(c) => ConnectionEvent::RemoteProtocolsChange(c),
            _ => return,
        };
        inner.on_connection_event(event);
        let still_offered = offered(inner);
        if still_offered < self.offered {
            self.events.push_back(FromHandler::GaveUp);
        }
        self.offered = still_offered;
    }
}

fn offered<H: ConnectionHandler>(handler: &H) -> usize {
    handler.listen_protocol().upgrade().protocol_info().count()
}
