//! Renders lines for people.
//!
//! Entry type: [`People`]. The rule it keeps: text that a peer chose is shown escaped, and a line names the peer and
//! the room in a short form.

use std::fmt::Display;
use std::io::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use libp2p::PeerId;

use super::{Record, Render};
use crate::app::escape::{Escaped, Quoted};
use crate::clock::span;
use crate::node::{ClockState, Crowding, DatedThan, Direction, Event, Message};

/// The name of the events that people type.
pub(crate) const CHAT: &str = "chat";
/// The end of a PeerId, which differs where the beginning is the same for all.
pub(crate) const SHORT: usize = 8;

const DIM: &str = "2";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const RED: &str = "31";
/// One for each author, by its id. Not the colours of the other lines.
const AUTHORS: [&str; 4] = ["34", "35", "36", "94"];

/// Renders lines for a terminal.
#[derive(Debug)]
pub(crate) struct People {
    colours: bool,
    /// This node's PeerId, once it is known: its own messages are shown as those of "you".
    own: Option<PeerId>,
}

/// A PeerId as people see it.
pub(crate) fn short(peer_id: &PeerId) -> String {
    let text = peer_id.to_string();
    text[text.len().saturating_sub(SHORT)..].to_owned()
}

impl People {
    pub(crate) fn new(colours: bool) -> People {
        People { colours, own: None }
    }

    /// For the node of this id.
    pub(crate) fn of(mut self, own: Option<PeerId>) -> People {
        self.own = own;
        self
    }

    /// An event out of the log, with the time at which it was sent.
    pub(crate) fn past(&self, message: &Message, out: &mut Vec<u8>) {
        let time = self.paint(DIM, local_time(message.sent_at_ms));
        let _ = write!(out, "{time} ");
        self.message(message, out);
    }

    /// `text` as good news.
    pub(crate) fn good(&self, text: &str) -> String {
        self.paint(GREEN, text)
    }

    /// `text` as bad news.
    pub(crate) fn bad(&self, text: &str) -> String {
        self.paint(RED, text)
    }

    /// `text` as news that need not be bad.
    pub(crate) fn warning(&self, text: &str) -> String {
        self.paint(YELLOW, text)
    }

    /// `text` as something by the way.
    pub(crate) fn dim(&self, text: &str) -> String {
        self.paint(DIM, text)
    }

    /// `text` in a colour, when there are colours.
    fn paint(&self, colour: &str, text: impl Display) -> String {
        match self.colours {
            true => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
            false => text.to_string(),
        }
    }

