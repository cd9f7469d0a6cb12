//! gossipsub's frames by hand, so that a test can send those that no honest node would.
//!
//! Entry: [`subscribe`], [`publish`]: one RPC each, as it travels on a gossip stream.

use prost::encoding::{self, WireType};

/// An RPC that says that its sender is in `topic`.
pub(crate) fn subscribe(topic: &str) -> Vec<u8> {
    let mut options = Vec::new();
    encoding::bool::encode(1, &true, &mut options);
    encoding::string::encode(2, &topic.to_owned(), &mut options);
    rpc(1, &options)
}

/// An RPC that carries `data` in `topic`.
pub(crate) fn publish(topic: &str, data: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    encoding::bytes::encode(2, &data.to_vec(), &mut message);
    encoding::string::encode(4, &topic.to_owned(), &mut message);
    rpc(2, &message)
}

/// The same, in the name of an author, as gossipsub would sign it: our mesh has no such field.
pub(crate) fn publish_from(from: &[u8], topic: &str, data: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    encoding::bytes::encode(1, &from.to_vec(), &mut message);
    encoding::bytes::encode(2, &data.to_vec(), &mut message);
    encoding::bytes::encode(3, &vec![0; 8], &mut message);
    encoding::string::encode(4, &topic.to_owned(), &mut message);
    rpc(2, &message)
}

fn rpc(field: u32, body: &[u8]) -> Vec<u8> {
    let mut rpc = Vec::new();
    encoding::encode_key(field, WireType::LengthDelimited, &mut rpc);
    encoding::encode_varint(body.len() as u64, &mut rpc);
    rpc.extend_from_slice(body);
    crate::raw_peer::framed(&rpc)
}
