//! Places: the peers that get one, for how long, and that no order of events brings a seventh link.

use std::time::Duration;

use rand::RngExt;

use super::*;

fn up(peer: u32) -> Input<u32, Place> {
    Input::LinkUp {
        peer,
        direction: Direction::Inbound,
        remote: remote(&public(peer)),
        dial: None,
    }
}

#[test]
fn an_expired_reservation_is_of_no_use_to_a_late_peer() {
    let mut node = Node::linked(5);
    assert_eq!(node.admit(6), Admission::Accept);
    // Its handshake takes longer than its place is held, and another one is let in meanwhile.
    node.wait(Duration::from_secs(6));
    assert_eq!(node.admit(7), Admission::Accept);
    node.feed(up(6));
    assert_eq!(node.closed(), [(6, Reason::Surplus)]);
    node.feed(up(7));
    assert_eq!(node.peers(), [1, 2, 3, 4, 5, 7]);
    assert!(node.overlay.is_in_handover());
}

#[test]
fn a_place_is_reserved_for_a_linked_peer_that_dials_again_and_loses_its_old_link_meanwhile() {
    let mut node = Node::linked(5);
    assert_eq!(node.admit(1), Admission::Accept);
    node.feed(Input::LinkDown { peer: 1 });
    // Its place counts as taken: the next peer is the one more that a full node admits.
    assert_eq!(node.admit(6), Admission::Accept);
    assert_eq!(node.admit(7), Admission::Busy { referrals: vec![] });
    node.feed(up(1));
    node.feed(up(6));
    assert_eq!(node.peers(), [2, 3, 4, 5, 1, 6]);
}

/// Feeds one random event of those that a network may bring, among them links that nobody admitted.
fn anything(node: &mut Node, rng: &mut Xoshiro256PlusPlus) {
    let peer = rng.random_range(1..12);
    let direction = match rng.random_bool(0.7) {
        true => Direction::Inbound,
        false => Direction::Outbound,
    };
    let (now, remote) = (node.now, remote(&public(peer)));
    match rng.random_range(0..10) {
        0..=2 => {
            let Node { overlay, out, .. } = node;
            overlay.admit(now, peer, direction, &remote, out);
        }
        3 | 4 => node.feed(Input::LinkUp {
            peer,
            direction,
            remote,
            dial: None,
        }),
        5 => node.feed(Input::LinkDown { peer }),
        6 => {
            node.ask(peer, join(peer, rng.random(), rng.random_range(0..3)));
        }
        7 => {
            node.ask(peer, hint(rng.random(), contact(rng.random_range(1..12))));
        }
        8 => {
            let wait = rng.random_range(0..3000);
            node.wait(Duration::from_millis(wait));
        }
        _ => {
            for (to, id, request) in node.sent() {
                let response = match request {
                    Request::Redirect { .. } => agreed(),
                    Request::Join { .. } => Response::Joined {
                        answer: Answer::Split,
                        contacts: vec![],
                    },
                    Request::ProposeHandover { .. } => Response::HandoverReply(None),
                    _ => Response::Done { ok: true },
                };
                node.answer(to, id, response);
            }
        }
    }
}

#[test]
fn no_order_of_events_brings_a_seventh_link() {
    for seed in 0..100 {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut node = Node::linked(3);
        for step in 0..400 {
            anything(&mut node, &mut rng);
            for (peer, _) in node.closed() {
                node.feed(Input::LinkDown { peer });
            }
            node.out
                .retain(|o| matches!(o, Output::Send { .. } | Output::Dial { .. }));
            let (links, in_handover) = (node.peers().len(), node.overlay.is_in_handover());
            assert!(
                links <= 5 + usize::from(in_handover),
                "seed {seed}, step {step}: {links} links, in a handover: {in_handover}"
            );
        }
    }
}
