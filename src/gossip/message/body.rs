//! Strict decoding of the body of an envelope.
//!
//! Entry function: [`Body::read`]. The rule it keeps: a body that violates the encoding, or a limit of its fields, is
//! refused before more than that limit is allocated (`proto/README.md`, chapter 8, rules 3 and 4).

use bytes::Bytes;

use super::error::BatchError;
use super::event::{Event, check_event};
use super::limits::{MAX_EVENTS, MAX_PREV};
use crate::model::BatchId;
use crate::wire::strict::{Fields, Malformed};

/// The fields of a batch. Only the encoding, the events and the ids have been checked.
#[derive(Debug, Default)]
pub(super) struct Body<'a> {
    pub(super) author: Bytes,
    pub(super) instance_id: Bytes,
    pub(super) first_seq: u64,
    pub(super) sent_at_ms: u64,
    pub(super) room: &'a str,
    pub(super) events: Vec<Event>,
    pub(super) prev: Vec<BatchId>,
}

impl<'a> Body<'a> {
    /// Decodes `body`; the result shares its memory.
    pub(super) fn read(body: &'a Bytes) -> Result<Body<'a>, BatchError> {
        let mut read = Body::default();
        let mut prev_count = 0;
        for field in Fields::of(body) {
            let field = field?;
            match field.number {
                1 => read.author = body.slice_ref(field.bytes()?),
                2 => read.instance_id = body.slice_ref(field.bytes()?),
                3 => read.first_seq = field.varint()?,
                4 => read.sent_at_ms = field.varint()?,
                5 => read.room = field.text()?,
                6 if read.events.len() == MAX_EVENTS => return Err(BatchError::TooManyEvents),
                6 => read.events.push(event(body, field.bytes()?)?),
                7 if prev_count == MAX_PREV => return Err(BatchError::TooManyPrev),
                7 => {
                    prev_count += 1;
                    let id = field.bytes()?;
                    let id = id
                        .try_into()
                        .map_err(|_| BatchError::PrevLength(id.len()))?;
                    if !read.prev.contains(&BatchId(id)) {
                        read.prev.push(BatchId(id));
                    }
                }
                _ => {}
            }
        }
        check_count(read.events.len())?;
        Ok(read)
    }
}

/// Decodes an event of `body`.
fn event(body: &Bytes, bytes: &[u8]) -> Result<Event, BatchError> {
    let (mut name, mut data) = ("", &[][..]);
    for field in Fields::of(bytes) {
        let field = field?;
        match field.number {
            1 => name = field.text()?,
            2 => data = field.bytes()?,
            _ => {}
        }
    }
    check_event(name.len(), data.len())?;
    Ok(Event {
        name: name.to_owned(),
        data: body.slice_ref(data),
    })
}

/// Checks the number of a batch's events.
pub(super) fn check_count(count: usize) -> Result<(), BatchError> {
    match count {
        0 => Err(BatchError::NoEvents),
        count if count > MAX_EVENTS => Err(BatchError::TooManyEvents),
        _ => Ok(()),
    }
}

impl From<Malformed> for BatchError {
    fn from(error: Malformed) -> BatchError {
        BatchError::NotABatch(error)
    }
}
