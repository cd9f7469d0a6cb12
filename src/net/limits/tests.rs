//! Tests of the connection limits.

use super::*;

fn limits(caps: Caps) -> Behaviour {
    Behaviour::new(caps, HalfOpenConnections::default())
}

fn arrive(limits: &mut Behaviour, id: usize, address: &str) -> bool {
    let local = "/ip4/127.0.0.1/tcp/1/ws".parse().unwrap();
    let remote = address.parse().unwrap();
    limits
        .handle_pending_inbound_connection(ConnectionId::new_unchecked(id), &local, &remote)
        .is_ok()
}

#[test]
fn a_place_is_free_again_when_its_connection_ends() {
    let mut limits = limits(Caps::default());
    assert_eq!(
        (0..9)
            .filter(|i| arrive(&mut limits, *i, "/ip6/::1/tcp/7"))
            .count(),
        8
    );
    limits.release(ConnectionId::new_unchecked(3));
    assert!(arrive(&mut limits, 10, "/ip6/::1/tcp/7"));
    assert!(!arrive(&mut limits, 11, "/ip6/::1/tcp/7"));
}

#[test]
fn loopback_is_exempt_from_caps_by_source_only_when_asked_for() {
    let mut limits = limits(Caps {
        exempt_loopback: true,
        ..Caps::default()
    });
    let taken = (0..2000)
        .filter(|i| arrive(&mut limits, *i, "/ip6/::1/tcp/7"))
        .count();
    assert_eq!((taken, limits.ends.len()), (2000, 256));
}

fn establish(limits: &mut Behaviour, id: usize, address: &str) -> bool {
    let local = "/ip4/127.0.0.1/tcp/1/ws".parse().unwrap();
    let (id, peer) = (ConnectionId::new_unchecked(id), PeerId::random());
    let remote = address.parse().unwrap();
    limits
        .handle_established_inbound_connection(id, peer, &local, &remote)
        .is_ok()
}

/// Returns the evicted connections.
fn gone(limits: &mut Behaviour) -> Vec<ConnectionId> {
    let evicted = |event| match event {
        Event::Evicted(connection_id) => Some(connection_id),
        Event::Refused(_) | Event::Full(_) => None,
    };
    limits.events.drain(..).filter_map(evicted).collect()
}

#[test]
fn the_oldest_of_a_crowd_without_a_handshake_gives_way_and_nobody_else() {
    let mut limits = limits(Caps::default());
    let crowd = |n: usize| format!("/ip4/192.0.2.{}/tcp/7", n / 4);
    for n in 0..64 {
        assert!(establish(&mut limits, n, &crowd(n)));
    }
    assert_eq!(gone(&mut limits), []);
    assert!(establish(&mut limits, 100, "/ip4/198.51.100.1/tcp/7"));
    assert_eq!(gone(&mut limits), [ConnectionId::new_unchecked(0)]);
    // A verified connection holds no slot, so the next one finds a free slot.
    limits.verified(ConnectionId::new_unchecked(1));
    assert!(establish(&mut limits, 101, "/ip4/198.51.100.2/tcp/7"));
    assert_eq!(gone(&mut limits), []);
}
