//! Tests of denied dials and of socket addresses.

use libp2p::core::ConnectedPoint;

use super::*;
use crate::overlay::Reach;

fn parsed(text: &str) -> Multiaddr {
    text.parse().expect("a multiaddr")
}

fn remote(direction: Direction, address: &str, socket: Option<&str>) -> (Reach, Option<String>) {
    let socket = socket.map(parsed);
    let remote = remote_of(
        PeerId::random(),
        direction,
        &parsed(address),
        socket.as_ref(),
    );
    (remote.reach, remote.address.map(|a| a.to_string()))
}

#[test]
fn the_socket_decides_the_scope_and_a_name_with_tls_is_told_to_nobody() {
    let at = |text: &str| Some(text.to_owned());
    for (direction, address, socket, expected) in [
        (
            Direction::Outbound,
            "/dns/localhost/tcp/9000/ws",
            Some("/ip4/127.0.0.1/tcp/9000/ws"),
            (Reach::Loopback, at("/ip4/127.0.0.1/tcp/9000/ws")),
        ),
        (
            Direction::Outbound,
            "/dns/a.example/tcp/9000/ws",
            Some("/ip4/8.8.8.8/tcp/9000/ws"),
            (Reach::Public, at("/ip4/8.8.8.8/tcp/9000/ws")),
        ),
        (
            Direction::Outbound,
            "/dns/a.example/tcp/443/wss",
            Some("/ip4/10.0.0.1/tcp/443/wss"),
            (Reach::Private, None),
        ),
        (
            Direction::Outbound,
            "/ip4/10.0.0.1/tcp/9000/ws",
            None,
            (Reach::Private, at("/ip4/10.0.0.1/tcp/9000/ws")),
        ),
        (
            Direction::Outbound,
            "/ip4/10.0.0.1/tcp/81/ws",
            None,
            (Reach::Private, None),
        ),
        (
            Direction::Inbound,
            "/ip6/::ffff:127.0.0.1/tcp/50000/ws",
            None,
            (Reach::Loopback, None),
        ),
        // When the socket's address has no scope or is unknown, the peer gets the least permission to name
        // addresses.
        (
            Direction::Outbound,
            "/dns/a.example/tcp/9000/ws",
            None,
            (Reach::Public, None),
        ),
        (
            Direction::Inbound,
            "/ip6/2001::1/tcp/50000/ws",
            None,
            (Reach::Public, None),
        ),
    ] {
        assert_eq!(remote(direction, address, socket), expected, "{address}");
    }
}

#[test]
fn a_dial_that_the_loop_did_not_ask_for_is_denied() {
    let mut sockets = SocketAddresses::default();
    let id = ConnectionId::new_unchecked(1);
    let pending = |sockets: &mut SocketAddresses| {
        let pending = sockets.handle_pending_outbound_connection(id, None, &[], Endpoint::Dialer);
        pending.is_ok()
    };
    assert!(!pending(&mut sockets));
    sockets.expect_dial(id);
    assert!(pending(&mut sockets));
    assert!(!pending(&mut sockets), "asked once, dialled once");
}

#[test]
fn a_connections_socket_is_known_until_it_is_closed() {
    let mut sockets = SocketAddresses::default();
    let (peer_id, connection_id) = (PeerId::random(), ConnectionId::new_unchecked(1));
    let point = |text| ConnectedPoint::Dialer {
        address: parsed(text),
        role_override: Endpoint::Dialer,
        port_use: PortUse::New,
    };
    let (old, new) = (
        point("/dns/localhost/tcp/9000/ws"),
        point("/ip4/127.0.0.1/tcp/9000/ws"),
    );
    sockets.on_swarm_event(FromSwarm::AddressChange(libp2p::swarm::AddressChange {
        peer_id,
        connection_id,
        old: &old,
        new: &new,
    }));
    assert_eq!(
        sockets.socket_of(connection_id),
        Some(new.get_remote_address())
    );
    sockets.on_swarm_event(FromSwarm::ConnectionClosed(
        libp2p::swarm::ConnectionClosed {
            peer_id,
            connection_id,
            endpoint: &new,
            cause: None,
            remaining_established: 0,
        },
    ));
    assert_eq!(sockets.socket_of(connection_id), None);
}
