//! One round of the handshake, as a chain of steps that consume each other: a step's value exists only after all steps
//! before it.
//!
//! Client: [`hello`] → [`AwaitChallenge`] → [`AwaitPass`] → T_end.
//! Server: [`challenge`] → [`AwaitAnswer`] → [`Accepted`].
//! The rule it keeps: the checks run in the protocol's order, and each has its own [`Reason`].

use hpke::Deserializable;
use hpke::kem::X25519HkdfSha256;
use libp2p::PeerId;

use super::crypto::{self, Entropy, Keys, Secret};
use super::encode;
use super::message::{Answer, Challenge, Core, Hello, Pass, Proof};
use super::protocol::{RejectCode, Stage};
use super::reason::Reason;
use super::referrals::{Referrals, Rejection};
use super::tags::{Between, KeySlot, NetworkKeys};
use super::transcript::{SEAL_TO_CLIENT, SEAL_TO_SERVER, Transcript};
use crate::identity::{Identity, NetworkKey, PublicKey, PublicKeyError};

/// This node's keys and ids, which all its handshakes share.
#[derive(Debug)]
pub struct Local {
    identity: Identity,
    networks: NetworkKeys,
    instance_id: [u8; 16],
    features: u64,
}

impl Local {
    /// Returns the node with these keys. `network` is none on the open network. `instance_id` is random for each start of
    /// the process, and distinguishes two nodes that run with one key.
    pub fn new(identity: Identity, network: Option<NetworkKey>, instance_id: [u8; 16]) -> Local {
        Local {
            identity,
            networks: NetworkKeys::new(network),
            instance_id,
            features: 0,
        }
    }

    /// Sets the feature bits that this node announces to every peer.
    pub fn with_features(self, features: u64) -> Local {
        Local { features, ..self }
    }

    /// Adds the network key that was in force before the current one: peers that hold either of the two pass.
    pub fn with_older_network_key(self, older: NetworkKey) -> Local {
        Local {
            networks: self.networks.with_older(older),
            ..self
        }
    }

    /// Returns the public id of this node.
    pub fn peer_id(&self) -> PeerId {
        self.identity.peer_id()
    }

    /// Returns the random id of this running process.
    pub fn instance_id(&self) -> [u8; 16] {
        self.instance_id
    }
}

/// The context of a round: both peers, the round, and the transcript before it. Everything in it is bound into the
/// round's own transcript.
pub(super) struct RoundContext<'a> {
    pub(super) local: &'a Local,
    /// The peer as noise authenticated it.
    pub(super) remote: PeerId,
    pub(super) round: Stage,
    /// T_end of round 1; zeros in round 1.
    pub(super) round1_transcript: [u8; 32],
    /// The peer as it introduced itself in round 1; none in round 1.
    pub(super) round1_peer: Option<&'a Peer>,
    /// This node's Unix time in milliseconds.
    pub(super) unix_ms: u64,
}

/// A peer whose introduction is consistent. Only a signature proves that it has the key.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) public_key: PublicKey,
    pub(super) core: Core,
    /// Milliseconds by which the peer's clock is ahead of this node's.
    pub(super) clock_offset_ms: i64,
}

/// A client that has sent its Hello.
pub(super) struct AwaitChallenge {
    t1: Transcript,
    nonce: Secret,
}

/// A client that has made its Answer.
pub(super) struct AwaitPass {
    end: Transcript,
    keys: Keys,
}

/// A server that has made its Challenge.
pub(super) struct AwaitAnswer {
    t4: Transcript,
    nonce: Secret,
    secret: Secret,
    peer: Peer,
    /// The network key that both sides hold, by its slot in this node.
    key: KeySlot,
}

/// A server whose client has proved its key. Only the caller's decision is missing.
pub(super) struct Accepted {
    pub(super) peer: Peer,
    end: Transcript,
    keys: Keys,
}

/// Begins a round as its client; returns the Hello frame to send.
pub(super) fn hello(
    context: &RoundContext<'_>,
    entropy: &mut Entropy,
) -> (AwaitChallenge, Vec<u8>) {
    let nonce = crypto::random(entropy);
    let (client, server) = (
        context.local.peer_id().to_bytes(),
        context.remote.to_bytes(),
    );
    let between = Between {
        client: &client,
        server: &server,
        nonce: &nonce,
    };
    let tags = context.local.networks.tags(between, entropy);
    let core = context.introduction(&nonce).encode_hello(&tags);
    let t1 = context.transcript(&client, &server).hello(&core);
    (AwaitChallenge { t1, nonce }, encode::hello(core))
}

