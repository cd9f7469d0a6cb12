//! Floods of each kind: few events pass, and the summaries count the rest.

use std::time::Duration;

use libp2p::Multiaddr;
use proptest::prelude::*;

use super::*;
use crate::model::BatchId;
use crate::net::{Stage, StageError};
use crate::node::event::{DatedThan, Direction};
use crate::node::{ClockReport, Crowding};

const TIMES: u64 = 10_000;

/// A key of its own for each `n`.
fn peer(n: u64) -> PeerId {
    let digest = [&[0; 24][..], &n.to_be_bytes()].concat();
    let hash = libp2p::multihash::Multihash::wrap(0x12, &digest).unwrap();
    PeerId::from_multihash(hash).unwrap()
}

fn address(n: u64) -> Multiaddr {
    let [.., a, b, c] = n.to_be_bytes();
    format!("/ip4/10.{a}.{b}.{c}/tcp/1/ws").parse().unwrap()
}

/// Returns an event of each kind that the application gets, caused by the `n`th of many peers.
fn event(kind: Kind, n: u64) -> Option<Event> {
    let room = || "lobby".parse().unwrap();
    let id = BatchId([n as u8; 32]);
    Some(match kind {
        Kind::Link => Event::LinkUp {
            peer_id: peer(n),
            address: address(n),
            direction: Direction::Listener,
            links: 1,
        },
        Kind::Visit => Event::Visit {
            peer_id: peer(n),
            address: address(n),
        },
        Kind::Refused | Kind::Stranger | Kind::DialFailed => Event::Refused {
            peer_id: Some(peer(n)),
            address: address(n),
            error: StageError::new(Stage::Noise, "wrong"),
        },
        Kind::Redirected => Event::Redirected {
            peer_id: peer(0),
            to: peer(n),
            address: None,
        },
        Kind::Hint => Event::Hint {
            from: peer(n),
            to: peer(0),
            address: None,
            outcome: "scope",
        },
        Kind::Checked | Kind::Repaired => Event::Checked {
            room: "lobby".to_owned(),
            peer_id: peer(n),
            neighbours: 1,
            agreed: 0,
            repaired: u64::from(kind == Kind::Repaired),
            bytes: 1,
        },
        Kind::Equivocation => Event::Equivocation {
            author: peer(n),
            room: room(),
            seq: 1,
            first: id,
            second: id,
        },
        Kind::BackDated => Event::BackDated {
            author: peer(n),
            room: room(),
            seq: 1,
            id,
            by: Duration::from_secs(600),
            than: DatedThan::Arrival,
        },
        Kind::Crowding => Event::Crowding(Crowding {
            author: peer(n),
            link: None,
            is_by_link: false,
            bytes: 2,
            share: 1,
            batches: 1,
        }),
        Kind::Clock => Event::Clock(ClockReport::author_ahead(peer(n), 600_000)),
        Kind::Error => Event::Error {
            reason: "wrong".to_owned(),
        },
        Kind::MessageRefused
        | Kind::Offence
        | Kind::SlowLink
        | Kind::QueueFull
        | Kind::OverCap
        | Kind::ListenerError => {
            return None;
        }
    })
}

/// Feeds [`TIMES`] events of `kind` within ten seconds. Returns the lines until all is quiet.
fn lines(kind: Kind, causes: u64) -> (usize, u64) {
    let mut limits = EventRateLimiter::new();
    let (mut told, mut logged) = (Vec::new(), 0);
    for n in 0..TIMES {
        let now = Time::from_millis(n);
        match event(kind, n % causes) {
            Some(event) => told.extend(limits.pass(now, kind, event)),
            None => {
                let cause = Some(Cause::Peer(peer(n % causes)));
                logged += usize::from(limits.may_log(now, kind, cause));
                // The summaries are lines as well.
                logged += usize::from(limits.deadline().is_some_and(|at| at <= now));
                assert!(limits.take_due(now).is_empty());
            }
        }
    }
    told.extend(limits.take_all(Time::from_millis(TIMES)));
    let left_out = |event: &Event| match event {
        Event::Suppressed { lines, .. } => *lines,
        _ => 1,
    };
    let accounted = told.iter().map(left_out).sum();
    (told.len() + logged, accounted)
}

