//! A newcomer and the peer that lets it in: what is granted, what may be taken back, and who is blamed.

use std::time::Duration;

use super::*;

/// A node whose only link, with its entry node 1, has answered its Join with this.
fn joined(answer: Answer) -> Node {
    let mut node = Node::new();
    node.feed(Input::Entries(vec![Some(1)]));
    let (dial, _) = node.dials()[0];
    node.feed(Input::LinkUp {
        peer: 1,
        direction: Direction::Outbound,
        remote: remote(&public(1)),
        dial: Some(dial),
    });
    let sent = node.sent();
    let [(1, id, Request::Join { .. })] = &sent[..] else {
        panic!("{sent:?}")
    };
    let contacts = Vec::new();
    node.answer(1, *id, Response::Joined { answer, contacts });
    node.out.clear();
    node
}

fn take_back(node: &mut Node) -> Vec<(u32, Reason)> {
    let (nonce, keep, contacts) = (0, false, Vec::new());
    let cancel = Request::Cancel {
        nonce,
        keep,
        contacts,
    };
    node.ask(1, cancel);
    node.closed()
}

#[test]
fn who_has_no_room_after_all_is_left_alone_for_a_moment() {
    for by_answer in [true, false] {
        let mut node = joined(match by_answer {
            true => Answer::Refused,
            false => Answer::Pending,
        });
        if !by_answer {
            assert_eq!(take_back(&mut node), [(1, Reason::Refused)]);
        }
        node.feed(Input::LinkDown { peer: 1 });
        node.wait(Duration::from_millis(900));
        assert_eq!(node.dials(), [], "its place comes free no sooner");
        node.wait(Duration::from_secs(3));
        assert_eq!(node.dials().len(), 1, "it is asked again");
    }
}

#[test]
fn a_link_that_was_granted_cannot_be_taken_back() {
    let mut node = joined(Answer::Accepted);
    assert_eq!(take_back(&mut node), []);
    assert_eq!(node.peers(), [1]);
}

#[test]
fn a_link_that_is_not_taken_back_in_time_is_granted() {
    let mut node = joined(Answer::Split);
    node.wait(Duration::from_secs(29));
    assert!(!node.overlay.links()[0].is_confirmed());
    node.wait(Duration::from_secs(2));
    assert!(node.overlay.links()[0].is_confirmed());
    assert_eq!(take_back(&mut node), []);
}

#[test]
fn the_newcomer_is_not_blamed_for_neighbours_that_do_not_answer() {
    let mut node = Node::linked(5);
    node.link(6, public(6));
    node.ask(6, join(6, 66, 2));
    node.wait(Duration::from_secs(12));
    assert!(!node.overlay.is_in_handover());
    let told = |sent: &(u32, ExchangeId, Request<u32, Place>)| match &sent.2 {
        Request::Redirect { role, .. } => Some((sent.0, *role)),
        _ => None,
    };
    let told: Vec<_> = node.sent().iter().filter_map(told).collect();
    assert_eq!(told.len(), 4, "four neighbours were told: {told:?}");
    node.feed(Input::LinkDown { peer: 6 });
    node.feed(Input::LinkDown { peer: told[0].0 });
    node.link(7, public(7));
    assert_eq!(node.peers().len(), 5);
    assert_eq!(
        node.admit(6),
        Admission::Accept,
        "the visit is its own again"
    );
}
