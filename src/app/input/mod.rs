//! stdin: turns typed lines, or the JSON lines of a program, into events.
//!
//! Entry function: [`run`]. The rules kept here: lines are sent and answered in the order of the input; an event is
//! sent before the previous ones are acknowledged; an error in a line concerns that line alone.
//!
//! * `repl` serves people, `request` parses the lines of programs, `lines` reads both.
//! * `sender` sends their events and writes the answers.

mod lines;
mod repl;
mod request;
mod sender;

use tokio::sync::mpsc;

use super::output::Output;
use crate::model::RoomName;
use crate::node::Node;
use lines::Line;
use repl::Repl;
use sender::Sender;

pub(crate) use lines::End;

/// Reads stdin to its end, or to /quit.
pub(crate) async fn run(node: Node, output: Output, rooms: Vec<RoomName>, json: bool) -> End {
    let (sender, answering) = Sender::new(node, output.clone());
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
