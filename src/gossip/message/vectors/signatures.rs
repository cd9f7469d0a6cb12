//! The vectors of signatures and keys that are refused, among them those that laxer libraries accept.

use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use sha2::Sha512;

use super::refused::refused_case;
use super::*;

/// Returns the signature with S = r + k·a for any R and key.
fn finish(big_r: [u8; 32], key: &[u8; 32], r: Scalar, text: &[u8]) -> [u8; 64] {
    let seed = Sha512::digest(seed());
    let a = Scalar::from_bytes_mod_order(clamp_integer(seed[..32].try_into().unwrap()));
    let hash = Sha512::new()
        .chain_update(big_r)
        .chain_update(key)
        .chain_update(text);
    let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
    let s = r + k * a;
    [big_r, s.to_bytes()].concat().try_into().unwrap()
}

/// Returns valid bodies with invalid signatures.
pub(super) fn signatures() -> Vec<Value> {
    let body = Fields::new().body();
    let text = text_of(NetworkId::OPEN, &body);
    let (right, me) = (identity().sign(&text), identity());
    let key = me.public_key().as_bytes();
    let r = Scalar::from(0x5eed_u64);
    let [neutral, torsion, ..] = EIGHT_TORSION;
    let mut cases = Vec::new();
    let mut add = |comment: &str, signature: [u8; 64]| {
        cases.push(refused_case(
            comment,
            "Signature",
            &envelope_of(&body, &signature),
        ));
    };
    add(
        "signed by another key",
        Identity::from_seed(&[9; 32]).sign(&text),
    );
    add(
        "signed for a private network",
        me.sign(&text_of(network(), &body)),
    );
    add(
        "signed as the contract had it before: without a network",
        me.sign(&[b"diatribe-batch-v1", &text[49..]].concat()),
    );
    add(
        "signed without the network",
        me.sign(&[b"diatribe-batch-v2", &text[49..]].concat()),
    );
    add(
        "the body itself signed, without domain, network and hash",
        me.sign(&body),
    );
    add(
        "the hash signed without the domain and the network",
        me.sign(&text[49..]),
    );
    add(
        "the network and the hash signed without the domain",
        me.sign(&text[17..]),
    );
    add("the signature of another body", {
        let other = Fields::with(|f| f.events = event(&field(1, b"chat")));
        me.sign(&text_of(NetworkId::OPEN, &other))
    });
    add("S + L instead of S", malleable(right));
    add(
        "R of small order (the neutral point), the equation holds",
        finish(neutral.compress().to_bytes(), key, Scalar::ZERO, &text),
    );
    let mut y = [0xff; 32];
    (y[0], y[31]) = (0xee, 0x7f);
    add(
        "R not canonical (y = p + 1), the equation holds once it is decoded",
        finish(y, key, Scalar::ZERO, &text),
    );
    let mut sign_bit = [0; 32];
    (sign_bit[0], sign_bit[31]) = (1, 0x80);
    add(
        "R not canonical (x = 0 with its sign bit), the equation holds once it is decoded",
        finish(sign_bit, key, Scalar::ZERO, &text),
    );
    let mixed = (EdwardsPoint::mul_base(&r) + torsion).compress().to_bytes();
    add(
        "R with a torsion component: the equation holds with the cofactor only",
        finish(mixed, key, r, &text),
    );
    cases.extend(keys());
    cases
}

/// Returns bodies with keys that are invalid, or not of prime order.
fn keys() -> Vec<Value> {
    let [neutral, torsion, ..] = EIGHT_TORSION;
    let with_key = |key: [u8; 32]| {
        Fields::with(|f| {
            f.author = field(1, &[&[0x08, 0x01, 0x12, 0x20][..], &key].concat());
        })
    };
    let neutral = neutral.compress().to_bytes();
    let nothing: [u8; 64] = [neutral, [0; 32]].concat().try_into().unwrap();
    let mut y = [0xff; 32];
    (y[0], y[31]) = (0xee, 0x7f);
    let mut cases: Vec<Value> = [
        ("a key of small order (the neutral point): R neutral and S = 0 satisfy the equation for every body", neutral),
        ("a key of order 8", torsion.compress().to_bytes()),
        ("a key that is not canonical (y = p + 1)", y),
    ]
    .into_iter()
    .map(|(comment, key)| refused_case(comment, "Author", &envelope_of(&with_key(key), &nothing)))
    .collect();
    let seed = Sha512::digest(seed());
    let a = Scalar::from_bytes_mod_order(clamp_integer(seed[..32].try_into().unwrap()));
    let mixed = (EdwardsPoint::mul_base(&a) + torsion).compress().to_bytes();
    let body = with_key(mixed);
    let text = text_of(NetworkId::OPEN, &body);
    // A signature whose k is not a multiple of 8, so that the cofactor matters.
    let signature = (1_u64..)
        .map(Scalar::from)
        .map(|r| (EdwardsPoint::mul_base(&r).compress().to_bytes(), r))
        .find(|(big_r, _)| {
            let hash = Sha512::new()
                .chain_update(big_r)
                .chain_update(mixed)
                .chain_update(&text);
            !Scalar::from_bytes_mod_order_wide(&hash.finalize().into()).as_bytes()[0]
                .is_multiple_of(8)
        })
        .map(|(big_r, r)| finish(big_r, &mixed, r, &text))
        .unwrap();
    let comment = "a key with a torsion component: the equation holds with the cofactor only";
    cases.push(refused_case(
        comment,
        "Signature",
        &envelope_of(&body, &signature),
    ));
    cases
}

/// Returns the signature with S + L in place of S.
fn malleable(mut signature: [u8; 64]) -> [u8; 64] {
    let order = (-Scalar::ONE).to_bytes();
    // L = (L − 1) + 1.
    let mut carry = 1;
    for (byte, add) in signature[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
    signature
}
