//! Eviction: idle links, networks that hold too many links, and provisional links without a Join lose their place; and no link
//! is evicted while nobody waits.

use std::time::Duration;

use super::*;

/// Returns a node that is full with inbound links of these peers, all of them silent.
fn held_by(peers: &[u32]) -> Node {
    let mut node = Node::new();
    for peer in peers {
        node.link(*peer, public(*peer));
    }
    node.out.clear();
    node
}

/// Lets a newcomer connect and join. Returns the answer, if it is admitted.
fn connect_and_join(node: &mut Node, peer: u32, need: u32) -> Option<Answer> {
    if node.admit(peer) != Admission::Accept {
        return None;
    }
    node.feed(Input::LinkUp {
        peer,
        direction: Direction::Inbound,
        remote: remote(&public(peer)),
        dial: None,
    });
    match node.ask(peer, join(peer, u64::from(peer), need)) {
        Response::Joined { answer, .. } => Some(answer),
        other => panic!("{other:?}"),
    }
}

fn brought(node: &mut Node, peers: &[u32]) {
    for peer in peers {
        node.feed(Input::NewBatch { peer: *peer });
    }
}

/// Refuses every request of the node's, except for those to 3, which never answers.
fn refuse_all(node: &mut Node) {
    for _ in 0..3 {
        refuse_once(node);
        node.wait(Duration::from_millis(2100));
    }
}

fn refuse_once(node: &mut Node) {
    loop {
        let mut sent = node.sent();
        sent.retain(|(to, ..)| *to != 3);
        if sent.is_empty() {
            return;
        }
        for (to, id, request) in sent {
            let response = match request {
                Request::Redirect { .. } => Response::Redirected {
                    refusal: Some(Refusal::Busy),
                    addresses: vec![].into(),
                },
                Request::ProposeHandover { .. } => Response::HandoverReply(None),
                Request::Shuffle { .. } => Response::Contacts(vec![]),
                _ => Response::Done { ok: false },
            };
            node.answer(to, id, response);
        }
    }
}

#[test]
fn a_silent_link_yields_to_a_newcomer_and_to_nobody_else() {
    let mut node = held_by(&[1, 2, 3, 4, 5]);
    node.wait(Duration::from_secs(600));
    assert_eq!(node.peers(), [1, 2, 3, 4, 5], "nobody waits");
    assert_eq!(connect_and_join(&mut node, 6, 2), Some(Answer::Accepted));
    assert_eq!(node.closed(), [(1, Reason::Idle)]);
    assert_eq!(node.peers(), [2, 3, 4, 5, 6]);
    assert!(!node.overlay.is_in_handover());
}

#[test]
fn a_useful_link_keeps_its_place_and_an_idle_one_yields() {
    let mut node = held_by(&[1, 2, 3, 4, 5]);
    brought(&mut node, &[1, 2, 4, 5]);
    node.wait(Duration::from_secs(11));
    assert_eq!(
        connect_and_join(&mut node, 6, 1),
        Some(Answer::Pending),
        "a link may move"
    );
    refuse_all(&mut node);
    assert_eq!(node.closed(), [(3, Reason::Idle)]);
    assert_eq!(node.peers(), [1, 2, 4, 5, 6]);
}

#[test]
fn a_newcomer_that_joins_only_if_there_is_room_evicts_nobody() {
    let mut node = held_by(&[1, 2, 3, 4, 5]);
    node.wait(Duration::from_secs(60));
    assert_eq!(connect_and_join(&mut node, 6, 0), Some(Answer::Refused));
    assert_eq!(node.closed(), []);
}

#[test]
fn a_link_that_was_useful_once_is_idle_after_a_minute_without_use() {
    for (wait, answer) in [(50, false), (61, true)] {
        let mut node = held_by(&[1, 2, 3, 4, 5]);
        brought(&mut node, &[1, 2, 3, 4, 5]);
        node.wait(Duration::from_secs(wait));
        connect_and_join(&mut node, 6, 1);
        refuse_all(&mut node);
        assert_eq!(
            node.peers().contains(&6) && !node.overlay.is_in_handover(),
            answer
        );
    }
}

#[test]
fn a_network_that_holds_most_places_loses_one_to_another_and_none_to_its_own() {
    for (newcomer, lost) in [(401, Some((103, Reason::Crowded))), (104, None)] {
        let mut node = held_by(&[101, 102, 103, 201, 301]);
        brought(&mut node, &[101, 102, 103, 201, 301]);
        connect_and_join(&mut node, newcomer, 1);
        refuse_all(&mut node);
        let mut closed = node.closed();
        closed.retain(|(peer, _)| *peer != newcomer);
        assert_eq!(closed.first().copied(), lost);
        node.wait(Duration::from_secs(3));
        assert_eq!(node.peers().len(), 5);
        assert_eq!(node.peers().contains(&newcomer), lost.is_some());
    }
}

#[test]
fn while_another_network_waits_one_that_has_its_share_is_not_admitted() {
    let mut node = held_by(&[101, 102, 201, 301, 302]);
    brought(&mut node, &[101, 102, 201, 301, 302]);
    assert_eq!(node.admit(501), Admission::Accept);
    assert_eq!(node.admit(401), Admission::Busy { referrals: vec![] });
    node.overlay.dismiss(501);
    assert_eq!(node.admit(103), Admission::Busy { referrals: vec![] });
    assert_eq!(node.admit(401), Admission::Accept);
    node.overlay.dismiss(401);
    node.wait(Duration::from_secs(5));
    assert_eq!(node.admit(103), Admission::Accept, "nobody else waits");
}

