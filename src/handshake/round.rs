//! One round, as a chain of steps that consume each other: whoever holds a step's value has done
//! all the steps before it.
//!
//! Client: [`hello`] → [`AwaitChallenge`] → [`AwaitPass`] → T_end.
//! Server: [`challenge`] → [`AwaitAnswer`] → [`Accepted`].
//! The rule it keeps: the checks stand in the protocol's order, and each has its own [`Reason`].

use bytes::Bytes;
use hpke::Deserializable;
use hpke::kem::X25519HkdfSha256;
use libp2p::PeerId;
use zeroize::Zeroizing;

use super::crypto::{self, Entropy, Keys, Secret};
use super::message::{Answer, Challenge, Core, Hello, Pass, Proof, encode};
use super::reason::{Reason, Stage};
use super::transcript::{SEAL_TO_CLIENT, SEAL_TO_SERVER, Transcript};
use crate::identity::{Identity, NetworkKey, PublicKey, PublicKeyError, network_id};

/// What this node brings into every handshake; all connections share one.
#[derive(Debug)]
pub struct Local {
    identity: Identity,
    network: Option<NetworkKey>,
    network_id: [u8; 32],
    instance_id: [u8; 16],
    features: u64,
}

impl Local {
    /// `network` is none on the open network; `instance_id` is random for each start of the
    /// process, and tells apart two nodes that run with one key.
    pub fn new(identity: Identity, network: Option<NetworkKey>, instance_id: [u8; 16]) -> Local {
        let network_id = network_id(network.as_ref());
        Local {
            identity,
            network,
            network_id,
            instance_id,
            features: 0,
        }
    }

    /// The same, with these features, of which every peer is told.
    pub fn with_features(self, features: u64) -> Local {
        Local { features, ..self }
    }

    /// The public id of this node.
    pub fn peer_id(&self) -> PeerId {
        self.identity.peer_id()
    }

    /// The random id of this running process.
    pub fn instance_id(&self) -> [u8; 16] {
        self.instance_id
    }
}

/// What a round stands on: who speaks to whom, which round, after what.
pub(super) struct Ground<'a> {
    pub(super) local: &'a Local,
    /// The peer as noise authenticated it.
    pub(super) remote: PeerId,
    pub(super) round: Stage,
    /// Zeros, or T_end of round 1.
    pub(super) prev: [u8; 32],
    /// In round 2, whom round 1 has shown.
    pub(super) first: Option<&'a Peer>,
}

/// A peer whose introduction holds together. That it has the key, only a signature shows.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) public_key: PublicKey,
    pub(super) core: Core,
}

/// A client that has sent Hello.
pub(super) struct AwaitChallenge {
    t1: Transcript,
    nonce: Secret,
}

/// A client that has made its Answer.
pub(super) struct AwaitPass {
    end: Transcript,
    pass: Zeroizing<[u8; 32]>,
}

/// A server that has made its Challenge.
pub(super) struct AwaitAnswer {
    t4: Transcript,
    nonce: Secret,
    secret: Secret,
    peer: Peer,
}

/// A server whose client has proved its key. Nothing stands against it but the operator's rules.
pub(super) struct Accepted {
    pub(super) peer: Peer,
    /// T_end.
    pub(super) end: [u8; 32],
    /// The frame that says so.
    pub(super) pass: Vec<u8>,
}

/// Opens a round as its client.
pub(super) fn hello(ground: &Ground<'_>, entropy: &mut Entropy) -> (AwaitChallenge, Vec<u8>) {
    let nonce = crypto::random(entropy);
    let core = ground.introduction(&nonce);
    let local = ground.local.peer_id().to_bytes();
    let t1 = ground
        .transcript(&local, &ground.remote.to_bytes())
        .hello(&core);
    (AwaitChallenge { t1, nonce }, encode::hello(core))
}

impl AwaitChallenge {
    /// Checks the server's proof and makes the client's.
    pub(super) fn challenge(
        self,
        ground: &Ground<'_>,
        challenge: &Challenge,
        entropy: &mut Entropy,
    ) -> Result<(AwaitPass, Peer, Vec<u8>), Reason> {
        let core = Core::decode(&challenge.core)?;
        let theirs = challenge.proof()?;
        let peer = ground.check(core, &self.nonce)?;

        let t2 = self.t1.challenge(&challenge.core);
        let t3 = t2.challenge_sealed(&theirs.enc, &theirs.ciphertext);
        if !peer.public_key.verify(&t3.for_server(), &theirs.signature) {
            return Err(Reason::Signature);
        }
        let k_server = ground.open(SEAL_TO_CLIENT, t2, &theirs, &self.nonce)?;
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
        let signature = ground.local.identity.sign(&t5.for_client());
        let ours = Proof {
            enc,
            ciphertext,
            signature,
        };

        let keys = ground.keys(t5, &k_server, &k_client);
        let confirm = keys.confirm(&t5.to_confirm(&signature));
        let end = t5.end(&ours, &confirm);
        let pass = Zeroizing::new(keys.pass(end));
        Ok((
            AwaitPass { end, pass },
            peer,
            encode::answer(&ours, &confirm),
        ))
    }
}