    fn line(&self, out: &mut Vec<u8>, colour: &str, text: impl Display) {
        // A vector takes everything.
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

/// Returns the sentence that reports an author or a link that takes more than its share of the log.
pub(crate) fn told(crowding: &Crowding) -> String {
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    let (bytes, share) = (mib(crowding.bytes), mib(crowding.share));
    let batches = crowding.batches;
    let author = short(&crowding.author);
    match crowding.link.map(|link| short(&link)) {
        Some(link) if crowding.is_by_link => format!(
            "{link} fills the log with what new authors say ({bytes:.1} MiB, {share:.1} are theirs): the oldest {batches} batches of such authors made room"
        ),
        Some(link) => format!(
            "{author} fills the log, mostly by way of {link} ({bytes:.1} MiB, {share:.1} are its share): its own oldest {batches} batches made room"
        ),
        None => format!(
            "{author} fills the log ({bytes:.1} MiB, {share:.1} are its share): its own oldest {batches} batches made room"
        ),
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
                let text = format!("in {}; /help says what can be typed", names.join(", "));
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
        match event {
            Event::Message(message) => self.message(message, out),
            Event::Listening { address } => {
                self.line(out, DIM, format_args!("also at {address}"));
            }
            Event::LinkUp {
                peer_id,
                address,
                direction,
                links,
            } => {
                let how = match direction {
                    Direction::Dialer => "dialled",
                    Direction::Listener => "from",
                };
                let text = format!(
                    "+ {} linked, {how} {} ({})",
                    short(peer_id),
                    Escaped(&address.to_string()),
                    count(*links)
                );
                self.line(out, GREEN, text);
            }
            Event::LinkDown {
                peer_id,
                reason,
                links,
            } => {
                let text = format!(
                    "- {} gone: {} ({})",
                    short(peer_id),
                    Escaped(reason),
                    count(*links)
                );
                self.line(out, YELLOW, text);
            }
            Event::Refused { address, error, .. } if error.is_of_stranger() => {
                let (address, reason) = (address.to_string(), Escaped(&error.reason));
                let text = format!("- {}: {reason}", Escaped(&address));
                self.line(out, DIM, text);
            }
            Event::Visit { peer_id, address } => {
                let address = address.to_string();
                let text = format!(
                    "- {} at {} has checked whether it can link with this node, and has gone again",
                    short(peer_id),
                    Escaped(&address)
                );
                self.line(out, DIM, text);
            }
            Event::Refused {
                peer_id,
                address,
                error,
            } => {
                let who = peer_id
                    .map(|id| format!("{} at ", short(&id)))
                    .unwrap_or_default();
                let code = error
                    .code
                    .map(|code| format!(" [{code}]"))
                    .unwrap_or_default();
                let text = format!(
                    "! no link with {who}{}: {}{code}: {}",
                    Escaped(&address.to_string()),
                    error.stage,
                    Escaped(&error.reason)
                );
                self.line(out, RED, text);
            }
            Event::Redirected { peer_id, to, .. } => {
                let text = format!("{} was told to link with {}", short(peer_id), short(to));
                self.line(out, DIM, text);
            }
            Event::Hint {
                from, to, outcome, ..
            } => {
                let text = format!("{} said to link with {}: {outcome}", short(from), short(to));
                self.line(out, DIM, text);
            }
            // That all is well needs no line.
            Event::Checked { repaired: 0, .. } => {}
            Event::Checked {
                room,
                peer_id,
                repaired,
                ..
            } => {
                let text = format!(
                    "{} was compared with {}, which had {repaired} that were missing here",
                    Quoted(room),
                    short(peer_id)
                );
                self.line(out, DIM, text);
            }
            Event::Equivocation {
                author, room, seq, ..
            } => {
                let text = format!(
                    "! {} signed two different messages as number {seq} in {}: the one that came here first counts",
                    short(author),
                    Quoted(room.as_str())
                );
                self.line(out, RED, text);
            }
            Event::BackDated {
                author,
                room,
                seq,
                by,
                than,
                ..
            } => {
                let than = match than {
                    DatedThan::Arrival => "it came",
                    DatedThan::EarlierMessage => "the one before it",
                };
                let text = format!(
                    "! {} dated message {seq} in {} {} earlier than {than}: its clock is wrong, or it back-dates",
                    short(author),
                    Quoted(room.as_str()),
                    span(*by)
                );
                self.line(out, YELLOW, text);
            }
            Event::Crowding(crowding) => {
                self.line(out, YELLOW, format!("! {}", told(crowding)));
            }
            Event::Suppressed {
                what, lines, over, ..
            } => {
                let text = format!("… {lines} more {what} in the last {}", span(*over));
                self.line(out, DIM, text);
            }
            Event::Clock(report) => {
                let text = report.text(short);
                match report.state {
                    ClockState::Confirmed | ClockState::Right => self.line(out, GREEN, text),
                    _ => self.line(out, YELLOW, format_args!("! {text}")),
                }
            }
            Event::Error { reason } => self.line(out, RED, format_args!("! {}", Escaped(reason))),
            Event::Missed { author, events } => {
                let text = super::missed(author.as_ref(), *events);
                self.line(out, RED, format_args!("! {text}"));
            }
        }
    }
}

/// When the author sent it, as this machine's clock on the wall shows it.
fn local_time(unix_ms: u64) -> String {
    let unix_ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    // A time that no calendar has is shown as the last one.
    let time = Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::MAX);
    let time = time.to_zoned_datetime(TimeZone::system());
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// "1 link", "2 links".
pub(crate) fn count(links: usize) -> String {
    match links {
        1 => "1 link".to_owned(),
        n => format!("{n} links"),
    }
}

#[cfg(test)]
mod tests;
