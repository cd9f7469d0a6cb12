//! A side of the handshake that says what it is told to: the frames of an honest side, and those of
//! one that holds its own keys and signs what it should not.
//!
//! Entry types: [`Party`], [`Round`]. The rule it keeps: whatever a case twists, all the rest is
//! made to fit, so that a peer which lacks the one check goes on; and what the peer sends is checked
//! as an honest side would check it.

use bytes::Bytes;
use hpke::Deserializable;
use hpke::kem::X25519HkdfSha256;
use libp2p::PeerId;
use prost::Message;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use super::forge::{self, Forgery};
use super::link::now_ms;
use crate::handshake::Stage;
use crate::handshake::crypto::{self, Entropy, Keys, Secret};
use crate::handshake::message::{Proof, VERSION};
use crate::handshake::tags::{Between, NetworkKeys};
use crate::handshake::transcript::{SEAL_TO_CLIENT, SEAL_TO_SERVER, Transcript};
use crate::identity::{Identity, NetworkKey, PublicKey};
use crate::wire::proto::handshake as proto;

/// Who speaks.
#[derive(Clone)]
pub(crate) struct Party {
    pub(crate) identity: Identity,
    pub(crate) network: Option<NetworkKey>,
    pub(crate) instance_id: [u8; 16],
    /// The id by which it takes part: noise has authenticated it, but for a relay.
    pub(crate) noise_id: PeerId,
    /// It speaks for somebody whose connection this is not, so that the tags of the peer's Hello are not for it.
    pub(crate) relays: bool,
}

/// One round of a handshake with the peer that noise authenticated.
#[derive(Clone)]
pub(crate) struct Round {
    pub(crate) party: Party,
    pub(crate) remote: PeerId,
    pub(crate) stage: Stage,
    pub(crate) prev: [u8; 32],
}

/// What a case makes of a Core before it is hashed.
pub(crate) type CoreMutation<'a> = &'a dyn Fn(proto::Core) -> Vec<u8>;

/// A client that has made its Hello.
#[derive(Clone)]
pub(crate) struct HelloSent {
    t1: Transcript,
    nonce: [u8; 32],
    /// Which of the two tags is that of our network key.
    key: u32,
}

/// A client that has checked the Challenge.
#[derive(Clone)]
pub(crate) struct ChallengeChecked {
    t4: Transcript,
    pub(crate) k_server: [u8; 32],
    pub(crate) enc: [u8; 32],
    pub(crate) peer: proto::Core,
}

/// A client that has made its Answer.
#[derive(Clone)]
pub(crate) struct AnswerSent {
    pub(crate) end: [u8; 32],
    pass: [u8; 32],
}

/// A server that has made its Challenge.
#[derive(Clone)]
pub(crate) struct ChallengeSent {
    t4: Transcript,
    nonce: [u8; 32],
    k_server: [u8; 32],
    pub(crate) peer: proto::Core,
}

/// A server that has checked the Answer.
#[derive(Clone)]
pub(crate) struct AnswerChecked {
    pub(crate) end: [u8; 32],
    pub(crate) pass: [u8; 32],
    pub(crate) k_client: [u8; 32],
    pub(crate) enc: [u8; 32],
}

impl Round {
    /// The Core of an honest side, but for what only a Hello or only a Challenge has.
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

    /// Our network key, as it is hashed.
    fn network_key(&self) -> [u8; 32] {
        let key = self.party.network.as_ref();
        key.map_or([0; 32], |key| *key.as_bytes())
    }

    /// The tags of a Hello from `client` to `server`.
    pub(crate) fn tags(&self, client: &PeerId, server: &PeerId, nonce: &[u8; 32]) -> [u8; 32] {
        let (client, server) = (client.to_bytes(), server.to_bytes());
        let between = Between {
            client: &client,
            server: &server,
            nonce,
        };
        NetworkKeys::new(self.party.network.clone()).tags(between, &mut entropy())
    }

    /// Which tag of a Hello from `client` to `server` is that of our network key.
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

    pub(crate) fn hello(&self, mutation: CoreMutation<'_>) -> (HelloSent, Vec<u8>) {
        let nonce = random();
        let (client, server) = (&self.party.noise_id, &self.remote);
        let tags = self.tags(client, server, &nonce);
        let core = mutation(proto::Core {
            tags: Bytes::copy_from_slice(&tags),
            ..self.core(nonce)
        });
        // A Core that is twisted so that it has no tag must be refused: no Challenge is looked into.
        let said = proto::Core::decode(&core[..]).unwrap_or_default();
        let key = self.tagged(client, server, &said).unwrap_or_default();
        let t1 = self.start(client, server).hello(&core);
        let hello = proto::Hello { core: core.into() };
        let asked = HelloSent { t1, nonce, key };
        (asked, frame(proto::frame::Kind::Hello(hello)))
    }

