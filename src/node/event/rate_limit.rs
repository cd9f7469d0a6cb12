//! How often a node tells what others can bring about at will: to the application, and in the log.
//!
//! Entry types: [`Limits`], [`Kind`]. The rules it keeps: each kind passes at a bounded rate, of one cause and in
//! all; of what is left out the number is told; and of links the last word is always told, however often they come
//! up and go, so that who counts them ends with the truth.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use libp2p::PeerId;

use super::Event;
use crate::clock::Time;
use crate::rate_limit::{HeldBack, Limit, Rate, RateLimiter, SUMMARY_INTERVAL};
use crate::wire::Source;

/// Links whose last word waits. There are no more than a node has links and those that were told of at once.
const MAX_WAITING_LINKS: usize = 64;

/// What is told at a bounded rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Links that come up and go.
    Link,
    /// Connections from outside that come to nothing, and links that are closed for an offence.
    Refused,
    /// Connections of which nobody knows whose they are: they come to nothing before noise.
    Stranger,
    /// Peers that look whether this node can be linked with.
    Visit,
    /// Dials of this node that come to nothing.
    DialFailed,
    /// Links that this node redirects.
    Redirected,
    /// Redirect hints that this node was given.
    Hint,
    /// Comparisons that brought nothing.
    Checked,
    /// Comparisons that brought batches.
    Repaired,
    /// Two batches with the same numbers.
    Equivocation,
    /// Messages that are dated too early.
    BackDated,
    /// Authors that take more than their share of the log.
    Crowding,
    /// Clocks that are wrong.
    Clock,
    /// What goes wrong and concerns no link.
    Error,
    /// In the log alone: messages that fail a check.
    MessageRefused,
    /// In the log alone: offences against a protocol.
    Offence,
    /// In the log alone: links that are too slow for what is said.
    SlowLink,
    /// In the log alone: batches for which the links' queues had no room.
    QueueFull,
    /// In the log alone: connections over the caps for strangers.
    OverCap,
    /// In the log alone: errors of the system while connections are taken.
    ListenerError,
}

/// Who brings something about, as far as it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    /// A peer that proved its key, or an author.
    Peer(PeerId),
    /// Whoever has this address.
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

/// For what people read line by line: a person can follow one line a second.
const FOR_PEOPLE: Limit = limit((10.0, 0.2), (30.0, 1.0));
/// A node that starts has up to six links at once and moves them around; one peer has no reason to come and go.
const OF_LINKS: Limit = limit((6.0, 0.1), (50.0, 2.0));
/// An operator who sets a peer up looks at these, and tries again and again.
const OF_REFUSALS: Limit = limit((20.0, 1.0), (50.0, 5.0));
/// 32 rooms are compared with each of six neighbours at once when links come up, and every 10 s after that; only
/// programs are told.
const OF_COMPARISONS: Limit = limit((64.0, 4.0), (256.0, 20.0));
/// One is enough to know the author by.
const OF_AUTHORS: Limit = limit((3.0, 0.05), (30.0, 0.5));

/// A clock that is wrong stays so, and an author whose clock is ahead sends many messages: to be told once in a while is
/// enough to know whose it is.
const OF_CLOCKS: Limit = limit((2.0, 1.0 / 300.0), (10.0, 0.1));
/// A health check comes every few seconds for ever, and says nothing new after the first few.
const OF_STRANGERS: Limit = limit((3.0, 1.0 / 300.0), (10.0, 0.1));
/// What goes on for ever, at the rate of a health check, is not to be a line every ten seconds.
const LONG_SUMMARY_INTERVAL: Duration = Duration::from_secs(600);
/// Too many open files is an error ten times a second, for as long as it lasts.
const OF_LISTENER_ERRORS: Limit = limit((2.0, 1.0 / 60.0), (2.0, 1.0 / 60.0));

/// A full log makes room many times a second while somebody floods it.
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

    /// The kind of an event; none for what nobody else can bring about at will, and for messages, which are what
    /// the node is for: a slow reader's queue bounds them.
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

    /// How often the number of those that are left out is told at most.
    fn summary_interval(self) -> Duration {
        match self {
            Kind::Stranger | Kind::ListenerError => LONG_SUMMARY_INTERVAL,
            _ => SUMMARY_INTERVAL,
        }
    }

    /// The type of JSON lines that tell of it; none for what is only logged.
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

    /// What the lines tell of, in the plural.
    fn what(self) -> &'static str {
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

/// The limiters of all kinds.
#[derive(Debug)]
pub(super) struct Limits {
    limiters: [RateLimiter<Cause>; Kind::ALL.len()],
    links: Links,
}

