//! Frames of the handshake: bytes to types and back.
//!
//! Entry points: [`Frame::decode`] for inbound frames, [`encode`](super::encode) for outbound ones. The rule it keeps: decoded fields have
//! exact lengths, and everything that is hashed stays the bytes that arrived.

use bytes::Bytes;
use prost::Message as _;

use super::crypto::CIPHERTEXT;
use super::protocol::{FrameKind, RejectCode};
use super::reason::Reason;
use super::referrals::Rejection;
use super::tags::{KeySlot, TAGS_BYTES};
use crate::wire::proto::handshake as proto;
use crate::wire::schemas::handshake as schemas;
use crate::wire::strict;

/// Maximum size of a frame in bytes. The largest honest frame, a Challenge, has about 450.
pub const MAX_FRAME: usize = 1024;

/// The version of the handshake that this node speaks.
pub(crate) const VERSION: u32 = 2;

/// An inbound frame. Hello and Challenge hold their Core as bytes, which are hashed.
#[derive(Debug)]
pub(super) enum Frame {
    Hello(Hello),
    Challenge(Challenge),
    Answer(Answer),
    Pass(Pass),
    Reject(Rejection),
}

#[derive(Debug)]
pub(super) struct Hello {
    pub(super) core: Bytes,
}

#[derive(Debug)]
pub(super) struct Challenge {
    pub(super) core: Bytes,
    enc: Bytes,
    ciphertext: Bytes,
    signature: Bytes,
}

#[derive(Debug)]
pub(super) struct Answer(proto::Answer);

#[derive(Debug)]
pub(super) struct Pass(proto::Pass);

/// A nonce and a secret that one side sealed to the other, with the signature over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) enc: [u8; 32],
    pub(crate) ciphertext: [u8; CIPHERTEXT],
    pub(crate) signature: [u8; 64],
}

/// A side's introduction of itself: fields of exact lengths, unverified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Core {
    pub(super) round: u32,
    pub(super) public_key: [u8; 36],
    pub(super) peer_id: [u8; 38],
    pub(super) enc_key: [u8; 32],
    pub(super) nonce: [u8; 32],
    pub(super) instance_id: [u8; 16],
    pub(super) features: u64,
    pub(super) prev: [u8; 32],
    pub(super) clock_ms: u64,
}

impl Frame {
    /// Decodes the body of a frame. The lengths of its fields are checked later, when the frame is due.
    pub(super) fn decode(body: Vec<u8>) -> Result<Frame, Reason> {
        if body.len() > MAX_FRAME {
            return Err(Reason::Malformed);
        }
        use proto::frame::Kind;
        strict::check(&body, &schemas::FRAME).map_err(|_| Reason::Malformed)?;
        let frame = proto::Frame::decode(Bytes::from(body)).map_err(|_| Reason::Malformed)?;
        Ok(match frame.kind.ok_or(Reason::Malformed)? {
            Kind::Hello(proto::Hello { core }) => Frame::Hello(Hello { core }),
            Kind::Challenge(proto::Challenge {
                core,
                enc,
                ciphertext,
                signature,
            }) => Frame::Challenge(Challenge {
                core,
                enc,
                ciphertext,
                signature,
            }),
            Kind::Answer(answer) => Frame::Answer(Answer(answer)),
            Kind::Pass(pass) => Frame::Pass(Pass(pass)),
            Kind::Reject(proto::Reject {
                code,
                referrals,
                proof,
            }) => Frame::Reject(Rejection {
                code: RejectCode::from_number(code),
                referrals,
                proof,
            }),
        })
    }

    pub(super) fn kind(&self) -> FrameKind {
        match self {
            Frame::Hello(_) => FrameKind::Hello,
            Frame::Challenge(_) => FrameKind::Challenge,
            Frame::Answer(_) => FrameKind::Answer,
            Frame::Pass(_) => FrameKind::Pass,
            Frame::Reject(_) => FrameKind::Reject,
        }
    }
}

impl Challenge {
    pub(super) fn proof(&self) -> Result<Proof, Reason> {
        Proof::of(&self.enc, &self.ciphertext, &self.signature)
    }
}

impl Answer {
    pub(super) fn parse(&self) -> Result<(Proof, [u8; 32]), Reason> {
        let proof = Proof::of(&self.0.enc, &self.0.ciphertext, &self.0.signature)?;
        Ok((proof, exact(&self.0.confirm, "confirm")?))
    }
}