    /// Checks the peer's Challenge.
    pub(crate) fn on_challenge(
        &self,
        asked: &HelloSent,
        body: &[u8],
    ) -> Result<ChallengeChecked, String> {
        let challenge = match kind(body)? {
            proto::frame::Kind::Challenge(challenge) => challenge,
            other => return Err(format!("{} where a Challenge was due", name(&other))),
        };
        let peer = self.check(&challenge.core)?;
        if !peer.tags.is_empty() {
            return Err("a Challenge with tags".to_owned());
        }
        if peer.key != asked.key {
            return Err(format!(
                "a Challenge that chooses network key {}, where {} was offered",
                peer.key, asked.key
            ));
        }
        let proof = proof(&challenge.enc, &challenge.ciphertext, &challenge.signature)?;
        let t2 = asked.t1.challenge(&challenge.core);
        let t3 = t2.challenge_sealed(&proof.enc, &proof.ciphertext);
        self.verify(&peer, &t3.for_server(), &proof.signature)?;
        let k_server = self.open(SEAL_TO_CLIENT, t2, &proof, asked.nonce)?;
        Ok(ChallengeChecked {
            t4: t3.challenge_signed(&proof.signature),
            k_server,
            enc: proof.enc,
            peer,
        })
    }

    pub(crate) fn answer(
        &self,
        challenged: &ChallengeChecked,
        forgery: Forgery,
    ) -> Result<(AnswerSent, Vec<u8>), String> {
        let ChallengeChecked {
            t4, k_server, peer, ..
        } = challenged;
        let k_client: [u8; 32] = random();
        let labels = (SEAL_TO_SERVER, SEAL_TO_CLIENT);
        let (enc, ciphertext) = self.seal(forgery, peer, labels, *t4, k_client)?;
        let t5 = t4.answer_sealed(&enc, &ciphertext);
        let texts = (t5.for_client(), t5.for_server());
        let signature = forge::sign(forgery, &self.party.identity, t5.as_bytes(), texts);
        let network = match forgery {
            Forgery::OtherNetworkKey => random(),
            _ => self.network_key(),
        };
        let (server, client) = (Secret::new(*k_server), Secret::new(k_client));
        let keys = Keys::derive(t5, &server, &client, &network);
        let confirm = keys.confirm(&t5.to_confirm(&signature));
        let confirm = match forgery {
            Forgery::ConfirmByte(at) => with_bit_flipped(confirm, at),
            _ => confirm,
        };
        let proof = Proof {
            enc,
            ciphertext,
            signature,
        };
        let end = t5.end(&proof, &confirm);
        let answer = proto::Answer {
            enc: Bytes::copy_from_slice(&enc),
            ciphertext: Bytes::copy_from_slice(&ciphertext),
            signature: Bytes::copy_from_slice(&signature),
            confirm: Bytes::copy_from_slice(&confirm),
        };
        let answered = AnswerSent {
            end: *end.as_bytes(),
            pass: keys.pass(end),
        };
        Ok((answered, frame(proto::frame::Kind::Answer(answer))))
    }

    /// Checks the peer's Pass.
    pub(crate) fn on_pass(&self, answered: &AnswerSent, body: &[u8]) -> Result<(), String> {
        match kind(body)? {
            proto::frame::Kind::Pass(pass) if pass.confirm == answered.pass[..] => Ok(()),
            proto::frame::Kind::Pass(_) => Err("a Pass that does not hold".to_owned()),
            other => Err(format!("{} where a Pass was due", name(&other))),
        }
    }

    /// Checks the peer's Hello and makes the Challenge.
    pub(crate) fn challenge(
        &self,
        body: &[u8],
        mutation: CoreMutation<'_>,
        forgery: Forgery,
    ) -> Result<(ChallengeSent, Vec<u8>), String> {
        let hello = match kind(body)? {
            proto::frame::Kind::Hello(hello) => hello,
            other => return Err(format!("{} where a Hello was due", name(&other))),
        };
        let peer = self.check(&hello.core)?;
        if peer.key != 0 {
            return Err("a Hello that chooses a network key".to_owned());
        }
        let nonce = random();
        let core = mutation(proto::Core {
            key: match self.tagged(&self.remote, &self.party.noise_id, &peer) {
                Err(_) if self.party.relays => 1,
                key => key?,
            },
            ..self.core(nonce)
        });
        let t2 = self
            .start(&self.remote, &self.party.noise_id)
            .hello(&hello.core)
            .challenge(&core);
        let k_server: [u8; 32] = random();
        let labels = (SEAL_TO_CLIENT, SEAL_TO_SERVER);
        let (enc, ciphertext) = self.seal(forgery, &peer, labels, t2, k_server)?;
        let t3 = t2.challenge_sealed(&enc, &ciphertext);
        let texts = (t3.for_server(), t3.for_client());
        let signature = forge::sign(forgery, &self.party.identity, t3.as_bytes(), texts);
        let t4 = t3.challenge_signed(&signature);
        let challenge = proto::Challenge {
            core: core.into(),
            enc: Bytes::copy_from_slice(&enc),
            ciphertext: Bytes::copy_from_slice(&ciphertext),
            signature: Bytes::copy_from_slice(&signature),
        };
        let served = ChallengeSent {
            t4,
            nonce,
            k_server,
            peer,
        };
        Ok((served, frame(proto::frame::Kind::Challenge(challenge))))
    }

