//! JSON lines, for programs.
//!
//! Entry type: [`JsonLines`]. The rule it keeps: names and fields are those of
//! `proto/output.schema.json`, which is a contract; every line has `time` and `type`.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use libp2p::{Multiaddr, PeerId};
use serde::{Serialize, Serializer};

use super::results::{CaseEnd, Check, CheckStage, ConformanceEnd, DemoEnd, Id};
use super::{Record, Render};
use crate::app::timestamp::TimestampFormatter;
use crate::model::BatchId;
use crate::node::{Event, Message};

/// Maximum number of PeerIds whose text is cached: formatting one costs more than the rest of a short line.
const MAX_NAMES: usize = 4096;

/// The largest number that JSON's readers hold exactly in every language: peers' clocks may say anything.
pub(crate) const MAX_MILLIS: i64 = (1 << 53) - 1;

/// Renders lines, one JSON object each.
#[derive(Debug, Default)]
pub(crate) struct JsonLines {
    now: TimestampFormatter,
    sent_at: TimestampFormatter,
    names: HashMap<PeerId, String>,
    batch: Option<(BatchId, String)>,
    /// Number of the node that the lines are about; none when there is only one.
    node: Option<usize>,
}

/// A line with the number of its node, if there are several.
#[derive(Serialize)]
struct NodeLine<'a> {
    #[serde(flatten)]
    line: &'a Line<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<usize>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Online {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        peer_id: &'a PeerId,
        #[serde(serialize_with = "all_shown")]
        addresses: &'a [Multiaddr],
        #[serde(serialize_with = "all_shown")]
        rooms: &'a [crate::model::RoomName],
    },
    Listening {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        address: &'a Multiaddr,
    },
    LinkUp {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        peer_id: &'a PeerId,
        #[serde(serialize_with = "shown")]
        address: &'a Multiaddr,
        direction: &'static str,
        links: usize,
    },
    LinkDown {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        peer_id: &'a PeerId,
        reason: &'a str,
        links: usize,
    },
    Refused {
        time: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer_id: Option<String>,
        #[serde(serialize_with = "shown")]
        address: &'a Multiaddr,
        stage: &'static str,
        code: Option<&'static str>,
        reason: &'a str,
    },
    Visit {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        peer_id: &'a PeerId,
        #[serde(serialize_with = "shown")]
        address: &'a Multiaddr,
    },
    Sent {
        time: &'a str,
        id: &'a str,
        seq: u64,
        room: &'a str,
        links: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        confirmed: Option<usize>,
    },
    Message {
        time: &'a str,
        id: &'a str,
        room: &'a str,
        author: &'a str,
        seq: u64,
        name: &'a str,
        #[serde(serialize_with = "shown")]
        data: Base64Display<'a, 'static, base64::engine::GeneralPurpose>,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        sent_at: &'a str,
        backfill: bool,
    },
    Redirected {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        peer_id: &'a PeerId,
        #[serde(serialize_with = "shown")]
        to: &'a PeerId,
        address: Option<String>,
    },
    Hint {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        from: &'a PeerId,
        #[serde(serialize_with = "shown")]
        to: &'a PeerId,
        address: Option<String>,
        outcome: &'a str,
    },
    Checked {
        time: &'a str,
        room: &'a str,
        #[serde(serialize_with = "shown")]
        peer_id: &'a PeerId,
        neighbours: usize,
        agreed: usize,
        repaired: u64,
        bytes: u64,
    },
    Equivocation {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        author: &'a PeerId,
        room: &'a str,
        seq: u64,
        #[serde(serialize_with = "shown")]
        first: &'a BatchId,
        #[serde(serialize_with = "shown")]
        second: &'a BatchId,
    },
    BackDated {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        author: &'a PeerId,
        room: &'a str,
        seq: u64,
        #[serde(serialize_with = "shown")]
        id: &'a BatchId,
        by_ms: u64,
        than: &'static str,
    },
    Crowding {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        author: &'a PeerId,
        #[serde(skip_serializing_if = "Option::is_none")]
        link: Option<String>,
        of: &'static str,
        bytes: u64,
        share: u64,
        batches: u64,
    },
    Clock {
        time: &'a str,
        state: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer_id: Option<String>,
        wrong: &'static str,
        ahead_ms: i64,
        agreeing: usize,
        neighbours: usize,
        reason: &'a str,
    },
    Suppressed {
        time: &'a str,
        kind: &'static str,
        lines: u64,
        over_ms: u64,
    },
    Error {
        time: &'a str,
        reason: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        author: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        missed: Option<u64>,
    },
    Id(IdLine<'a>),
    Stage(CheckStageLine<'a>),
    Check(CheckLine<'a>),
    Case(CaseLine<'a>),
    Conformance(ConformanceLine<'a>),
    Demo(DemoLine<'a>),
}

#[derive(Serialize)]
struct IdLine<'a> {
    time: &'a str,
    #[serde(flatten)]
    id: &'a Id,
}

#[derive(Serialize)]
struct CheckStageLine<'a> {
    time: &'a str,
    #[serde(flatten)]
    stage: &'a CheckStage<'a>,
}

#[derive(Serialize)]
struct CheckLine<'a> {
    time: &'a str,
    #[serde(flatten)]
    check: &'a Check<'a>,
}

#[derive(Serialize)]
struct CaseLine<'a> {
    time: &'a str,
    #[serde(flatten)]
    case: &'a CaseEnd<'a>,
}

#[derive(Serialize)]
struct ConformanceLine<'a> {
    time: &'a str,
    #[serde(flatten)]
    end: &'a ConformanceEnd<'a>,
}

