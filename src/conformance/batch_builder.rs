//! Builds batches by hand: honest ones, and ones whose body, signature or envelope breaks a rule.
//!
//! Entry: [`Link::honest`], [`batch`], [`seal`]. The rule they keep: only the part that a case changes is wrong; the
//! rest is signed as an honest author signs it.

use prost::Message;
use sha2::{Digest, Sha256};

use super::envelope::{envelope, now_ms};
use super::link::Link;
use crate::gossip::{self, Author};
use crate::model::BatchId;
use crate::wire::proto::gossip as proto;

impl Link {
    /// Returns an envelope of one event, dated `ahead_ms` after now.
    pub(crate) fn dated(&mut self, ahead_ms: i64, name: &str, data: Vec<u8>) -> Vec<u8> {
        let mut batch = batch(self, ahead_ms, vec![(name, data)]);
        batch.prev = self.prev.iter().map(|id| id.0.to_vec().into()).collect();
        let data = seal(self, &batch.encode_to_vec());
        self.next_seq += 1;
        self.prev = vec![BatchId(self.id_of(&data))];
        data
    }

    /// Returns an honest envelope of one event.
    pub(crate) fn honest(&mut self, name: &str, data: Vec<u8>) -> Result<Vec<u8>, String> {
        let events = vec![gossip::Event::new(name, data)];
        let network = self.link_config.network_id();
        let author = Author::new(self.raw.identity.clone(), network, self.raw.instance_id);
        let room = &self.link_config.room;
        let sealed = author.seal(room, self.next_seq, now_ms(), &self.prev, events);
        let sealed = sealed.map_err(|e| e.to_string())?;
        self.next_seq += 1;
        self.prev = vec![sealed.id()];
        Ok(sealed.bytes().to_vec())
    }
}

/// Builds the batch that an honest author would send, not yet signed, dated `ahead_ms` after now.
pub(crate) fn batch(link: &Link, ahead_ms: i64, events: Vec<(&str, Vec<u8>)>) -> proto::Batch {
    proto::Batch {
        author: link.raw.identity.public_key_protobuf().into(),
        instance_id: link.raw.instance_id.to_vec().into(),
        first_seq: link.next_seq,
        sent_at_ms: now_ms().saturating_add_signed(ahead_ms),
        room: link.link_config.room.as_str().to_owned(),
        prev: Vec::new(),
        events: events
            .into_iter()
            .map(|(name, data)| proto::Event {
                name: name.to_owned(),
                data: data.into(),
            })
            .collect(),
    }
}

/// Returns the text that a batch's signature covers, in the kit's network.
pub(crate) fn signed_text(link: &Link, body: &[u8]) -> Vec<u8> {
    let hash = Sha256::digest(body);
    let network = link.network_id();
    [&b"diatribe-batch-v2"[..], network.as_bytes(), &hash].concat()
}

/// Signs a body and puts it into an envelope.
pub(crate) fn seal(link: &Link, body: &[u8]) -> Vec<u8> {
    envelope(body, &link.raw.identity.sign(&signed_text(link, body)))
}

/// Puts a body into an envelope, with the signature of a changed text.
pub(crate) fn sign_as(link: &Link, body: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut text = signed_text(link, body);
    change(&mut text);
    envelope(body, &link.raw.identity.sign(&text))
}
