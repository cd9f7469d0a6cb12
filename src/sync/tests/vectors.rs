//! Tests with `proto/vectors/sync.json`: the bytes of each message, and the malformed ones. The frames in them are
//! tested beside [`crate::sync::reconcile`].

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::model::{Id, Item};
use crate::sync::message::{Malformed, Request, Response};

static VECTORS: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../proto/vectors/sync.json")).unwrap()
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

fn body(case: &Value) -> Vec<u8> {
    hex::decode(text(case, "body")).unwrap()
}

fn hexes<T: AsRef<[u8]>>(all: &[T]) -> Value {
    all.iter().map(hex::encode).collect()
}

fn request(request: &Request) -> (&'static str, Value) {
    match request {
        Request::Compare {
            room,
            window,
            frame,
        } => {
            let until_ms = match window.until_ms {
                u64::MAX => 0,
                until_ms => until_ms,
            };
            let (since_ms, frame) = (window.since_ms, hex::encode(frame));
            let fields =
                json!({ "room": room, "since_ms": since_ms, "until_ms": until_ms, "frame": frame });
            ("Compare", fields)
        }
        Request::Fetch { room, ids } => ("Fetch", json!({ "room": room, "ids": hexes(ids) })),
        Request::Lagging { room, count } => ("Lagging", json!({ "room": room, "count": count })),
        Request::Announce { room, items } => {
            let items: Value = items
                .iter()
                .map(|item| json!([item.sent_at_ms, hex::encode(item.id)]))
                .collect();
            ("Announce", json!({ "room": room, "items": items }))
        }
    }
}

fn response(response: &Response) -> (&'static str, Value) {
    match response {
        Response::Ranges(frame) => {
            let fields = json!({ "frame": hex::encode(frame), "since_ms": 0 });
            ("Ranges", fields)
        }
        Response::From(since_ms) => ("Ranges", json!({ "frame": "", "since_ms": since_ms })),
        Response::Batches {
            envelopes,
            missing,
            removed,
        } => {
            let missing: &[Id] = missing;
            let mut fields = json!({ "envelopes": hexes(envelopes), "missing": hexes(missing) });
            if !removed.is_empty() {
                let item = |item: &Item| json!([item.sent_at_ms, hex::encode(item.id)]);
                fields["removed"] = removed.iter().map(item).collect();
            }
            ("Batches", fields)
        }
        Response::Ack(held) if held.is_empty() => ("Ack", json!({})),
        Response::Ack(held) => ("Ack", json!({ "held": hexes(held) })),
        Response::RetryAfter(after) => {
            let after_ms = u64::try_from(after.as_millis()).unwrap();
            ("RetryAfter", json!({ "after_ms": after_ms }))
        }
        Response::NotSubscribed => ("NotSubscribed", json!({})),
    }
}

#[test]
fn every_request_has_the_published_bytes() {
    for case in vectors("requests").iter().chain(vectors("announcements")) {
        let body = body(case);
        let decoded = Request::decode(body.clone().into()).unwrap();
        let expected = (text(case, "kind"), case["fields"].clone());
        assert_eq!(request(&decoded), expected, "{}", case["name"]);
        assert_eq!(decoded.encode(), body, "{}", case["name"]);
    }
}

#[test]
fn a_request_says_its_senders_clock_in_the_published_bytes() {
    for case in vectors("clocks") {
        let body = body(case);
        let decoded = Request::decode(body.clone().into()).unwrap();
        let expected = (text(case, "kind"), case["fields"].clone());
        assert_eq!(request(&decoded), expected, "{}", case["name"]);
        let clock_ms = case["clock_ms"].as_u64().unwrap();
        assert_eq!(Request::clock_ms(&body.clone().into()), Some(clock_ms));
        let mut encoded = decoded.encode();
        assert_eq!(Request::clock_ms(&encoded.clone().into()), None);
        Request::add_clock(&mut encoded, clock_ms);
        assert_eq!(encoded, body, "{}", case["name"]);
    }
}

#[test]
fn every_response_has_the_published_bytes() {
    for case in ["responses", "acks", "removed"]
        .into_iter()
        .flat_map(vectors)
    {
        let body = body(case);
        let decoded = Response::decode(body.clone().into()).unwrap();
        let expected = (text(case, "kind"), case["fields"].clone());
        assert_eq!(response(&decoded), expected, "{}", case["name"]);
        assert_eq!(decoded.encode(), body, "{}", case["name"]);
    }
}

#[test]
fn offences_are_refused_for_the_published_reason() {
    for case in ["refused", "refused_announcements", "refused_removed"]
        .into_iter()
        .flat_map(vectors)
    {
        let body = body(case).into();
        let error = match text(case, "message") {
            "request" => Request::decode(body).unwrap_err(),
            _ => Response::decode(body).unwrap_err(),
        };
        let rule = match error {
            Malformed::Undecodable => "parse",
            Malformed::Unknown => "kind",
            Malformed::Room => "room",
            Malformed::Ids => "ids",
            Malformed::Announce => "announce",
            Malformed::Removed => "removed",
            Malformed::Window => "window",
            Malformed::Frame => "frame",
        };
        assert_eq!(rule, text(case, "rule"), "{}", case["name"]);
    }
}
