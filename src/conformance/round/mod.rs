//! One round of the handshake with honest or forged frames.
//!
//! Entry types: [`Party`], [`Round`]. The rule they keep: only the mutated part is wrong and everything else fits it,
//! so that a peer that lacks the one check continues; the peer's frames are verified as an honest side would verify
//! them.

mod client;
mod sealing;
mod server;

use bytes::Bytes;
use libp2p::PeerId;
use prost::Message;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

use crate::conformance::envelope::now_ms;
use crate::handshake::Stage;
use crate::handshake::crypto::Entropy;
use crate::handshake::forge::{self, Forgery, with_bit_flipped};
use crate::handshake::message::{Proof, VERSION};
use crate::handshake::tags::{Between, NetworkKeys};
use crate::handshake::transcript::Transcript;
use crate::identity::{Identity, NetworkKey, PublicKey};
use crate::wire::proto::handshake as proto;

pub(crate) use client::{AnswerSent, HelloSent};

/// The kit's side of a handshake.
#[derive(Clone)]
pub(crate) struct Party {
    pub(crate) identity: Identity,
    pub(crate) network: Option<NetworkKey>,
    pub(crate) instance_id: [u8; 16],
    /// The id in the transcript. Noise has authenticated it, except for a relay.
    pub(crate) noise_id: PeerId,
    /// Whether it relays another peer's frames, so that the tags of the peer's Hello are not for it.
    pub(crate) relays: bool,
}

/// One round of a handshake with the peer that noise has authenticated.
#[derive(Clone)]
pub(crate) struct Round {
    pub(crate) party: Party,
    pub(crate) remote: PeerId,
    pub(crate) stage: Stage,
    pub(crate) prev: [u8; 32],
}

/// Changes a Core before it is hashed, and returns its bytes.
pub(crate) type CoreMutation<'a> = &'a dyn Fn(proto::Core) -> Vec<u8>;

impl Round {
    /// Returns the Core of an honest side, without the fields that only a Hello or only a Challenge has.
    fn core(&self, nonce: [u8; 32]) -> proto::Core {
        let identity = &self.party.identity;
        let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        proto::Core {
            version: VERSION,
            round: self.stage.number().into(),
            public_key: bytes(&identity.public_key_protobuf()),
            peer_id: bytes(&identity.peer_id().to_bytes()),
            enc_key: bytes(&identity.sealing_public()),
            nonce: bytes(&nonce),
            instance_id: bytes(&self.party.instance_id),
            features: 0,
            prev: bytes(&self.prev),
            tags: Bytes::new(),
            key: 0,
            clock_ms: now_ms(),
        }
    }

    fn start(&self, client: &PeerId, server: &PeerId) -> Transcript {
        let (client, server) = (client.to_bytes(), server.to_bytes());
        Transcript::start(self.stage, &client, &server, &self.prev)
    }

    /// Returns the kit's network key as it enters the key derivation, zeros for none.
    fn network_key(&self) -> [u8; 32] {
        let key = self.party.network.as_ref();
        key.map_or([0; 32], |key| *key.as_bytes())
    }

    /// Returns the tags of a Hello from `client` to `server`.
    pub(crate) fn tags(&self, client: &PeerId, server: &PeerId, nonce: &[u8; 32]) -> [u8; 32] {
        let (client, server) = (client.to_bytes(), server.to_bytes());
        let between = Between {
            client: &client,
            server: &server,
            nonce,
        };
        NetworkKeys::new(self.party.network.clone()).tags(between, &mut entropy())
    }

    /// Returns the number of the tag, in a Hello from `client` to `server`, that is for the kit's network key.
    fn tagged(&self, client: &PeerId, server: &PeerId, hello: &proto::Core) -> Result<u32, String> {
        let (client, server) = (client.to_bytes(), server.to_bytes());
        let between = Between {
            client: &client,
            server: &server,
            nonce: &exact(&hello.nonce, "nonce")?,
        };
        let keys = NetworkKeys::new(self.party.network.clone());
        let (_, said) = keys
            .common(&exact(&hello.tags, "tags")?, between)
            .map_err(|_| "a Hello without a tag of this network's key".to_owned())?;
        Ok(said.number())
    }

    /// Checks the fields of the peer's Core that every honest peer sets alike.
    fn check(&self, core: &Bytes) -> Result<proto::Core, String> {
        let core = proto::Core::decode(core.clone())
            .map_err(|e| format!("a Core that does not parse: {e}"))?;
        let wrong = |what: &str| Err(format!("a Core with a wrong {what}"));
        let lengths = [
            ("public_key", core.public_key.len(), 36),
            ("peer_id", core.peer_id.len(), 38),
            ("enc_key", core.enc_key.len(), 32),
            ("nonce", core.nonce.len(), 32),
            ("instance_id", core.instance_id.len(), 16),
            ("prev", core.prev.len(), 32),
        ];
        if let Some((field, _, _)) = lengths.iter().find(|(_, is, due)| is != due) {
            return wrong(&format!("length of {field}"));
        }
        let checks = [
            ("version", core.version == VERSION),
            ("round", core.round == u32::from(self.stage.number())),
            ("peer_id", core.peer_id == self.remote.to_bytes()),
            ("prev", core.prev == self.prev[..]),
        ];
        match checks.iter().find(|(_, holds)| !holds) {
            Some((field, _)) => wrong(field),
            None => Ok(core),
        }
    }

    fn verify(&self, peer: &proto::Core, text: &[u8], signature: &[u8]) -> Result<(), String> {
        let key = PublicKey::from_protobuf(&peer.public_key).map_err(|e| e.to_string())?;
        if key.peer_id() != self.remote {
            return Err("a public_key that is not the connection's".to_owned());
        }
        match key.verify(text, signature) {
            true => Ok(()),
            false => Err("a signature that does not hold".to_owned()),
        }
    }
}

/// Returns an unchanged Core.
pub(crate) fn honest(core: proto::Core) -> Vec<u8> {
    core.encode_to_vec()
}

fn frame(kind: proto::frame::Kind) -> Vec<u8> {
    proto::Frame { kind: Some(kind) }.encode_to_vec()
}

/// Decodes the kind of a frame from its body.
pub(crate) fn kind(body: &[u8]) -> Result<proto::frame::Kind, String> {
    let frame = proto::Frame::decode(body).map_err(|e| format!("bytes that are no Frame: {e}"))?;
    frame.kind.ok_or_else(|| "a Frame of no kind".to_owned())
}

/// Returns the name of a frame.
pub(crate) fn name(kind: &proto::frame::Kind) -> &'static str {
    use proto::frame::Kind;
    match kind {
        Kind::Hello(_) => "Hello",
        Kind::Challenge(_) => "Challenge",
        Kind::Answer(_) => "Answer",
        Kind::Pass(_) => "Pass",
        Kind::Reject(_) => "Reject",
    }
}

fn proof(enc: &[u8], ciphertext: &[u8], signature: &[u8]) -> Result<Proof, String> {
    Ok(Proof {
        enc: exact(enc, "enc")?,
        ciphertext: exact(ciphertext, "ciphertext")?,
        signature: exact(signature, "signature")?,
    })
}

fn exact<const N: usize>(bytes: &[u8], field: &str) -> Result<[u8; N], String> {
    bytes
        .try_into()
        .map_err(|_| format!("a frame whose {field} has not {N} bytes"))
}

fn entropy() -> Entropy {
    Box::new(UnwrapErr(SysRng))
}

fn random() -> [u8; 32] {
    rand::random()
}
