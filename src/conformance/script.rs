//! The script of a handshake and its result: which frame is altered and how, and how the peer reacted.
//!
//! Entry types: [`Script`], [`Mutation`], [`HandshakeTrace`].

use std::time::{Duration, Instant};

use libp2p::swarm::Stream;

pub(crate) use super::frame::{
    ANSWER_1, ANSWER_2, CHALLENGE_1, CHALLENGE_2, HELLO_1, HELLO_2, PASS_1, PASS_2,
};
use super::round::Party;
use super::streams::InboundStream;
use super::tag_mutation::TagMutation;
use crate::handshake::RejectCode;
use crate::handshake::forge::Forgery;
use crate::wire::proto::handshake as proto;

/// The bodies of all frames so far, of both sides, by their numbers.
pub(crate) type Frames = Vec<Vec<u8>>;

/// Returns another body for a frame, from all frames before it and its own body.
pub(crate) type BodyMutation = Box<dyn Fn(&Frames, Vec<u8>) -> Vec<u8> + Send + Sync>;

/// Returns other bytes for a frame, from its body.
pub(crate) type BytesMutation = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// A change to one frame of the kit.
pub(crate) enum Mutation {
    /// No change.
    None,
    /// Changes the Core of a Hello or a Challenge. All that follows uses the changed Core.
    Core(Box<dyn Fn(proto::Core) -> Vec<u8> + Send + Sync>),
    /// Changes the tags of a Hello.
    Tags(TagMutation),
    /// Forges the proof of a Challenge or an Answer.
    Proof(Forgery),
    /// Changes the frame's body.
    Body(BodyMutation),
    /// Changes the bytes as they are sent.
    Bytes(BytesMutation),
    /// Repeats the Hello's nonce in the Challenge.
    EchoNonce,
    /// Sends these bytes without end.
    Endless(Vec<u8>),
    /// Sends the first half, and then nothing.
    Truncate,
    /// Does not send the frame.
    Withhold,
}

/// The kit's side of a handshake.
pub(crate) struct Script {
    pub(crate) party: Party,
    /// The number of the mutated frame, and the mutation.
    pub(crate) mutation: (usize, Mutation),
    /// Whether the peer must tolerate the mutation.
    pub(crate) harmless: bool,
    /// Pause before each frame of the kit.
    pub(crate) pace: Duration,
    /// Whether frames are sent byte by byte.
    pub(crate) in_pieces: bool,
    /// Whether the dialer opens its gossip stream before it sends the last Pass.
    pub(crate) gossip_first: bool,
    /// Whether the listener sends round 2's Hello before round 1's Pass.
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

/// The end of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both rounds have passed.
    Passed,
    /// The kit withheld a frame.
    Withheld,
    /// The peer refused with this code.
    Rejected(u32),
    /// The peer ended the stream or the connection without a Reject.
    Closed,
    /// The peer sent nothing and kept the connection open.
    Silent,
    /// The peer continued with this frame after one that it had to refuse.
    Continued(&'static str),
    /// The peer broke the contract.
    Violation(String),
}

/// The record of a handshake.
pub(crate) struct HandshakeTrace {
    pub(crate) end: End,
    pub(crate) frames: Frames,
    /// Gossip streams that the peer opened, each with the number of frames sent by then.
    pub(crate) gossip: Vec<(usize, InboundStream)>,
    /// The time at which the kit's last frame was sent.
    pub(crate) left: Instant,
    /// The peer's Core of round 1.
    pub(crate) peer: Option<proto::Core>,
    /// The peer's Cores, one for each round.
    pub(crate) cores: Vec<proto::Core>,
    /// Values that the peer must generate anew for each handshake: name and bytes.
    pub(crate) fresh: Vec<(&'static str, Vec<u8>)>,
    /// The kit's gossip stream, if it was opened before the last Pass.
    pub(crate) early: Option<Stream>,
    /// Streams on which a frame was withheld. They stay open.
    #[allow(dead_code, reason = "they are held, not read")]
    pub(super) withheld: Vec<Stream>,
}

/// Describes an end for people.
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

/// Returns the contract's name of a code.
pub(crate) fn code_name(code: u32) -> String {
    let known = RejectCode::from_number(code);
    match known.number() == code {
        true => known.name().to_owned(),
        false => format!("of an unknown code, {code}"),
    }
}