impl AwaitChallenge {
    /// Checks the server's proof and creates the client's; returns the Answer frame to send.
    pub(super) fn challenge(
        self,
        context: &RoundContext<'_>,
        challenge: &Challenge,
        entropy: &mut Entropy,
    ) -> Result<(AwaitPass, Peer, Vec<u8>), Reason> {
        let (core, key) = Core::of_challenge(&challenge.core)?;
        let theirs = challenge.proof()?;
        let network = context.network_key(key)?;
        let peer = context.check(core, &self.nonce)?;

        let t2 = self.t1.challenge(&challenge.core);
        let t3 = t2.challenge_sealed(&theirs.enc, &theirs.ciphertext);
        if !peer.public_key.verify(&t3.for_server(), &theirs.signature) {
            return Err(Reason::Signature);
        }
        let k_server = context.open(SEAL_TO_CLIENT, t2, &theirs, &self.nonce)?;
        let t4 = t3.challenge_signed(&theirs.signature);

        let k_client = crypto::random(entropy);
        let (enc, ciphertext) = crypto::seal(
            &peer.core.enc_key,
            SEAL_TO_SERVER,
            t4,
            &peer.core.nonce,
            &k_client,
            entropy,
        )?;
        let t5 = t4.answer_sealed(&enc, &ciphertext);
        let signature = context.local.identity.sign(&t5.for_client());
        let ours = Proof {
            enc,
            ciphertext,
            signature,
        };

        let keys = Keys::derive(t5, &k_server, &k_client, network);
        let confirm = keys.confirm(&t5.to_confirm(&signature));
        let end = t5.end(&ours.signature, &confirm);
        Ok((
            AwaitPass { end, keys },
            peer,
            encode::answer(&ours, &confirm),
        ))
    }
}

impl AwaitPass {
    /// Checks the server's pass; returns T_end.
    pub(super) fn pass(self, pass: &Pass) -> Result<[u8; 32], Reason> {
        if !crypto::same(&pass.parse()?, &self.keys.pass(self.end)) {
            return Err(Reason::Pass);
        }
        Ok(*self.end.as_bytes())
    }

    /// Returns the referrals of a server that refuses with BUSY, if there are any and their proof is valid.
    pub(super) fn referrals(&self, rejection: &Rejection) -> Option<Referrals> {
        if rejection.code != RejectCode::Busy {
            return None;
        }
        let referrals = Referrals::new(rejection.referrals.clone())?;
        let proof = <[u8; 32]>::try_from(&rejection.proof[..]).ok()?;
        let due = self.keys.referral_proof(self.end, referrals.as_bytes());
        crypto::same(&proof, &due).then_some(referrals)
    }
}

/// Answers a client's Hello with the server's proof; returns the Challenge frame to send.
pub(super) fn challenge(
    context: &RoundContext<'_>,
    hello: &Hello,
    entropy: &mut Entropy,
) -> Result<(AwaitAnswer, Vec<u8>), Reason> {
    let nonce = crypto::random(entropy);
    let (core, tags) = Core::of_hello(&hello.core)?;
    let (client, server) = (
        context.remote.to_bytes(),
        context.local.peer_id().to_bytes(),
    );
    let between = Between {
        client: &client,
        server: &server,
        nonce: &core.nonce,
    };
    let (key, theirs) = context.local.networks.common(&tags, between)?;
    let peer = context.check(core, &nonce)?;

    let ours = context.introduction(&nonce).encode_challenge(theirs);
    let t1 = context.transcript(&client, &server).hello(&hello.core);
    let t2 = t1.challenge(&ours);

    let secret = crypto::random(entropy);
    let (enc, ciphertext) = crypto::seal(
        &peer.core.enc_key,
        SEAL_TO_CLIENT,
        t2,
        &peer.core.nonce,
        &secret,
        entropy,
    )?;
    let t3 = t2.challenge_sealed(&enc, &ciphertext);
    let signature = context.local.identity.sign(&t3.for_server());
    let t4 = t3.challenge_signed(&signature);
    let frame = encode::challenge(
        ours,
        &Proof {
            enc,
            ciphertext,
            signature,
        },
    );
    Ok((
        AwaitAnswer {
            t4,
            nonce,
            secret,
            peer,
            key,
        },
        frame,
    ))
}

impl AwaitAnswer {
    /// Checks the client's proof.
    pub(super) fn answer(
        self,
        context: &RoundContext<'_>,
        answer: &Answer,
    ) -> Result<Accepted, Reason> {
        let (proof, confirm) = answer.parse()?;
        let t5 = self.t4.answer_sealed(&proof.enc, &proof.ciphertext);
        if !self
            .peer
            .public_key
            .verify(&t5.for_client(), &proof.signature)
        {
            return Err(Reason::Signature);
        }
        let k_client = context.open(SEAL_TO_SERVER, self.t4, &proof, &self.nonce)?;

        let network = context.network_key(self.key)?;
        let keys = Keys::derive(t5, &self.secret, &k_client, network);
        if !crypto::same(&confirm, &keys.confirm(&t5.to_confirm(&proof.signature))) {
            return Err(Reason::Confirm);
        }
        let end = t5.end(&proof.signature, &confirm);
        Ok(Accepted {
            peer: self.peer,
            end,
            keys,
        })
    }
}

