//! JSON lines, for programs.
//!
//! Entry type: [`JsonLines`]. The rule it keeps: names and fields are those of
//! `proto/output.schema.json`, which is a contract; every line has `time` and `type`.

mod event;
mod line;

use std::collections::HashMap;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use libp2p::{Multiaddr, PeerId};

use super::results::{CaseEnd, Check, CheckStage, ConformanceEnd, DemoEnd, Id};
use super::{Record, Render};
use crate::app::timestamp::TimestampFormatter;
use crate::model::BatchId;
use crate::node::{Event, Message};
use event::of_event;
pub(crate) use line::MAX_MILLIS;
use line::{
    CaseLine, CheckLine, CheckStageLine, ConformanceLine, DemoLine, IdLine, Line, NodeLine,
};

/// Maximum number of PeerIds whose text is cached: formatting one costs more than the rest of a short line.
const MAX_NAMES: usize = 4096;

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
                    reason: reason.into(),
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
        if let Some(line) = of_event(event, self.now.now()) {
            put(self.node, &line, out);
        }
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

    /// Writes an event of a room.
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

/// Returns the text of a batch's id. It is cached, because the events of one batch follow one another.
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
