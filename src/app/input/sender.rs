//! Sends the events of the input, and writes their answers.
//!
//! Entry type: [`Sender`]. The rule it keeps: answers leave in the order of the lines.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::app::output::{Output, Record};
use crate::model::RoomName;
use crate::node::{BroadcastError, Node, PendingBroadcast};

/// Maximum number of events in flight; beyond it no further line is read (backpressure).
const MAX_IN_FLIGHT: usize = 1024;

/// The answer to a line, in the order of the input.
enum Answer {
    /// An event in flight.
    Sending(RoomName, PendingBroadcast),
    /// An event that the node refused.
    NotSent(RoomName, BroadcastError),
    /// An invalid line.
    Wrong(String),
}

/// Sends events to the node, and queues their answers in the same order.
pub(super) struct Sender {
    node: Node,
    answers: mpsc::Sender<Answer>,
}

impl Sender {
    /// Returns a sender to `node`, and the task that writes the answers to `output`, which ends with the last of them.
    pub(super) fn new(node: Node, output: Output) -> (Sender, JoinHandle<()>) {
        let (answers, waiting) = mpsc::channel(MAX_IN_FLIGHT);
        let answering = tokio::spawn(answer(waiting, output));
        (Sender { node, answers }, answering)
    }

    /// Returns the node that the events go to.
    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// Sends an event to a room.
    pub(super) async fn send(&self, room: RoomName, name: &str, data: Vec<u8>) {
        let answer = match self.node.enqueue(room.as_str(), name, data).await {
            Ok(sending) => Answer::Sending(room, sending),
            Err(error) => Answer::NotSent(room, error),
        };
        self.put(answer).await;
    }

    /// Answers an invalid line.
    pub(super) async fn wrong(&self, reason: impl Into<String>) {
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
