//! Rate limiter for events and log lines that a remote peer can trigger at will.
//!
//! Entry types: [`EventRateLimiter`], [`Kind`], pure. The rules it keeps: each kind passes at a bounded rate, for one cause and
//! in all; the number of those left out is reported; the last state of each link always passes, however often it changes,
//! so that a reader that counts links ends with the right number.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use libp2p::PeerId;

use super::Event;
use crate::clock::Time;
use crate::rate_limit::{HeldBack, Limit, Rate, RateLimiter, SUMMARY_INTERVAL};
use crate::wire::Source;

/// Maximum number of links with a held-back state: those of the node, and those announced at once.
const MAX_WAITING_LINKS: usize = 64;

/// A kind of event or log line with a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Links that go up or down.
    Link,
    /// Connections from outside that fail, and links that are closed for an offence.
    Refused,
    /// Connections that fail before noise: their owner is unknown.
    Stranger,
    /// Peers that check whether this node can be linked with.
    Visit,
    /// Failed dials of this node.
    DialFailed,
    /// Redirect hints that this node sends.
    Redirected,
    /// Redirect hints that this node got.
    Hint,
    /// Comparisons that fetched nothing.
    Checked,
    /// Comparisons that fetched batches.
    Repaired,
    /// Two batches with the same numbers.
    Equivocation,
    /// Messages that are dated too early.
    BackDated,
    /// Authors that take more than their share of the log.
    Crowding,
    /// Clocks that are wrong.
    Clock,
    /// Errors that concern no link.
    Error,
    /// Only logged: messages that fail verification.
    MessageRefused,
    /// Only logged: offences against a protocol.
    Offence,
    /// Only logged: links that are too slow for the traffic.
    SlowLink,
    /// Only logged: batches for which the links' queues had no room.
    QueueFull,
    /// Only logged: connections over the caps for strangers.
    OverCap,
    /// Only logged: errors of the system while connections are accepted.
    ListenerError,
}

/// The peer or address that caused an event, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    /// A peer that proved its key, or an author.
    Peer(PeerId),
    /// The owner of an address.
    Address(Source),
}

const fn limit(per_source: (f64, f64), in_all: (f64, f64)) -> Limit {
    let (burst, per_second) = per_source;
    let (burst_in_all, per_second_in_all) = in_all;
    Limit {
        per_source: Rate { burst, per_second },
        in_all: Rate {
            burst: burst_in_all,
            per_second: per_second_in_all,
        },
    }
}

/// For lines that people read one by one: a person can follow one line a second.
const FOR_PEOPLE: Limit = limit((10.0, 0.2), (30.0, 1.0));
/// A node that starts has up to six links at once and moves them around; one peer has no reason to reconnect often.
const OF_LINKS: Limit = limit((6.0, 0.1), (50.0, 2.0));
/// An operator that sets up a peer reads these and tries many times.
const OF_REFUSALS: Limit = limit((20.0, 1.0), (50.0, 5.0));
/// 32 rooms are compared with each of six neighbours at once when links are new, and every 10 s after that; only programs
/// read these.
const OF_COMPARISONS: Limit = limit((64.0, 4.0), (256.0, 20.0));
/// One is enough to identify the author.
const OF_AUTHORS: Limit = limit((3.0, 0.05), (30.0, 0.5));

/// A wrong clock stays wrong, and an author with a fast clock sends many messages: one report in a while is enough.
const OF_CLOCKS: Limit = limit((2.0, 1.0 / 300.0), (10.0, 0.1));
/// A health check connects every few seconds for ever, and only the first few are news.
const OF_STRANGERS: Limit = limit((3.0, 1.0 / 300.0), (10.0, 0.1));
/// Interval of summaries of kinds that never end, such as health checks: a line every ten seconds would be too many.
const LONG_SUMMARY_INTERVAL: Duration = Duration::from_secs(600);
/// Too many open files is an error ten times a second while it lasts.
const OF_LISTENER_ERRORS: Limit = limit((2.0, 1.0 / 60.0), (2.0, 1.0 / 60.0));

