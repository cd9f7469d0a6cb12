//! A scripted peer: real transport and noise, and above them only the data that a test sends. Frames of the handshake
//! are made by the library's own machine and can be changed, withheld, recorded or relayed.
//!
//! Entry type: [`RawPeer`]. The rule it keeps: it sends nothing unasked except the answers of identify and ping, and it
//! never closes a connection.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use diatribe::clock::Time;
use diatribe::conformance::frame::framed;
use diatribe::conformance::streams::{Behaviour, InboundStream, OpenError, swarm};
use diatribe::handshake::{self, Failure, Input, Local, Machine, Output, Role};
use diatribe::{Address, Identity};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::core::upgrade::Version;
use libp2p::swarm::{ConnectionId, Stream, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot};

use crate::cluster::PATIENCE;

/// The frames of a handshake that passes, by their number on the wire.
pub(crate) const HELLO_1: usize = 0;
pub(crate) const CHALLENGE_1: usize = 1;
pub(crate) const ANSWER_1: usize = 2;
pub(crate) const PASS_1: usize = 3;
pub(crate) const HELLO_2: usize = 4;
pub(crate) const CHALLENGE_2: usize = 5;
pub(crate) const ANSWER_2: usize = 6;
pub(crate) const PASS_2: usize = 7;

/// An established connection and its time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Up {
    pub(crate) peer: PeerId,
    pub(crate) at: Instant,
    pub(crate) id: ConnectionId,
}

enum Command {
    Dial(Multiaddr),
    Open(
        ConnectionId,
        StreamProtocol,
        oneshot::Sender<Result<Stream, OpenError>>,
    ),
}

