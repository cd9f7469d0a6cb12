//! A forger: a side with keys of its own that signs forbidden content. Altered frames cannot test this, because their
//! signature fails first.

use prost::Message;

use super::pair::*;
use crate::handshake::crypto::{self, Keys};
use crate::handshake::encode;
use crate::handshake::forge::{Forgery, Sealing, seal, sign};
use crate::handshake::message::{Challenge, Core, Frame, Proof};
use crate::handshake::protocol::Stage;
use crate::handshake::transcript::{SEAL_TO_CLIENT, SEAL_TO_SERVER, Transcript};
use crate::identity::{Identity, NetworkKey};
use crate::wire::proto::handshake as proto;

/// A listener's Challenge of round 1, in answer to `hello`, with the Core of an honest one.
pub(super) fn challenge(hello: &[u8], honest: &[u8], forgery: Forgery) -> Vec<u8> {
    let (hello, core) = (core_of(hello), core_of(honest));
    let nonce = Core::of_hello(&hello).unwrap().0.nonce;
    let t2 = start().hello(&hello).challenge(&core);
    let labels = (SEAL_TO_CLIENT, SEAL_TO_SERVER);
    let sealing = sealing(&dialer(), nonce, labels, t2, [8; 32]);
    let (enc, ciphertext) = seal(forgery, sealing, &mut entropy(5)).unwrap();
    let t3 = t2.challenge_sealed(&enc, &ciphertext);
    let signature = sign(
        forgery,
        &listener(),
        t3.as_bytes(),
        (t3.for_server(), t3.for_client()),
    );
    encode::challenge(
        core,
        &Proof {
            enc,
            ciphertext,
            signature,
        },
    )
}

/// A dialer's Answer of round 1.
pub(super) fn answer(
    hello: &[u8],
    challenge: &[u8],
    network: Option<NetworkKey>,
    forgery: Forgery,
) -> Vec<u8> {
    let theirs = honest_challenge(challenge);
    let (core, _) = Core::of_challenge(&theirs.core).unwrap();
    let proof = theirs.proof().unwrap();
    let (t2, t4) = transcripts(hello, challenge);
    let nonce = Core::of_hello(&core_of(hello)).unwrap().0.nonce.into();
    let k_server = crypto::open(
        &secret(&dialer()),
        SEAL_TO_CLIENT,
        t2,
        &proof.enc,
        &proof.ciphertext,
        &nonce,
    )
    .unwrap();
    let k_client = [9; 32];
    let labels = (SEAL_TO_SERVER, SEAL_TO_CLIENT);
    let sealing = sealing(&listener(), core.nonce, labels, t4, k_client);
    let (enc, ciphertext) = seal(forgery, sealing, &mut entropy(5)).unwrap();
    let t5 = t4.answer_sealed(&enc, &ciphertext);
    let signature = sign(
        forgery,
        &dialer(),
        t5.as_bytes(),
        (t5.for_client(), t5.for_server()),
    );
    let network = network.filter(|_| forgery != Forgery::OtherNetworkKey);
    let network = network.map_or([0; 32], |key| *key.as_bytes());
    let keys = Keys::derive(t5, &k_server, &k_client.into(), &network);
    encode::answer(
        &Proof {
            enc,
            ciphertext,
            signature,
        },
        &keys.confirm(&t5.to_confirm(&signature)),
    )
}

/// T2 and T4 of round 1.
pub(super) fn transcripts(hello: &[u8], challenge: &[u8]) -> (Transcript, Transcript) {
    let theirs = honest_challenge(challenge);
    let proof = theirs.proof().unwrap();
    let t2 = start().hello(&core_of(hello)).challenge(&theirs.core);
    let t3 = t2.challenge_sealed(&proof.enc, &proof.ciphertext);
    (t2, t3.challenge_signed(&proof.signature))
}

/// Returns the text that the listener signed in its Challenge of round 1, and the signature.
pub(super) fn signed(hello: &[u8], challenge: &[u8]) -> (Vec<u8>, [u8; 64]) {
    let theirs = honest_challenge(challenge);
    let proof = theirs.proof().unwrap();
    let t2 = start().hello(&core_of(hello)).challenge(&theirs.core);
    (
        t2.challenge_sealed(&proof.enc, &proof.ciphertext)
            .for_server(),
        proof.signature,
    )
}

fn start() -> Transcript {
    let (client, server) = (
        dialer().peer_id().to_bytes(),
        listener().peer_id().to_bytes(),
    );
    Transcript::start(Stage::Round1, &client, &server, &[0; 32])
}

fn sealing<'a>(
    to: &Identity,
    nonce: [u8; 32],
    labels: (&'a [u8], &'a [u8]),
    bound_to: Transcript,
    secret: [u8; 32],
) -> Sealing<'a> {
    Sealing {
        stage: Stage::Round1,
        key: to.sealing_public(),
        nonce,
        labels,
        bound_to,
        secret: secret.into(),
    }
}

fn secret(of: &Identity) -> <hpke::kem::X25519HkdfSha256 as hpke::Kem>::PrivateKey {
    hpke::Deserializable::from_bytes(of.sealing_secret()).unwrap()
}

fn honest_challenge(body: &[u8]) -> Challenge {
    match Frame::decode(body.to_vec()).unwrap() {
        Frame::Challenge(challenge) => challenge,
        other => panic!("{other:?}"),
    }
}

fn core_of(body: &[u8]) -> bytes::Bytes {
    match proto::Frame::decode(body).unwrap().kind.unwrap() {
        proto::frame::Kind::Hello(hello) => hello.core,
        proto::frame::Kind::Challenge(challenge) => challenge.core,
        other => panic!("{other:?}"),
    }
}
