//! Messages of anti-entropy ("data checking"): bytes to types and back.
//!
//! Entry types: [`Request`], [`Response`]. The rule it keeps: a message that parses is within its limits.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::reconcile::Window;
use crate::model::{Id, Item};
use crate::wire::proto::sync as proto;
use crate::wire::schemas::sync as schemas;
use crate::wire::strict;

/// Name of the protocol.
pub const PROTOCOL: &str = "/diatribe/sync/1.0.0";

/// Maximum size of a request, in bytes.
pub const MAX_REQUEST: usize = 64 << 10;

/// Maximum size of a response, in bytes: an event of 1 MiB fits with its envelope.
pub const MAX_RESPONSE: usize = (1 << 20) + (128 << 10);

/// Maximum size of a frame in a request, in bytes: the rest is for the room's name and the window.
pub(super) const MAX_REQUEST_FRAME: usize = 60 << 10;

/// Maximum size of a frame in a response, in bytes: 8,000 ids, which keep the receiver busy for a while.
pub(super) const MAX_RESPONSE_FRAME: usize = 256 << 10;

/// Maximum number of ids in a [`Request::Fetch`].
pub const MAX_IDS: usize = 1024;

/// Maximum number of batches in a [`Request::Announce`].
pub const MAX_ANNOUNCED: usize = 64;

/// Maximum length of a room's name, in bytes. Valid names are shorter; this bounds names from the network.
const MAX_ROOM: usize = 255;

/// Maximum deferral that a neighbour can request.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// A request to a neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Sends one step of a comparison.
    Compare {
        /// The room.
        room: String,
        /// The window of time that is compared.
        window: Window,
        /// The frame.
        frame: Bytes,
    },
    /// Requests batches by their ids.
    Fetch {
        /// The room.
        room: String,
        /// The ids.
        ids: Vec<Id>,
    },
    /// Notifies the receiver that it lacks batches.
    Lagging {
        /// The room.
        room: String,
        /// Their number, or 0 if unknown.
        count: u64,
    },
    /// Announces large new batches that the sender holds.
    Announce {
        /// The room.
        room: String,
        /// The announced batches.
        items: Vec<Item>,
    },
}

/// A response to a neighbour's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The next step of a comparison.
    Ranges(Bytes),
    /// The window begins before the sender's low watermark, which is this Unix millisecond: begin again from there.
    From(u64),
    /// The requested batches, in the order of the request, and the ids of the others.
    Batches {
        /// The envelopes.
        envelopes: Vec<Bytes>,
        /// Ids of batches that the sender does not hold.
        missing: Vec<Id>,
        /// Batches that the sender held and removed under its retention limits. The time is 0 if the sender does not
        /// state it.
        removed: Vec<Item>,
    },
    /// Acknowledges [`Request::Lagging`] or [`Request::Announce`]. The sender does not lack these of the announced
    /// batches.
    Ack(Vec<Id>),
    /// Defers the request: it may be repeated after this time.
    RetryAfter(Duration),
    /// The sender is not in the room.
    NotSubscribed,
}

/// Error of a message that does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes are not a protobuf of this schema.
    #[error("the message cannot be decoded")]
    Undecodable,
    /// This version does not know the kind of the message.
    #[error("the message is of no known kind")]
    Unknown,
    /// A room's name is too long.
    #[error("the room's name is too long")]
    Room,
    /// The ids are not a multiple of 32 bytes, empty, or too many.
    #[error("the ids are not 32 bytes each, none, or too many")]
    Ids,
    /// A response does not state the time of each removed batch.
    #[error("the batches that were removed are not all given with their times")]
    Removed,
    /// An announcement has no batch, too many, or not the time of each.
    #[error("the announcement is not of 1 to {MAX_ANNOUNCED} batches, each with its time")]
    Announce,
    /// A window ends before it begins.
    #[error("the window is empty")]
    Window,
    /// A frame is larger than its limit.
    #[error("the frame is too large")]
    Frame,
}

