//! Plays the kit's side of a handshake from a script.
//!
//! Entry: [`run_handshake`], [`Script`]. The rule it keeps: after the mutated frame the peer must not continue, and
//! everything that it sends before must be valid.

use std::time::{Duration, Instant};

use futures::AsyncWriteExt;
use libp2p::swarm::Stream;
use prost::Message;
use tokio::time::{sleep, timeout};

use super::frame::{self, FrameError, framed};
use super::gossip_stream::gossip_stream;
use super::raw_peer::Conn;
use super::round::{self, AnswerSent, Round};
use super::script::*;
use super::streams::{InboundStream, OpenError};
use crate::handshake::forge::Forgery;
use crate::handshake::{MAX_FRAME, PROTOCOL, Role, Stage};
use crate::wire::proto::handshake as proto;

/// A side waits 3 s for a frame: after twice that time, none will arrive.
const FRAME_TIMEOUT: Duration = Duration::from_secs(6);

/// Plays the kit's side of a handshake.
pub(crate) async fn run_handshake(conn: &mut Conn, role: Role, script: Script) -> HandshakeTrace {
    let mut handshake = ScriptedHandshake {
        conn,
        script,
        frames: Vec::new(),
        gossip: Vec::new(),
        left: Instant::now(),
        cores: Vec::new(),
        fresh: Vec::new(),
        early: None,
        withheld: Vec::new(),
    };
    let end = match role {
        Role::Dialer => handshake.dialer().await,
        Role::Listener => handshake.listener().await,
    };
    HandshakeTrace {
        end: end.err().unwrap_or(End::Passed),
        frames: handshake.frames,
        gossip: handshake.gossip,
        left: handshake.left,
        peer: handshake.cores.first().cloned(),
        cores: handshake.cores,
        fresh: handshake.fresh,
        early: handshake.early,
        withheld: handshake.withheld,
    }
}

struct ScriptedHandshake<'a> {
    conn: &'a mut Conn,
    script: Script,
    frames: Frames,
    gossip: Vec<(usize, InboundStream)>,
    left: Instant,
    cores: Vec<proto::Core>,
    fresh: Vec<(&'static str, Vec<u8>)>,
    early: Option<Stream>,
    withheld: Vec<Stream>,
}