/// A peer that acts only on command.
pub(crate) struct RawPeer {
    pub(crate) identity: Identity,
    pub(crate) address: Multiaddr,
    pub(crate) instance_id: [u8; 16],
    /// How long it waits before each handshake frame of its own.
    pub(crate) pace: Duration,
    commands: mpsc::UnboundedSender<Command>,
    up: mpsc::UnboundedReceiver<Up>,
    down: mpsc::UnboundedReceiver<(ConnectionId, Instant)>,
    /// The ends of connections that were read from `down`.
    ended: HashMap<ConnectionId, Instant>,
    inbound: mpsc::UnboundedReceiver<InboundStream>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for RawPeer {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The bytes to send for a frame, or none to stop the handshake there.
pub(crate) type Fate = Option<Vec<u8>>;

/// How a handshake of ours went.
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

/// A handshake as it went.
#[derive(Debug)]
pub(crate) struct Shaken {
    pub(crate) end: End,
    /// The bodies of all frames by their number: as the machine made them, and as they were received.
    pub(crate) frames: HashMap<usize, Vec<u8>>,
    /// The stream on which the frame that was kept back would have answered: it stays open.
    #[allow(dead_code, reason = "it is held, not read")]
    unanswered: Option<Stream>,
}

impl Shaken {
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
        let (commands, commands_in) = mpsc::unbounded_channel();
        let (up_out, up) = mpsc::unbounded_channel();
        let (down_out, down) = mpsc::unbounded_channel();
        let (inbound_out, inbound) = mpsc::unbounded_channel();
        let mut swarm =
            swarm(&identity, identify, Version::V1, inbound_out).expect("an Ed25519 key");
        swarm
            .listen_on("/ip4/127.0.0.1/tcp/0/ws".parse().expect("a multiaddr"))
            .expect("loopback can be listened on");
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let driver = tokio::spawn(drive(swarm, commands_in, up_out, down_out));
        RawPeer {
            identity,
            address,
            instance_id: rand::random(),
            pace: Duration::ZERO,
            commands,
            up,
            down,
            ended: HashMap::new(),
            inbound,
            driver,
        }
    }

    pub(crate) fn id(&self) -> PeerId {
        self.identity.peer_id()
    }

    pub(crate) fn dialable(&self) -> Address {
        self.address.clone().try_into().expect("an address to dial")
    }

    /// Dials and waits for noise and yamux to be done.
    pub(crate) async fn dial(&mut self, address: &Address) -> Up {
        self.command(Command::Dial(address.multiaddr().clone()));
        self.connected().await
    }

    /// Waits for the next established connection.
    pub(crate) async fn connected(&mut self) -> Up {
        patiently("connection", self.up.recv()).await
    }

    /// Waits until the other side has closed this connection, and returns its lifetime.
    pub(crate) async fn gone(&mut self, up: Up) -> Duration {
        loop {
            if let Some(at) = self.ended.get(&up.id) {
                return *at - up.at;
            }
            let (id, at) = patiently("end of the connection", self.down.recv()).await;
            self.ended.insert(id, at);
        }
    }

    /// Opens a stream; none when the other side refuses the protocol or the connection is gone.
    pub(crate) async fn open(&self, up: Up, protocol: &'static str) -> Option<Stream> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Open(up.id, StreamProtocol::new(protocol), reply));
        answer.await.ok()?.ok()
    }

    /// The gossip streams that the other side has opened to us so far.
    pub(crate) fn gossip_streams(&mut self) -> Vec<InboundStream> {
        let all = std::iter::from_fn(|| self.inbound.try_recv().ok());
        all.filter(|s| s.protocol.as_ref() != handshake::PROTOCOL)
            .collect()
    }

    /// This peer, as a machine introduces itself on the open network.
    pub(crate) fn local(&self) -> Arc<Local> {
        Arc::new(Local::new(self.identity.clone(), None, self.instance_id))
    }

    /// An honest handshake.
    pub(crate) async fn pass(&mut self, up: Up, role: Role) -> Shaken {
        let shaken = self
            .shake(up, role, self.local(), |_, body| Some(framed(&body)))
            .await;
        assert!(matches!(shaken.end, End::Passed), "{:?}", shaken.end);
        shaken
    }

    /// Runs a handshake and passes each frame of this side, with its number, through `fate`.
    pub(crate) async fn shake(
        &mut self,
        up: Up,
        role: Role,
        local: Arc<Local>,
        mut fate: impl FnMut(usize, Vec<u8>) -> Fate,
    ) -> Shaken {
        let entropy = Box::new(StdRng::seed_from_u64(rand::random()));
        // Its clock does not advance: the node's deadlines are tested.
        let mut machine = Machine::new(local, role, up.peer, Time::ZERO, entropy);
        let mut inputs = VecDeque::from([Input::Start]);
        let mut reply: Option<Stream> = None;
        let mut frames = HashMap::new();
        let end = 'shake: loop {
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
                            break 'shake End::Stopped;
                        };
                        tokio::time::sleep(self.pace).await;
                        let Some(answer) = self.ask(up, &bytes).await else {
                            break 'shake End::HungUp;
                        };
                        frames.insert(frames.len(), answer.clone());
                        inputs.push_back(Input::Response(answer));
                    }
                    Output::SendResponse(body) => {
                        let number = frames.len();
                        frames.insert(number, body.clone());
                        let Some(bytes) = fate(number, body) else {
                            break 'shake End::Stopped;
                        };
                        tokio::time::sleep(self.pace).await;
                        let mut stream = reply.take().expect("a request came before");
                        if stream.write_all(&bytes).await.is_err() || stream.close().await.is_err()
                        {
                            break 'shake End::HungUp;
                        }
                        inputs.push_back(Input::ResponseSent);
                    }
                    Output::Authorize { .. } => inputs.push_back(Input::Decision(Ok(()))),
                    Output::Verified(_) => inputs.push_back(Input::GateOpen),
                    Output::Passed => break 'shake End::Passed,
                    Output::Close(failure) | Output::CloseAfterResponse(failure) => {
                        break 'shake End::Failed(failure);
                    }
                }
            }
        };
        Shaken {
            end,
            frames,
            unanswered: reply,
        }
    }

    /// Sends these bytes on a handshake stream of their own; the body of the frame that answers.
    pub(crate) async fn ask(&self, up: Up, bytes: &[u8]) -> Option<Vec<u8>> {
        let answer = tokio::time::timeout(PATIENCE, self.asked(up, bytes)).await;
        answer.expect("an answer, or the end of the stream")
    }

    async fn asked(&self, up: Up, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut stream = self.open(up, handshake::PROTOCOL).await?;
        stream.write_all(bytes).await.ok()?;
        stream.close().await.ok()?;
        let mut answer = Vec::new();
        stream.take(4096).read_to_end(&mut answer).await.ok()?;
        unframed(&answer)
    }

    /// The next handshake frame that the other side asks with, and where its answer goes.
    pub(crate) async fn request(&mut self) -> Option<(Stream, Vec<u8>)> {
        loop {
            let InboundStream {
                protocol, stream, ..
            } = tokio::select! {
                inbound = self.inbound.recv() => inbound?,
                ended = self.down.recv() => {
                    self.ended.extend(ended);
                    return None;
                }
                () = tokio::time::sleep(PATIENCE) => panic!("no request in {PATIENCE:?}"),
            };
            if protocol.as_ref() != handshake::PROTOCOL {
                continue;
            }
            let (mut stream, mut bytes) = (stream, Vec::new());
            (&mut stream)
                .take(4096)
                .read_to_end(&mut bytes)
                .await
                .ok()?;
            return Some((stream, unframed(&bytes)?));
        }
    }

    fn command(&self, command: Command) {
        assert!(self.commands.send(command).is_ok(), "the raw peer runs");
    }
}

fn unframed(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let len = prost::encoding::decode_varint(&mut bytes).ok()?;
    (len == bytes.len() as u64).then(|| bytes.to_vec())
}

pub(crate) async fn patiently<T>(what: &str, future: impl Future<Output = Option<T>>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(Some(found)) => found,
        Ok(None) => panic!("the raw peer has ended"),
        Err(_) => panic!("no {what} in {PATIENCE:?}"),
    }
}

async fn drive(
    mut swarm: Swarm<Behaviour>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    up: mpsc::UnboundedSender<Up>,
    down: mpsc::UnboundedSender<(ConnectionId, Instant)>,
) {
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Dial(address)) => swarm.dial(address).expect("the address can be dialled"),
                Some(Command::Open(id, protocol, reply)) => {
                    swarm.behaviour_mut().streams.open(id, protocol, reply);
                }
                None => return,
            },
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                    let _ = up.send(Up { peer: peer_id, at: Instant::now(), id: connection_id });
                }
                SwarmEvent::ConnectionClosed { connection_id, .. } => {
                    let _ = down.send((connection_id, Instant::now()));
                }
                _ => {}
            },
        }
    }
}