impl Request {
    /// Decodes a request.
    ///
    /// # Errors
    ///
    /// Returns [`Malformed`] if the bytes are not a request within the limits.
    pub fn decode(bytes: Bytes) -> Result<Request, Malformed> {
        strict::check(&bytes, &schemas::REQUEST).map_err(|_| Malformed::Undecodable)?;
        let request = proto::Request::decode(bytes).map_err(|_| Malformed::Undecodable)?;
        match request.kind.ok_or(Malformed::Unknown)? {
            proto::request::Kind::Compare(compare) => {
                let until_ms = if compare.until_ms == 0 {
                    u64::MAX
                } else {
                    compare.until_ms
                };
                if compare.since_ms >= until_ms {
                    return Err(Malformed::Window);
                }
                if compare.frame.len() > MAX_REQUEST_FRAME {
                    return Err(Malformed::Frame);
                }
                Ok(Request::Compare {
                    room: room(compare.room)?,
                    window: Window {
                        since_ms: compare.since_ms,
                        until_ms,
                    },
                    frame: compare.frame,
                })
            }
            proto::request::Kind::Fetch(fetch) => {
                let ids = ids(&fetch.ids)?;
                if ids.is_empty() {
                    return Err(Malformed::Ids);
                }
                Ok(Request::Fetch {
                    room: room(fetch.room)?,
                    ids,
                })
            }
            proto::request::Kind::Lagging(lagging) => Ok(Request::Lagging {
                room: room(lagging.room)?,
                count: lagging.count,
            }),
            proto::request::Kind::Announce(announce) => {
                let ids = ids(&announce.ids)?;
                let is_whole = ids.len() == announce.sent_at_ms.len();
                if ids.is_empty() || ids.len() > MAX_ANNOUNCED || !is_whole {
                    return Err(Malformed::Announce);
                }
                let items = announce.sent_at_ms.into_iter().zip(ids);
                Ok(Request::Announce {
                    room: room(announce.room)?,
                    items: items
                        .map(|(sent_at_ms, id)| Item { sent_at_ms, id })
                        .collect(),
                })
            }
        }
    }

    /// Returns the room of the request.
    pub fn room(&self) -> &str {
        let (Request::Compare { room, .. }
        | Request::Fetch { room, .. }
        | Request::Lagging { room, .. }
        | Request::Announce { room, .. }) = self;
        room
    }

    /// Adds the sender's clock to an encoded request.
    pub fn add_clock(request: &mut Vec<u8>, clock_ms: u64) {
        let clock = proto::Request {
            clock_ms,
            kind: None,
        };
        // Concatenated protobuf messages decode as one message with the fields of both.
        request.extend(clock.encode_to_vec());
    }

    /// Returns the sender's clock in an encoded request, in Unix milliseconds, if it is set.
    pub fn clock_ms(request: &Bytes) -> Option<u64> {
        let request = proto::Request::decode(request.clone()).ok()?;
        Some(request.clock_ms).filter(|clock_ms| *clock_ms > 0)
    }

    /// Encodes the request.
    pub fn encode(&self) -> Vec<u8> {
        let kind = match self.clone() {
            Request::Compare {
                room,
                window,
                frame,
            } => {
                let until_ms = if window.until_ms == u64::MAX {
                    0
                } else {
                    window.until_ms
                };
                let since_ms = window.since_ms;
                proto::request::Kind::Compare(proto::Compare {
                    room,
                    since_ms,
                    until_ms,
                    frame,
                })
            }
            Request::Fetch { room, ids } => proto::request::Kind::Fetch(proto::Fetch {
                room,
                ids: ids.concat().into(),
            }),
            Request::Lagging { room, count } => {
                proto::request::Kind::Lagging(proto::Lagging { room, count })
            }
            Request::Announce { room, items } => proto::request::Kind::Announce(proto::Announce {
                room,
                ids: items.iter().flat_map(|item| item.id).collect(),
                sent_at_ms: items.iter().map(|item| item.sent_at_ms).collect(),
            }),
        };
        let kind = Some(kind);
        proto::Request { clock_ms: 0, kind }.encode_to_vec()
    }
}