/// A full log makes room many times a second during a flood.
const OF_CROWDING: Limit = limit((2.0, 1.0 / 60.0), (10.0, 0.1));

impl Kind {
    const ALL: [Kind; 20] = [
        Kind::Link,
        Kind::Refused,
        Kind::Stranger,
        Kind::Visit,
        Kind::DialFailed,
        Kind::Redirected,
        Kind::Hint,
        Kind::Checked,
        Kind::Repaired,
        Kind::Equivocation,
        Kind::BackDated,
        Kind::Crowding,
        Kind::Clock,
        Kind::Error,
        Kind::MessageRefused,
        Kind::Offence,
        Kind::SlowLink,
        Kind::QueueFull,
        Kind::OverCap,
        Kind::ListenerError,
    ];

    /// Returns the kind of an event; none for events that no remote peer can trigger at will, and for messages, which the
    /// queue of a slow reader bounds.
    pub(crate) fn of(event: &Event) -> Option<Kind> {
        Some(match event {
            Event::LinkUp { .. } | Event::LinkDown { .. } => Kind::Link,
            Event::Refused { .. } => Kind::Refused,
            Event::Visit { .. } => Kind::Visit,
            Event::Redirected { .. } => Kind::Redirected,
            Event::Hint { .. } => Kind::Hint,
            Event::Checked { repaired: 0, .. } => Kind::Checked,
            Event::Checked { .. } => Kind::Repaired,
            Event::Equivocation { .. } => Kind::Equivocation,
            Event::BackDated { .. } => Kind::BackDated,
            Event::Crowding(_) => Kind::Crowding,
            Event::Clock(_) => Kind::Clock,
            Event::Error { .. } => Kind::Error,
            Event::Message(_)
            | Event::Listening { .. }
            | Event::Suppressed { .. }
            | Event::Missed { .. } => return None,
        })
    }

    fn limit(self) -> Limit {
        match self {
            Kind::Link => OF_LINKS,
            Kind::Refused | Kind::DialFailed => OF_REFUSALS,
            Kind::Stranger => OF_STRANGERS,
            Kind::ListenerError => OF_LISTENER_ERRORS,
            Kind::Checked => OF_COMPARISONS,
            Kind::Equivocation | Kind::BackDated => OF_AUTHORS,
            Kind::Clock => OF_CLOCKS,
            Kind::Crowding => OF_CROWDING,
            Kind::Visit
            | Kind::Redirected
            | Kind::Hint
            | Kind::Repaired
            | Kind::Error
            | Kind::MessageRefused
            | Kind::Offence
            | Kind::SlowLink
            | Kind::QueueFull
            | Kind::OverCap => FOR_PEOPLE,
        }
    }

    /// Returns the minimum time between two summaries of those left out.
    fn summary_interval(self) -> Duration {
        match self {
            Kind::Stranger | Kind::ListenerError => LONG_SUMMARY_INTERVAL,
            _ => SUMMARY_INTERVAL,
        }
    }

