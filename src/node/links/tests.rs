//! Tests of the choice between connections.

use super::*;

fn link(id: usize, peer_id: PeerId, direction: Direction, at: u64) -> Link {
    Link {
        connection_id: ConnectionId::new_unchecked(id),
        peer_id,
        instance_id: [1; 16],
        address: Multiaddr::empty(),
        direction,
        since: Time::from_millis(at),
        heard: Time::from_millis(at),
        rtt: None,
        clock_offset_ms: 0,
    }
}

#[test]
fn both_ends_of_two_crossed_connections_keep_the_same_one() {
    for _ in 0..50 {
        let (a, b) = (PeerId::random(), PeerId::random());
        // Connection 1 was dialled by a, 2 by b; each end may verify them in either order.
        let at_a = |first: usize| choose(a, b, first, |id| id == 1);
        let at_b = |first: usize| choose(b, a, first, |id| id == 2);
        assert_eq!(at_a(1), at_b(1));
        assert_eq!(at_a(1), at_b(2));
        assert_eq!(at_a(2), at_b(1));
    }
}

fn choose(
    own: PeerId,
    peer: PeerId,
    first: usize,
    dialled: impl Fn(usize) -> bool,
) -> ConnectionId {
    let mut links = Links::default();
    let direction = |id| {
        if dialled(id) {
            Direction::Dialer
        } else {
            Direction::Listener
        }
    };
    links.insert(&own, link(first, peer, direction(first), 10));
    let second = 3 - first;
    match links.insert(&own, link(second, peer, direction(second), 15)) {
        Inserted::Close(loser) => loser,
        Inserted::New => unreachable!("the peer has a link"),
    }
}

#[test]
fn a_peer_that_comes_again_later_replaces_its_old_connection() {
    let (own, peer) = (PeerId::random(), PeerId::random());
    let mut links = Links::default();
    assert_eq!(
        links.insert(&own, link(1, peer, Direction::Dialer, 0)),
        Inserted::New
    );
    let again = links.insert(&own, link(2, peer, Direction::Listener, 60_000));
    assert_eq!(again, Inserted::Close(ConnectionId::new_unchecked(1)));
    assert_eq!(links.count(), 1);
    let (_, last) = links
        .remove(ConnectionId::new_unchecked(1))
        .expect("it was a link");
    assert!(!last);
}

#[test]
fn another_process_with_a_linked_identity_is_a_duplicate_while_the_first_answers() {
    let (own, peer) = (PeerId::random(), PeerId::random());
    let mut links = Links::default();
    links.insert(&own, link(1, peer, Direction::Listener, 0));
    let at = |s: u64| Time::from_millis(s * 1000);
    assert_eq!(links.duplicate(&peer, &[1; 16], at(1)), Duplicate::None);
    assert_eq!(links.duplicate(&peer, &[2; 16], at(1)), Duplicate::Alive);
    let dead = Duplicate::Dead(ConnectionId::new_unchecked(1));
    assert_eq!(links.duplicate(&peer, &[2; 16], at(9)), dead);
}