impl Response {
    /// Decodes a response.
    ///
    /// # Errors
    ///
    /// Returns [`Malformed`] if the bytes are not a response within the limits.
    pub fn decode(bytes: Bytes) -> Result<Response, Malformed> {
        strict::check(&bytes, &schemas::RESPONSE).map_err(|_| Malformed::Undecodable)?;
        let response = proto::Response::decode(bytes).map_err(|_| Malformed::Undecodable)?;
        match response.kind.ok_or(Malformed::Unknown)? {
            proto::response::Kind::Ranges(ranges) if ranges.since_ms > 0 => {
                Ok(Response::From(ranges.since_ms))
            }
            proto::response::Kind::Ranges(ranges) if ranges.frame.len() > MAX_RESPONSE_FRAME => {
                Err(Malformed::Frame)
            }
            proto::response::Kind::Ranges(ranges) => Ok(Response::Ranges(ranges.frame)),
            proto::response::Kind::Batches(batches) => Ok(Response::Batches {
                missing: ids(&batches.missing)?,
                removed: removed(&batches)?,
                envelopes: batches.envelopes,
            }),
            proto::response::Kind::Ack(ack) => Ok(Response::Ack(ids(&ack.held)?)),
            proto::response::Kind::RetryAfter(retry) => Ok(Response::RetryAfter(
                Duration::from_millis(retry.after_ms.into()).min(MAX_RETRY_AFTER),
            )),
            proto::response::Kind::NotSubscribed(_) => Ok(Response::NotSubscribed),
        }
    }

    /// Encodes the response.
    pub fn encode(&self) -> Vec<u8> {
        let kind = match self.clone() {
            Response::Ranges(frame) => {
                proto::response::Kind::Ranges(proto::Ranges { frame, since_ms: 0 })
            }
            Response::From(since_ms) => proto::response::Kind::Ranges(proto::Ranges {
                frame: Bytes::new(),
                since_ms,
            }),
            Response::Batches {
                envelopes,
                missing,
                removed,
            } => proto::response::Kind::Batches(proto::Batches {
                envelopes,
                missing: missing.concat().into(),
                removed: removed.iter().flat_map(|item| item.id).collect(),
                removed_at_ms: removed.iter().map(|item| item.sent_at_ms).collect(),
            }),
            Response::Ack(held) => proto::response::Kind::Ack(proto::Ack {
                held: held.concat().into(),
            }),
            Response::RetryAfter(after) => {
                let after_ms = after.min(MAX_RETRY_AFTER).as_millis() as u32;
                proto::response::Kind::RetryAfter(proto::RetryAfter { after_ms })
            }
            Response::NotSubscribed => {
                proto::response::Kind::NotSubscribed(proto::NotSubscribed {})
            }
        };
        proto::Response { kind: Some(kind) }.encode_to_vec()
    }
}

fn room(name: String) -> Result<String, Malformed> {
    if name.len() > MAX_ROOM {
        Err(Malformed::Room)
    } else {
        Ok(name)
    }
}

fn removed(batches: &proto::Batches) -> Result<Vec<Item>, Malformed> {
    let ids = ids(&batches.removed)?;
    let times = &batches.removed_at_ms;
    if !times.is_empty() && times.len() != ids.len() {
        return Err(Malformed::Removed);
    }
    let times = times.iter().copied().chain(std::iter::repeat(0));
    let items = times.zip(ids);
    Ok(items
        .map(|(sent_at_ms, id)| Item { sent_at_ms, id })
        .collect())
}

fn ids(bytes: &[u8]) -> Result<Vec<Id>, Malformed> {
    let (ids, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || ids.len() > MAX_IDS {
        return Err(Malformed::Ids);
    }
    Ok(ids.to_vec())
}
