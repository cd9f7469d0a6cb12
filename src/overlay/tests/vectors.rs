//! `proto/vectors/overlay.json`: the bytes of each message, what is read of odd ones, what is
//! refused, and which addresses a link may name.

use std::sync::LazyLock;

use libp2p::{Multiaddr, PeerId};
use serde_json::{Value, json};

use crate::overlay::address::{Address, in_scope};
use crate::overlay::message::*;
use crate::overlay::{PeerAddress, Reach, reach_of};
use crate::wire::ip_of;

static VECTORS: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../proto/vectors/overlay.json")).unwrap()
});

fn vectors(part: &str) -> &'static [Value] {
    let cases = VECTORS[part].as_array().unwrap();
    assert!(!cases.is_empty(), "no vectors in {part}");
    cases
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field} in {case}"))
}

fn bytes(case: &Value, field: &str) -> Vec<u8> {
    hex::decode(text(case, field)).unwrap()
}

fn address(case: &Value, field: &str) -> Multiaddr {
    text(case, field).parse().unwrap()
}

fn contact(contact: &Contact<PeerId, PeerAddress>) -> Value {
    json!({ "peer_id": contact.id.to_string(), "addresses": texts(&contact.addresses) })
}

fn contacts(all: &[Contact<PeerId, PeerAddress>]) -> Value {
    all.iter().map(contact).collect()
}

fn texts<T: ToString>(all: &[T]) -> Value {
    all.iter().map(ToString::to_string).collect()
}

/// Who has sent every message, and whose address every address is.
fn sender() -> PeerId {
    VECTORS["sender"].as_str().unwrap().parse().unwrap()
}

fn nonce(nonce: u64) -> String {
    format!("{nonce:016x}")
}

/// A request as the vectors write it: its kind and its fields.
fn request(request: &NodeRequest) -> (&'static str, Value) {
    match request {
        Request::Shuffle { offered } => ("Shuffle", json!({ "offered": contacts(offered) })),
        Request::Join { terms, need } => (
            "Join",
            json!({
                "nonce": nonce(terms.nonce), "need": need, "links": texts(&terms.links),
                "dialable": terms.dialable, "addresses": texts(&terms.addresses),
            }),
        ),
        Request::Redirect { nonce: n, role, to } => {
            let role = match role {
                Role::Dial => "DIAL",
                Role::Expect => "EXPECT",
            };
            (
                "Redirect",
                json!({ "nonce": nonce(*n), "role": role, "to": contact(to) }),
            )
        }
        Request::Attach { nonce: n } => ("Attach", json!({ "nonce": nonce(*n) })),
        Request::Report { nonce: n, linked } => {
            ("Report", json!({ "nonce": nonce(*n), "linked": linked }))
        }
        Request::Cancel {
            nonce: n,
            keep,
            contacts: c,
        } => (
            "Cancel",
            json!({ "nonce": nonce(*n), "keep": keep, "contacts": contacts(c) }),
        ),
        Request::ProposeHandover { pair } => ("ProposeHandover", json!({ "pair": pair })),
        Request::DropRedundantLink { links } => {
            ("DropRedundantLink", json!({ "links": texts(links) }))
        }
        Request::Leave { contacts: c } => ("Leave", json!({ "contacts": contacts(c) })),
    }
}

