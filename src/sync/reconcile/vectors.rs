//! Tests with `proto/vectors/sync.json`: numbers, fingerprints and frames, byte for byte.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::*;
use crate::sync::message::{MAX_REQUEST_FRAME, MAX_RESPONSE_FRAME};

static VECTORS: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../proto/vectors/sync.json")).unwrap()
});

const ALL: Window = Window {
    since_ms: 0,
    until_ms: u64::MAX,
};

fn vectors(part: &str) -> &'static [Value] {
    let cases = VECTORS[part].as_array().unwrap();
    assert!(!cases.is_empty(), "no vectors in {part}");
    cases
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn id(value: &Value) -> Id {
    hex::decode(text(value)).unwrap().try_into().unwrap()
}

fn frame(value: &Value) -> Vec<u8> {
    hex::decode(text(value)).unwrap()
}

fn items(value: &Value) -> Items {
    let item = |item: &Value| Item {
        sent_at_ms: item[0].as_u64().unwrap(),
        id: id(&item[1]),
    };
    value.as_array().unwrap().iter().map(item).collect()
}

fn hexes(ids: &[Id]) -> Value {
    ids.iter().map(hex::encode).collect()
}

#[test]
fn numbers_are_written_and_read_as_published() {
    for case in vectors("numbers") {
        let (value, bytes) = (text(&case["value"]).parse().unwrap(), frame(&case["bytes"]));
        let mut written = Vec::new();
        put_number(&mut written, value);
        assert_eq!(written, bytes);
        let mut input = Input {
            rest: &bytes,
            last_ms: 0,
        };
        assert_eq!(input.number(), Ok(value));
    }
}

#[test]
fn fingerprints_are_the_published_ones() {
    for case in vectors("fingerprints") {
        let ids = case["ids"].as_array().unwrap().iter().map(id);
        let items: Items = ids.map(|id| Item { sent_at_ms: 1, id }).collect();
        let fingerprint = fingerprint(&Held::from(&items), 0, items.len());
        assert_eq!(
            hex::encode(fingerprint),
            case["fingerprint"],
            "{}",
            case["name"]
        );
    }
}

#[test]
fn frames_say_what_is_published() {
    for case in vectors("frames") {
        let frame = frame(&case["frame"]);
        let mut input = Input::new(&frame).unwrap();
        let mut ranges = Vec::new();
        while let Some((to, range)) = input.range().unwrap() {
            let ms = (to.item.sent_at_ms != u64::MAX).then_some(to.item.sent_at_ms);
            let prefix = hex::encode(&to.item.id[..to.len]);
            let mut said = json!({ "ms": ms, "prefix": prefix });
            said["kind"] = match range {
                Range::Skip => "Skip".into(),
                Range::Fingerprint(fingerprint) => {
                    said["fingerprint"] = hex::encode(fingerprint).into();
                    "Fingerprint".into()
                }
                Range::Ids(ids) => {
                    said["ids"] = hexes(ids.as_chunks::<32>().0);
                    "IdList".into()
                }
            };
            ranges.push(said);
        }
        assert_eq!(Value::from(ranges), case["ranges"], "{}", case["name"]);
    }
}

#[test]
fn bad_frames_are_refused_for_the_published_reason() {
    for case in vectors("bad_frames") {
        let frame = frame(&case["frame"]);
        let error = answer(&Items::new(), ALL, &frame, MAX_RESPONSE_FRAME).unwrap_err();
        let rule = match error {
            BadFrame::Truncated => "too short",
            BadFrame::Version(_) => "version",
            BadFrame::Number => "number",
            BadFrame::Id => "prefix",
            BadFrame::Order => "order",
            BadFrame::Kind(_) => "kind",
        };
        assert_eq!(rule, case["rule"], "{}", case["name"]);
    }
}

#[test]
fn an_opener_learns_what_is_published() {
    for case in vectors("learn") {
        let mut difference = Difference::default();
        let next = advance(
            &items(&case["items"]),
            ALL,
            &frame(&case["frame"]),
            MAX_REQUEST_FRAME,
            &mut difference,
        );
        let next = next.unwrap().map(hex::encode);
        assert_eq!(json!(next), case["next"], "{}", case["name"]);
        assert_eq!(hexes(&difference.lacking), case["lacking"]);
        assert_eq!(difference.ahead, case["ahead"]);
    }
}

#[test]
fn comparisons_go_as_published_byte_for_byte() {
    for case in vectors("comparisons") {
        let window = Window {
            since_ms: case["since_ms"].as_u64().unwrap(),
            until_ms: match case["until_ms"].as_u64().unwrap() {
                0 => u64::MAX,
                until_ms => until_ms,
            },
        };
        let (ours, theirs) = (items(&case["opener"]), items(&case["answerer"]));
        let mut difference = Difference::default();
        let mut frames = Vec::new();
        let mut next = Some(opening(&ours, window));
        while let Some(frame) = next {
            let reply = answer(&theirs, window, &frame, MAX_RESPONSE_FRAME).unwrap();
            next = advance(&ours, window, &reply, MAX_REQUEST_FRAME, &mut difference).unwrap();
            frames.push(json!({ "from": "opener", "frame": hex::encode(frame) }));
            frames.push(json!({ "from": "answerer", "frame": hex::encode(reply) }));
        }
        assert_eq!(Value::from(frames), case["frames"], "{}", case["name"]);
        assert_eq!(hexes(&difference.lacking), case["lacking"]);
        assert_eq!(difference.ahead, case["ahead"]);
    }
}
