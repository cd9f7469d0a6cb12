//! gossipsub's frames by hand, so that a case can send those that no honest node would.
//!
//! Entry: [`subscribe`], [`publish`] and the others: one RPC each, as it travels on a gossip stream; [`Rpc`] is one
//! that came.

use prost::Message as _;
use prost::encoding::{self, WireType};

use super::frame::framed;
use super::rpc_message::{Control, Have, Ids, Topic};

/// An RPC that says that its sender is in `topic`.
pub fn subscribe(topic: &str) -> Vec<u8> {
    let mut options = Vec::new();
    encoding::bool::encode(1, &true, &mut options);
    encoding::string::encode(2, &topic.to_owned(), &mut options);
    framed(&field(1, &options))
}

/// An RPC that carries `data` in `topic`.
pub fn publish(topic: &str, data: &[u8]) -> Vec<u8> {
    framed(&field(2, &message(topic, data)))
}

/// An RPC with several messages.
pub fn publish_all(topic: &str, all: &[Vec<u8>]) -> Vec<u8> {
    let fields: Vec<Vec<u8>> = all
        .iter()
        .map(|data| field(2, &message(topic, data)))
        .collect();
    framed(&fields.concat())
}

/// The same as [`publish`], in the name of an author, as gossipsub would sign it: our mesh has no
/// such field.
pub fn publish_from(from: &[u8], topic: &str, data: &[u8]) -> Vec<u8> {
    publish_with(&[(1, from), (3, &[0; 8])], topic, data)
}

/// The same as [`publish`], with these fields of gossipsub's own: 1 from, 3 seqno, 5 signature, 6 key.
pub fn publish_with(own: &[(u32, &[u8])], topic: &str, data: &[u8]) -> Vec<u8> {
    let own: Vec<u8> = own
        .iter()
        .flat_map(|(number, bytes)| field(*number, bytes))
        .collect();
    framed(&field(2, &[own, message(topic, data)].concat()))
}

/// An RPC that asks to be in the mesh of `topic`.
pub fn graft(topic: &str) -> Vec<u8> {
    let control = Control {
        graft: vec![Topic {
            topic: topic.to_owned(),
        }],
        ..Control::default()
    };
    framed(&field(3, &control.encode_to_vec()))
}

/// An RPC that announces messages of `topic` by their ids.
pub fn ihave(topic: &str, ids: Vec<Vec<u8>>) -> Vec<u8> {
    let topic = topic.to_owned();
    let control = Control {
        ihave: vec![Have { topic, ids }],
        ..Control::default()
    };
    framed(&field(3, &control.encode_to_vec()))
}

/// An RPC that asks for messages by their ids.
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
