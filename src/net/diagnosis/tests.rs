//! Tests of the explanations of failed connections.

use super::*;

#[test]
fn a_stage_is_found_however_often_its_error_was_wrapped() {
    let error = StageError::new(Stage::Resolve, "nobody").with_code("CODE");
    let mut wrapped = io::Error::other(error.clone());
    for _ in 0..3 {
        let found = stage_of(&TransportError::Other(io::Error::other(wrapped)));
        assert_eq!(found, error);
        wrapped = io::Error::other(io::Error::other(error.clone()));
    }
}

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("a socket's address")
}

#[test]
fn each_address_of_a_name_says_why_and_a_missing_family_is_left_out() {
    let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
    let silent = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    let unreachable = || io::Error::from(io::ErrorKind::NetworkUnreachable);
    let (v6, v4, other) = (
        socket("[2001:db8::1]:9"),
        socket("1.2.3.4:9"),
        socket("1.2.3.5:9"),
    );
    let said = of_addresses(vec![(v6, silent()), (v4, refused())], true);
    assert_eq!((said.stage, said.code), (Stage::Tcp, None));
    for part in [
        "[2001:db8::1]:9: no answer in time",
        "; 1.2.3.4:9: ",
        "nothing listens",
    ] {
        assert!(said.reason.contains(part), "{said}");
    }
    let said = of_addresses(vec![(v4, refused()), (other, refused())], true);
    assert!(
        said.reason.starts_with("1.2.3.4:9 and 1.2.3.5:9: "),
        "{said}"
    );
    for failed in [
        vec![(v6, unreachable()), (v4, refused())],
        vec![(v4, refused()), (v6, unreachable())],
    ] {
        let said = of_addresses(failed, true);
        assert!(said.reason.starts_with("1.2.3.4:9: "), "{said}");
        assert!(!said.reason.contains("2001"), "{said}");
    }
    let said = of_addresses(vec![(v6, unreachable()), (v4, unreachable())], true);
    assert!(said.reason.starts_with("1.2.3.4:9: "), "{said}");
    let said = of_addresses(vec![(v4, silent())], false);
    assert_eq!(said.code, Some("TIMEOUT"));
    assert!(said.reason.starts_with("no answer in time"), "{said}");
}
