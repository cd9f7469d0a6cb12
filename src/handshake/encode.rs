//! Encodes outbound frames.

use bytes::Bytes;
use prost::Message;

use super::message::Proof;
use super::protocol::RejectCode;
use super::referrals::Referrals;
use crate::wire::proto::handshake as proto;

pub(super) fn hello(core: Bytes) -> Vec<u8> {
    frame(proto::frame::Kind::Hello(proto::Hello { core }))
}

pub(super) fn challenge(core: Bytes, proof: &Proof) -> Vec<u8> {
    frame(proto::frame::Kind::Challenge(proto::Challenge {
        core,
        enc: Bytes::copy_from_slice(&proof.enc),
        ciphertext: Bytes::copy_from_slice(&proof.ciphertext),
        signature: Bytes::copy_from_slice(&proof.signature),
    }))
}

pub(super) fn answer(proof: &Proof, confirm: &[u8; 32]) -> Vec<u8> {
    frame(proto::frame::Kind::Answer(proto::Answer {
        enc: Bytes::copy_from_slice(&proof.enc),
        ciphertext: Bytes::copy_from_slice(&proof.ciphertext),
        signature: Bytes::copy_from_slice(&proof.signature),
        confirm: Bytes::copy_from_slice(confirm),
    }))
}

pub(super) fn pass(confirm: &[u8; 32]) -> Vec<u8> {
    frame(proto::frame::Kind::Pass(proto::Pass {
        confirm: Bytes::copy_from_slice(confirm),
    }))
}

/// Encodes a refusal, with referrals and their proof if there are any.
pub(super) fn reject(code: RejectCode, referrals: Option<(&Referrals, [u8; 32])>) -> Vec<u8> {
    let (referrals, proof) = referrals.map_or_else(Default::default, |(referrals, proof)| {
        let bytes = Bytes::copy_from_slice;
        (bytes(referrals.as_bytes()), bytes(&proof))
    });
    frame(proto::frame::Kind::Reject(proto::Reject {
        code: code.number(),
        referrals,
        proof,
    }))
}

fn frame(kind: proto::frame::Kind) -> Vec<u8> {
    proto::Frame { kind: Some(kind) }.encode_to_vec()
}
