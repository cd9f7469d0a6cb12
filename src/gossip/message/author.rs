//! The signer of batches.
//!
//! Entry type: [`Author`]. The rule it keeps: every sealed batch passes verification.

use bytes::{BufMut, Bytes, BytesMut};
use prost::{Message, encoding};

use super::{
    BatchError, BatchId, Contents, Event, MAX_MESSAGE, MAX_PREV, Sealed, VerifiedBatch,
    check_numbering, proto, signed_text,
};
use crate::identity::{Identity, NetworkId};
use crate::model::RoomName;
use crate::wire::envelope::{BODY_TAG, BodyHash, MessageId, SIGNATURE_BYTES, SIGNATURE_HEADER};

/// The author of batches: a key, a network, and one run of the program.
///
/// # Examples
///
/// ```
/// use diatribe::Identity;
/// use diatribe::gossip::{Author, Event, open};
/// use diatribe::identity::NetworkId;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let author = Author::new(Identity::generate(), NetworkId::OPEN, [7; 16]);
/// let room = "lobby".parse()?;
/// let sealed = author.seal(&room, 1, 0, &[], vec![Event::new("chat", "hello")])?;
///
/// let batch = open(sealed.bytes().clone(), NetworkId::OPEN, &room, 0)?;
/// assert_eq!(batch.author(), author.identity().peer_id());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Author {
    identity: Identity,
    network: NetworkId,
    instance_id: [u8; 16],
}

impl Author {
    /// Returns the author with this key in this network. `instance_id` is random for each run of the program.
    pub fn new(identity: Identity, network: NetworkId, instance_id: [u8; 16]) -> Author {
        Author {
            identity,
            network,
            instance_id,
        }
    }

    /// Returns the author's identity.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the random id of this run of the program.
    pub fn instance_id(&self) -> [u8; 16] {
        self.instance_id
    }

    /// Signs a batch of `events`, numbered from `first_seq`, that follows the batches `prev`.
    ///
    /// # Errors
    ///
    /// Returns the limit that the events, their numbers or the batch exceed.
    pub fn seal(
        &self,
        room: &RoomName,
        first_seq: u64,
        sent_at_ms: u64,
        prev: &[BatchId],
        events: Vec<Event>,
    ) -> Result<Sealed, BatchError> {
        check_numbering(first_seq, events.len())?;
        events.iter().try_for_each(Event::check)?;
        if prev.len() > MAX_PREV {
            return Err(BatchError::TooManyPrev);
        }
        let author = *self.identity.public_key();
        let batch = proto::Batch {
            author: Bytes::copy_from_slice(&author.to_protobuf()),
            instance_id: Bytes::copy_from_slice(&self.instance_id),
            first_seq,
            sent_at_ms,
            room: room.as_str().to_owned(),
            events: events.into_iter().map(proto::Event::from).collect(),
            prev: (prev.iter())
                .map(|id| Bytes::copy_from_slice(&id.0))
                .collect(),
        };
        let (bytes, id) = self.sign(room, &batch)?;
        Ok(Sealed::new(VerifiedBatch::new(Contents {
            bytes,
            id: id.into(),
            author,
            instance_id: self.instance_id,
            first_seq,
            sent_at_ms,
            room: room.clone(),
            prev: prev.to_vec(),
            events: batch.events.into_iter().map(Event::from).collect(),
        })))
    }

    /// Returns the signed envelope of `batch`, and its id.
    fn sign(
        &self,
        room: &RoomName,
        batch: &proto::Batch,
    ) -> Result<(Bytes, MessageId), BatchError> {
        let body_len = batch.encoded_len();
        let header_len = 1 + encoding::encoded_len_varint(body_len as u64);
        let len = header_len + body_len + SIGNATURE_HEADER.len() + SIGNATURE_BYTES;
        if len > MAX_MESSAGE {
            return Err(BatchError::TooLarge(len));
        }
        let mut envelope = BytesMut::with_capacity(len);
        envelope.put_u8(BODY_TAG);
        encoding::encode_varint(body_len as u64, &mut envelope);
        batch
            .encode(&mut envelope)
            .expect("the only error is a buffer that does not grow");
        let body = BodyHash::of(&envelope[header_len..]);
        let signature = self.identity.sign(&signed_text(self.network, body));
        envelope.put_slice(&SIGNATURE_HEADER);
        envelope.put_slice(&signature);
        let id = MessageId::with(room.as_str(), body, &signature);
        Ok((envelope.freeze(), id))
    }
}
