//! Messages that no honest node forwards: the peer must close the link on which they arrive, and not forward them.
//!
//! Entry: [`CASES`]. The rule it keeps: each breaks one of the rules of chapter 8 and no other; everything after the
//! change is signed anew.

use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use prost::Message as _;
use prost::encoding;

use crate::conformance::batch_builder::{batch, seal, signed_text};
use crate::conformance::case::{Case, Kind, Procedure};
use crate::conformance::envelope::envelope;
use crate::conformance::frame::framed;
use crate::conformance::link::Link;
use crate::gossip::{MAX_EVENT_DATA, MAX_MESSAGE};
use crate::handshake::forge;
use crate::identity::Identity;
use crate::wire::proto::gossip as proto;

const REFUSED: &str = "not forwarded, and the link is closed";

const fn case(
    name: &'static str,
    spec: &'static str,
    make: fn(&mut Link) -> Result<Vec<u8>, String>,
) -> Case {
    Case::new(Kind::Hostile, name, spec, REFUSED, Procedure::Offence(make))
}

/// Returns a batch whose fields are changed before it is signed.
fn changed(link: &Link, change: impl FnOnce(&mut proto::Batch)) -> Result<Vec<u8>, String> {
    let mut batch = batch(link, 0, vec![("chat", b"no honest batch".to_vec())]);
    change(&mut batch);
    Ok(seal(link, &batch.encode_to_vec()))
}

/// Returns an honest batch with another signature.
fn signed(link: &Link, sign: impl FnOnce(&Identity, &[u8]) -> [u8; 64]) -> Result<Vec<u8>, String> {
    let body = honest_body(link);
    let signature = sign(&link.raw.identity, &signed_text(link, &body));
    Ok(envelope(&body, &signature))
}

fn honest_body(link: &Link) -> Vec<u8> {
    batch(link, 0, vec![("chat", b"no honest batch".to_vec())]).encode_to_vec()
}

/// Returns the body field and the signature field of an honest envelope.
fn parts(link: &Link) -> (Vec<u8>, Vec<u8>) {
    let body = honest_body(link);
    let signature = link.raw.identity.sign(&signed_text(link, &body));
    let mut first = vec![0x0a];
    first.extend(framed(&body));
    (first, [&[0x12, 0x40][..], &signature].concat())
}

fn event(name: &str, data: Vec<u8>) -> proto::Event {
    proto::Event {
        name: name.to_owned(),
        data: data.into(),
    }
}

