//! The connection handler of the raw peer: opens the streams that are asked for, and passes on inbound ones.
//!
//! Entry type: [`Handler`]. The rule it keeps: it answers pings and nothing else.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::{Context, Poll};

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, ConnectionId, Stream, StreamUpgradeError,
    SubstreamProtocol,
};
use tokio::sync::{mpsc, oneshot};

/// The ping protocol. It is answered here and not by libp2p's behaviour, because a peer keeps only one stream of it,
/// and that would not be the kit's.
pub const PING: &str = "/ipfs/ping/1.0.0";
/// A stream that the other side opened.
#[derive(Debug)]
pub struct InboundStream {
    /// The connection of the stream.
    pub id: ConnectionId,
    /// The negotiated protocol.
    pub protocol: StreamProtocol,
    /// The stream itself.
    pub stream: Stream,
}

/// The reason why a stream could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The other side answered `na`.
    Refused,
    /// The stream or the connection ended before a protocol was negotiated.
    Lost(String),
}

/// Receives the opened stream.
pub(super) type Reply = oneshot::Sender<Result<Stream, OpenError>>;

/// A protocol to open a stream for, and the receiver of the stream.
pub(super) type ToHandler = (StreamProtocol, Reply);

/// Answers pings until either side ends the stream.
async fn pong(mut stream: Stream) {
    let mut came = [0; 32];
    while stream.read_exact(&mut came).await.is_ok() {
        let answered = stream.write_all(&came).await.is_ok() && stream.flush().await.is_ok();
        if !answered {
            return;
        }
    }
}

pub struct Handler {
    id: ConnectionId,
    protocols: Protocols,
    wanted: VecDeque<(StreamProtocol, Reply)>,
    inbound: mpsc::UnboundedSender<InboundStream>,
}

impl Handler {
    pub(super) fn new(
        id: ConnectionId,
        protocols: Protocols,
        inbound: mpsc::UnboundedSender<InboundStream>,
    ) -> Handler {
        Handler {
            id,
            protocols,
            wanted: VecDeque::new(),
            inbound,
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = ToHandler;
    type ToBehaviour = Infallible;
    type InboundProtocol = Protocols;
    type OutboundProtocol = Protocols;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    fn listen_protocol(&self) -> SubstreamProtocol<Protocols> {
        SubstreamProtocol::new(self.protocols.clone(), ())
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn on_behaviour_event(&mut self, event: ToHandler) {
        self.wanted.push_back(event);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Protocols, Protocols, (), Reply>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (protocol, stream),
                ..
            }) if protocol.as_ref() == PING => drop(tokio::spawn(pong(stream))),
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (protocol, stream),
                ..
            }) => {
                let _ = self.inbound.send(InboundStream {
                    id: self.id,
                    protocol,
                    stream,
                });
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (_, stream),
                info,
            }) => {
                let _ = info.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let _ = info.send(Err(match error {
                    StreamUpgradeError::NegotiationFailed => OpenError::Refused,
                    error => OpenError::Lost(error.to_string()),
                }));
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Protocols, Reply, Infallible>> {
        match self.wanted.pop_front() {
            Some((protocol, reply)) => {
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                    protocol: SubstreamProtocol::new(Protocols(vec![protocol]), reply),
                })
            }
            None => Poll::Pending,
        }
    }
}

/// Negotiates one of these protocols and passes on the raw stream.
#[derive(Clone, Debug)]
pub struct Protocols(Vec<StreamProtocol>);

impl Protocols {
    pub(super) fn new(names: impl Iterator<Item = &'static str>) -> Protocols {
        Protocols(names.map(StreamProtocol::new).collect())
    }
}

impl UpgradeInfo for Protocols {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

type Agreed = futures::future::Ready<Result<(StreamProtocol, Stream), Infallible>>;

impl InboundUpgrade<Stream> for Protocols {
    type Output = (StreamProtocol, Stream);
    type Error = Infallible;
    type Future = Agreed;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Agreed {
        futures::future::ready(Ok((protocol, stream)))
    }
}

impl OutboundUpgrade<Stream> for Protocols {
    type Output = (StreamProtocol, Stream);
    type Error = Infallible;
    type Future = Agreed;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Agreed {
        futures::future::ready(Ok((protocol, stream)))
    }
}