impl ScriptedHandshake<'_> {
    async fn dialer(&mut self) -> Result<(), End> {
        let prev = self.ask_round(Stage::Round1, [0; 32]).await?;
        self.serve_round(Stage::Round2, prev).await.map(drop)
    }

    async fn listener(&mut self) -> Result<(), End> {
        let prev = self.serve_round(Stage::Round1, [0; 32]).await?;
        self.ask_round(Stage::Round2, prev).await.map(drop)
    }

    fn round(&self, stage: Stage, prev: [u8; 32]) -> Round {
        Round {
            party: self.script.party.clone(),
            remote: self.conn.peer,
            stage,
            prev,
        }
    }

    /// Plays one round as its client.
    async fn ask_round(&mut self, stage: Stage, prev: [u8; 32]) -> Result<[u8; 32], End> {
        let round = self.round(stage, prev);
        let (asked, hello) = match (&self.script.mutation.1, self.core_mutation()) {
            (_, Some(mutation)) => round.hello(mutation),
            (Mutation::Tags(tagging), _) if self.is_mutated() => round.hello(&|core| {
                let tags = tagging.tags(&round, &core);
                proto::Core { tags, ..core }.encode_to_vec()
            }),
            _ => round.hello(&round::honest),
        };
        let challenge = self.ask(hello).await?;
        let challenged = round.on_challenge(&asked, &challenge).map_err(wrong)?;
        self.saw(&challenged.peer);
        self.fresh.push(("k_server", challenged.k_server.to_vec()));
        self.fresh
            .push(("encapsulated key", challenged.enc.to_vec()));
        let (answered, answer) = round.answer(&challenged, self.forgery()).map_err(wrong)?;
        let pass = self.ask(answer).await?;
        round.on_pass(&answered, &pass).map_err(wrong)?;
        Ok(answered.end)
    }

    /// Plays one round as its server.
    async fn serve_round(&mut self, stage: Stage, prev: [u8; 32]) -> Result<[u8; 32], End> {
        let round = self.round(stage, prev);
        let (reply, hello) = self.request().await?;
        let nonce_back = |mut core: proto::Core| {
            if let Ok(proto::frame::Kind::Hello(hello)) = round::kind(&hello) {
                core.nonce = proto::Core::decode(hello.core).unwrap_or_default().nonce;
            }
            core.encode_to_vec()
        };
        let made = match self.core_mutation() {
            Some(mutation) => round.challenge(&hello, mutation, self.forgery()),
            None if self.is_mutated() && matches!(self.script.mutation.1, Mutation::EchoNonce) => {
                round.challenge(&hello, &nonce_back, Forgery::None)
            }
            None => round.challenge(&hello, &round::honest, self.forgery()),
        };
        let (served, challenge) = made.map_err(wrong)?;
        self.saw(&served.peer);
        self.respond(reply, challenge).await?;
        let (reply, answer) = self.request().await?;
        let accepted = round.on_answer(&served, &answer).map_err(wrong)?;
        self.fresh.push(("k_client", accepted.k_client.to_vec()));
        self.fresh.push(("encapsulated key", accepted.enc.to_vec()));
        if self.script.overtake && stage == Stage::Round1 {
            return self
                .overtaking(reply, round.pass(&accepted), accepted.end)
                .await;
        }
        if self.script.gossip_first && stage == Stage::Round2 {
            let stream = gossip_stream(self.conn).await;
            self.early = Some(stream.map_err(End::Violation)?);
        }
        self.respond(reply, round.pass(&accepted)).await?;
        Ok(accepted.end)
    }

    /// Records the peer's Core and its fresh values.
    fn saw(&mut self, core: &proto::Core) {
        self.cores.push(core.clone());
        self.fresh.push(("nonce", core.nonce.to_vec()));
        for tag in core.tags.chunks(16) {
            self.fresh.push(("tag", tag.to_vec()));
        }
    }

    /// Sends round 2's Hello before round 1's Pass, then plays all of round 2.
    async fn overtaking(
        &mut self,
        mut reply: Stream,
        pass: Vec<u8>,
        prev: [u8; 32],
    ) -> Result<[u8; 32], End> {
        let round = self.round(Stage::Round2, prev);
        let (asked, hello) = round.hello(&round::honest);
        let mut stream = self.conn.open(PROTOCOL).await.map_err(open_failed)?;
        send(&mut stream, &framed(&hello)).await?;
        // Long enough for the peer to read the Hello first.
        sleep(Duration::from_millis(200)).await;
        send(&mut reply, &framed(&pass)).await?;
        let challenge = self.answer_on(&mut stream).await?;
        let challenged = round.on_challenge(&asked, &challenge).map_err(wrong)?;
        let (answered, answer) = round.answer(&challenged, Forgery::None).map_err(wrong)?;
        let pass = self.ask(answer).await?;
        round.on_pass(&answered, &pass).map_err(wrong)?;
        // Round 2 has ended, so the caller must not play it.
        Err(End::Passed)
    }

    /// Returns whether the next frame is the mutated one.
    fn is_mutated(&self) -> bool {
        self.frames.len() == self.script.mutation.0
    }

    fn core_mutation(&self) -> Option<round::CoreMutation<'_>> {
        match &self.script.mutation.1 {
            Mutation::Core(mutation) if self.is_mutated() => Some(&**mutation),
            _ => None,
        }
    }

    fn forgery(&self) -> Forgery {
        match self.script.mutation.1 {
            Mutation::Proof(forgery) if self.is_mutated() => forgery,
            _ => Forgery::None,
        }
    }

    /// Returns the bytes of the kit's next frame, none if it is withheld.
    async fn outgoing(&mut self, body: Vec<u8>) -> Option<Vec<u8>> {
        sleep(self.script.pace).await;
        let bytes = match &self.script.mutation.1 {
            Mutation::Withhold if self.is_mutated() => None,
            Mutation::Body(mutation) if self.is_mutated() => {
                Some(framed(&mutation(&self.frames, body.clone())))
            }
            Mutation::Bytes(mutation) if self.is_mutated() => Some(mutation(&body)),
            Mutation::Truncate if self.is_mutated() => {
                Some(framed(&body)[..body.len() / 2].to_vec())
            }
            _ => Some(framed(&body)),
        };
        self.frames.push(body);
        self.left = Instant::now();
        bytes
    }

    /// Sends a request and returns the body of the answer.
    async fn ask(&mut self, body: Vec<u8>) -> Result<Vec<u8>, End> {
        let endless = match &self.script.mutation.1 {
            Mutation::Endless(bytes) if self.is_mutated() => Some(bytes.clone()),
            _ => None,
        };
        let half = self.is_mutated() && matches!(self.script.mutation.1, Mutation::Truncate);
        let Some(bytes) = self.outgoing(body).await else {
            return Err(End::Withheld);
        };
        let mut stream = self.conn.open(PROTOCOL).await.map_err(open_failed)?;
        self.left = Instant::now();
        match endless {
            Some(bytes) => {
                let trickle = async {
                    while stream.write_all(&bytes).await.is_ok() && stream.flush().await.is_ok() {
                        sleep(Duration::from_millis(50)).await;
                    }
                };
                let _ = timeout(FRAME_TIMEOUT, trickle).await;
                return Err(End::Closed);
            }
            None if half => {
                stream.write_all(&bytes).await.map_err(|_| End::Closed)?;
                stream.flush().await.map_err(|_| End::Closed)?;
                self.withheld.push(stream);
                return Err(End::Withheld);
            }
            None if self.script.in_pieces => {
                for byte in bytes {
                    stream.write_all(&[byte]).await.map_err(|_| End::Closed)?;
                    stream.flush().await.map_err(|_| End::Closed)?;
                }
                stream.close().await.map_err(|_| End::Closed)?;
            }
            None => send(&mut stream, &bytes).await?,
        }
        self.answer_on(&mut stream).await
    }

    async fn answer_on(&mut self, stream: &mut Stream) -> Result<Vec<u8>, End> {
        match timeout(FRAME_TIMEOUT, frame::read(stream, MAX_FRAME)).await {
            Ok(Ok(body)) => self.incoming(body),
            Ok(Err(FrameError::Ended)) => Err(End::Closed),
            Ok(Err(FrameError::Malformed(what))) => Err(End::Violation(what)),
            Err(_) => Err(End::Silent),
        }
    }

    async fn respond(&mut self, mut reply: Stream, body: Vec<u8>) -> Result<(), End> {
        let half = self.is_mutated() && matches!(self.script.mutation.1, Mutation::Truncate);
        match self.outgoing(body).await {
            Some(bytes) if half => {
                reply.write_all(&bytes).await.map_err(|_| End::Closed)?;
                reply.flush().await.map_err(|_| End::Closed)?;
                self.withheld.push(reply);
                Err(End::Withheld)
            }
            Some(bytes) => send(&mut reply, &bytes).await,
            None => {
                self.withheld.push(reply);
                Err(End::Withheld)
            }
        }
    }

    /// Waits for the peer's next request; returns the stream for the answer, and the body.
    async fn request(&mut self) -> Result<(Stream, Vec<u8>), End> {
        let deadline = tokio::time::Instant::now() + FRAME_TIMEOUT;
        loop {
            let inbound = tokio::time::timeout_at(deadline, self.conn.stream()).await;
            let mut inbound = match inbound {
                Ok(Some(inbound)) => inbound,
                Ok(None) => return Err(End::Closed),
                Err(_) => return Err(End::Silent),
            };
            if inbound.protocol.as_ref() != PROTOCOL {
                self.gossip.push((self.frames.len(), inbound));
                continue;
            }
            let body = self.answer_on(&mut inbound.stream).await?;
            return Ok((inbound.stream, body));
        }
    }

    /// Records a frame of the peer.
    fn incoming(&mut self, body: Vec<u8>) -> Result<Vec<u8>, End> {
        let kind = round::kind(&body).map_err(wrong)?;
        let mutated = !self.script.harmless && self.frames.len() > self.script.mutation.0;
        self.frames.push(body.clone());
        match kind {
            proto::frame::Kind::Reject(reject) => Err(End::Rejected(reject.code)),
            kind if mutated => Err(End::Continued(round::name(&kind))),
            _ => Ok(body),
        }
    }
}

