//! Failures of a handshake, by name.
//!
//! Entry type: [`Failure`]. The rule it keeps: a stranger learns only a [`RejectCode`], the same for every failed proof;
//! the operator of this node learns exactly which check failed.

use std::fmt;

use super::protocol::{FrameKind, PROTOCOL, RejectCode, Stage};
use super::referrals::Referrals;

/// The origin of a failure: the side that ended the handshake, or the event that did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureOrigin {
    /// This node: one of its checks failed.
    Local,
    /// The peer: it sent a Reject.
    Remote,
    /// A deadline.
    Timeout,
    /// A frame of the peer that was not due.
    Violation,
    /// A failed stream.
    Stream,
}

/// A failed handshake: its round, its origin, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{stage}: {reason}")]
pub struct Failure {
    /// Round in which it failed.
    pub stage: Stage,
    /// Origin of the failure.
    pub origin: FailureOrigin,
    /// Code that went over the wire, or would have if a server had failed; none for a timeout, a violation of the order
    /// or a failed stream.
    pub code: Option<RejectCode>,
    /// The check that failed.
    pub reason: Reason,
    /// Other nodes that a full peer referred to. The peer has proved that they are from it.
    pub referrals: Option<Referrals>,
}

impl Failure {
    pub(crate) fn new(stage: Stage, reason: Reason) -> Failure {
        let (origin, code) = match &reason {
            Reason::RefusedByRemote(code) => (FailureOrigin::Remote, Some(*code)),
            Reason::NoFrame(_) | Reason::PassNotTaken | Reason::TooSlow => {
                (FailureOrigin::Timeout, None)
            }
            Reason::Unexpected(_) => (FailureOrigin::Violation, None),
            Reason::Stream(_) | Reason::NotSpoken => (FailureOrigin::Stream, None),
            reason => (FailureOrigin::Local, Some(reason.code())),
        };
        Failure {
            stage,
            origin,
            code,
            reason,
            referrals: None,
        }
    }
}

/// Difference of two nodes' network keys, as far as one of them can see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkMismatch {
    /// Both nodes have a network key, and the keys differ.
    KeysDiffer,
    /// The peer is on the open network, this node has a network key.
    PeerIsOpen,
    /// This node is on the open network, the peer has a network key.
    NodeIsOpen,
}

impl fmt::Display for NetworkMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NetworkMismatch::KeysDiffer => NETWORKS_DIFFER,
            NetworkMismatch::PeerIsOpen => {
                "the network keys differ: the peer is on the open network, which has no key, and this node has one; \
                 give the peer the same --network-key file to let it in"
            }
            NetworkMismatch::NodeIsOpen => {
                "the network keys differ: the peer has a network key, and this node is on the open network, which has \
                 none; give this node the peer's --network-key file to join it"
            }
        })
    }
}

