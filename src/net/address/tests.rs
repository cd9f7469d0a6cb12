//! Tests of the text forms of an address.

use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> String {
    text.parse::<Address>()
        .map_or_else(|e| e.to_string(), |a| a.to_string())
}

#[test]
fn every_documented_form_is_understood() {
    assert_eq!(parsed("[2001:db8::1]:9000"), "/ip6/2001:db8::1/tcp/9000/ws");
    assert_eq!(parsed("192.0.2.1:9000"), "/ip4/192.0.2.1/tcp/9000/ws");
    assert_eq!(parsed("localhost:9000"), "/dns/localhost/tcp/9000/ws");
    assert_eq!(parsed("ws://localhost:9000/"), "/dns/localhost/tcp/9000/ws");
    assert_eq!(
        parsed("wss://chat.example.org"),
        "/dns/chat.example.org/tcp/443/wss"
    );
    assert_eq!(parsed("9000"), "/dns/localhost/tcp/9000/ws");
    let link_local = "/ip6zone/eth0.1/ip6/fe80::1/tcp/9000/ws";
    for text in [
        "[fe80::1%eth0.1]:9000",
        "fe80::1%eth0.1:9000",
        "[fe80::1]%eth0.1:9000",
        "ws://[fe80::1%25eth0.1]:9000",
        link_local,
    ] {
        assert_eq!(parsed(text), link_local, "{text}");
    }
    let with_peer =
        "/ip4/192.0.2.1/tcp/9000/tls/ws/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    assert_eq!(parsed(with_peer), with_peer);
}

#[test]
fn what_cannot_be_dialled_says_why() {
    assert!(parsed("/ip4/192.0.2.1/tcp/9000").contains("add it"));
    assert!(parsed("/ip4/0.0.0.0/tcp/9000/ws").contains("where to listen"));
    assert!(parsed("/ip4/192.0.2.1/udp/9000/quic-v1").contains("/tcp/PORT"));
    assert!(parsed("::1").contains("[::1]:9000"));
    assert!(parsed("localhost").contains("localhost:9000"));
    assert!(parsed("localhost:99999").contains("no port"));
    assert!(parsed("http://localhost:1").contains("ws and wss"));
    assert!(parsed("a b:1").contains("no host name"));
    assert!(parsed("/ip4/1.2.3.4/tcp/0/ws").contains("port 0"));
    assert!(parsed("/dnsaddr/example.org").contains("not looked up"));
    assert!(parsed("0").contains("port 0"));
    assert!(parsed("99999").contains("is no port"));
    assert!(parsed("fe80::1%eth0").contains("[fe80::1%eth0]:9000"));
    assert!(parsed("[fe80::1]:9000").contains("[fe80::1%eth0]:9000"));
    assert!(parsed("/ip6/fe80::1/tcp/9000/ws").contains("network interface"));
    assert!(parsed("[2001:db8::1%eth0]:9000").contains("link-local address only"));
    assert!(parsed("[fe80::1%a b]:9000").contains("no network interface"));
    assert!(parsed("1.2.3.4%eth0:9000").contains("no IPv6 address"));
    assert!(parsed("/dns/a b/tcp/9000/ws").contains("no host name"));
    assert!(parsed("/dns/a\r\nb/tcp/9000/ws").contains("no host name"));
}

#[test]
fn a_path_is_refused_however_it_is_written() {
    for text in [
        "/ip4/127.0.0.1/tcp/6379/x-parity-ws/%2F%20HTTP%2F1.1%0D%0ASET%20a%20b",
        "/ip4/127.0.0.1/tcp/6379/x-parity-ws/a",
        "/ip4/127.0.0.1/tcp/6379/tls/x-parity-ws/a",
        "/ip4/127.0.0.1/tcp/6379/x-parity-wss/%2Fa",
        "ws://127.0.0.1:6379/a",
        "ws://127.0.0.1:6379/ HTTP/1.1",
        "127.0.0.1:6379/a",
    ] {
        assert!(parsed(text).contains("a path cannot be dialled"), "{text}");
    }
    let root = "/ip4/127.0.0.1/tcp/9000/x-parity-ws/%2F";
    assert_eq!(parsed(root), "/ip4/127.0.0.1/tcp/9000/ws");
}

proptest! {
    #[test]
    fn any_text_is_an_address_or_an_error(text in ".{0,60}") {
        if let Ok(address) = text.parse::<Address>() {
            prop_assert_eq!(&address.to_string().parse::<Address>().unwrap(), &address);
        }
    }
}