impl Accepted {
    /// Returns T_end.
    pub(super) fn end(&self) -> [u8; 32] {
        *self.end.as_bytes()
    }

    /// Returns the Pass frame.
    pub(super) fn pass(&self) -> Vec<u8> {
        encode::pass(&self.keys.pass(self.end))
    }

    /// Returns the proof of referrals for this client.
    pub(super) fn prove(&self, referrals: &Referrals) -> [u8; 32] {
        self.keys.referral_proof(self.end, referrals.as_bytes())
    }
}

impl RoundContext<'_> {
    /// Returns this node's network key in a slot.
    fn network_key(&self, slot: KeySlot) -> Result<&[u8; 32], Reason> {
        let key = self.local.networks.get(slot);
        key.ok_or(Reason::NetworkKeyChoice(slot.number()))
    }

    /// Checks a peer's introduction, in the protocol's order.
    fn check(&self, core: Core, own_nonce: &Secret) -> Result<Peer, Reason> {
        if core.round != u32::from(self.round.number()) {
            return Err(Reason::Round);
        }
        if core.prev != self.round1_transcript {
            return Err(Reason::Prev);
        }
        let public_key =
            PublicKey::from_protobuf(&core.public_key).map_err(|error| match error {
                PublicKeyError::Weak => Reason::WeakKey,
                _ => Reason::PublicKey,
            })?;
        let peer_id = public_key.peer_id();
        if peer_id.to_bytes() != core.peer_id {
            return Err(Reason::ClaimedId);
        }
        if peer_id != self.remote {
            return Err(Reason::ConnectionId);
        }
        if peer_id == self.local.peer_id() {
            return Err(Reason::OwnId);
        }
        if core.nonce == **own_nonce {
            return Err(Reason::OwnNonce);
        }
        if core.instance_id == self.local.instance_id {
            return Err(Reason::OwnInstance);
        }
        // The public key is that of round 1, because its id is the connection's in both rounds.
        if let Some(round1_peer) = self.round1_peer {
            if core.instance_id != round1_peer.core.instance_id {
                return Err(Reason::InstanceChanged);
            }
            if core.enc_key != round1_peer.core.enc_key {
                return Err(Reason::SealingKeyChanged);
            }
        }
        let clock_offset_ms = clock_offset_ms(core.clock_ms, self.unix_ms);
        Ok(Peer {
            public_key,
            core,
            clock_offset_ms,
        })
    }

    /// Returns this node's introduction.
    fn introduction(&self, nonce: &Secret) -> Core {
        let identity = &self.local.identity;
        // The PeerId of an Ed25519 key is 00 24 and the key's 36 bytes.
        let public_key = identity.public_key().to_protobuf();
        let mut peer_id = [0; 38];
        peer_id[1] = 0x24;
        peer_id[2..].copy_from_slice(&public_key);
        Core {
            round: self.round.number().into(),
            public_key,
            peer_id,
            enc_key: identity.sealing_public(),
            nonce: **nonce,
            instance_id: self.local.instance_id,
            features: self.local.features,
            prev: self.round1_transcript,
            clock_ms: self.unix_ms,
        }
    }

    fn transcript(&self, client: &[u8], server: &[u8]) -> Transcript {
        Transcript::start(self.round, client, server, &self.round1_transcript)
    }

    fn open(
        &self,
        info: &[u8],
        bound_to: Transcript,
        proof: &Proof,
        nonce: &Secret,
    ) -> Result<Secret, Reason> {
        type PrivateKey = <X25519HkdfSha256 as hpke::Kem>::PrivateKey;
        let key = PrivateKey::from_bytes(self.local.identity.sealing_secret())
            .map_err(|_| Reason::Sealed)?;
        crypto::open(&key, info, bound_to, &proof.enc, &proof.ciphertext, nonce)
    }
}

/// Returns how far `theirs_ms` is ahead of `own_ms`, limited to the range of the type.
fn clock_offset_ms(theirs_ms: u64, own_ms: u64) -> i64 {
    let difference = i128::from(theirs_ms) - i128::from(own_ms);
    i64::try_from(difference).unwrap_or(match difference < 0 {
        true => i64::MIN,
        false => i64::MAX,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_clock_value_gives_an_offset() {
        assert_eq!(clock_offset_ms(1_500, 1_000), 500);
        assert_eq!(clock_offset_ms(1_000, 1_500), -500);
        assert_eq!(clock_offset_ms(u64::MAX, 0), i64::MAX);
        assert_eq!(clock_offset_ms(0, u64::MAX), i64::MIN);
    }
}
