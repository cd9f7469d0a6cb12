//! Tests of persistent dials.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

fn address() -> Address {
    "127.0.0.1:9000".parse().expect("an address")
}

#[test]
fn a_dead_address_is_dialled_for_ever_with_growing_waits_up_to_a_minute() {
    let (mut dialing, mut rng) = (Dialing::default(), StdRng::seed_from_u64(1));
    dialing.add(Time::ZERO, address());
    let mut now = Time::ZERO;
    let mut longest = Duration::ZERO;
    for n in 0..100 {
        assert_eq!(dialing.due(now), [address()]);
        let id = ConnectionId::new_unchecked(n);
        dialing.started(&address(), id);
        assert_eq!(dialing.due(now), []);
        assert_eq!(dialing.failed(now, id, false, &mut rng), Some(n == 0));
        let next = dialing.deadline().expect("it is dialled again");
        longest = longest.max(next.since(now));
        now = next;
    }
    assert!(longest <= MAX_WAIT && longest > MAX_WAIT / 2);
}

#[test]
fn an_address_of_ones_own_is_told_once_and_seldom_tried_again() {
    let mut dialing = Dialing::default();
    dialing.add(Time::ZERO, address());
    let mut now = Time::ZERO;
    for n in 0..3 {
        let id = ConnectionId::new_unchecked(n);
        dialing.started(&address(), id);
        assert!(dialing.may_lead_to_self(now));
        assert_eq!(dialing.led_to_self(now, id), Some(n == 0));
        assert!(dialing.may_lead_to_self(now));
        let next = dialing.deadline().expect("it is tried again");
        assert!(!dialing.may_lead_to_self(next));
        assert_eq!(next.since(now), OWN_ADDRESS_RETRY_INTERVAL);
        now = next;
    }
    let other = ConnectionId::new_unchecked(9);
    assert_eq!(dialing.led_to_self(now, other), None);
}

#[test]
fn who_answered_but_was_not_needed_is_dialled_no_more_and_stays_a_way_in() {
    let mut dialing = Dialing::default();
    let id = ConnectionId::new_unchecked(1);
    dialing.add(Time::ZERO, address());
    dialing.started(&address(), id);
    assert!(dialing.answered().is_empty());
    dialing.not_needed(id);
    assert_eq!(dialing.deadline(), None);
    assert_eq!(
        dialing.answered(),
        [(None, vec![address().multiaddr().clone()])]
    );
}

#[test]
fn a_linked_peer_is_not_dialled_until_its_link_is_lost() {
    let (mut dialing, mut rng) = (Dialing::default(), StdRng::seed_from_u64(1));
    let (id, peer) = (ConnectionId::new_unchecked(1), PeerId::random());
    dialing.add(Time::ZERO, address());
    dialing.started(&address(), id);
    dialing.linked(id, peer);
    assert_eq!(dialing.deadline(), None);
    dialing.unlinked(Time::ZERO, peer, &mut rng);
    assert!(
        dialing
            .deadline()
            .is_some_and(|d| d <= Time::from_millis(500))
    );
    // The peer has dialled this node itself.
    dialing.linked(ConnectionId::new_unchecked(2), peer);
    assert_eq!(dialing.deadline(), None);
}