fn response(response: &NodeResponse) -> (&'static str, Value) {
    match response {
        Response::Contacts(c) => ("Contacts", json!({ "contacts": contacts(c) })),
        Response::Joined {
            answer,
            contacts: c,
        } => {
            let answer = match answer {
                Answer::Refused => "REFUSED",
                Answer::Accepted => "ACCEPTED",
                Answer::Split => "SPLIT",
                Answer::Pending => "PENDING",
            };
            (
                "Joined",
                json!({ "answer": answer, "contacts": contacts(c) }),
            )
        }
        Response::Redirected { refusal, addresses } => {
            let refusal = match refusal {
                None => "NONE",
                Some(Refusal::Busy) => "BUSY",
                Some(Refusal::Unsuitable) => "UNSUITABLE",
                Some(Refusal::TooMany) => "TOO_MANY",
                Some(Refusal::NotDialable) => "NOT_DIALABLE",
            };
            (
                "Redirected",
                json!({ "refusal": refusal, "addresses": texts(addresses) }),
            )
        }
        Response::Done { ok } => ("Done", json!({ "ok": ok })),
        Response::HandoverReply(None) => ("HandoverReply", json!({ "agreed": false })),
        Response::HandoverReply(Some(terms)) => (
            "HandoverReply",
            json!({
                "agreed": true, "nonce": nonce(terms.nonce), "links": texts(&terms.links),
                "dialable": terms.dialable, "addresses": texts(&terms.addresses),
            }),
        ),
    }
}

fn expected(case: &Value) -> (&str, Value) {
    (text(case, "kind"), case["fields"].clone())
}

#[test]
fn every_request_has_the_published_bytes() {
    for case in vectors("requests") {
        let body = bytes(case, "body");
        let decoded = decode_request(&body, &sender()).unwrap();
        assert_eq!(request(&decoded), expected(case), "{}", case["name"]);
        assert_eq!(encode_request(&decoded), body, "{}", case["name"]);
    }
}

#[test]
fn every_response_has_the_published_bytes() {
    for case in vectors("responses") {
        let body = bytes(case, "body");
        let decoded = decode_response(&body, &sender()).unwrap();
        assert_eq!(response(&decoded), expected(case), "{}", case["name"]);
        assert_eq!(encode_response(&decoded), body, "{}", case["name"]);
    }
}

#[test]
fn odd_bodies_are_read_as_published() {
    for case in vectors("read") {
        let body = bytes(case, "body");
        let read = match text(case, "message") {
            "request" => request(&decode_request(&body, &sender()).unwrap()),
            _ => response(&decode_response(&body, &sender()).unwrap()),
        };
        assert_eq!(read, expected(case), "{}", case["name"]);
    }
}

#[test]
fn offences_are_refused_for_the_published_reason() {
    for case in vectors("refused") {
        let body = bytes(case, "body");
        let error = match text(case, "message") {
            "request" => decode_request(&body, &sender()).unwrap_err(),
            _ => decode_response(&body, &sender()).unwrap_err(),
        };
        let rule = match error {
            MessageError::NoPeerId => ["no peer id"].as_slice(),
            MessageError::Malformed => &["no kind", "does not parse"],
        };
        assert!(
            rule.contains(&text(case, "rule")),
            "{}: {error}",
            case["name"]
        );
    }
}

#[test]
fn addresses_have_the_published_scopes_and_spellings() {
    for case in vectors("scopes") {
        let address = address(case, "address");
        assert_eq!(address.to_vec(), bytes(case, "bytes"), "{case}");
        let read = PeerAddress::from_bytes(&bytes(case, "bytes"), Some(&sender()));
        let scope = match read.map(|read| read.reach()) {
            Err(_) => Value::Null,
            Ok(Reach::Loopback) => "loopback".into(),
            Ok(Reach::Private) => "private".into(),
            Ok(Reach::Public) => "public".into(),
        };
        assert_eq!(scope, case["scope"], "{case}: {read:?}");
        let spelt = read.map_or(Value::Null, |read| read.to_string().into());
        assert_eq!(spelt, case["read"], "{case}");
    }
}

#[test]
fn a_link_may_name_the_published_addresses_and_no_others() {
    for case in vectors("in_scope") {
        let link = ip_of(&address(case, "link")).and_then(reach_of);
        let named: Vec<PeerAddress> = PeerAddress::parse(&address(case, "address"), None)
            .into_iter()
            .collect();
        let allowed = in_scope(link, &named).len() == 1;
        assert_eq!(allowed, case["allowed"], "{case}");
    }
}
