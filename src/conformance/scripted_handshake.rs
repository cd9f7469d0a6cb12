//! A handshake on a connection, played by a script that a case twists in one place.
//!
//! Entry: [`shake`], [`Plan`]. The rule it keeps: after the twisted frame nothing honest may come
//! from the peer, and whatever it says before that must be in order.

use std::time::{Duration, Instant};

use futures::AsyncWriteExt;
use libp2p::swarm::Stream;
use prost::Message;
use tokio::time::{sleep, timeout};

use super::forge::Forgery;
use super::frame::{self, NoFrame, framed};
use super::link::gossip_stream;
use super::raw_peer::Conn;
use super::round::{self, Answered, Party, Round};
use super::streams::{Inbound, Unopened};
use super::tag_mutation::Tagging;
use crate::handshake::{MAX_FRAME, PROTOCOL, Role, Stage};
use crate::wire::proto::handshake as proto;

/// The frames of a handshake that passes, by their number on the wire.
pub(crate) const HELLO_1: usize = 0;
pub(crate) const CHALLENGE_1: usize = 1;
pub(crate) const ANSWER_1: usize = 2;
pub(crate) const PASS_1: usize = 3;
pub(crate) const HELLO_2: usize = 4;
pub(crate) const CHALLENGE_2: usize = 5;
pub(crate) const ANSWER_2: usize = 6;
pub(crate) const PASS_2: usize = 7;

/// A side waits 3 s for a frame: after twice that, none comes.
const PATIENCE: Duration = Duration::from_secs(6);

/// The bodies of all frames so far, ours and theirs, by their numbers.
pub(crate) type Frames = Vec<Vec<u8>>;

/// Another body for a frame, from all before it and its own.
pub(crate) type BodyTwist = Box<dyn Fn(&Frames, Vec<u8>) -> Vec<u8> + Send + Sync>;

/// Other bytes for a frame, from its body.
pub(crate) type BytesTwist = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// What is made of a frame of ours.
pub(crate) enum Twist {
    /// Nothing.
    None,
    /// The Core of a Hello or a Challenge; all that follows is made with it.
    Core(Box<dyn Fn(proto::Core) -> Vec<u8> + Send + Sync>),
    /// The tags in a Hello.
    Tags(Tagging),
    /// The proof in a Challenge or an Answer.
    Proof(Forgery),
    /// The frame's body.
    Body(BodyTwist),
    /// The bytes as they travel, from the body.
    Bytes(BytesTwist),
    /// The nonce of a Challenge is that of the Hello which it answers.
    NonceBack,
    /// These bytes, again and again, without end.
    Endless(Vec<u8>),
    /// The first half of it, and then nothing.
    Half,
    /// It stays away.
    Keep,
}

/// How a side of ours goes through a handshake.
pub(crate) struct Plan {
    pub(crate) party: Party,
    /// Which frame of ours is twisted, and how.
    pub(crate) twist: (usize, Twist),
    /// The twist is none that the peer may mind.
    pub(crate) harmless: bool,
    /// How long we wait before each frame of ours.
    pub(crate) pace: Duration,
    /// Frames travel in pieces of one byte.
    pub(crate) in_pieces: bool,
    /// As dialer, the gossip stream opens before the last Pass leaves.
    pub(crate) gossip_first: bool,
    /// As listener, round 2's Hello leaves before round 1's Pass.
    pub(crate) overtake: bool,
}

impl Plan {
    pub(crate) fn honest(party: Party) -> Plan {
        Plan {
            party,
            twist: (0, Twist::None),
            harmless: true,
            pace: Duration::ZERO,
            in_pieces: false,
            gossip_first: false,
            overtake: false,
        }
    }

    pub(crate) fn twisted(party: Party, frame: usize, twist: Twist) -> Plan {
        Plan {
            twist: (frame, twist),
            harmless: false,
            ..Plan::honest(party)
        }
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides hold a pass.
    Passed,
    /// We kept a frame back.
    Kept,
    /// The peer refused by this code.
    Rejected(u32),
    /// The peer ended the stream or the connection, and said nothing.
    Closed,
    /// The peer said nothing at all, and kept the connection.
    Silent,
    /// The peer went on with this after a frame that it had to refuse.
    WentOn(&'static str),
    /// The peer broke the contract.
    Wrong(String),
}

/// A handshake as it went.
pub(crate) struct Shaken {
    pub(crate) end: End,
    pub(crate) frames: Frames,
    /// Gossip streams that the peer opened, and how many frames had been said by then.
    pub(crate) gossip: Vec<(usize, Inbound)>,
    /// When our last frame left.
    pub(crate) left: Instant,
    /// Whom round 1 has shown.
    pub(crate) peer: Option<proto::Core>,
    /// The peer's Cores, one a round.
    pub(crate) cores: Vec<proto::Core>,
    /// What the peer must have made for this handshake: what it is called, and its bytes.
    pub(crate) fresh: Vec<(&'static str, Vec<u8>)>,
    /// Our gossip stream, when it was opened before the last Pass left.
    pub(crate) early: Option<Stream>,
    /// Streams that wait for a frame that was kept back.
    #[allow(dead_code, reason = "they are held, not read")]
    kept: Vec<Stream>,
}

/// Plays our side of a handshake.
pub(crate) async fn shake(conn: &mut Conn, role: Role, plan: Plan) -> Shaken {
    let mut shake = Shake {
        conn,
        plan,
        frames: Vec::new(),
        gossip: Vec::new(),
        left: Instant::now(),
        cores: Vec::new(),
        fresh: Vec::new(),
        early: None,
        kept: Vec::new(),
    };
    let end = match role {
        Role::Dialer => shake.dialer().await,
        Role::Listener => shake.listener().await,
    };
    Shaken {
        end: end.err().unwrap_or(End::Passed),
        frames: shake.frames,
        gossip: shake.gossip,
        left: shake.left,
        peer: shake.cores.first().cloned(),
        cores: shake.cores,
        fresh: shake.fresh,
        early: shake.early,
        kept: shake.kept,
    }
}

struct Shake<'a> {
    conn: &'a mut Conn,
    plan: Plan,
    frames: Frames,
    gossip: Vec<(usize, Inbound)>,
    left: Instant,
    cores: Vec<proto::Core>,
    fresh: Vec<(&'static str, Vec<u8>)>,
    early: Option<Stream>,
    kept: Vec<Stream>,
}

impl Shake<'_> {
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
            party: self.plan.party.clone(),
            remote: self.conn.peer,
            stage,
            prev,
        }
    }

