//! stdin: turns typed lines, or the JSON lines of a program, into events.
//!
//! Entry function: [`run`]. The rules kept here: lines are sent and answered in the order of the input; an event is
//! sent before the previous ones are acknowledged; an error in a line concerns that line alone.
//!
//! * `repl` serves people, `request` parses the lines of programs, `lines` reads both.

mod lines;
mod repl;
mod request;

use tokio::sync::mpsc;

use super::output::{Output, Record};
use crate::model::RoomName;
use crate::node::{BroadcastError, Node, PendingBroadcast};
use lines::Line;
use repl::Repl;

/// Maximum number of events in flight; beyond it no further line is read (backpressure).
const MAX_IN_FLIGHT: usize = 1024;

/// The reason for the end of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A person typed /quit or Ctrl-D.
    Quit,
    /// The input ended.
    Closed,
}

/// The answer to a line, in the order of the input.
enum Answer {
    /// An event in flight.
    Sending(RoomName, PendingBroadcast),
    /// An event that the node refused.
    NotSent(RoomName, BroadcastError),
    /// An invalid line.
    Wrong(String),
}

/// Reads stdin to its end, or to /quit.
pub(crate) async fn run(node: Node, output: Output, rooms: Vec<RoomName>, json: bool) -> End {
    let (answers, waiting) = mpsc::channel(MAX_IN_FLIGHT);
    let answering = tokio::spawn(answer(waiting, output.clone()));
    let sender = Sender { node, answers };
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdin());
    let mut lines = match lines::read() {
        Ok(lines) => lines,
        Err(error) => {
            output.error(format!("stdin cannot be read: {error}")).await;
            return End::Closed;
        }
    };
    let end = match rooms.first() {
        Some(room) if json => serve_program(&sender, &mut lines, room).await,
        _ => Repl::new(&sender, output, rooms).serve(&mut lines).await,
    };
    drop(sender);
    // It ends with the last answer.
    let _ = answering.await;
    match end {
        End::Closed if terminal => End::Quit,
        end => end,
    }
}

/// Serves a program: one JSON object a line; without `room` an event goes to `default`.
async fn serve_program(
    sender: &Sender,
    lines: &mut mpsc::Receiver<Vec<Line>>,
    default: &RoomName,
) -> End {
    while let Some(chunk) = lines.recv().await {
        for line in chunk {
            let parsed = match &line {
                Line::Text(text) if text.iter().all(u8::is_ascii_whitespace) => continue,
                Line::Text(text) => request::parse(text),
                other => Err(other.trouble()),
            };
            match parsed {
                Ok(request) => {
                    let room = request.room.unwrap_or_else(|| default.clone());
                    sender.send(room, &request.name, request.data).await;
                }
                Err(reason) => sender.wrong(reason).await,
            }
        }
    }
    End::Closed
}

/// Sends events to the node, and queues their answers in the same order.
struct Sender {
    node: Node,
    answers: mpsc::Sender<Answer>,
}

impl Sender {
    async fn send(&self, room: RoomName, name: &str, data: Vec<u8>) {
        let answer = match self.node.enqueue(room.as_str(), name, data).await {
            Ok(sending) => Answer::Sending(room, sending),
            Err(error) => Answer::NotSent(room, error),
        };
        self.put(answer).await;
    }

    async fn wrong(&self, reason: impl Into<String>) {
        self.put(Answer::Wrong(reason.into())).await;
    }

    async fn put(&self, answer: Answer) {
        // Nobody answers any more only when the program is ending.
        let _ = self.answers.send(answer).await;
    }
}

async fn answer(mut waiting: mpsc::Receiver<Answer>, output: Output) {
    while let Some(answer) = waiting.recv().await {
        let record = match answer {
            Answer::Wrong(reason) => Record::Error { reason, room: None },
            Answer::NotSent(room, error) => not_sent(room, &error),
            Answer::Sending(room, sending) => match sending.sent().await {
                Ok(sent) => Record::Sent { room, sent },
                Err(error) => not_sent(room, &error),
            },
        };
        output.tell(record).await;
    }
}

fn not_sent(room: RoomName, error: &BroadcastError) -> Record {
    Record::Error {
        reason: error.to_string(),
        room: Some(room),
    }
}
