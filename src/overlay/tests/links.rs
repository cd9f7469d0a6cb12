//! Plain links, lost links, and nodes without any.

use std::time::Duration;

use super::*;

#[test]
fn an_attach_without_our_nonce_is_refused() {
    let mut node = Node::linked(4);
    assert_eq!(
        node.ask(1, Request::Attach { nonce: 0 }),
        Response::Done { ok: false }
    );
    assert_eq!(
        node.ask(2, Request::Attach { nonce: 12345 }),
        Response::Done { ok: false }
    );
}

#[test]
fn no_peer_fills_the_hearsay_with_unsolicited_offers() {
    let mut node = Node::linked(4);
    for n in 0..100u32 {
        let offered = (0..8).map(|k| contact(500 + n * 8 + k)).collect();
        node.ask(1, Request::Shuffle { offered });
    }
    node.feed(Input::LinkDown { peer: 2 });
    node.feed(Input::LinkDown { peer: 3 });
    let mut named = 0;
    for _ in 0..60 {
        named += node.dials().iter().filter(|(_, id)| *id >= 500).count();
        node.wait(Duration::from_secs(20));
    }
    assert!(named <= 4, "{named}");
}

#[test]
fn a_peer_without_the_protocol_is_a_plain_link_and_never_redirected() {
    let mut node = Node::linked(4);
    node.link(5, public(5));
    node.feed(Input::LinkDown { peer: 4 });
    node.feed(Input::LinkDown { peer: 3 });
    for peer in [1, 2, 5] {
        let id = ExchangeId(1);
        let pending = super::super::requests::Pending::Shuffle;
        node.overlay.core.requests.add(id, peer, pending);
        node.feed(Input::Response {
            from: peer,
            id,
            result: Err(ExchangeError::Unsupported),
        });
    }
    node.link(6, public(6));
    node.link(7, public(7));
    node.out.clear();
    node.link(8, public(8));
    let answer = node.ask(8, join(8, 88, 2));
    assert!(
        matches!(
            answer,
            Response::Joined {
                answer: Answer::Split,
                ..
            }
        ),
        "{answer:?}"
    );
    let hinted: Vec<u32> = node.sent().into_iter().map(|(to, ..)| to).collect();
    assert!(hinted == [6] || hinted == [7], "{hinted:?}");
}

#[test]
fn a_node_that_lost_everybody_dials_at_once_and_never_stops() {
    let mut node = Node::linked(3);
    for peer in 1..=3 {
        node.feed(Input::LinkDown { peer });
    }
    assert!(!node.dials().is_empty());
    node.feed(Input::Entries(vec![None]));
    let (mut dialled, mut searching) = (0, 0);
    for _ in 0..600 {
        for (dial, _) in {
            searching += usize::from(
                node.out
                    .iter()
                    .any(|o| matches!(o, Output::Report(Report::Searching { .. }))),
            );
            node.dials()
        } {
            dialled += 1;
            node.feed(Input::DialFailed {
                dial,
                error: DialError::Failed,
            });
        }
        node.wait(Duration::from_secs(6));
    }
    assert!((40..400).contains(&dialled), "{dialled} dials in an hour");
    assert!(searching > 10);
}

/// Returns the longest time in which this node, to which all others are dead, dials none of the entry nodes.
fn longest_without_an_entry_node(mut node: Node, entries: u32) -> Duration {
    node.feed(Input::Entries((0..entries).map(|_| None).collect()));
    let (mut last, mut longest) = (node.now, Duration::ZERO);
    for _ in 0..3000 {
        for (dial, to) in node.dials() {
            if to >= ENTRY {
                longest = longest.max(node.now.since(last));
                last = node.now;
            }
            let error = DialError::Failed;
            node.feed(Input::DialFailed { dial, error });
        }
        node.wait(Duration::from_millis(100));
    }
    longest.max(node.now.since(last))
}

#[test]
fn with_one_link_and_nobody_else_known_an_entry_node_is_dialled_when_its_turn_comes() {
    // Ten, each after 60 s at most and half as much again: between two of them there is less.
    for seed in 0..20 {
        let mut node = Node::linked(1);
        node.overlay.core.rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let longest = longest_without_an_entry_node(node, 10);
        assert!(longest < Duration::from_secs(60), "{seed}: {longest:?}");
    }
}

#[test]
fn a_book_of_the_dead_does_not_keep_a_node_from_its_entry_nodes() {
    for seed in 0..20 {
        let mut node = Node::linked(1);
        node.overlay.core.rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        for peer in 100..130 {
            node.meet(peer);
        }
        let longest = longest_without_an_entry_node(node, 10);
        assert!(longest < Duration::from_secs(60), "{seed}: {longest:?}");
    }
}

#[test]
fn a_book_survives_a_restart_with_its_anchors() {
    let mut node = Node::new();
    for peer in 1..=12 {
        node.meet(peer);
        node.dials();
    }
    let saved = node.overlay.saved_peers();
    assert_eq!(saved.len(), 12);
    assert_eq!(
        saved
            .iter()
            .filter(|saved| saved.anchor && saved.proved)
            .count(),
        8
    );
    let rng = Xoshiro256PlusPlus::seed_from_u64(2);
    let mut again = Overlay::new(Time::ZERO, ME, Options::default(), rng, saved.clone());
    assert_eq!(again.saved_peers(), saved);
    let mut out = Vec::new();
    again.handle(Time::ZERO, Input::Tick, &mut out);
    let dials = out
        .iter()
        .filter(|o| {
            matches!(
                o,
                Output::Dial {
                    purpose: Purpose::Seek,
                    ..
                }
            )
        })
        .count();
    assert_eq!(
        dials,
        Options::default().max_dials,
        "it rejoins without an entry node"
    );
}

fn is_accused(node: &Node) -> bool {
    let offence = |o: &Output<u32, Place>| matches!(o, Output::Report(Report::Offence { .. }));
    node.out.iter().any(offence)
}

#[test]
fn a_peer_that_lost_its_connection_and_dialled_again_joins_anew_and_is_not_accused() {
    let mut node = Node::linked(1);
    let up = || Input::LinkUp {
        peer: 2,
        direction: Direction::Inbound,
        remote: remote(&public(2)),
        dial: None,
    };
    for nonce in 10..13 {
        node.feed(up());
        let answer = node.ask(2, join(2, nonce, 0));
        let taken = matches!(
            answer,
            Response::Joined {
                answer: Answer::Accepted,
                ..
            }
        );
        assert!(taken, "{answer:?}");
        assert!(!is_accused(&node));
    }
    // On the same connection it is an offence.
    node.ask(2, join(2, 13, 0));
    assert!(is_accused(&node));
}

#[test]
fn two_that_dialled_each_other_at_once_both_join_and_neither_is_accused() {
    let mut node = Node::linked(1);
    let (now, at) = (node.now, remote(&public(2)));
    let outbound = Direction::Outbound;
    let admission = node.overlay.admit(now, 2, outbound, &at, &mut node.out);
    assert_eq!(admission, Admission::Accept);
    node.feed(Input::LinkUp {
        peer: 2,
        direction: Direction::Outbound,
        remote: at,
        dial: None,
    });
    let taken = Response::Joined {
        answer: Answer::Accepted,
        contacts: vec![],
    };
    assert_eq!(node.ask(2, join(2, 9, 2)), taken);
    assert!(!is_accused(&node));
    // A second time it is one.
    node.ask(2, join(2, 10, 2));
    assert!(is_accused(&node));
}
