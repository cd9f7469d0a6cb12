//! Renders lines for people.
//!
//! Entry type: [`People`]. The rule it keeps: text that a peer chose is shown escaped, and a line names the peer and
//! the room in a short form.

mod event;
mod style;

use std::fmt::Display;
use std::io::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use libp2p::PeerId;

use super::{Record, Render};
use crate::app::escape::{Escaped, Quoted};
use crate::node::{Event, Message};
use event::describe;
pub(crate) use event::{count, describe_crowding};
use style::{DIM, GREEN, RED, YELLOW};
pub(crate) use style::{SHORT, short};

/// Name of the events that people type.
pub(crate) const CHAT: &str = "chat";
/// Colours of authors, chosen by their id; none is the colour of another kind of line.
const AUTHORS: [&str; 4] = ["34", "35", "36", "94"];

/// Renders lines for a terminal.
#[derive(Debug)]
pub(crate) struct People {
    colours: bool,
    /// This node's PeerId, once it is known: its own messages are shown as those of "you".
    own: Option<PeerId>,
}

impl People {
    pub(crate) fn new(colours: bool) -> People {
        People { colours, own: None }
    }

    /// Sets the id of the node whose own messages are shown as those of "you".
    pub(crate) fn of(mut self, own: Option<PeerId>) -> People {
        self.own = own;
        self
    }

    /// Renders an event of the log, with the time at which it was sent.
    pub(crate) fn past(&self, message: &Message, out: &mut Vec<u8>) {
        let time = self.paint(DIM, local_time(message.sent_at_ms));
        let _ = write!(out, "{time} ");
        self.message(message, out);
    }

    /// Returns `text` in the colour of success.
    pub(crate) fn good(&self, text: &str) -> String {
        self.paint(GREEN, text)
    }

    /// Returns `text` in the colour of errors.
    pub(crate) fn bad(&self, text: &str) -> String {
        self.paint(RED, text)
    }

    /// Returns `text` in the colour of warnings.
    pub(crate) fn warning(&self, text: &str) -> String {
        self.paint(YELLOW, text)
    }

    /// Returns `text` in the colour of details.
    pub(crate) fn dim(&self, text: &str) -> String {
        self.paint(DIM, text)
    }

    /// Returns `text` in a colour, if colours are wanted.
    fn paint(&self, colour: &str, text: impl Display) -> String {
        match self.colours {
            true => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
            false => text.to_string(),
        }
    }

    fn line(&self, out: &mut Vec<u8>, colour: &str, text: impl Display) {
        // Writing to a vector cannot fail.
        let _ = writeln!(out, "{}", self.paint(colour, text));
    }

    fn message(&self, message: &Message, out: &mut Vec<u8>) {
        let colour = message
            .author
            .to_bytes()
            .last()
            .map_or(0, |b| usize::from(*b) % AUTHORS.len());
        let author = match self.own == Some(message.author) {
            true => "you".to_owned(),
            false => self.paint(AUTHORS[colour], short(&message.author)),
        };
        let room = self.paint(DIM, format_args!("[{}]", Quoted(message.room.as_str())));
        let name = match message.name.as_str() {
            CHAT => String::new(),
            name => format!(" ({})", Quoted(name)),
        };
        let bytes = message.data.len();
        let _ = match std::str::from_utf8(&message.data).map(Escaped) {
            Ok(text) if text.is_whole() => writeln!(out, "{room} {author}{name}: {text}"),
            Ok(text) => {
                let rest = format!("[{bytes} bytes in all: see `diatribe log show --json`]");
                writeln!(out, "{room} {author}{name}: {text} {}", self.dim(&rest))
            }
            Err(_) => writeln!(out, "{room} {author}{name}: <{bytes} bytes>"),
        };
    }
}

impl Render for People {
    fn record(&mut self, record: &Record, out: &mut Vec<u8>) {
        match record {
            Record::Online {
                peer_id,
                addresses,
                rooms,
            } => {
                self.own = Some(*peer_id);
                self.line(out, GREEN, format_args!("online as {peer_id}"));
                for address in addresses {
                    let _ = writeln!(out, "  {address}");
                }
                let names = rooms.iter().map(|room| Quoted(room.as_str()).to_string());
                let names: Vec<String> = names.collect();
                let text = format!("in {}; /help lists the commands", names.join(", "));
                self.line(out, DIM, text);
            }
            // People see the line that they typed.
            Record::Sent { .. } => {}
            Record::Error { reason, .. } => {
                self.line(out, RED, format_args!("! {}", Escaped(reason)))
            }
            Record::Past(messages) => {
                for message in messages {
                    self.past(message, out);
                }
            }
            Record::Notice(text) => {
                let _ = writeln!(out, "{text}");
            }
        }
    }

    fn event(&mut self, event: &Event, out: &mut Vec<u8>) {
        if let Event::Message(message) = event {
            return self.message(message, out);
        }
        if let Some((colour, text)) = describe(event) {
            self.line(out, colour, text);
        }
    }
}

/// Returns the time of sending in this machine's time zone.
fn local_time(unix_ms: u64) -> String {
    let unix_ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    // A time outside of the calendar is shown as the last one in it.
    let time = Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::MAX);
    let time = time.to_zoned_datetime(TimeZone::system());
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests;
