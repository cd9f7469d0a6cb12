//! One connection's side of the gate: an empty handler into which the inner one is put later.
//!
//! Entry type: [`Handler`]. The rule it keeps: before the peer is admitted it offers no protocol,
//! and no stream of the inner handler is requested before the gate is open outbound.

use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll};

use libp2p::core::upgrade::{self, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
    InboundUpgradeSend, ListenUpgradeError, UpgradeInfoSend,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, Stream, SubstreamProtocol};

use super::strict_negotiation::{Protocols, StrictUpgrade, into_upgrade_error};

/// What the gate's behaviour tells the handler of one connection.
pub enum ToHandler<H: ConnectionHandler> {
    /// The peer is verified: take its streams from now on.
    Admit(Box<H>),
    /// Our own streams may open.
    OpenOutbound,
    /// For the inner handler.
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

/// What the handler tells the gate's behaviour.
#[derive(Debug)]
pub enum FromHandler<E> {
    /// The inner handler is in place and inbound streams are taken.
    Admitted,
    /// The inner handler offers fewer protocols than when it was admitted.
    GaveUp,
    /// From the inner handler.
    Inner(E),
}

type OutboundRequest<H> = SubstreamProtocol<
    <H as ConnectionHandler>::OutboundProtocol,
    <H as ConnectionHandler>::OutboundOpenInfo,
>;

/// The handler of one connection: shut, admitted, or open.
pub struct Handler<H: ConnectionHandler> {
    inner: Option<H>,
    protocols: Protocols,
    outbound_open: bool,
    /// What is still to be told.
    announce: VecDeque<FromHandler<H::ToBehaviour>>,
    /// How many protocols the inner handler offered when it was admitted.
    offered: usize,
    /// Streams that the inner handler asked for before the gate was open outbound. Bounded by
    /// what the inner handlers ask for unprompted: one stream of each protocol.
    held: VecDeque<OutboundRequest<H>>,
}

impl<H: ConnectionHandler> Handler<H> {
    pub(super) fn shut(protocols: Protocols) -> Self {
        Handler {
            inner: None,
            protocols,
            outbound_open: false,
            announce: VecDeque::new(),
            offered: 0,
            held: VecDeque::new(),
        }
    }
}

impl<H: ConnectionHandler> ConnectionHandler for Handler<H> {
    type FromBehaviour = ToHandler<H>;
    type ToBehaviour = FromHandler<H::ToBehaviour>;
    type InboundProtocol = Gated<H::InboundProtocol>;
    type OutboundProtocol = StrictUpgrade<H::OutboundProtocol>;
    type InboundOpenInfo = Option<H::InboundOpenInfo>;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        match &self.inner {
            None => SubstreamProtocol::new(Gated(None, self.protocols), None),
            Some(inner) => inner
                .listen_protocol()
                .map_upgrade(|u| Gated(Some(u), self.protocols))
                .map_info(Some),
        }
    }

    fn connection_keep_alive(&self) -> bool {
        // A link stays although nobody speaks; what is not verified has the handshake's deadline.
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
        if let Some(event) = self.announce.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if self.outbound_open
            && let Some(protocol) = self.held.pop_front()
        {
            let protocol = protocol.map_upgrade(|upgrade| StrictUpgrade(upgrade, self.protocols));
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        loop {
            return match inner.poll(cx) {
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
                    if !self.outbound_open =>
                {
                    self.held.push_back(protocol);
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
                self.announce.push_back(FromHandler::Admitted);
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
                // Its first gated stream shows that the peer's gate is open: ours may speak.
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
            self.announce.push_back(FromHandler::GaveUp);
        }
        self.offered = still_offered;
    }
}

fn offered<H: ConnectionHandler>(handler: &H) -> usize {
    handler.listen_protocol().upgrade().protocol_info().count()
}

/// An inbound upgrade that offers nothing while the gate is shut, and never what may not be spoken.
pub struct Gated<U>(Option<U>, Protocols);

impl<U: UpgradeInfoSend> UpgradeInfo for Gated<U> {
    type Info = U::Info;
    type InfoIter = Vec<U::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        let infos = self.0.as_ref().map(UpgradeInfoSend::protocol_info);
        let infos = infos.into_iter().flatten();
        infos.filter(|info| self.1.allow(info.as_ref())).collect()
    }
}

impl<U: InboundUpgradeSend> upgrade::InboundUpgrade<Stream> for Gated<U> {
    type Output = U::Output;
    type Error = U::Error;
    type Future =
        futures::future::Either<U::Future, futures::future::Pending<Result<U::Output, U::Error>>>;

    fn upgrade_inbound(self, stream: Stream, info: U::Info) -> Self::Future {
        match self.0 {
            Some(upgrade) => futures::future::Either::Left(upgrade.upgrade_inbound(stream, info)),
            // Not reached: no protocol was offered, so none was chosen. The stream is dropped.
            None => futures::future::Either::Right(futures::future::pending()),
        }
    }
}
