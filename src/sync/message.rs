//! Data checking's messages: bytes to types and back.
//!
//! Entry types: [`Request`], [`Response`]. The rule it keeps: what parses is within its limits.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::reconcile::Window;
use crate::model::{Id, Item};
use crate::wire::proto::sync as proto;
use crate::wire::schemas::sync as schemas;
use crate::wire::strict;

/// The protocol.
pub const PROTOCOL: &str = "/diatribe/sync/1.0.0";

/// The largest request, in bytes.
pub const MAX_REQUEST: usize = 64 << 10;

/// The largest response, in bytes: an event of 1 MiB and what is around it fit.
pub const MAX_RESPONSE: usize = (1 << 20) + (128 << 10);

/// The largest frame inside a request: the rest is for the room's name and the window.
pub(super) const MAX_REQUEST_FRAME: usize = 60 << 10;

/// The largest frame inside a response: 8,000 ids, which keep their receiver busy for a while.
pub(super) const MAX_RESPONSE_FRAME: usize = 256 << 10;

/// The most ids in a [`Request::Fetch`].
pub const MAX_IDS: usize = 1024;

/// The most batches in a [`Request::Announce`].
pub const MAX_ANNOUNCED: usize = 64;

/// The longest room name, in bytes. Rooms that are joined have shorter ones; this bounds a stranger's.
const MAX_ROOM: usize = 255;

/// The longest that a neighbour can put us off.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// What is asked of a neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A step of a comparison.
    Compare {
        /// The room.
        room: String,
        /// The part of it that is compared.
        window: Window,
        /// The frame.
        frame: Bytes,
    },
    /// Batches by their ids.
    Fetch {
        /// The room.
        room: String,
        /// The ids.
        ids: Vec<Id>,
    },
    /// The asked one lacks batches.
    Lagging {
        /// The room.
        room: String,
        /// How many, or 0 when that is not known.
        count: u64,
    },
    /// The asker holds large batches that have just come.
    Announce {
        /// The room.
        room: String,
        /// Which.
        items: Vec<Item>,
    },
}

/// What a neighbour answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The next step of a comparison.
    Ranges(Bytes),
    /// The window begins before what the answerer keeps: begin anew here.
    From(u64),
    /// Batches, in the order asked for, and what is not held.
    Batches {
        /// The envelopes.
        envelopes: Vec<Bytes>,
        /// The ids that are not held.
        missing: Vec<Id>,
        /// Those that were held and made room. A neighbour that does not say when they were sent leaves that at 0.
        removed: Vec<Item>,
    },
    /// [`Request::Lagging`] or [`Request::Announce`] was taken note of; of what was offered, these are not lacking.
    Ack(Vec<Id>),
    /// Not now: ask again after this time.
    RetryAfter(Duration),
    /// The answerer is not in the room.
    NotSubscribed,
}

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They are no protobuf of this kind.
    #[error("the message cannot be decoded")]
    Undecodable,
    /// The message says nothing that this version knows.
    #[error("the message is of no known kind")]
    Unknown,
    /// A room's name is too long.
    #[error("the room's name is too long")]
    Room,
    /// Ids are not a multiple of 32 bytes, none, or too many.
    #[error("the ids are not 32 bytes each, none, or too many")]
    Ids,
    /// An answer does not say of each batch that made room when it was sent.
    #[error("the batches that were removed are not all given with their times")]
    Removed,
    /// An offer is of none or too many, or does not say of each when it was sent.
    #[error("the offer is not of 1 to {MAX_ANNOUNCED} batches, each with its time")]
    Announce,
    /// A window ends before it begins.
    #[error("the window is empty")]
    Window,
    /// A frame is larger than its limit.
    #[error("the frame is too large")]
    Frame,
}

impl Request {
    /// The request in `bytes`.
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

    /// The room that it is about.
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
        // Encoded messages that follow one another are one with the fields of both.
        request.extend(clock.encode_to_vec());
    }

    /// The sender's clock in an encoded request, in Unix milliseconds, if it says so.
    pub fn clock_ms(request: &Bytes) -> Option<u64> {
        let request = proto::Request::decode(request.clone()).ok()?;
        Some(request.clock_ms).filter(|clock_ms| *clock_ms > 0)
    }

    /// The request as bytes.
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
    /// The response in `bytes`.
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

    /// The response as bytes.
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
