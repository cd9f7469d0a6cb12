//! Turns an event of the node into its JSON line.
//!
//! Entry function: [`of_event`].

use std::time::Duration;

use super::line::{Line, MAX_MILLIS};
use crate::app::output::missed;
use crate::node::{ClockReport, Crowding, Event};

/// Returns the line of `event`; none for a message, whose line needs the caches of [`super::JsonLines`].
pub(super) fn of_event<'a>(event: &'a Event, time: &'a str) -> Option<Line<'a>> {
    match event {
        Event::Message(_) => None,
        Event::Listening { .. }
        | Event::LinkUp { .. }
        | Event::LinkDown { .. }
        | Event::Refused { .. }
        | Event::Visit { .. } => of_connection(event, time),
        Event::Redirected { .. } | Event::Hint { .. } => of_overlay(event, time),
        Event::Checked { .. } | Event::Equivocation { .. } | Event::BackDated { .. } => {
            of_log(event, time)
        }
        Event::Crowding(crowding) => Some(of_crowding(crowding, time)),
        Event::Suppressed {
            kind, lines, over, ..
        } => Some(Line::Suppressed {
            time,
            kind,
            lines: *lines,
            over_ms: millis(*over),
        }),
        Event::Clock(report) => Some(of_clock(report, time)),
        Event::Error { reason } => Some(Line::Error {
            time,
            reason: reason.into(),
            room: None,
            author: None,
            missed: None,
        }),
        Event::Missed { author, events } => Some(Line::Error {
            time,
            reason: missed(author.as_ref(), *events).into(),
            room: None,
            author: author.map(|author| author.to_string()),
            missed: Some(*events),
        }),
    }
}

/// Returns the line of an event of connections.
fn of_connection<'a>(event: &'a Event, time: &'a str) -> Option<Line<'a>> {
    Some(match event {
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
        _ => return None,
    })
}

/// Returns the line of an event of the overlay.
fn of_overlay<'a>(event: &'a Event, time: &'a str) -> Option<Line<'a>> {
    Some(match event {
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
        _ => return None,
    })
}

/// Returns the line of an event of the log and of anti-entropy.
fn of_log<'a>(event: &'a Event, time: &'a str) -> Option<Line<'a>> {
    Some(match event {
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
        _ => return None,
    })
}

fn of_crowding<'a>(crowding: &'a Crowding, time: &'a str) -> Line<'a> {
    Line::Crowding {
        time,
        author: &crowding.author,
        link: crowding.link.map(|link| link.to_string()),
        of: match crowding.is_by_link {
            true => "link",
            false => "author",
        },
        bytes: crowding.bytes,
        share: crowding.share,
        batches: crowding.batches,
    }
}

fn of_clock<'a>(report: &ClockReport, time: &'a str) -> Line<'a> {
    Line::Clock {
        time,
        state: report.state.name(),
        peer_id: report.peer_id.map(|peer_id| peer_id.to_string()),
        wrong: report.wrong.name(),
        ahead_ms: report.ahead_ms.clamp(-MAX_MILLIS, MAX_MILLIS),
        agreeing: report.agreeing,
        neighbours: report.neighbours,
        reason: report.to_string(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
