//! Tests of lookups.

use super::*;

#[test]
fn an_unknown_name_and_silent_name_servers_are_told_apart() {
    let of = |text: &str| of_lookup("nobody.example.", &io::Error::other(text.to_owned()));
    let said = of("failed to lookup address information: Name or service not known");
    assert!(said.contains("no host called nobody.example:"), "{said}");
    let said = of("failed to lookup address information: Temporary failure in name resolution");
    assert!(said.contains("is this machine online?"), "{said}");
    assert!(said.contains("(Temporary failure"), "{said}");
}

#[tokio::test]
async fn a_lookup_that_a_dial_gave_up_serves_the_next_one() {
    let resolver = Resolver::default();
    let (answer, answered) = oneshot::channel::<IpAddr>();
    let slow = answered
        .map(|ip| Ok(vec![ip.expect("an answer")]))
        .boxed()
        .shared();
    resolver.lock().insert("slow.example".to_owned(), slow);
    assert!(resolver.resolve("slow.example").now_or_never().is_none());
    let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
    answer.send(ip).expect("the lookup still waits");
    assert_eq!(resolver.resolve("slow.example").await, Ok(vec![ip]));
    assert!(resolver.lock().is_empty(), "a result is taken once");
}

#[test]
fn localhost_needs_no_name_server_and_an_interface_must_be_there() {
    for name in ["localhost", "LOCALHOST."] {
        let found = addresses_of(name).expect("it is this machine");
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
    }
    let link_local = "fe80::1".parse().expect("an address");
    let error = link_local_socket(link_local, "none-such", 9000).expect_err("no interface");
    assert!(error.to_string().contains("none-such"), "{error}");
}
