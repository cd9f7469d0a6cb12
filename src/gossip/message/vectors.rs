//! Generator of `proto/vectors/batch.json`: batches from their inputs to their bytes, unusual batches that are accepted,
//! batches that are refused with the reason, and message ids. `DIATRIBE_REGENERATE=1 cargo test published_batches` writes
//! the file.

use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use prost::encoding;

use super::*;
use crate::identity::{Identity, NetworkKey};
use crate::model::RoomName;
use crate::wire::envelope::{BODY_TAG, SIGNATURE_HEADER, bad_id};

mod accepted;
mod batches;
mod refused;
mod signatures;

const ABOUT: &str = "Gossip: batches from their inputs to the bytes; what is accepted beyond that; what is refused and \
    why (error names the kind); the ids of data in a topic. Byte strings are hex. room is the topic's room, network_id \
    the receiver's network, now_ms its clock. In batches, network_key is absent for the open network.";

const NOW: u64 = 1_767_225_600_000;
const INSTANCE: [u8; 16] = *b"\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\xac\xad\xae\xaf";

/// Key of the private network of some vectors.
const NETWORK_KEY: [u8; 32] = [0x42; 32];

fn seed() -> [u8; 32] {
    std::array::from_fn(|n| n as u8 + 1)
}

fn identity() -> Identity {
    Identity::from_seed(&seed())
}

/// Encodes a length-delimited field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(bytes.len() as u64), bytes].concat()
}

fn varint(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encoding::encode_varint(value, &mut bytes);
    bytes
}

/// The encoded fields of a batch; a case may change any of them.
struct Fields {
    author: Vec<u8>,
    instance: Vec<u8>,
    first_seq: Vec<u8>,
    sent_at: Vec<u8>,
    room: Vec<u8>,
    events: Vec<u8>,
    prev: Vec<u8>,
}

fn event(bytes: &[u8]) -> Vec<u8> {
    field(6, bytes)
}

fn chat() -> Vec<u8> {
    [field(1, b"chat"), field(2, b"hello")].concat()
}

impl Fields {
    fn new() -> Fields {
        Fields {
            author: field(1, &identity().public_key_protobuf()),
            instance: field(2, &INSTANCE),
            first_seq: vec![0x18, 1],
            sent_at: [vec![0x20], varint(NOW)].concat(),
            room: field(5, b"lobby"),
            events: event(&chat()),
            prev: Vec::new(),
        }
    }

    fn with(change: impl FnOnce(&mut Fields)) -> Vec<u8> {
        let mut fields = Fields::new();
        change(&mut fields);
        fields.body()
    }

    fn body(&self) -> Vec<u8> {
        let Fields {
            author,
            instance,
            first_seq,
            sent_at,
            room,
            events,
            prev,
        } = self;
        [author, instance, first_seq, sent_at, room, events, prev]
            .map(|field| &field[..])
            .concat()
    }
}

fn text_of(network: NetworkId, body: &[u8]) -> Vec<u8> {
    [
        &b"diatribe-batch-v2"[..],
        network.as_bytes(),
        &Sha256::digest(body),
    ]
    .concat()
}

fn envelope_of(body: &[u8], signature: &[u8]) -> Vec<u8> {
    let length = varint(body.len() as u64);
    [&[BODY_TAG], &length[..], body, &SIGNATURE_HEADER, signature].concat()
}

fn sign_in(network: NetworkId, body: &[u8]) -> Vec<u8> {
    envelope_of(body, &identity().sign(&text_of(network, body)))
}

fn sign(body: &[u8]) -> Vec<u8> {
    sign_in(NetworkId::OPEN, body)
}

fn network() -> NetworkId {
    NetworkId::of(Some(&NetworkKey::from_bytes(&NETWORK_KEY)))
}

fn ids() -> Vec<Value> {
    let whole = sign(&Fields::new().body());
    let room = |room: &str| RoomName::new(room).unwrap().topic();
    let long = "x".repeat(64);
    let other_signature = [&whole[..whole.len() - 1], &[whole[whole.len() - 1] ^ 1]].concat();
    let respelt = [&[BODY_TAG, whole[1] | 0x80, 0x00], &whole[2..]].concat();
    let filled = |len: usize| {
        let body = vec![0x78; len - 1 - 3 - 2 - 64];
        envelope_of(&body, &[0; 64])
    };
    let case = |comment: &str, topic: &str, data: &[u8]| {
        let room = RoomName::from_topic(topic);
        let good = room.and_then(|room| MessageId::of(room.as_str(), data));
        let id = good.map_or_else(|| bad_id(topic, data), |id| *id.as_bytes());
        json!({
            "comment": comment,
            "topic": topic,
            "data": hex::encode(data),
            "is_envelope": good.is_some(),
            "id": hex::encode(id),
        })
    };
    let large = |comment: &str, len: usize| {
        let mut case = case(comment, &room("lobby"), &filled(len));
        let fields = case.as_object_mut().unwrap();
        fields.remove("data");
        let what = "0a, the length of the body, the body: bytes 78, 12 40, 64 bytes 00";
        fields.insert("data_is".to_owned(), what.into());
        fields.insert("data_bytes".to_owned(), len.into());
        case
    };
    vec![
        case("an envelope in its room", &room("lobby"), &whole),
        case(
            "the same in another room, for which it was not signed",
            &room("other"),
            &whole,
        ),
        case("the same in a room of 64 bytes", &room(&long), &whole),
        case("the same in a room outside ASCII", &room("合言葉"), &whole),
        case(
            "another signature: another id, whether it is valid or not",
            &room("lobby"),
            &other_signature,
        ),
        case("a topic that is no room", "/diatribe/1/a/b", &whole),
        case("a topic without a room", "/diatribe/1/", &whole),
        case("a topic of another program", "lobby", &whole),
        case("a topic of another version", "/diatribe/2/lobby", &whole),
        case(
            "a room that is not in NFC",
            "/diatribe/1/cafe\u{301}",
            &whole,
        ),
        case("no topic", "", &whole),
        case("another spelling of the envelope", &room("lobby"), &respelt),
        case(
            "an envelope with a byte after it",
            &room("lobby"),
            &[&whole[..], &[0]].concat(),
        ),
        case(
            "an envelope without a body",
            &room("lobby"),
            &envelope_of(&[], &[0; 64]),
        ),
        case(
            "a body of one byte, that is no batch",
            &room("lobby"),
            &envelope_of(&[0x78], &[0; 64]),
        ),
        case("no data", &room("lobby"), &[]),
        large("the largest envelope", MAX_MESSAGE),
        large("one byte more than the largest envelope", MAX_MESSAGE + 1),
    ]
}

#[test]
fn the_published_batches_are_those_that_this_makes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/vectors/batch.json");
    let published: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let vectors = json!({
        "description": ABOUT,
        "batches": batches::batches(),
        "accepted": accepted::accepted(),
        "refused": refused::refused(),
        "ids": ids(),
        "rooms": published["rooms"],
        "refused_topics": published["refused_topics"],
    });
    if std::env::var_os("DIATRIBE_REGENERATE").is_some() {
        let text = serde_json::to_string_pretty(&vectors).unwrap() + "\n";
        std::fs::write(&path, text).unwrap();
        return;
    }
    for part in ["batches", "accepted", "refused", "ids"] {
        let cases = vectors[part].as_array().unwrap();
        for (case, published) in cases.iter().zip(published[part].as_array().unwrap()) {
            assert_eq!(case, published, "{}", case["comment"]);
        }
    }
    assert_eq!(vectors, published);
}