#[derive(Serialize)]
struct DemoLine<'a> {
    time: &'a str,
    #[serde(flatten)]
    end: &'a DemoEnd,
}

impl Render for JsonLines {
    fn record(&mut self, record: &Record, out: &mut Vec<u8>) {
        let node = self.node;
        match record {
            Record::Online {
                peer_id,
                addresses,
                rooms,
            } => {
                let time = self.now.now();
                let line = Line::Online {
                    time,
                    peer_id,
                    addresses,
                    rooms,
                };
                put(node, &line, out);
            }
            Record::Sent { room, sent } => {
                let line = Line::Sent {
                    time: self.now.now(),
                    id: batch_text(&mut self.batch, sent.id),
                    seq: sent.seq,
                    room: room.as_str(),
                    links: sent.links,
                    confirmed: (sent.confirmed > 0).then_some(sent.confirmed),
                };
                put(node, &line, out);
            }
            Record::Error { reason, room } => {
                let line = Line::Error {
                    time: self.now.now(),
                    reason,
                    room: room.as_ref().map(|room| room.as_str()),
                    author: None,
                    missed: None,
                };
                put(node, &line, out);
            }
            Record::Past(messages) => {
                for message in messages {
                    self.message(message, out);
                }
            }
            // Only people type commands.
            Record::Notice(_) => {}
        }
    }

    fn event(&mut self, event: &Event, out: &mut Vec<u8>) {
        if let Event::Message(message) = event {
            return self.message(message, out);
        }
        let (node, time) = (self.node, self.now.now());
        let line = match event {
            Event::Message(_) => return,
            Event::Listening { address } => Line::Listening { time, address },
            Event::LinkUp {
                peer_id,
                address,
                direction,
                links,
            } => Line::LinkUp {
                time,
                peer_id,
                address,
                direction: direction.name(),
                links: *links,
            },
            Event::LinkDown {
                peer_id,
                reason,
                links,
            } => Line::LinkDown {
                time,
                peer_id,
                reason,
                links: *links,
            },
            Event::Refused {
                peer_id,
                address,
                error,
            } => Line::Refused {
                time,
                peer_id: peer_id.map(|id| id.to_string()),
                address,
                stage: error.stage.name(),
                code: error.code,
                reason: &error.reason,
            },
            Event::Visit { peer_id, address } => Line::Visit {
                time,
                peer_id,
                address,
            },
            Event::Redirected {
                peer_id,
                to,
                address,
            } => Line::Redirected {
                time,
                peer_id,
                to,
                address: address.as_ref().map(ToString::to_string),
            },
            Event::Hint {
                from,
                to,
                address,
                outcome,
            } => Line::Hint {
                time,
                from,
                to,
                address: address.as_ref().map(ToString::to_string),
                outcome,
            },
            Event::Checked {
                room,
                peer_id,
                neighbours,
                agreed,
                repaired,
                bytes,
            } => Line::Checked {
                time,
                room,
                peer_id,
                neighbours: *neighbours,
                agreed: *agreed,
                repaired: *repaired,
                bytes: *bytes,
            },
            Event::Equivocation {
                author,
                room,
                seq,
                first,
                second,
            } => Line::Equivocation {
                time,
                author,
                room: room.as_str(),
                seq: *seq,
                first,
                second,
            },
            Event::BackDated {
                author,
                room,
                seq,
                id,
                by,
                than,
            } => Line::BackDated {
                time,
                author,
                room: room.as_str(),
                seq: *seq,
                id,
                by_ms: millis(*by),
                than: than.name(),
            },
            Event::Crowding(crowding) => Line::Crowding {
                time,
                author: &crowding.author,
                link: crowding.link.map(|link| link.to_string()),
                of: if crowding.is_by_link {
                    "link"
                } else {
                    "author"
                },
                bytes: crowding.bytes,
                share: crowding.share,
                batches: crowding.batches,
            },
            Event::Suppressed {
                kind, lines, over, ..
            } => Line::Suppressed {
                time,
                kind,
                lines: *lines,
                over_ms: millis(*over),
            },
            Event::Clock(report) => {
                let line = Line::Clock {
                    time,
                    state: report.state.name(),
                    peer_id: report.peer_id.map(|peer_id| peer_id.to_string()),
                    wrong: report.wrong.name(),
                    ahead_ms: report.ahead_ms.clamp(-MAX_MILLIS, MAX_MILLIS),
                    agreeing: report.agreeing,
                    neighbours: report.neighbours,
                    reason: &report.to_string(),
                };
                return put(node, &line, out);
            }
            Event::Error { reason } => error_line(time, reason, None, None),
            Event::Missed { author, events } => {
                let reason = super::missed(author.as_ref(), *events);
                let author = author.map(|author| author.to_string());
                let line = error_line(time, &reason, author, Some(*events));
                return put(node, &line, out);
            }
        };
        put(node, &line, out);
    }
}

