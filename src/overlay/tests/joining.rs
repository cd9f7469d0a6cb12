//! A newcomer and the peer through which it joins: grants, revocations, and penalties.

use std::time::Duration;

use super::*;

/// Returns a node with one link, to its entry node 1, which has answered its Join with `answer`.
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

fn revoke(node: &mut Node) -> Vec<(u32, Reason)> {
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
fn a_peer_without_room_is_left_alone_for_a_moment() {
    for by_answer in [true, false] {
        let mut node = joined(match by_answer {
            true => Answer::Refused,
            false => Answer::Pending,
        });
        if !by_answer {
            assert_eq!(revoke(&mut node), [(1, Reason::Refused)]);
        }
        node.feed(Input::LinkDown { peer: 1 });
        node.wait(Duration::from_millis(900));
        assert_eq!(node.dials(), [], "its place comes free no sooner");
        node.wait(Duration::from_secs(3));
        assert_eq!(node.dials().len(), 1, "it is asked again");
    }
}

#[test]
fn a_link_that_was_granted_cannot_be_revoked() {
    let mut node = joined(Answer::Accepted);
    assert_eq!(revoke(&mut node), []);
    assert_eq!(node.peers(), [1]);
}

#[test]
fn a_link_that_is_not_revoked_in_time_is_granted() {
    let mut node = joined(Answer::Split);
    node.wait(Duration::from_secs(29));
    assert!(!node.overlay.links()[0].is_confirmed());
    node.wait(Duration::from_secs(2));
    assert!(node.overlay.links()[0].is_confirmed());
    assert_eq!(revoke(&mut node), []);
}

#[test]
fn the_newcomer_is_not_penalised_for_neighbours_that_do_not_answer() {
    let mut node = Node::linked(5);
    node.link(6, public(6));
    node.ask(6, join(6, 66, 2));
    node.wait(Duration::from_secs(12));
    assert!(!node.overlay.is_in_handover());
    let hinted = |sent: &(u32, ExchangeId, Request<u32, Place>)| match &sent.2 {
        Request::Redirect { role, .. } => Some((sent.0, *role)),
        _ => None,
    };
    let hinted: Vec<_> = node.sent().iter().filter_map(hinted).collect();
    assert_eq!(hinted.len(), 4, "four neighbours got a hint: {hinted:?}");
    node.feed(Input::LinkDown { peer: 6 });
    node.feed(Input::LinkDown { peer: hinted[0].0 });
    node.link(7, public(7));
    assert_eq!(node.peers().len(), 5);
    assert_eq!(node.admit(6), Admission::Accept, "it is admitted again");
}