/// The check that failed, or the event that ended the handshake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The versions differ.
    #[error(
        "the peer speaks version {0} of the handshake, this node version 2: \
         update whichever of the two is older"
    )]
    Version(u32),
    /// The bytes are not a frame.
    #[error("the peer sent bytes that are no handshake frame")]
    Malformed,
    /// A field has a wrong length.
    #[error("the field {0} of the peer's frame has a wrong length")]
    Length(&'static str),
    /// The frame has a field that it must not have.
    #[error("the peer's frame has a field {0}, which does not belong there")]
    Misplaced(&'static str),
    /// The network keys differ.
    #[error("{0}")]
    Network(NetworkMismatch),
    /// A server chose a network key that this node did not offer.
    #[error("the peer chose network key {0}, which this node did not offer")]
    NetworkKeyChoice(u32),
    /// The introduction is for another round than the one that is due.
    #[error("the peer's introduction is of another round")]
    Round,
    /// Round 2 does not continue round 1 of this connection.
    #[error("the peer's introduction does not continue what this connection began")]
    Prev,
    /// The public key is not an Ed25519 key in its one encoding.
    #[error("the peer's public key is not a well-formed Ed25519 key")]
    PublicKey,
    /// The public key is of small order: anyone can sign for it.
    #[error("the peer's public key is weak: anyone could sign with it")]
    WeakKey,
    /// The peer claims a PeerId that does not belong to its public key.
    #[error("the peer claims a PeerId that does not belong to its public key")]
    ClaimedId,
    /// The peer's key is not the one that noise authenticated on this connection.
    #[error(
        "the peer's key is not the one that this connection was made with: \
         something may be relaying between the two"
    )]
    ConnectionId,
    /// The peer claims to be this node.
    #[error("the peer is this node itself, or runs with the same identity")]
    OwnId,
    /// The peer sent this node's nonce back.
    #[error("the peer sent this node's own nonce back")]
    OwnNonce,
    /// The peer sent this node's own instance id back.
    #[error("the peer claims to be this running instance")]
    OwnInstance,
    /// The peer's instance id is not that of round 1.
    #[error("the peer's instance is not the one of round 1")]
    InstanceChanged,
    /// The peer's sealing key is not that of round 1.
    #[error("the peer's sealing key is not the one of round 1")]
    SealingKeyChanged,
    /// The peer's sealing key makes every shared secret zero.
    #[error("the peer's sealing key is weak: what is sealed to it would be open to anyone")]
    WeakSealingKey,
    /// The peer's signature is invalid.
    #[error("the peer's signature does not fit what was said on this connection")]
    Signature,
    /// The peer's sealed message cannot be opened.
    #[error("what the peer sealed to this node does not open")]
    Sealed,
    /// The peer did not return this node's nonce.
    #[error("the peer did not return the nonce that it was sent")]
    Nonce,
    /// The peer's confirmation is invalid.
    #[error("the peer's confirmation does not fit what was said on this connection")]
    Confirm,
    /// The peer's pass is invalid.
    #[error("the peer's pass does not fit what was said on this connection")]
    Pass,
    /// The peer proved its key, and this node refuses it for another reason.
    #[error("{}", ours(*.0))]
    RefusedByUs(RejectCode),
    /// The peer refused this node.
    #[error("{}", theirs(*.0))]
    RefusedByRemote(RejectCode),
    /// A frame is superfluous, repeated or out of order.
    #[error("the peer sent {0} where none was due")]
    Unexpected(FrameKind),
    /// A frame did not arrive in time.
    #[error("the peer sent no {0} within 3 s")]
    NoFrame(FrameKind),
    /// The peer did not read our Pass in time.
    #[error("the peer did not take this node's Pass within 3 s")]
    PassNotTaken,
    /// The handshake as a whole took too long.
    #[error("the handshake did not pass within 10 s of the connection")]
    TooSlow,
    /// A stream of the handshake failed.
    #[error("a handshake stream failed: {0}")]
    Stream(String),
    /// The peer refuses streams of the handshake protocol.
    #[error(
        "the peer does not speak {}: it is another libp2p program, or another version of diatribe",
        PROTOCOL
    )]
    NotSpoken,
}

impl Reason {
    /// Returns the code that a stranger may learn.
    pub(crate) fn code(&self) -> RejectCode {
        match self {
            Reason::Version(_) => RejectCode::Version,
            Reason::Network(_) => RejectCode::Network,
            Reason::RefusedByUs(code) => *code,
            _ => RejectCode::Auth,
        }
    }
}

const NETWORKS_DIFFER: &str = "the network keys differ: this node and the peer are on different networks; \
     give both the same --network-key file, or neither";

fn ours(code: RejectCode) -> &'static str {
    match code {
        RejectCode::Auth => "this node refused the peer's proof",
        RejectCode::Version => "this node refused the peer's version",
        RejectCode::Network => NETWORKS_DIFFER,
        RejectCode::DuplicateIdentity => {
            "another live node with the peer's identity is already linked: the same key runs twice"
        }
        RejectCode::Busy => "this node has no place for the peer now and asked it to wait",
        RejectCode::Policy => {
            "this node does not let the peer in: its deny-list or allow-list (--deny, --trust) says so, \
             or the peer broke a rule less than a minute ago"
        }
    }
}

fn theirs(code: RejectCode) -> &'static str {
    match code {
        RejectCode::Auth => {
            "the peer refused this node's proof: something between the two may be altering or \
             relaying what they say, or one of the two programs is faulty"
        }
        RejectCode::Version => {
            "the peer speaks another version of the handshake: update whichever of the two is older"
        }
        RejectCode::Network => NETWORKS_DIFFER,
        RejectCode::DuplicateIdentity => {
            "the peer is already linked to another live node with this node's identity: \
             stop the other one, or give this one a key of its own"
        }
        RejectCode::Busy => {
            "the peer has all the links that it may have, or too many handshakes at once; nothing is wrong here: try again in a \
             minute, or dial another node of the mesh. Whoever runs the peer can give it more places with --max-links"
        }
        RejectCode::Policy => {
            "the peer's operator does not admit this node: \
             ask for its PeerId to be trusted there"
        }
    }
}
