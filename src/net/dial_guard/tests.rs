//! Tests of refused addresses.

use futures::future::{Pending, pending};

use super::*;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;

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
