//! gossipsub's RPCs, encoded by hand, so that a case can send RPCs that no honest node would.
//!
//! Entry: [`subscribe`], [`publish`] and others: each returns one RPC as it is sent on a gossip stream.

use prost::Message as _;
use prost::encoding::{self, WireType};

use super::frame::framed;
use super::rpc_message::{Control, Have, Ids, Topic};

/// Returns an RPC that subscribes to `topic`.
pub fn subscribe(topic: &str) -> Vec<u8> {
    let mut options = Vec::new();
    encoding::bool::encode(1, &true, &mut options);
    encoding::string::encode(2, &topic.to_owned(), &mut options);
    framed(&field(1, &options))
}

/// Returns an RPC that publishes `data` in `topic`.
pub fn publish(topic: &str, data: &[u8]) -> Vec<u8> {
    framed(&field(2, &message(topic, data)))
}

/// Returns an RPC that publishes several messages.
pub fn publish_all(topic: &str, all: &[Vec<u8>]) -> Vec<u8> {
    let fields: Vec<Vec<u8>> = all
        .iter()
        .map(|data| field(2, &message(topic, data)))
        .collect();
    framed(&fields.concat())
}

/// Returns an RPC that publishes `data` with an author, as gossipsub would sign it. Messages of this network have no
/// such field.
pub fn publish_from(from: &[u8], topic: &str, data: &[u8]) -> Vec<u8> {
    publish_with(&[(1, from), (3, &[0; 8])], topic, data)
}

/// Returns an RPC that publishes `data` with these fields of gossipsub's own: 1 from, 3 seqno, 5 signature, 6 key.
pub fn publish_with(own: &[(u32, &[u8])], topic: &str, data: &[u8]) -> Vec<u8> {
    let own: Vec<u8> = own
        .iter()
        .flat_map(|(number, bytes)| field(*number, bytes))
        .collect();
    framed(&field(2, &[own, message(topic, data)].concat()))
}

/// Returns an RPC that asks to join the mesh of `topic`.
pub fn graft(topic: &str) -> Vec<u8> {
    let control = Control {
        graft: vec![Topic {
            topic: topic.to_owned(),
        }],
        ..Control::default()
    };
    framed(&field(3, &control.encode_to_vec()))
}

/// Returns an RPC that announces messages of `topic` by their ids.
pub fn ihave(topic: &str, ids: Vec<Vec<u8>>) -> Vec<u8> {
    let topic = topic.to_owned();
    let control = Control {
        ihave: vec![Have { topic, ids }],
        ..Control::default()
    };
    framed(&field(3, &control.encode_to_vec()))
}

/// Returns an RPC that requests messages by their ids.
pub fn iwant(ids: Vec<Vec<u8>>) -> Vec<u8> {
    let control = Control {
        iwant: vec![Ids { ids }],
        ..Control::default()
    };
    framed(&field(3, &control.encode_to_vec()))
}

fn message(topic: &str, data: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    encoding::bytes::encode(2, &data.to_vec(), &mut message);
    encoding::string::encode(4, &topic.to_owned(), &mut message);
    message
}

fn field(number: u32, body: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    encoding::encode_key(number, WireType::LengthDelimited, &mut field);
    encoding::encode_varint(body.len() as u64, &mut field);
    field.extend_from_slice(body);
    field
}
