//! A scripted peer: the conformance kit's raw peer, and above it only the data that a test sends. Frames of the handshake
//! are made by the library's own machine and can be changed, withheld, recorded or relayed.
//!
//! Entry type: [`RawPeer`]. The rule it keeps: it sends nothing unasked except the answers of identify and ping, and it
//! never closes a connection.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use diatribe::clock::Time;
use diatribe::conformance::frame::{self, framed};
pub(crate) use diatribe::conformance::frame::{
    ANSWER_1, ANSWER_2, CHALLENGE_1, CHALLENGE_2, HELLO_1, HELLO_2, PASS_1, PASS_2,
};
use diatribe::conformance::raw_peer::{self, Conn};
use diatribe::conformance::rpc::subscribe;
use diatribe::conformance::streams::{InboundStream, MESHSUB};
use diatribe::handshake::{self, Failure, Input, Local, MAX_FRAME, Machine, Output, Role};
use diatribe::{Address, ConnectError, Identity, LinkInfo, Node};
use futures::stream::FuturesUnordered;
use futures::{AsyncWriteExt, StreamExt};
use libp2p::core::upgrade::Version;
use libp2p::swarm::{ConnectionId, Stream};
use libp2p::{Multiaddr, PeerId};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::cluster::EVENT_TIMEOUT;

/// The topic of the room "lobby".
const LOBBY: &str = "/diatribe/1/lobby";

/// An established connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Up {
    pub(crate) peer: PeerId,
    pub(crate) id: ConnectionId,
}

/// A peer that acts only on command.
pub(crate) struct RawPeer {
    pub(crate) identity: Identity,
    pub(crate) address: Multiaddr,
    pub(crate) instance_id: [u8; 16],
    /// How long it waits before each handshake frame of its own.
    pub(crate) pace: Duration,
    raw: raw_peer::RawPeer,
    /// All connections, also those that have ended: dropping one would close it.
    conns: HashMap<ConnectionId, Conn>,
    /// Connections whose end a test has seen.
    ended: HashSet<ConnectionId>,
}

/// The bytes to send for a frame, or none to stop the handshake there.
pub(crate) type Fate = Option<Vec<u8>>;

/// The end of a handshake.
#[derive(Debug)]
pub(crate) enum End {
    /// Both sides hold a pass.
    Passed,
    /// The test kept a frame back.
    Stopped,
    /// Our own machine refused, or was refused by name.
    Failed(Failure),
    /// The other side closed the stream or the connection.
    HungUp,
}

/// The record of a handshake.
#[derive(Debug)]
pub(crate) struct HandshakeRecord {
    pub(crate) end: End,
    /// The bodies of all frames by their number: as the machine made them, and as they were received.
    pub(crate) frames: HashMap<usize, Vec<u8>>,
    /// The stream on which the frame that was kept back would have answered: it stays open.
    #[allow(dead_code, reason = "it is held, not read")]
    unanswered: Option<Stream>,
}

impl HandshakeRecord {
    pub(crate) fn failure(&self) -> &Failure {
        match &self.end {
            End::Failed(failure) => failure,
            other => panic!("the handshake was not refused: {other:?}"),
        }
    }
}

impl RawPeer {
    /// Creates a peer that answers identify and pings.
    pub(crate) async fn new() -> RawPeer {
        RawPeer::with(Identity::generate(), true).await
    }

    /// Creates a peer with this key; `identify` tells whether it answers identify.
    pub(crate) async fn with(identity: Identity, identify: bool) -> RawPeer {
        let raw = raw_peer::RawPeer::listener(identity.clone(), identify, Version::V1).await;
        let raw = raw.expect("loopback can be listened on");
        RawPeer {
            identity,
            address: raw.address.clone().expect("it listens"),
            instance_id: raw.instance_id,
            pace: Duration::ZERO,
            raw,
            conns: HashMap::new(),
            ended: HashSet::new(),
        }
    }

    /// Creates a peer that has a link with the node at `to` and a gossip stream, in the lobby.
    pub(crate) async fn linked(to: &Address) -> (RawPeer, Up, Stream) {
        let mut raw = RawPeer::new().await;
        let up = raw.dial(to).await;
        raw.pass(up, Role::Dialer).await;
        let mut stream = raw.open(up, MESHSUB).await.expect("a link takes gossip");
        send(&mut stream, &subscribe(LOBBY)).await;
        (raw, up, stream)
    }