    /// Returns the type of its JSON lines; none for kinds that are only logged.
    fn line(self) -> Option<&'static str> {
        Some(match self {
            Kind::Link => "link",
            Kind::Refused | Kind::Stranger | Kind::DialFailed => "refused",
            Kind::Visit => "visit",
            Kind::Redirected => "redirected",
            Kind::Hint => "hint",
            Kind::Checked | Kind::Repaired => "checked",
            Kind::Equivocation => "equivocation",
            Kind::BackDated => "back_dated",
            Kind::Crowding => "crowding",
            Kind::Clock => "clock",
            Kind::Error => "error",
            Kind::MessageRefused
            | Kind::Offence
            | Kind::SlowLink
            | Kind::QueueFull
            | Kind::OverCap
            | Kind::ListenerError => return None,
        })
    }

    /// Returns the subject of the lines, in the plural.
    fn subject(self) -> &'static str {
        match self {
            Kind::Link => "links that came up or went",
            Kind::Refused => "refused connections",
            Kind::Stranger => "connections of strangers that came to nothing",
            Kind::Visit => "visits",
            Kind::DialFailed => "failed dials",
            Kind::Redirected => "redirects",
            Kind::Hint => "redirect hints",
            Kind::Checked => "comparisons that brought nothing",
            Kind::Repaired => "comparisons that brought messages",
            Kind::Equivocation => "equivocations",
            Kind::BackDated => "back-dated messages",
            Kind::Crowding => "times that somebody took more than its share of the log",
            Kind::Clock => "clocks that are wrong",
            Kind::Error => "errors",
            Kind::MessageRefused => "refused messages",
            Kind::Offence => "offences",
            Kind::SlowLink => "complaints about slow links",
            Kind::QueueFull => "batches that found all queues full",
            Kind::OverCap => "connections over the caps",
            Kind::ListenerError => "errors while connections were taken",
        }
    }
}

/// The rate limiters of all kinds.
#[derive(Debug)]
pub(super) struct EventRateLimiter {
    limiters: [RateLimiter<Cause>; Kind::ALL.len()],
    links: Links,
}

/// The links as the application knows them.
#[derive(Debug, Default)]
struct Links {
    has_no_limit: bool,
    up: HashSet<PeerId>,
    /// The last state of each link that differs from the announced one.
    waiting: VecDeque<(PeerId, Event)>,
}

impl EventRateLimiter {
    pub(super) fn new() -> EventRateLimiter {
        EventRateLimiter {
            limiters: Kind::ALL.map(|kind| {
                RateLimiter::new(kind.limit()).with_summary_interval(kind.summary_interval())
            }),
            links: Links::default(),
        }
    }

    /// Removes the limit on links.
    pub(super) fn disable_link_limit(&mut self) {
        self.links.has_no_limit = true;
    }

    /// Returns the events to send now that `event` has happened, in order.
    pub(super) fn pass(&mut self, now: Time, kind: Kind, event: Event) -> Vec<Event> {
        let mut passed = self.take_due(now);
        match link_of(&event) {
            Some((peer_id, is_up)) => self.on_link(now, peer_id, is_up, event, &mut passed),
            None => {
                let cause = cause_of(&event);
                if self.limiter(kind).pass(now, cause) {
                    passed.push(event);
                }
            }
        }
        passed
    }

    /// Returns whether a line of `kind` may be logged; otherwise it is counted.
    pub(super) fn may_log(&mut self, now: Time, kind: Kind, cause: Option<Cause>) -> bool {
        self.limiter(kind).pass(now, cause)
    }

    /// Returns when [`EventRateLimiter::take_due`] is next due.
    pub(super) fn deadline(&self) -> Option<Time> {
        let limiter = &self.limiters[Kind::Link as usize];
        let waiting = self.links.waiting.iter();
        let links = waiting.map(|(peer_id, _)| limiter.passes_at(&Cause::Peer(*peer_id)));
        let summaries = self.limiters.iter();
        let summaries = summaries.filter_map(RateLimiter::summary_deadline);
        links.chain(summaries).min()
    }

    /// Takes the held-back events that may pass by `now`, and the summaries that are due. Summaries of kinds that are only
    /// logged are logged.
    pub(super) fn take_due(&mut self, now: Time) -> Vec<Event> {
        let mut passed = Vec::new();
        for _ in 0..self.links.waiting.len() {
            let Some((peer_id, event)) = self.links.waiting.pop_front() else {
                break;
            };
            match self.passes_link(now, peer_id) {
                true => self.links.update(peer_id, event, &mut passed),
                false => self.links.waiting.push_back((peer_id, event)),
            }
        }
        for kind in Kind::ALL {
            if let Some(held_back) = self.limiter(kind).take_summary_due(now) {
                passed.extend(summary(kind, held_back));
            }
        }
        passed
    }

