//! The script of a handshake and its result: which frame is altered and how, and how the peer reacted.
//!
//! Entry types: [`Script`], [`Mutation`], [`HandshakeTrace`].

use std::time::{Duration, Instant};

use libp2p::swarm::Stream;

use super::forge::Forgery;
use super::round::Party;
use super::streams::InboundStream;
use super::tag_mutation::TagMutation;
use crate::handshake::RejectCode;
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

/// The bodies of all frames so far, ours and theirs, by their numbers.
pub(crate) type Frames = Vec<Vec<u8>>;

/// Another body for a frame, from all before it and its own.
pub(crate) type BodyMutation = Box<dyn Fn(&Frames, Vec<u8>) -> Vec<u8> + Send + Sync>;

/// Other bytes for a frame, from its body.
pub(crate) type BytesMutation = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// What is made of a frame of ours.
pub(crate) enum Mutation {
    /// Nothing.
    None,
    /// The Core of a Hello or a Challenge; all that follows is made with it.
    Core(Box<dyn Fn(proto::Core) -> Vec<u8> + Send + Sync>),
    /// The tags in a Hello.
    Tags(TagMutation),
    /// The proof in a Challenge or an Answer.
    Proof(Forgery),
    /// The frame's body.
    Body(BodyMutation),
    /// The bytes as they travel, from the body.
    Bytes(BytesMutation),
    /// The nonce of a Challenge is that of the Hello which it answers.
    EchoNonce,
    /// These bytes, again and again, without end.
    Endless(Vec<u8>),
    /// The first half of it, and then nothing.
    Truncate,
    /// It stays away.
    Withhold,
}

/// How a side of ours goes through a handshake.
pub(crate) struct Script {
    pub(crate) party: Party,
    /// Which frame of ours is twisted, and how.
    pub(crate) mutation: (usize, Mutation),
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

impl Script {
    pub(crate) fn honest(party: Party) -> Script {
        Script {
            party,
            mutation: (0, Mutation::None),
            harmless: true,
            pace: Duration::ZERO,
            in_pieces: false,
            gossip_first: false,
            overtake: false,
        }
    }

    pub(crate) fn mutated(party: Party, frame: usize, mutation: Mutation) -> Script {
        Script {
            mutation: (frame, mutation),
            harmless: false,
            ..Script::honest(party)
        }
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides hold a pass.
    Passed,
    /// We withheld a frame back.
    Withheld,
    /// The peer refused by this code.
    Rejected(u32),
    /// The peer ended the stream or the connection, and said nothing.
    Closed,
    /// The peer said nothing at all, and withheld the connection.
    Silent,
    /// The peer went on with this after a frame that it had to refuse.
    Continued(&'static str),
    /// The peer broke the contract.
    Violation(String),
}

/// A handshake as it went.
pub(crate) struct HandshakeTrace {
    pub(crate) end: End,
    pub(crate) frames: Frames,
    /// Gossip streams that the peer opened, and how many frames had been said by then.
    pub(crate) gossip: Vec<(usize, InboundStream)>,
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
    /// Streams that wait for a frame that was withheld back.
    #[allow(dead_code, reason = "they are held, not read")]
    pub(super) withheld: Vec<Stream>,
}

/// An end as it is told.
pub(crate) fn describe(end: &End) -> String {
    match end {
        End::Passed => "it passed".to_owned(),
        End::Withheld => "this side stopped".to_owned(),
        End::Rejected(code) => format!("Reject {}", code_name(*code)),
        End::Closed => "closed without a word".to_owned(),
        End::Silent => "silence, and the connection stays".to_owned(),
        End::Continued(frame) => format!("it goes on with {frame}"),
        End::Violation(what) => format!("it sent {what}"),
    }
}

/// A code as the contract calls it.
pub(crate) fn code_name(code: u32) -> String {
    let known = RejectCode::from_number(code);
    match known.number() == code {
        true => known.name().to_owned(),
        false => format!("of an unknown code, {code}"),
    }
}