    pub(crate) fn id(&self) -> PeerId {
        self.identity.peer_id()
    }

    /// Returns the address at which a node can dial it.
    pub(crate) fn dialable(&self) -> Address {
        self.address.clone().try_into().expect("an address to dial")
    }

    /// Dials and waits for noise and yamux to be done.
    pub(crate) async fn dial(&mut self, address: &Address) -> Up {
        self.try_dial(address).await.expect("it can be dialled")
    }

    /// Dials as [`RawPeer::dial`] does, an address that may refuse the connection.
    pub(crate) async fn try_dial(&mut self, address: &Address) -> Result<Up, String> {
        let conn = patiently("connection", async { Some(self.raw.dial(address).await) }).await?;
        Ok(self.keep(conn))
    }

    /// Has `node` dial this peer. Returns the connection, and the task that ends with the result of the dial.
    pub(crate) async fn dialled_by(&mut self, node: &Node) -> (Up, JoinHandle<Dialled>) {
        let (node, address) = (node.clone(), self.dialable());
        let dial = tokio::spawn(async move { node.connect(address).await });
        (self.connected().await, dial)
    }

    /// Waits for the next established connection.
    pub(crate) async fn connected(&mut self) -> Up {
        let conn = patiently("connection", self.raw.accept()).await;
        self.keep(conn)
    }

    fn keep(&mut self, conn: Conn) -> Up {
        let up = Up {
            peer: conn.peer,
            id: conn.id(),
        };
        self.conns.insert(up.id, conn);
        up
    }

    /// Waits until the other side has closed this connection, and returns its lifetime.
    pub(crate) async fn gone(&mut self, up: Up) -> Duration {
        let lasted = patiently(
            "end of the connection",
            self.conns[&up.id].gone(EVENT_TIMEOUT),
        )
        .await;
        self.ended.insert(up.id);
        lasted
    }

    /// Opens a stream; none when the other side refuses the protocol or the connection is gone.
    pub(crate) async fn open(&self, up: Up, protocol: &'static str) -> Option<Stream> {
        self.conns[&up.id].open(protocol).await.ok()
    }

    /// Returns the gossip streams that the other side has opened so far.
    pub(crate) fn gossip_streams(&mut self) -> Vec<InboundStream> {
        let mut opened = Vec::new();
        for conn in self.conns.values_mut() {
            opened.extend(std::iter::from_fn(|| conn.opened()));
        }
        opened.retain(|stream| stream.protocol.as_ref() != handshake::PROTOCOL);
        opened
    }

    /// Returns this peer as a machine introduces itself on the open network.
    pub(crate) fn local(&self) -> Arc<Local> {
        Arc::new(Local::new(self.identity.clone(), None, self.instance_id))
    }

    /// An honest handshake.
    pub(crate) async fn pass(&mut self, up: Up, role: Role) -> HandshakeRecord {
        let record = self
            .handshake(up, role, self.local(), |_, body| Some(framed(&body)))
            .await;
        assert!(matches!(record.end, End::Passed), "{:?}", record.end);
        record
    }