/// Links as they were told.
#[derive(Debug, Default)]
struct Links {
    has_no_limit: bool,
    up: HashSet<PeerId>,
    /// The last word of links of which another one was told last.
    waiting: VecDeque<(PeerId, Event)>,
}

impl Limits {
    pub(super) fn new() -> Limits {
        Limits {
            limiters: Kind::ALL.map(|kind| {
                RateLimiter::new(kind.limit()).with_summary_interval(kind.summary_interval())
            }),
            links: Links::default(),
        }
    }

    /// From now on links have no limit.
    pub(super) fn tell_all_links(&mut self) {
        self.links.has_no_limit = true;
    }

    /// What is to be told now that `event` has happened, in order.
    pub(super) fn pass(&mut self, now: Time, kind: Kind, event: Event) -> Vec<Event> {
        let mut told = self.due(now);
        match link_of(&event) {
            Some((peer_id, is_up)) => self.on_link(now, peer_id, is_up, event, &mut told),
            None => {
                let cause = cause_of(&event);
                if self.limiter(kind).pass(now, cause) {
                    told.push(event);
                }
            }
        }
        told
    }

    /// Whether one of `kind` may be logged; otherwise it is counted.
    pub(super) fn may_log(&mut self, now: Time, kind: Kind, cause: Option<Cause>) -> bool {
        self.limiter(kind).pass(now, cause)
    }

    /// When [`Limits::due`] has something.
    pub(super) fn deadline(&self) -> Option<Time> {
        let limiter = &self.limiters[Kind::Link as usize];
        let waiting = self.links.waiting.iter();
        let links = waiting.map(|(peer_id, _)| limiter.passes_at(&Cause::Peer(*peer_id)));
        let summaries = self.limiters.iter();
        let summaries = summaries.filter_map(RateLimiter::summary_deadline);
        links.chain(summaries).min()
    }

    /// What was put off and may be told by `now`, and the summaries that are due. Those of what is only logged go
    /// into the log.
    pub(super) fn due(&mut self, now: Time) -> Vec<Event> {
        let mut told = Vec::new();
        for _ in 0..self.links.waiting.len() {
            let Some((peer_id, event)) = self.links.waiting.pop_front() else {
                break;
            };
            match self.passes_link(now, peer_id) {
                true => self.links.tell(peer_id, event, &mut told),
                false => self.links.waiting.push_back((peer_id, event)),
            }
        }
        for kind in Kind::ALL {
            if let Some(held_back) = self.limiter(kind).take_summary_due(now) {
                told.extend(summary(kind, held_back));
            }
        }
        told
    }

    /// All that was put off, and all summaries.
    pub(super) fn finish(&mut self, now: Time) -> Vec<Event> {
        let mut told = Vec::new();
        while let Some((peer_id, event)) = self.links.waiting.pop_front() {
            self.links.tell(peer_id, event, &mut told);
        }
        for kind in Kind::ALL {
            if let Some(held_back) = self.limiter(kind).take_summary(now) {
                told.extend(summary(kind, held_back));
            }
        }
        told
    }

    fn on_link(
        &mut self,
        now: Time,
        peer_id: PeerId,
        is_up: bool,
        event: Event,
        told: &mut Vec<Event>,
    ) {
        let waiting = &mut self.links.waiting;
        if let Some(index) = waiting.iter().position(|(other, _)| *other == peer_id) {
            // Its last word is this one: what waited is never told, nor is this when it was told last.
            waiting.remove(index);
            let is_known = self.links.up.contains(&peer_id) == is_up;
            let left_out = if is_known { 2 } else { 1 };
            self.limiter(Kind::Link).hold_back(now, left_out);
            if !is_known {
                self.links.waiting.push_back((peer_id, event));
            }
        } else if self.links.waiting.len() < MAX_WAITING_LINKS && self.passes_link(now, peer_id) {
            self.links.tell(peer_id, event, told);
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
    fn tell(&mut self, peer_id: PeerId, event: Event, told: &mut Vec<Event>) {
        match event {
            Event::LinkUp { .. } => self.up.insert(peer_id),
            _ => self.up.remove(&peer_id),
        };
        told.push(event);
    }
}

fn link_of(event: &Event) -> Option<(PeerId, bool)> {
    match event {
        Event::LinkUp { peer_id, .. } => Some((*peer_id, true)),
        Event::LinkDown { peer_id, .. } => Some((*peer_id, false)),
        _ => None,
    }
}

/// Who has brought it about.
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
    let what = kind.what();
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