impl Pass {
    pub(super) fn parse(&self) -> Result<[u8; 32], Reason> {
        exact(&self.0.confirm, "confirm")
    }
}

impl Proof {
    fn of(enc: &[u8], ciphertext: &[u8], signature: &[u8]) -> Result<Proof, Reason> {
        Ok(Proof {
            enc: exact(enc, "enc")?,
            ciphertext: exact(ciphertext, "ciphertext")?,
            signature: exact(signature, "signature")?,
        })
    }
}

impl Core {
    /// Decodes a client's introduction and the tags of its network keys.
    pub(super) fn of_hello(bytes: &Bytes) -> Result<(Core, [u8; TAGS_BYTES]), Reason> {
        let core = parse(bytes)?;
        if core.key != 0 {
            return Err(Reason::Misplaced("key"));
        }
        Ok((Core::of(&core)?, exact(&core.tags, "tags")?))
    }

    /// Decodes a server's introduction and its choice of a network key.
    pub(super) fn of_challenge(bytes: &Bytes) -> Result<(Core, KeySlot), Reason> {
        let core = parse(bytes)?;
        if !core.tags.is_empty() {
            return Err(Reason::Misplaced("tags"));
        }
        let key = KeySlot::from_number(core.key).ok_or(Reason::NetworkKeyChoice(core.key))?;
        Ok((Core::of(&core)?, key))
    }

    /// Checks the fields that both kinds of introduction have.
    fn of(core: &proto::Core) -> Result<Core, Reason> {
        Ok(Core {
            round: core.round,
            public_key: exact(&core.public_key, "public_key")?,
            peer_id: exact(&core.peer_id, "peer_id")?,
            enc_key: exact(&core.enc_key, "enc_key")?,
            nonce: exact(&core.nonce, "nonce")?,
            instance_id: exact(&core.instance_id, "instance_id")?,
            features: core.features,
            prev: exact(&core.prev, "prev")?,
            clock_ms: core.clock_ms,
        })
    }

    pub(super) fn encode_hello(&self, tags: &[u8; TAGS_BYTES]) -> Bytes {
        let tags = Bytes::copy_from_slice(tags);
        let core = proto::Core {
            tags,
            ..self.to_proto()
        };
        core.encode_to_vec().into()
    }

    pub(super) fn encode_challenge(&self, key: KeySlot) -> Bytes {
        let key = key.number();
        let core = proto::Core {
            key,
            ..self.to_proto()
        };
        core.encode_to_vec().into()
    }

    fn to_proto(&self) -> proto::Core {
        proto::Core {
            version: VERSION,
            round: self.round,
            public_key: Bytes::copy_from_slice(&self.public_key),
            peer_id: Bytes::copy_from_slice(&self.peer_id),
            enc_key: Bytes::copy_from_slice(&self.enc_key),
            nonce: Bytes::copy_from_slice(&self.nonce),
            instance_id: Bytes::copy_from_slice(&self.instance_id),
            features: self.features,
            prev: Bytes::copy_from_slice(&self.prev),
            tags: Bytes::new(),
            key: 0,
            clock_ms: self.clock_ms,
        }
    }
}

/// Decodes a Core of this version. The version is checked before anything else.
fn parse(bytes: &Bytes) -> Result<proto::Core, Reason> {
    let version = version_of(bytes)?;
    if version != VERSION {
        return Err(Reason::Version(version));
    }
    strict::check(bytes, &schemas::CORE).map_err(|_| Reason::Malformed)?;
    proto::Core::decode(bytes.clone()).map_err(|_| Reason::Malformed)
}

/// Returns the version of an encoded Core, also of a later version whose fields have other types and lengths. The strict
/// encoding applies to all versions.
fn version_of(core: &[u8]) -> Result<u32, Reason> {
    let mut version = 0;
    for field in strict::Fields::of(core) {
        let field = field.map_err(|_| Reason::Malformed)?;
        if let (1, strict::Value::Varint(value)) = (field.number, field.value) {
            // Protobuf: the last occurrence counts, and a uint32 is the low half of its varint.
            version = value as u32;
        }
    }
    Ok(version)
}

fn exact<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], Reason> {
    bytes.try_into().map_err(|_| Reason::Length(field))
}
