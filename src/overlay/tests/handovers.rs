//! Splits and joins, and peers that lie, repeat themselves or fall silent in one.

use std::time::Duration;

use super::*;

#[test]
fn the_moved_node_keeps_its_link_until_the_newcomer_confirms() {
    let mut node = Node::linked(5);
    let moved = split(&mut node);
    node.ask(
        moved,
        Request::Report {
            nonce: 66,
            linked: true,
        },
    );
    assert_eq!((node.peers().len(), node.closed()), (6, vec![]));
    node.ask(
        6,
        Request::Report {
            nonce: 66,
            linked: true,
        },
    );
    assert_eq!(node.closed(), [(moved, Reason::Handover)]);
    assert_eq!(
        node.peers().len(),
        5,
        "the coordinator's degree is as before"
    );
    assert!(!node.overlay.is_in_handover());
}

#[test]
fn the_newcomers_report_alone_moves_nothing() {
    let mut node = Node::linked(5);
    let moved = split(&mut node);
    node.ask(
        6,
        Request::Report {
            nonce: 66,
            linked: true,
        },
    );
    node.ask(
        6,
        Request::Report {
            nonce: 66,
            linked: true,
        },
    );
    node.ask(
        1 + moved % 5,
        Request::Report {
            nonce: 66,
            linked: true,
        },
    );
    assert_eq!((node.peers().len(), node.closed()), (6, vec![]));
    node.wait(Duration::from_secs(20));
    assert!(node.peers().contains(&moved), "the old link stays");
    assert_eq!(node.peers().len(), 5);
    assert!(!node.overlay.is_in_handover());
}

#[test]
fn a_full_node_admits_one_newcomer_and_refuses_the_next() {
    let mut node = Node::linked(5);
    assert_eq!(node.admit(6), Admission::Accept);
    assert_eq!(node.admit(7), Admission::Busy { referrals: vec![] });
    node.overlay.dismiss(6);
    assert_eq!(node.admit(7), Admission::Accept);
    node.wait(Duration::from_secs(10));
    assert!(
        !node.overlay.is_in_handover(),
        "a newcomer that never connects frees its place"
    );
}

#[test]
fn a_join_over_an_old_link_or_with_a_nonce_used_before_gets_no_split() {
    let mut node = Node::linked(5);
    let taken = Response::Joined {
        answer: Answer::Accepted,
        contacts: vec![],
    };
    assert_eq!(node.ask(1, join(1, 77, 2)), taken);
    node.link(6, public(6));
    let refused = Response::Joined {
        answer: Answer::Refused,
        contacts: vec![],
    };
    assert_eq!(node.ask(6, join(6, 3, 2)), refused);
    assert_eq!(node.sent(), []);
}

#[test]
fn a_join_with_a_false_count_gets_two_links_at_most() {
    let mut node = Node::linked(5);
    node.link(6, public(6));
    let terms = Terms {
        nonce: 66,
        links: (0..500).collect(),
        dialable: true,
        addresses: vec![public(6)].into(),
    };
    node.ask(
        6,
        Request::Join {
            terms,
            need: 4_000_000_000,
        },
    );
    assert!(node.sent().len() <= 1);
    node.wait(Duration::from_secs(60));
    assert_eq!(node.peers().len(), 5);
    assert!(!node.overlay.is_in_handover());
}

#[test]
fn a_newcomer_that_falls_silent_in_a_handover_is_closed_and_gets_no_second_chance() {
    let mut node = Node::linked(5);
    split(&mut node);
    node.wait(Duration::from_secs(12));
    assert_eq!(node.peers(), [1, 2, 3, 4, 5]);
    assert!(!node.overlay.is_in_handover());
    node.feed(Input::LinkDown { peer: 6 });
    node.out.clear();
    assert_eq!(node.admit(6), Admission::Busy { referrals: vec![] });
    assert_eq!(node.admit(7), Admission::Accept);
}

#[test]
fn a_coordinator_that_never_closes_the_old_link_keeps_nobody_in_the_handover() {
    let mut node = Node::linked(5);
    node.ask(1, hint(9, contact(50)));
    let (dial, _) = node.dials()[0];
    let remote = remote(&public(50));
    assert_eq!(
        node.overlay
            .admit(node.now, 50, Direction::Outbound, &remote, &mut node.out),
        Admission::Accept
    );
    node.feed(Input::LinkUp {
        peer: 50,
        direction: Direction::Outbound,
        remote,
        dial: Some(dial),
    });
    let sent = node.sent();
    let [(50, id, Request::Attach { nonce: 9 })] = &sent[..] else {
        panic!("{sent:?}")
    };
    node.answer(50, *id, Response::Done { ok: true });
    assert_eq!(node.outcomes(), [HintOutcome::Linked]);
    assert_eq!(node.peers().len(), 6);
    node.wait(Duration::from_secs(20));
    assert_eq!(
        node.peers(),
        [1, 2, 3, 4, 5],
        "the new link goes, never the old one"
    );
    assert!(!node.overlay.is_in_handover());
}

#[test]
fn when_the_coordinator_closes_the_old_link_it_was_a_handover_and_no_loss() {
    let mut node = Node::linked(5);
    node.ask(1, hint(9, contact(50)));
    let (dial, _) = node.dials()[0];
    node.feed(Input::LinkUp {
        peer: 50,
        direction: Direction::Outbound,
        remote: remote(&public(50)),
        dial: Some(dial),
    });
    let (_, id, _) = node.sent().remove(0);
    node.answer(50, id, Response::Done { ok: true });
    node.out.clear();
    node.feed(Input::LinkDown { peer: 1 });
    assert_eq!(
        node.out,
        [Output::Report(Report::LinkEnded {
            peer: 1,
            reason: Reason::Handover
        })]
    );
    assert_eq!(node.peers(), [2, 3, 4, 5, 50]);
}