impl JsonLines {
    /// Runs `write` and marks its lines with the number of this node.
    pub(crate) fn of_node(&mut self, node: usize, write: impl FnOnce(&mut JsonLines)) {
        self.node = Some(node);
        write(self);
        self.node = None;
    }

    /// Writes the result of `diatribe demo`.
    pub(crate) fn demo(&mut self, end: &DemoEnd, out: &mut Vec<u8>) {
        let time = self.now.now();
        put(None, &Line::Demo(DemoLine { time, end }), out);
    }

    /// Writes the line of `diatribe id`.
    pub(crate) fn id(&mut self, id: &Id, out: &mut Vec<u8>) {
        let time = self.now.now();
        put(None, &Line::Id(IdLine { time, id }), out);
    }

    /// Writes a stage of `diatribe check`.
    pub(crate) fn stage(&mut self, stage: &CheckStage<'_>, out: &mut Vec<u8>) {
        let time = self.now.now();
        put(None, &Line::Stage(CheckStageLine { time, stage }), out);
    }

    /// Writes the result of `diatribe check`.
    pub(crate) fn check(&mut self, check: &Check<'_>, out: &mut Vec<u8>) {
        let time = self.now.now();
        put(None, &Line::Check(CheckLine { time, check }), out);
    }

    /// Writes the address that the peer under test is to dial.
    pub(crate) fn listening(&mut self, address: &Multiaddr, out: &mut Vec<u8>) {
        let time = self.now.now();
        put(None, &Line::Listening { time, address }, out);
    }

    /// Writes the verdict on a case of `diatribe conformance`.
    pub(crate) fn case(&mut self, case: &CaseEnd<'_>, out: &mut Vec<u8>) {
        let time = self.now.now();
        put(None, &Line::Case(CaseLine { time, case }), out);
    }

    /// Writes the result of `diatribe conformance`.
    pub(crate) fn conformance(&mut self, end: &ConformanceEnd<'_>, out: &mut Vec<u8>) {
        let time = self.now.now();
        put(None, &Line::Conformance(ConformanceLine { time, end }), out);
    }

    /// One event of a room.
    pub(crate) fn message(&mut self, message: &Message, out: &mut Vec<u8>) {
        if self.names.len() >= MAX_NAMES && !self.names.contains_key(&message.author) {
            self.names.clear();
        }
        let author = self
            .names
            .entry(message.author)
            .or_insert_with(|| message.author.to_string());
        let node = self.node;
        let sent_at = i64::try_from(message.sent_at_ms).unwrap_or(i64::MAX);
        let line = Line::Message {
            time: self.now.now(),
            id: batch_text(&mut self.batch, message.id),
            room: message.room.as_str(),
            author,
            seq: message.seq,
            name: &message.name,
            data: Base64Display::new(&message.data, &STANDARD),
            text: std::str::from_utf8(&message.data).ok(),
            sent_at: self.sent_at.at(sent_at),
            backfill: message.backfill,
        };
        put(node, &line, out);
    }
}

fn error_line<'a>(
    time: &'a str,
    reason: &'a str,
    author: Option<String>,
    missed: Option<u64>,
) -> Line<'a> {
    Line::Error {
        time,
        reason,
        room: None,
        author,
        missed,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The events of one batch follow one another: its text is made once.
fn batch_text(last: &mut Option<(BatchId, String)>, id: BatchId) -> &str {
    if last.as_ref().is_none_or(|(known, _)| *known != id) {
        *last = None;
    }
    &last.get_or_insert_with(|| (id, id.to_string())).1
}

fn put(node: Option<usize>, line: &Line<'_>, out: &mut Vec<u8>) {
    let before = out.len();
    let told = NodeLine { line, node };
    match serde_json::to_writer(&mut *out, &told) {
        Ok(()) => out.push(b'\n'),
        Err(error) => {
            // No line is better than half of one.
            out.truncate(before);
            tracing::error!("a line cannot be written as JSON: {error}");
        }
    }
}

fn shown<S: Serializer>(value: &(impl Display + ?Sized), serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn all_shown<S: Serializer>(values: &[impl Display], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}