    /// Takes all held-back events and all summaries.
    pub(super) fn take_all(&mut self, now: Time) -> Vec<Event> {
        let mut passed = Vec::new();
        while let Some((peer_id, event)) = self.links.waiting.pop_front() {
            self.links.update(peer_id, event, &mut passed);
        }
        for kind in Kind::ALL {
            if let Some(held_back) = self.limiter(kind).take_summary(now) {
                passed.extend(summary(kind, held_back));
            }
        }
        passed
    }

    fn on_link(
        &mut self,
        now: Time,
        peer_id: PeerId,
        is_up: bool,
        event: Event,
        passed: &mut Vec<Event>,
    ) {
        let waiting = &mut self.links.waiting;
        if let Some(index) = waiting.iter().position(|(other, _)| *other == peer_id) {
            // This is its last state: the one held back is dropped, and this one too when it is known already.
            waiting.remove(index);
            let is_known = self.links.up.contains(&peer_id) == is_up;
            let left_out = if is_known { 2 } else { 1 };
            self.limiter(Kind::Link).hold_back(now, left_out);
            if !is_known {
                self.links.waiting.push_back((peer_id, event));
            }
        } else if self.links.waiting.len() < MAX_WAITING_LINKS && self.passes_link(now, peer_id) {
            self.links.update(peer_id, event, passed);
        } else {
            self.links.waiting.push_back((peer_id, event));
        }
    }

    fn passes_link(&mut self, now: Time, peer_id: PeerId) -> bool {
        self.links.has_no_limit
            || self
                .limiter(Kind::Link)
                .try_pass(now, Some(Cause::Peer(peer_id)))
    }

    fn limiter(&mut self, kind: Kind) -> &mut RateLimiter<Cause> {
        &mut self.limiters[kind as usize]
    }
}

impl Links {
    fn update(&mut self, peer_id: PeerId, event: Event, passed: &mut Vec<Event>) {
        match event {
            Event::LinkUp { .. } => self.up.insert(peer_id),
            _ => self.up.remove(&peer_id),
        };
        passed.push(event);
    }
}

fn link_of(event: &Event) -> Option<(PeerId, bool)> {
    match event {
        Event::LinkUp { peer_id, .. } => Some((*peer_id, true)),
        Event::LinkDown { peer_id, .. } => Some((*peer_id, false)),
        _ => None,
    }
}

/// Returns the cause of an event.
fn cause_of(event: &Event) -> Option<Cause> {
    Some(match event {
        // A key costs nothing, an address does.
        Event::Refused { address, .. } => Cause::Address(Source::of(address)),
        Event::Visit { address, .. } => Cause::Address(Source::of(address)),
        Event::Redirected { to: peer_id, .. }
        | Event::Hint { from: peer_id, .. }
        | Event::Checked { peer_id, .. }
        | Event::Equivocation {
            author: peer_id, ..
        }
        | Event::BackDated {
            author: peer_id, ..
        } => Cause::Peer(*peer_id),
        Event::Crowding(crowding) => Cause::Peer(crowding.who()),
        Event::Clock(report) => Cause::Peer(report.peer_id?),
        _ => return None,
    })
}

fn summary(kind: Kind, held_back: HeldBack) -> Option<Event> {
    let HeldBack { count, over } = held_back;
    let what = kind.subject();
    match kind.line() {
        Some(kind) => Some(Event::Suppressed {
            kind,
            what,
            lines: count,
            over,
        }),
        None => {
            tracing::warn!(
                "{count} more {what} in the last {:.0} s",
                over.as_secs_f64()
            );
            None
        }
    }
}

#[cfg(test)]
mod tests;
