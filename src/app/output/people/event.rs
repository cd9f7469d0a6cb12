//! Describes events of the node to people.
//!
//! Entry function: [`describe`]. The rule it keeps: text that a peer chose is escaped.

use super::style::{DIM, GREEN, RED, YELLOW, short};
use crate::app::escape::{Escaped, Quoted};
use crate::app::output::missed;
use crate::clock::span;
use crate::node::{ClockReport, ClockState, Crowding, DatedThan, Direction, Event};

/// Reason of a link that ended because its gossip stream did; people need no more than the end.
const GOSSIP_ENDED: &str = "its gossip stream died";

/// A colour and a text.
type Styled = (&'static str, String);

/// Returns the line of `event`; none for a message, which is rendered with its author, and for an event that people need
/// not read.
pub(super) fn describe(event: &Event) -> Option<Styled> {
    match event {
        Event::Message(_) => None,
        Event::Listening { .. }
        | Event::LinkUp { .. }
        | Event::LinkDown { .. }
        | Event::Refused { .. }
        | Event::Visit { .. } => connection(event),
        Event::Redirected { .. } | Event::Hint { .. } => overlay(event),
        Event::Checked { .. }
        | Event::Equivocation { .. }
        | Event::BackDated { .. }
        | Event::Crowding(_) => log(event),
        Event::Suppressed {
            what, lines, over, ..
        } => Some((
            DIM,
            format!("… {lines} more {what} in the last {}", span(*over)),
        )),
        Event::Clock(report) => Some(clock(report)),
        Event::Error { reason } => Some((RED, format!("! {}", Escaped(reason)))),
        Event::Missed { author, events } => {
            Some((RED, format!("! {}", missed(author.as_ref(), *events))))
        }
    }
}

/// Describes an event of connections.
fn connection(event: &Event) -> Option<Styled> {
    Some(match event {
        Event::Listening { address } => (DIM, format!("also listening at {address}")),
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
            let (peer, address) = (short(peer_id), address.to_string());
            let (address, links) = (Escaped(&address), count(*links));
            (GREEN, format!("+ {peer} linked, {how} {address} ({links})"))
        }
        Event::LinkDown {
            peer_id,
            reason,
            links,
        } => {
            let reason = match reason.starts_with(GOSSIP_ENDED) {
                true => String::new(),
                false => format!(": {}", Escaped(reason)),
            };
            let (peer, links) = (short(peer_id), count(*links));
            (YELLOW, format!("- {peer} disconnected{reason} ({links})"))
        }
        Event::Refused { address, error, .. } if error.is_of_stranger() => {
            let (address, reason) = (address.to_string(), Escaped(&error.reason));
            (DIM, format!("- {}: {reason}", Escaped(&address)))
        }
        Event::Refused {
            peer_id,
            address,
            error,
        } => {
            let peer = peer_id.map(|id| format!("{} at ", short(&id)));
            let code = error.code.map(|code| format!(" [{code}]"));
            let (peer, code) = (peer.unwrap_or_default(), code.unwrap_or_default());
            let (address, reason) = (address.to_string(), Escaped(&error.reason));
            let (address, stage) = (Escaped(&address), error.stage);
            let text = format!("! no link with {peer}{address}: {stage}{code}: {reason}");
            (RED, text)
        }
        Event::Visit { peer_id, address } => {
            let (peer, address) = (short(peer_id), address.to_string());
            let address = Escaped(&address);
            let text = format!("- {peer} at {address} has checked that it can link with this node");
            (DIM, text)
        }
        _ => return None,
    })
}

/// Describes an event of the overlay.
fn overlay(event: &Event) -> Option<Styled> {
    Some(match event {
        Event::Redirected { peer_id, to, .. } => {
            let (peer, to) = (short(peer_id), short(to));
            (DIM, format!("redirected {peer} to {to}"))
        }
        Event::Hint {
            from, to, outcome, ..
        } => {
            let (from, to) = (short(from), short(to));
            (
                DIM,
                format!("{from} redirected this node to {to}: {outcome}"),
            )
        }
        _ => return None,
    })
}

/// Describes an event of the log and of anti-entropy.
fn log(event: &Event) -> Option<Styled> {
    Some(match event {
        // Agreement needs no line.
        Event::Checked { repaired: 0, .. } => return None,
        Event::Checked {
            room,
            peer_id,
            repaired,
            ..
        } => {
            let (room, peer) = (Quoted(room), short(peer_id));
            let missed = match repaired {
                1 => "1 missed message".to_owned(),
                n => format!("{n} missed messages"),
            };
            (DIM, format!("caught up: {missed} in {room} (from {peer})"))
        }
        Event::Equivocation {
            author, room, seq, ..
        } => {
            let (author, room) = (short(author), Quoted(room.as_str()));
            let text = format!(
                "! {author} signed two different messages as number {seq} in {room}: the first one received counts"
            );
            (RED, text)
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
                DatedThan::Arrival => "its arrival",
                DatedThan::EarlierMessage => "the one before it",
            };
            let (author, room, by) = (short(author), Quoted(room.as_str()), span(*by));
            let text = format!(
                "! {author} dated message {seq} in {room} {by} earlier than {than}: its clock is wrong, or it back-dates"
            );
            (YELLOW, text)
        }
        Event::Crowding(crowding) => (YELLOW, format!("! {}", describe_crowding(crowding))),
        _ => return None,
    })
}

/// Describes the state of a clock.
fn clock(report: &ClockReport) -> Styled {
    let text = report.text(short);
    match report.state {
        ClockState::Confirmed | ClockState::Right => (GREEN, text),
        _ => (YELLOW, format!("! {text}")),
    }
}

/// Returns the sentence that reports an author or a link that takes more than its share of the log.
pub(crate) fn describe_crowding(crowding: &Crowding) -> String {
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    let (bytes, share) = (mib(crowding.bytes), mib(crowding.share));
    let batches = crowding.batches;
    let author = short(&crowding.author);
    match crowding.link.map(|link| short(&link)) {
        Some(link) if crowding.is_by_link => format!(
            "{link} fills the log with messages of new authors ({bytes:.1} MiB, their share is {share:.1} MiB): the oldest {batches} batches of such authors were removed"
        ),
        Some(link) => format!(
            "{author} fills the log, mostly through {link} ({bytes:.1} MiB, its share is {share:.1} MiB): its own oldest {batches} batches were removed"
        ),
        None => format!(
            "{author} fills the log ({bytes:.1} MiB, its share is {share:.1} MiB): its own oldest {batches} batches were removed"
        ),
    }
}

/// Returns the number of links as text: "1 link", "2 links".
pub(crate) fn count(links: usize) -> String {
    match links {
        1 => "1 link".to_owned(),
        n => format!("{n} links"),
    }
}