#[test]
fn ten_thousand_of_each_kind_are_a_bounded_number_of_lines() {
    for kind in Kind::ALL {
        let limit = kind.limit();
        for (causes, rate) in [(1, limit.per_source), (5000, limit.in_all)] {
            if kind == Kind::Link {
                continue;
            }
            // What has no cause is bounded in all alone.
            let rate = match event(kind, 0).as_ref().map(cause_of) {
                Some(None) => limit.in_all,
                _ => rate,
            };
            let (lines, accounted) = lines(kind, causes);
            let most = (rate.burst + rate.per_second * 10.0) as usize + 3;
            assert!(lines <= most, "{kind:?}: {lines} lines of {most}");
            assert!(lines >= rate.burst as usize, "{kind:?}: {lines} lines");
            if kind.line().is_some() {
                assert_eq!(accounted, TIMES, "{kind:?}");
            }
        }
    }
}

#[test]
fn a_link_that_flaps_is_a_bounded_number_of_lines_and_ends_with_the_truth() {
    let mut limits = EventRateLimiter::new();
    let mut told = Vec::new();
    for n in 0..TIMES {
        let event = match event(Kind::Link, 7) {
            Some(Event::LinkUp { peer_id, .. }) if n % 2 == 1 => Event::LinkDown {
                peer_id,
                reason: "lost".to_owned(),
                links: 0,
            },
            event => event.unwrap(),
        };
        told.extend(limits.pass(Time::from_millis(n), Kind::Link, event));
    }
    let is_up = |told: &[Event]| {
        let last = told.iter().rev().find_map(link_of);
        last.is_some_and(|(_, is_up)| is_up)
    };
    // It went down last, which passes as soon as the limit allows it.
    while let Some(at) = limits.deadline() {
        told.extend(limits.take_due(at));
    }
    assert!(!is_up(&told));
    assert!(told.len() < 12, "{} lines", told.len());
    let left_out: u64 = told
        .iter()
        .map(|event| match event {
            Event::Suppressed { lines, .. } => *lines,
            _ => 1,
        })
        .sum();
    assert_eq!(left_out, TIMES);
}

proptest! {
    #[test]
    fn whoever_counts_links_ends_with_the_truth(
        steps in prop::collection::vec((0u64..100, 0u64..500), 1..600)
    ) {
        let mut limits = EventRateLimiter::new();
        let (mut really, mut as_told) = (HashSet::new(), HashSet::new());
        let mut listen = |told: Vec<Event>| {
            for (peer_id, is_up) in told.iter().filter_map(link_of) {
                // No link goes up twice without going down.
                assert!(match is_up {
                    true => as_told.insert(peer_id),
                    false => as_told.remove(&peer_id),
                });
            }
            as_told.clone()
        };
        let mut ms = 0;
        for (n, wait) in steps {
            ms += wait;
            let up = event(Kind::Link, n).unwrap();
            let event = match really.insert(peer(n)) {
                true => up,
                false => {
                    really.remove(&peer(n));
                    Event::LinkDown { peer_id: peer(n), reason: String::new(), links: 0 }
                }
            };
            listen(limits.pass(Time::from_millis(ms), Kind::Link, event));
        }
        while let Some(at) = limits.deadline() {
            listen(limits.take_due(at));
        }
        prop_assert_eq!(listen(Vec::new()), really);
    }
}

#[test]
fn a_health_check_every_five_seconds_is_a_few_lines_an_hour() {
    let mut limits = EventRateLimiter::new();
    let mut told = 0;
    for second in (0..3600).step_by(5) {
        let now = Time::from_millis(second * 1000);
        let event = event(Kind::Stranger, 0).expect("it is told");
        told += limits.pass(now, Kind::Stranger, event).len();
    }
    assert!((3..=24).contains(&told), "{told}");
}