    /// One round as its client.
    async fn ask_round(&mut self, stage: Stage, prev: [u8; 32]) -> Result<[u8; 32], End> {
        let round = self.round(stage, prev);
        let (asked, hello) = match (&self.plan.twist.1, self.core_twist()) {
            (_, Some(twist)) => round.hello(twist),
            (Twist::Tags(tagging), _) if self.is_twisted() => round.hello(&|core| {
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

    /// One round as its server.
    async fn serve_round(&mut self, stage: Stage, prev: [u8; 32]) -> Result<[u8; 32], End> {
        let round = self.round(stage, prev);
        let (reply, hello) = self.request().await?;
        let nonce_back = |mut core: proto::Core| {
            if let Ok(proto::frame::Kind::Hello(hello)) = round::kind(&hello) {
                core.nonce = proto::Core::decode(hello.core).unwrap_or_default().nonce;
            }
            core.encode_to_vec()
        };
        let made = match self.core_twist() {
            Some(twist) => round.challenge(&hello, twist, self.forgery()),
            None if self.is_twisted() && matches!(self.plan.twist.1, Twist::NonceBack) => {
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
        if self.plan.overtake && stage == Stage::Round1 {
            return self
                .overtaking(reply, round.pass(&accepted), accepted.end)
                .await;
        }
        if self.plan.gossip_first && stage == Stage::Round2 {
            let stream = gossip_stream(self.conn).await;
            self.early = Some(stream.map_err(End::Wrong)?);
        }
        self.respond(reply, round.pass(&accepted)).await?;
        Ok(accepted.end)
    }

    /// Takes down what the peer's Core shows.
    fn saw(&mut self, core: &proto::Core) {
        self.cores.push(core.clone());
        self.fresh.push(("nonce", core.nonce.to_vec()));
        for tag in core.tags.chunks(16) {
            self.fresh.push(("tag", tag.to_vec()));
        }
    }

    /// Round 2's Hello is there before round 1's Pass is; the whole of round 2 follows.
    async fn overtaking(
        &mut self,
        mut reply: Stream,
        pass: Vec<u8>,
        prev: [u8; 32],
    ) -> Result<[u8; 32], End> {
        let round = self.round(Stage::Round2, prev);
        let (asked, hello) = round.hello(&round::honest);
        let mut stream = self.conn.open(PROTOCOL).await.map_err(unopened)?;
        send(&mut stream, &framed(&hello)).await?;
        // Long enough to be read first.
        sleep(Duration::from_millis(200)).await;
        send(&mut reply, &framed(&pass)).await?;
        let challenge = self.answer_on(&mut stream).await?;
        let challenged = round.on_challenge(&asked, &challenge).map_err(wrong)?;
        let (answered, answer) = round.answer(&challenged, Forgery::None).map_err(wrong)?;
        let pass = self.ask(answer).await?;
        round.on_pass(&answered, &pass).map_err(wrong)?;
        // The caller's round 2 is over.
        Err(End::Passed)
    }

    /// Whether the frame that is next is the twisted one.
    fn is_twisted(&self) -> bool {
        self.frames.len() == self.plan.twist.0
    }

    fn core_twist(&self) -> Option<round::CoreTwist<'_>> {
        match &self.plan.twist.1 {
            Twist::Core(twist) if self.is_twisted() => Some(&**twist),
            _ => None,
        }
    }

    fn forgery(&self) -> Forgery {
        match self.plan.twist.1 {
            Twist::Proof(forgery) if self.is_twisted() => forgery,
            _ => Forgery::None,
        }
    }

    /// The bytes of our next frame; none when it is kept back.
    async fn outgoing(&mut self, body: Vec<u8>) -> Option<Vec<u8>> {
        sleep(self.plan.pace).await;
        let bytes = match &self.plan.twist.1 {
            Twist::Keep if self.is_twisted() => None,
            Twist::Body(twist) if self.is_twisted() => {
                Some(framed(&twist(&self.frames, body.clone())))
            }
            Twist::Bytes(twist) if self.is_twisted() => Some(twist(&body)),
            Twist::Half if self.is_twisted() => Some(framed(&body)[..body.len() / 2].to_vec()),
            _ => Some(framed(&body)),
        };
        self.frames.push(body);
        self.left = Instant::now();
        bytes
    }

    /// Sends a request of ours; the body that answers.
    async fn ask(&mut self, body: Vec<u8>) -> Result<Vec<u8>, End> {
        let endless = match &self.plan.twist.1 {
            Twist::Endless(bytes) if self.is_twisted() => Some(bytes.clone()),
            _ => None,
        };
        let half = self.is_twisted() && matches!(self.plan.twist.1, Twist::Half);
        let Some(bytes) = self.outgoing(body).await else {
            return Err(End::Kept);
        };
        let mut stream = self.conn.open(PROTOCOL).await.map_err(unopened)?;
        self.left = Instant::now();
        match endless {
            Some(bytes) => {
                let trickle = async {
                    while stream.write_all(&bytes).await.is_ok() && stream.flush().await.is_ok() {
                        sleep(Duration::from_millis(50)).await;
                    }
                };
                let _ = timeout(PATIENCE, trickle).await;
                return Err(End::Closed);
            }
            None if half => {
                stream.write_all(&bytes).await.map_err(|_| End::Closed)?;
                stream.flush().await.map_err(|_| End::Closed)?;
                self.kept.push(stream);
                return Err(End::Kept);
            }
            None if self.plan.in_pieces => {
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
        match timeout(PATIENCE, frame::read(stream, MAX_FRAME)).await {
            Ok(Ok(body)) => self.incoming(body),
            Ok(Err(NoFrame::Nothing)) => Err(End::Closed),
            Ok(Err(NoFrame::Wrong(what))) => Err(End::Wrong(what)),
            Err(_) => Err(End::Silent),
        }
    }

    async fn respond(&mut self, mut reply: Stream, body: Vec<u8>) -> Result<(), End> {
        let half = self.is_twisted() && matches!(self.plan.twist.1, Twist::Half);
        match self.outgoing(body).await {
            Some(bytes) if half => {
                reply.write_all(&bytes).await.map_err(|_| End::Closed)?;
                reply.flush().await.map_err(|_| End::Closed)?;
                self.kept.push(reply);
                Err(End::Kept)
            }
            Some(bytes) => send(&mut reply, &bytes).await,
            None => {
                self.kept.push(reply);
                Err(End::Kept)
            }
        }
    }

    /// The peer's next request, and where its answer goes.
    async fn request(&mut self) -> Result<(Stream, Vec<u8>), End> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
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

    /// A frame of the peer's.
    fn incoming(&mut self, body: Vec<u8>) -> Result<Vec<u8>, End> {
        let kind = round::kind(&body).map_err(wrong)?;
        let twisted = !self.plan.harmless && self.frames.len() > self.plan.twist.0;
        self.frames.push(body.clone());
        match kind {
            proto::frame::Kind::Reject(reject) => Err(End::Rejected(reject.code)),
            kind if twisted => Err(End::WentOn(round::name(&kind))),
            _ => Ok(body),
        }
    }
}

async fn send(stream: &mut Stream, bytes: &[u8]) -> Result<(), End> {
    stream.write_all(bytes).await.map_err(|_| End::Closed)?;
    stream.close().await.map_err(|_| End::Closed)
}

fn wrong(what: String) -> End {
    End::Wrong(what)
}

fn unopened(why: Unopened) -> End {
    match why {
        Unopened::Refused => End::Wrong(format!("it does not take {PROTOCOL}")),
        Unopened::Lost(_) => End::Closed,
    }
}

/// Sends these bytes on a handshake stream of their own: the body that answers.
pub(crate) async fn ask(conn: &Conn, bytes: &[u8]) -> Result<Vec<u8>, End> {
    let mut stream = conn.open(PROTOCOL).await.map_err(unopened)?;
    send(&mut stream, bytes).await?;
    match timeout(PATIENCE, frame::read(&mut stream, MAX_FRAME)).await {
        Ok(Ok(body)) => match round::kind(&body).map_err(wrong)? {
            proto::frame::Kind::Reject(reject) => Err(End::Rejected(reject.code)),
            _ => Ok(body),
        },
        Ok(Err(NoFrame::Nothing)) => Err(End::Closed),
        Ok(Err(NoFrame::Wrong(what))) => Err(End::Wrong(what)),
        Err(_) => Err(End::Silent),
    }
}

/// An honest Answer to a Challenge.
pub(crate) fn answered(
    round: &Round,
    asked: &round::Asked,
    challenge: &[u8],
) -> Result<(Answered, Vec<u8>), End> {
    let challenged = round.on_challenge(asked, challenge).map_err(wrong)?;
    round.answer(&challenged, Forgery::None).map_err(wrong)
}