#[test]
fn a_newcomer_that_joins_and_falls_silent_holds_the_slot_for_two_seconds() {
    let mut node = Node::linked(5);
    assert_eq!(connect_and_join(&mut node, 6, 2), Some(Answer::Split));
    let (moved, id, _) = node.sent().remove(0);
    node.answer(moved, id, agreed());
    node.wait(Duration::from_millis(1900));
    assert!(node.overlay.is_in_handover());
    node.wait(Duration::from_millis(200));
    assert!(!node.overlay.is_in_handover());
    assert_eq!(node.peers(), [1, 2, 3, 4, 5]);
    node.feed(Input::LinkDown { peer: 6 });
    assert_eq!(node.admit(6), Admission::Busy { referrals: vec![] });
    assert_eq!(node.admit(7), Admission::Accept);
}

#[test]
fn a_neighbour_that_does_not_answer_in_a_handover_costs_two_seconds_and_is_asked_no_more() {
    let mut node = Node::linked(5);
    assert_eq!(connect_and_join(&mut node, 6, 2), Some(Answer::Split));
    let (silent, ..) = node.sent().remove(0);
    node.wait(Duration::from_millis(2100));
    let asked: Vec<u32> = node.sent().iter().map(|(to, ..)| *to).collect();
    assert_eq!(asked[0], silent, "the handover is taken back");
    assert_ne!(asked[1], silent);
    assert_eq!(asked.len(), 2);
}

#[test]
fn an_unused_provisional_link_makes_room_for_the_next_newcomer() {
    // Its handshake does not end.
    let mut node = Node::linked(5);
    assert_eq!(node.admit(6), Admission::Accept);
    node.wait(Duration::from_secs(2));
    assert_eq!(node.admit(7), Admission::Busy { referrals: vec![] });
    node.wait(Duration::from_secs(1));
    assert_eq!(node.admit(7), Admission::Accept);
    // Its link is up, and it does not join.
    node.link(7, public(7));
    assert_eq!(node.admit(8), Admission::Busy { referrals: vec![] });
    node.wait(Duration::from_millis(1100));
    assert_eq!(node.admit(8), Admission::Accept);
    assert_eq!(node.closed(), [(7, Reason::Surplus)]);
}

#[test]
fn a_handover_that_leads_nowhere_ends_sooner_while_others_wait() {
    // A neighbour asks the node to expect a peer that never dials.
    let mut node = Node::linked(5);
    let to = contact(50);
    let role = Role::Expect;
    node.ask(1, Request::Redirect { nonce: 9, role, to });
    assert!(node.overlay.is_in_handover());
    assert_eq!(node.admit(6), Admission::Busy { referrals: vec![] });
    node.wait(Duration::from_millis(4100));
    assert_eq!(node.admit(6), Admission::Accept);
}

#[test]
fn a_full_node_gets_a_link_of_its_own_choice_although_nobody_lets_it_move_one() {
    let mut node = held_by(&[1, 2, 3, 4, 5]);
    node.overlay.core.options.own_links = 1;
    node.feed(Input::Entries(vec![None]));
    let mut dials = Vec::new();
    for _ in 0..60 {
        node.wait(Duration::from_secs(1));
        node.sent();
        dials.extend(node.dials());
        if !dials.is_empty() {
            break;
        }
    }
    let (dial, place) = dials[0];
    assert_eq!(place, ENTRY);
    let (now, remote) = (node.now, remote(&public(700)));
    let outbound = Direction::Outbound;
    let admission = node
        .overlay
        .admit(now, 700, outbound, &remote, &mut node.out);
    assert_eq!(admission, Admission::Accept);
    node.feed(Input::LinkUp {
        peer: 700,
        direction: outbound,
        remote,
        dial: Some(dial),
    });
    assert_eq!(node.peers().len(), 6, "the others stay until it is granted");
    let is_join = |(to, _, request): &(u32, ExchangeId, Request<u32, Place>)| {
        *to == 700 && matches!(request, Request::Join { .. })
    };
    let (_, id, _) = node.sent().into_iter().find(is_join).expect("a join");
    let contacts = Vec::new();
    let answer = Answer::Accepted;
    node.answer(700, id, Response::Joined { answer, contacts });
    assert_eq!(node.closed(), [(1, Reason::Idle)]);
    assert_eq!(node.peers(), [2, 3, 4, 5, 700]);
}

#[test]
fn newcomers_that_only_knock_do_not_keep_a_full_node_from_moving_its_links() {
    let mut node = Node::linked(5);
    node.overlay.core.options.flip = 1.0;
    let mut moves = 0;
    for _ in 0..60 {
        node.admit(6);
        node.admit(7);
        node.wait(Duration::from_secs(1));
        let take = |(_, _, request): &(u32, ExchangeId, Request<u32, Place>)| {
            matches!(request, Request::ProposeHandover { .. })
        };
        moves += node.sent().iter().filter(|sent| take(sent)).count();
    }
    assert!(moves > 0);
}
