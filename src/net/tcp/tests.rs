//! Tests of the forms of a TCP address.

use super::*;

#[test]
fn the_forms_of_a_tcp_address_are_told_apart() {
    let target = |text: &str| target_of(&text.parse().expect("a multiaddr"));
    let name = "a.example".to_owned();
    assert_eq!(
        target("/ip4/1.2.3.4/tcp/9"),
        Some(Target::Socket(([1, 2, 3, 4], 9).into()))
    );
    assert_eq!(
        target("/ip6zone/eth0/ip6/fe80::1/tcp/9"),
        Some(Target::LinkLocal(
            "fe80::1".parse().expect("an address"),
            "eth0".to_owned(),
            9
        ))
    );
    assert_eq!(
        target("/dns4/a.example/tcp/9"),
        Some(Target::Name(name.clone(), Family::V4, 9))
    );
    assert_eq!(
        target("/dns/a.example/tcp/9"),
        Some(Target::Name(name, Family::Any, 9))
    );
    for text in [
        "/ip6zone/eth0/ip4/1.2.3.4/tcp/9",
        "/ip4/1.2.3.4/udp/9",
        "/tcp/9",
        "/ip6zone/eth0/tcp/9",
    ] {
        assert_eq!(target(text), None, "{text}");
    }
}