pub(super) const CASES: &[Case] = &[
    case("no-envelope", "8 rule 2", |_| Ok(b"hello".to_vec())),
    case("unsigned", "8 rule 2", |link| Ok(parts(link).0)),
    case("empty-body", "8 rule 2", |link| {
        Ok(envelope(
            &[],
            &link.raw.identity.sign(&signed_text(link, &[])),
        ))
    }),
    case("envelope-with-longer-varint", "8 rule 2", |link| {
        // The length in one byte more than it needs: the same signed body under another id.
        let (first, second) = parts(link);
        let body = honest_body(link).len();
        let low = (body & 0x7f) as u8 | 0x80;
        let high = (body >> 7) as u8 | 0x80;
        let length = if body < 0x80 {
            vec![low, 0x00]
        } else {
            vec![low, high, 0x00]
        };
        let skipped = first.len() - body;
        Ok([&[0x0a][..], &length, &first[skipped..], &second].concat())
    }),
    case("envelope-in-another-order", "8 rule 2", |link| {
        let (first, second) = parts(link);
        Ok([second, first].concat())
    }),
    case("envelope-with-an-unknown-field", "8 rule 2", |link| {
        let (first, second) = parts(link);
        Ok([first, second, vec![0x18, 0x01]].concat())
    }),
    case("oversized-message", "8 rule 1", |link| {
        let mut batch = batch(link, 0, vec![("n", vec![1; MAX_EVENT_DATA])]);
        let over = seal(link, &batch.encode_to_vec()).len();
        batch
            .events
            .push(event("", vec![2; MAX_MESSAGE + 1 - over]));
        Ok(seal(link, &batch.encode_to_vec()))
    }),
    case("field-of-another-wire-type", "8 rule 3", |link| {
        let mut body = honest_body(link);
        // sent_at_ms, encoded as bytes.
        body.extend([0x22, 0x01, 0x00]);
        Ok(seal(link, &body))
    }),
    case("text-that-is-not-utf-8", "8 rule 3", |link| {
        let mut body = honest_body(link);
        let event = [0x0a, 0x02, 0xff, 0xfe];
        encoding::encode_key(6, encoding::WireType::LengthDelimited, &mut body);
        encoding::encode_varint(event.len() as u64, &mut body);
        body.extend(event);
        Ok(seal(link, &body))
    }),
    case("no-events", "8 rule 4", |link| {
        changed(link, |batch| batch.events.clear())
    }),
    case("too-many-events", "8 rule 4", |link| {
        changed(link, |batch| {
            batch.events = vec![event("n", b"x".to_vec()); 1025]
        })
    }),
    case("event-too-large", "8 rule 4", |link| {
        changed(link, |batch| {
            batch.events = vec![event("n", vec![1; MAX_EVENT_DATA + 1])]
        })
    }),
    case("name-too-long", "8 rule 4", |link| {
        changed(link, |batch| {
            batch.events = vec![event(&"n".repeat(257), b"x".to_vec())]
        })
    }),
    case("small-order-author", "8 rule 5", |link| {
        // With the neutral point as the key, S = r is a valid signature of any text.
        let mut batch = batch(link, 0, vec![("chat", b"by nobody".to_vec())]);
        let neutral = EdwardsPoint::default().compress().to_bytes();
        batch.author = [&[0x08, 0x01, 0x12, 0x20][..], &neutral].concat().into();
        let r = Scalar::from_bytes_mod_order(rand::random());
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&EdwardsPoint::mul_base(&r).compress().to_bytes());
        signature[32..].copy_from_slice(&r.to_bytes());
        Ok(envelope(&batch.encode_to_vec(), &signature))
    }),
    case("instance-id-of-15-bytes", "8 rule 5", |link| {
        changed(link, |batch| batch.instance_id.truncate(15))
    }),
    case("wrong-room", "8 rule 6", |link| {
        changed(link, |batch| batch.room.push('2'))
    }),
    case("numbers-from-zero", "8 rule 7", |link| {
        changed(link, |batch| batch.first_seq = 0)
    }),
    case("numbers-beyond-2-to-the-53", "8 rule 7", |link| {
        changed(link, |batch| batch.first_seq = 1 << 53)
    }),
    case("numbers-that-overflow", "8 rule 7", |link| {
        changed(link, |batch| {
            batch.first_seq = u64::MAX;
            batch.events.push(event("n", b"x".to_vec()));
        })
    }),
    case("wrong-signature", "8 rule 8", |link| {
        signed(link, |identity, text| {
            let mut signature = identity.sign(text);
            signature[63] ^= 1;
            signature
        })
    }),
    case("signature-of-another-key", "8 rule 8", |link| {
        signed(link, |_, text| Identity::generate().sign(text))
    }),
    case("altered-text", "8 rule 8", |link| {
        let body = honest_body(link);
        let signature = link.raw.identity.sign(&signed_text(link, &body));
        let mut altered = body;
        if let Some(last) = altered.last_mut() {
            *last ^= 1;
        }
        Ok(envelope(&altered, &signature))
    }),
    case("signature-without-the-domain", "8 rule 8", |link| {
        signed(link, |identity, text| identity.sign(&text[17..]))
    }),
    case("batch-with-cofactored-signature", "3 rule 4", |link| {
        signed(link, forge::cofactored)
    }),
    case("batch-with-s-not-reduced", "3 rule 1", |link| {
        signed(link, |identity, text| forge::malleable(identity.sign(text)))
    }),
    case("batch-with-r-of-small-order", "3 rule 3", |link| {
        signed(link, forge::small_order_r)
    }),
];
