//! Tests of refused addresses and dials, and of socket addresses.

use futures::future::{Pending, pending};
use libp2p::core::ConnectedPoint;

use super::*;
use crate::overlay::Reach;

/// A transport that accepts every address, and never connects.
struct Anything;

impl Transport for Anything {
    type Output = (PeerId, StreamMuxerBox);
    type Error = io::Error;
    type ListenerUpgrade = Pending<Result<Self::Output, io::Error>>;
    type Dial = Pending<Result<Self::Output, io::Error>>;

    fn listen_on(&mut self, _: ListenerId, _: Multiaddr) -> Result<(), TransportError<io::Error>> {
        Ok(())
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(&mut self, _: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        Ok(pending())
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Poll::Pending
    }
}

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
fn no_address_with_a_path_or_an_odd_host_is_dialled_or_listened_on() {
    let mut transport = DialGuard(Anything);
    let opts = DialOpts {
        role: Endpoint::Dialer,
        port_use: PortUse::New,
    };
    let id = PeerId::random();
    for text in [
        "/ip4/127.0.0.1/tcp/6379/x-parity-ws/%2F%20HTTP%2F1.1%0D%0ASET%20a%20b".to_owned(),
        "/ip4/127.0.0.1/tcp/6379/tls/x-parity-ws/a".to_owned(),
        "/ip4/127.0.0.1/tcp/6379/x-parity-wss/a".to_owned(),
        format!("/ip4/127.0.0.1/tcp/6379/x-parity-ws/a/p2p/{id}"),
        "/ip4/127.0.0.1/tcp/6379/tls/sni/a/ws".to_owned(),
        "/dns/a\r\nX: y/tcp/9000/ws".to_owned(),
        "/dns4/a b/tcp/9000/ws".to_owned(),
        "/dnsaddr/example.org/ip4/127.0.0.1/tcp/6379/x-parity-ws/a".to_owned(),
    ] {
        let address = parsed(&text);
        let refused = transport.dial(address.clone(), opts);
        let Err(TransportError::MultiaddrNotSupported(named)) = refused else {
            panic!("{text} is dialled");
        };
        assert_eq!(named, address);
    }
    let path = parsed("/ip4/127.0.0.1/tcp/0/x-parity-ws/a");
    assert!(transport.listen_on(ListenerId::next(), path).is_err());
    let root = parsed("/ip4/127.0.0.1/tcp/9000/ws");
    assert!(transport.dial(root.clone(), opts).is_ok());
    assert!(transport.listen_on(ListenerId::next(), root).is_ok());
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
fn a_name_is_replaced_by_where_it_led() {
    let socket = "[::ffff:127.0.0.1]:9000"
        .parse()
        .expect("a socket's address");
    let at = |text| with_socket(&parsed(text), socket).to_string();
    assert_eq!(
        at("/dns/localhost/tcp/9000/ws"),
        "/ip4/127.0.0.1/tcp/9000/ws"
    );
    assert_eq!(
        at("/dns4/localhost/tcp/9000/tls/ws"),
        "/ip4/127.0.0.1/tcp/9000/tls/ws"
    );
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