    /// Checks the peer's Answer.
    pub(crate) fn on_answer(
        &self,
        served: &ChallengeSent,
        body: &[u8],
    ) -> Result<AnswerChecked, String> {
        let answer = match kind(body)? {
            proto::frame::Kind::Answer(answer) => answer,
            other => return Err(format!("{} where an Answer was due", name(&other))),
        };
        let proof = proof(&answer.enc, &answer.ciphertext, &answer.signature)?;
        let t5 = served.t4.answer_sealed(&proof.enc, &proof.ciphertext);
        self.verify(&served.peer, &t5.for_client(), &proof.signature)?;
        let k_client = self.open(SEAL_TO_SERVER, served.t4, &proof, served.nonce)?;
        let (server, client) = (Secret::new(served.k_server), Secret::new(k_client));
        let keys = Keys::derive(t5, &server, &client, &self.network_key());
        let confirm = keys.confirm(&t5.to_confirm(&proof.signature));
        if answer.confirm != confirm[..] {
            return Err("an Answer whose confirm does not hold".to_owned());
        }
        let end = t5.end(&proof, &confirm);
        Ok(AnswerChecked {
            end: *end.as_bytes(),
            pass: keys.pass(end),
            k_client,
            enc: proof.enc,
        })
    }

    pub(crate) fn pass(&self, accepted: &AnswerChecked) -> Vec<u8> {
        frame(proto::frame::Kind::Pass(proto::Pass {
            confirm: Bytes::copy_from_slice(&accepted.pass),
        }))
    }

    /// What every Core of an honest peer says.
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

    fn open(
        &self,
        label: &[u8],
        bound_to: Transcript,
        proof: &Proof,
        nonce: [u8; 32],
    ) -> Result<[u8; 32], String> {
        type PrivateKey = <X25519HkdfSha256 as hpke::Kem>::PrivateKey;
        let key = PrivateKey::from_bytes(self.party.identity.sealing_secret())
            .map_err(|e| e.to_string())?;
        let nonce = Secret::new(nonce);
        crypto::open(&key, label, bound_to, &proof.enc, &proof.ciphertext, &nonce)
            .map(|secret| *secret)
            .map_err(|e| e.to_string())
    }

    fn seal(
        &self,
        forgery: Forgery,
        to: &proto::Core,
        (label, other_label): (&[u8], &[u8]),
        bound_to: Transcript,
        secret: [u8; 32],
    ) -> Result<([u8; 32], [u8; 80]), String> {
        let exact = |bytes: &[u8], what| exact::<32>(bytes, what);
        let to_key = match forgery {
            Forgery::SealedToOther => Identity::generate().sealing_public(),
            _ => exact(&to.enc_key, "enc_key")?,
        };
        let label = match forgery {
            Forgery::SealedAsOtherRole => other_label,
            _ => label,
        };
        let bound_to = match forgery {
            Forgery::SealedUnbound => Transcript::start(self.stage, &[], &[], &[0; 32]),
            _ => bound_to,
        };
        let nonce = match forgery {
            Forgery::Nonce => [0; 32],
            _ => exact(&to.nonce, "nonce")?,
        };
        let nonce = match forgery {
            Forgery::NonceByte(at) => with_bit_flipped(nonce, at),
            _ => nonce,
        };
        let secret = Zeroizing::new(secret);
        let (enc, ciphertext) =
            crypto::seal(&to_key, label, bound_to, &nonce, &secret, &mut entropy())
                .map_err(|e| format!("an enc_key to which nothing can be sealed: {e}"))?;
        Ok(match forgery {
            Forgery::SealedGarbage => (enc, [0x5a; 80]),
            Forgery::SmallOrderEnc => ([0; 32], ciphertext),
            _ => (enc, ciphertext),
        })
    }
}

/// Nothing is twisted.
pub(crate) fn honest(core: proto::Core) -> Vec<u8> {
    core.encode_to_vec()
}

fn frame(kind: proto::frame::Kind) -> Vec<u8> {
    proto::Frame { kind: Some(kind) }.encode_to_vec()
}

/// Which frame a body is.
pub(crate) fn kind(body: &[u8]) -> Result<proto::frame::Kind, String> {
    let frame = proto::Frame::decode(body).map_err(|e| format!("bytes that are no Frame: {e}"))?;
    frame.kind.ok_or_else(|| "a Frame of no kind".to_owned())
}

/// How a frame is called.
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

/// The same with one bit of the byte `at` changed.
fn with_bit_flipped(mut bytes: [u8; 32], at: usize) -> [u8; 32] {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    bytes
}

fn entropy() -> Entropy {
    Box::new(UnwrapErr(SysRng))
}

fn random() -> [u8; 32] {
    rand::random()
}
