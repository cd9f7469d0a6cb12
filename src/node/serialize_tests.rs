//! What the public results look like when they are serialized.

use std::time::Duration;

use serde_json::json;

use crate::{BatchId, BroadcastReceipt, Direction, Identity, LinkInfo, Stage, StageError};

#[test]
fn ids_are_text_and_names_are_those_of_the_json_lines() {
    let sent = BroadcastReceipt {
        id: BatchId([1; 32]),
        seq: 7,
        links: 2,
        confirmed: 0,
    };
    let expected = json!({"id": "01".repeat(32), "seq": 7, "links": 2, "confirmed": 0});
    assert_eq!(serde_json::to_value(sent).unwrap(), expected);

    let peer_id = Identity::generate().peer_id();
    let link = LinkInfo {
        peer_id,
        address: "/ip4/1.2.3.4/tcp/9/ws".parse().unwrap(),
        direction: Direction::Dialer,
        rtt: None,
        age: Duration::from_secs(1),
        clock_offset_ms: -3,
    };
    let expected = json!({
        "peer_id": peer_id.to_string(),
        "address": "/ip4/1.2.3.4/tcp/9/ws",
        "direction": "dialer",
        "rtt": null,
        "age": {"secs": 1, "nanos": 0},
        "clock_offset_ms": -3,
    });
    assert_eq!(serde_json::to_value(link).unwrap(), expected);

    for stage in [
        Stage::Address,
        Stage::Handshake1,
        Stage::Handshake2,
        Stage::Link,
    ] {
        assert_eq!(serde_json::to_value(stage).unwrap(), stage.name());
    }
    let error = StageError::new(Stage::Tcp, "nothing listens").with_code("REFUSED");
    let expected = json!({"stage": "tcp", "code": "REFUSED", "reason": "nothing listens"});
    assert_eq!(serde_json::to_value(error).unwrap(), expected);
}