async fn send(stream: &mut Stream, bytes: &[u8]) -> Result<(), End> {
    stream.write_all(bytes).await.map_err(|_| End::Closed)?;
    stream.close().await.map_err(|_| End::Closed)
}

fn wrong(what: String) -> End {
    End::Violation(what)
}

fn open_failed(why: OpenError) -> End {
    match why {
        OpenError::Refused => End::Violation(format!("it does not take {PROTOCOL}")),
        OpenError::Lost(_) => End::Closed,
    }
}

/// Sends these bytes on a handshake stream of their own and returns the body of the answer.
pub(crate) async fn ask(conn: &Conn, bytes: &[u8]) -> Result<Vec<u8>, End> {
    let mut stream = conn.open(PROTOCOL).await.map_err(open_failed)?;
    send(&mut stream, bytes).await?;
    match timeout(FRAME_TIMEOUT, frame::read(&mut stream, MAX_FRAME)).await {
        Ok(Ok(body)) => match round::kind(&body).map_err(wrong)? {
            proto::frame::Kind::Reject(reject) => Err(End::Rejected(reject.code)),
            _ => Ok(body),
        },
        Ok(Err(FrameError::Ended)) => Err(End::Closed),
        Ok(Err(FrameError::Malformed(what))) => Err(End::Violation(what)),
        Err(_) => Err(End::Silent),
    }
}

/// Returns an honest Answer to a Challenge.
pub(crate) fn answered(
    round: &Round,
    asked: &round::HelloSent,
    challenge: &[u8],
) -> Result<(AnswerSent, Vec<u8>), End> {
    let challenged = round.on_challenge(asked, challenge).map_err(wrong)?;
    round.answer(&challenged, Forgery::None).map_err(wrong)
}