    /// Runs a handshake and passes each frame of this side, with its number, through `fate`.
    pub(crate) async fn handshake(
        &mut self,
        up: Up,
        role: Role,
        local: Arc<Local>,
        mut fate: impl FnMut(usize, Vec<u8>) -> Fate,
    ) -> HandshakeRecord {
        let entropy = Box::new(StdRng::seed_from_u64(rand::random()));
        // Its clock does not advance: the node's deadlines are tested.
        let mut machine = Machine::new(local, role, up.peer, Time::ZERO, entropy);
        let mut inputs = VecDeque::from([Input::Start]);
        let mut reply: Option<Stream> = None;
        let mut frames = HashMap::new();
        let end = 'handshake: loop {
            let input = match inputs.pop_front() {
                Some(input) => input,
                None => match self.request().await {
                    Some((stream, body)) => {
                        frames.insert(frames.len(), body.clone());
                        reply = Some(stream);
                        Input::Request(body)
                    }
                    None => break End::HungUp,
                },
            };
            let mut out = Vec::new();
            machine.handle(Time::ZERO, input, &mut out);
            for output in out {
                match output {
                    Output::SendRequest(body) => {
                        let number = frames.len();
                        frames.insert(number, body.clone());
                        let Some(bytes) = fate(number, body) else {
                            break 'handshake End::Stopped;
                        };
                        tokio::time::sleep(self.pace).await;
                        let Some(answer) = self.ask(up, &bytes).await else {
                            break 'handshake End::HungUp;
                        };
                        frames.insert(frames.len(), answer.clone());
                        inputs.push_back(Input::Response(answer));
                    }
                    Output::SendResponse(body) => {
                        let number = frames.len();
                        frames.insert(number, body.clone());
                        let Some(bytes) = fate(number, body) else {
                            break 'handshake End::Stopped;
                        };
                        tokio::time::sleep(self.pace).await;
                        let mut stream = reply.take().expect("a request came before");
                        if stream.write_all(&bytes).await.is_err() || stream.close().await.is_err()
                        {
                            break 'handshake End::HungUp;
                        }
                        inputs.push_back(Input::ResponseSent);
                    }
                    Output::Authorize { .. } => inputs.push_back(Input::Decision(Ok(()))),
                    Output::Verified(_) => inputs.push_back(Input::GateOpen),
                    Output::Passed => break 'handshake End::Passed,
                    Output::Close(failure) | Output::CloseAfterResponse(failure) => {
                        break 'handshake End::Failed(failure);
                    }
                }
            }
        };
        HandshakeRecord {
            end,
            frames,
            unanswered: reply,
        }
    }

    /// Sends these bytes on a handshake stream of their own; returns the body of the frame that answers.
    pub(crate) async fn ask(&self, up: Up, bytes: &[u8]) -> Option<Vec<u8>> {
        let asked = async {
            let mut stream = self.open(up, handshake::PROTOCOL).await?;
            stream.write_all(bytes).await.ok()?;
            stream.close().await.ok()?;
            frame::read(&mut stream, MAX_FRAME).await.ok()
        };
        let answer = timeout(EVENT_TIMEOUT, asked).await;
        answer.expect("an answer, or the end of the stream")
    }

    /// Waits for the next handshake request on any connection; returns the stream for the answer, and the request's body.
    /// None when a connection has ended.
    pub(crate) async fn request(&mut self) -> Option<(Stream, Vec<u8>)> {
        loop {
            let mut inbound = self.stream().await?;
            if inbound.protocol.as_ref() == handshake::PROTOCOL {
                let body = frame::read(&mut inbound.stream, MAX_FRAME).await.ok()?;
                return Some((inbound.stream, body));
            }
        }
    }

    /// Waits for the next gossip stream that the other side opens.
    pub(crate) async fn gossip_stream(&mut self) -> InboundStream {
        loop {
            let inbound = self.stream().await.expect("the connection stays open");
            if inbound.protocol.as_ref() != handshake::PROTOCOL {
                return inbound;
            }
        }
    }

    /// Waits for the next inbound stream on any connection. None when a connection has ended.
    async fn stream(&mut self) -> Option<InboundStream> {
        let ended = &self.ended;
        let open = self.conns.iter_mut().filter(|(id, _)| !ended.contains(id));
        let mut next: FuturesUnordered<_> = open
            .map(|(id, conn)| async { (*id, conn.stream().await) })
            .collect();
        let next = timeout(EVENT_TIMEOUT, next.next()).await;
        let (id, inbound) = next.unwrap_or_else(|_| panic!("no stream in {EVENT_TIMEOUT:?}"))?;
        if inbound.is_none() {
            self.ended.insert(id);
        }
        inbound
    }
}

/// The result of a node's dial.
type Dialled = Result<LinkInfo, ConnectError>;

/// Sends an RPC on a gossip stream.
pub(crate) async fn send(stream: &mut Stream, rpc: &[u8]) {
    stream.write_all(rpc).await.expect("the stream is open");
    stream.flush().await.expect("the stream is open");
}

/// Waits for `future` at most [`EVENT_TIMEOUT`].
pub(crate) async fn patiently<T>(what: &str, future: impl Future<Output = Option<T>>) -> T {
    match timeout(EVENT_TIMEOUT, future).await {
        Ok(Some(found)) => found,
        Ok(None) => panic!("no {what}, or the raw peer has ended"),
        Err(_) => panic!("no {what} in {EVENT_TIMEOUT:?}"),
    }
}