impl AwaitPass {
    /// Checks the server's pass; yields T_end.
    pub(super) fn pass(self, pass: &Pass) -> Result<[u8; 32], Reason> {
        if !crypto::same(&pass.parse()?, &self.pass) {
            return Err(Reason::Pass);
        }
        Ok(*self.end.as_bytes())
    }
}

/// Takes a client's Hello and makes the server's proof.
pub(super) fn challenge(
    ground: &Ground<'_>,
    hello: &Hello,
    entropy: &mut Entropy,
) -> Result<(AwaitAnswer, Vec<u8>), Reason> {
    let nonce = crypto::random(entropy);
    let core = Core::decode(&hello.core)?;
    let peer = ground.check(core, &nonce)?;

    let ours = ground.introduction(&nonce);
    let local = ground.local.peer_id().to_bytes();
    let t1 = ground
        .transcript(&ground.remote.to_bytes(), &local)
        .hello(&hello.core);
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
    let signature = ground.local.identity.sign(&t3.for_server());
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
        },
        frame,
    ))
}

impl AwaitAnswer {
    /// Checks the client's proof.
    pub(super) fn answer(self, ground: &Ground<'_>, answer: &Answer) -> Result<Accepted, Reason> {
        let (proof, confirm) = answer.parse()?;
        let t5 = self.t4.answer_sealed(&proof.enc, &proof.ciphertext);
        if !self
            .peer
            .public_key
            .verify(&t5.for_client(), &proof.signature)
        {
            return Err(Reason::Signature);
        }
        let k_client = ground.open(SEAL_TO_SERVER, self.t4, &proof, &self.nonce)?;

        let keys = ground.keys(t5, &self.secret, &k_client);
        if !crypto::same(&confirm, &keys.confirm(&t5.to_confirm(&proof.signature))) {
            return Err(Reason::Confirm);
        }
        let end = t5.end(&proof, &confirm);
        let pass = encode::pass(&keys.pass(end));
        Ok(Accepted {
            peer: self.peer,
            end: *end.as_bytes(),
            pass,
        })
    }
}

impl Ground<'_> {
    /// Checks what a peer says about itself, in the protocol's order.
    fn check(&self, core: Core, own_nonce: &Secret) -> Result<Peer, Reason> {
        if core.network_id != self.local.network_id {
            return Err(Reason::Network);
        }
        if core.round != u32::from(self.round.number()) {
            return Err(Reason::Round);
        }
        if core.prev != self.prev {
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
        // The key is that of round 1 because its id is the connection's in both.
        if let Some(first) = self.first {
            if core.instance_id != first.core.instance_id {
                return Err(Reason::InstanceChanged);
            }
            if core.enc_key != first.core.enc_key {
                return Err(Reason::SealingKeyChanged);
            }
        }
        Ok(Peer { public_key, core })
    }

    /// What this node says about itself.
    fn introduction(&self, nonce: &Secret) -> Bytes {
        let identity = &self.local.identity;
        // The PeerId of an Ed25519 key is 00 24 and the key's 36 bytes.
        let public_key = identity.public_key().to_protobuf();
        let mut peer_id = [0; 38];
        peer_id[1] = 0x24;
        peer_id[2..].copy_from_slice(&public_key);
        let core = Core {
            round: self.round.number().into(),
            network_id: self.local.network_id,
            public_key,
            peer_id,
            enc_key: identity.sealing_public(),
            nonce: **nonce,
            instance_id: self.local.instance_id,
            features: self.local.features,
            prev: self.prev,
        };
        core.encode()
    }

    fn transcript(&self, client: &[u8], server: &[u8]) -> Transcript {
        Transcript::start(
            self.round,
            &self.local.network_id,
            client,
            server,
            &self.prev,
        )
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

    fn keys(&self, t5: Transcript, server: &Secret, client: &Secret) -> Keys {
        Keys::derive(t5, server, client, self.local.network.as_ref())
    }
}
