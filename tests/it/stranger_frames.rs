//! Handshake frames that are forged, borrowed, malformed or out of turn end their own connection with a named reason,
//! and no other connection.

use std::sync::Arc;

use diatribe::conformance::frame::framed;
use diatribe::handshake::{Local, Reason, RejectCode, Role};
use diatribe::wire::proto::handshake as proto;
use diatribe::{ConnectError, NetworkKey, StageError};
use futures::AsyncWriteExt;
use prost::Message;

use crate::cluster::{Member, builder, member, start};
use crate::raw_peer::{ANSWER_1, CHALLENGE_1, HELLO_1, RawPeer};
use crate::stranger::{talkers, untouched};

fn stage(error: ConnectError) -> StageError {
    match error {
        ConnectError::Stage(error) => error,
        error => panic!("{error}"),
    }
}

/// A malformed first frame of a round.
struct Malformed {
    what: &'static str,
    /// The expected text of the refusal.
    named: &'static str,
    bytes: fn(&[u8]) -> Vec<u8>,
}

const MALFORMED: [Malformed; 6] = [
    Malformed {
        what: "oversized",
        named: "over the limit of 1024",
        bytes: |_| framed(&[0x0a; 1025]),
    },
    Malformed {
        what: "truncated",
        named: "the stream ended before the frame did",
        bytes: |body| framed(body)[..body.len() / 2].to_vec(),
    },
    Malformed {
        what: "empty",
        named: "the frame is empty",
        bytes: |_| vec![0],
    },
    Malformed {
        what: "two in one",
        named: "bytes follow the frame",
        bytes: |body| [framed(body), framed(body)].concat(),
    },
    Malformed {
        what: "a length that is not minimal",
        named: "not a minimal varint",
        bytes: |_| vec![0x85, 0x00, 1, 2, 3, 4, 5],
    },
    Malformed {
        what: "no protobuf",
        named: "bytes that are no handshake frame",
        bytes: |_| framed(&[0xff; 40]),
    },
];

#[tokio::test]
async fn a_malformed_frame_ends_its_own_connection_by_name_and_no_other() {
    let (mut a, mut b) = talkers().await;
    for frame in [HELLO_1, ANSWER_1] {
        for Malformed { what, named, bytes } in MALFORMED {
            let mut raw = RawPeer::new().await;
            let up = raw.dial(&a.address()).await;
            let local = raw.local();
            raw.handshake(up, Role::Dialer, local, |n, body| {
                Some(if n == frame {
                    bytes(&body)
                } else {
                    framed(&body)
                })
            })
            .await;
            let error = a.refused().await;
            assert!(error.reason.contains(named), "{what}: {error}");
            raw.gone(up).await;
            assert_eq!(raw.gossip_streams().len(), 0, "{what}");
        }
    }
    untouched(&mut a, &mut b).await;
}

#[tokio::test]
async fn a_malformed_answer_to_a_node_that_dials_is_told_to_whoever_dialled() {
    let (mut a, mut b) = talkers().await;
    for Malformed { what, named, bytes } in MALFORMED {
        let mut raw = RawPeer::new().await;
        let (up, dial) = raw.dialled_by(&a.node).await;
        let local = raw.local();
        raw.handshake(up, Role::Listener, local, |n, body| {
            Some(if n == CHALLENGE_1 {
                bytes(&body)
            } else {
                framed(&body)
            })
        })
        .await;
        raw.gone(up).await;
        let error = stage(
            dial.await
                .expect("it answers")
                .expect_err("it did not pass"),
        );
        assert!(error.reason.contains(named), "{what}: {error}");
    }
    untouched(&mut a, &mut b).await;
}

#[tokio::test]
async fn a_frame_after_the_pass_ends_the_link_by_name() {
    let (mut a, mut b) = talkers().await;
    for again in [framed, |_: &[u8]| vec![0]] {
        let mut raw = RawPeer::new().await;
        let up = raw.dial(&a.address()).await;
        let record = raw.pass(up, Role::Dialer).await;
        a.link_up(raw.id()).await;
        raw.ask(up, &again(&record.frames[&HELLO_1])).await;
        let error = a.refused().await;
        let named = ["sent Hello where none was due", "the frame is empty"];
        assert!(named.iter().any(|n| error.reason.contains(n)), "{error}");
        let reason = a.link_down(raw.id()).await;
        assert!(named.iter().any(|n| reason.contains(n)), "{reason}");
        raw.gone(up).await;
    }
    untouched(&mut a, &mut b).await;
}

#[tokio::test]
async fn a_frame_that_comes_twice_ends_the_handshake() {
    let mut a = member().await;
    let mut raw = RawPeer::new().await;
    let up = raw.dial(&a.address()).await;
    let local = raw.local();
    let mut hello = Vec::new();
    raw.handshake(up, Role::Dialer, local, |n, body| {
        if n == HELLO_1 {
            hello = framed(&body);
            return Some(hello.clone());
        }
        None
    })
    .await;
    assert!(raw.ask(up, &hello).await.is_none());
    let error = a.refused().await;
    assert_eq!(error.code, Some("VIOLATION"), "{error}");
    assert!(error.reason.contains("Hello"), "{error}");
    raw.gone(up).await;
}

#[tokio::test]
async fn recorded_frames_do_not_pass_on_a_new_connection() {
    let mut a = member().await;
    let mut raw = RawPeer::new().await;
    let up = raw.dial(&a.address()).await;
    let recorded = raw.pass(up, Role::Dialer).await.frames;
    a.link_up(raw.id()).await;
    let mut again = RawPeer::with(raw.identity.clone(), true).await;
    let up = again.dial(&a.address()).await;
    let challenge = again.ask(up, &framed(&recorded[&HELLO_1])).await;
    assert_ne!(
        challenge.expect("a fresh challenge"),
        recorded[&CHALLENGE_1]
    );
    let refusal = again.ask(up, &framed(&recorded[&ANSWER_1])).await;
    let refusal = proto::Frame::decode(&refusal.expect("an answer")[..]).expect("a frame");
    let auth = proto::Reject {
        code: RejectCode::Auth.number(),
        ..Default::default()
    };
    assert_eq!(refusal.kind, Some(proto::frame::Kind::Reject(auth)));
    assert_eq!(a.refused().await.code, Some("AUTH"));
    again.gone(up).await;
}

#[tokio::test]
async fn a_nodes_own_frames_prove_nothing_when_they_come_back() {
    let a = member().await;
    let mut raw = RawPeer::new().await;
    let (up, dial) = raw.dialled_by(&a.node).await;
    let (mut reply, hello) = raw.request().await.expect("the node begins");
    // The node's own Hello is asked of itself on a second connection.
    let mut second = RawPeer::with(raw.identity.clone(), true).await;
    let other = second.dial(&a.address()).await;
    let challenge = second.ask(other, &framed(&hello)).await.expect("an answer");
    reply
        .write_all(&framed(&challenge))
        .await
        .expect("it listens");
    reply.close().await.expect("it listens");
    let error = stage(
        dial.await
            .expect("it answers")
            .expect_err("it did not pass"),
    );
    // Its tags are for the other direction, and it reads the Reject that they cause.
    assert_eq!(error.code, Some("NETWORK"), "{error}");
    raw.gone(up).await;
    second.gone(other).await;
    assert_eq!(a.node.peers().await, []);
}

/// Changes a frame that a relay passes from `a`, which dialled it, to `b`, or back.
type Meddle = fn(&RawPeer, Vec<u8>) -> Vec<u8>;

#[tokio::test]
async fn a_relay_between_two_honest_nodes_gets_neither_to_pass() {
    let as_it_is: Meddle = |_, frame| frame;
    let in_its_own_name: Meddle = |relay, frame| {
        let mut frame = proto::Frame::decode(&frame[..]).expect("an honest frame");
        let core = match frame.kind.as_mut() {
            Some(proto::frame::Kind::Hello(hello)) => &mut hello.core,
            Some(proto::frame::Kind::Challenge(challenge)) => &mut challenge.core,
            _ => return frame.encode_to_vec(),
        };
        let mut own = proto::Core::decode(core.clone()).expect("an honest core");
        own.public_key = relay.identity.public_key_protobuf().into();
        own.peer_id = relay.id().to_bytes().into();
        *core = own.encode_to_vec().into();
        frame.encode_to_vec()
    };
    for meddle in [as_it_is, in_its_own_name] {
        let (mut a, mut b) = (member().await, member().await);
        let mut relay = RawPeer::new().await;
        let (from_a, dial) = relay.dialled_by(&a.node).await;
        let to_b = relay.dial(&b.address()).await;
        while let Some((mut reply, frame)) = relay.request().await {
            let Some(answer) = relay.ask(to_b, &framed(&meddle(&relay, frame))).await else {
                break;
            };
            let answer = framed(&meddle(&relay, answer));
            if reply.write_all(&answer).await.is_err() || reply.close().await.is_err() {
                break;
            }
        }
        let error = stage(dial.await.expect("it answers").expect_err("a relay passed"));
        assert!(error.code.is_some(), "{error}");
        relay.gone(from_a).await;
        relay.gone(to_b).await;
        assert!(b.refused().await.code.is_some() || a.refused().await.code.is_some());
        assert_eq!(
            (a.node.peers().await, b.node.peers().await),
            (vec![], vec![])
        );
    }
}

#[tokio::test]
async fn a_wrong_network_key_is_named_at_both_ends() {
    let key = |byte| NetworkKey::from_bytes(&[byte; 32]);
    let keys = [
        (Some(key(1)), Some(key(2)), "on different networks"),
        (Some(key(1)), None, "this node is on the open network"),
        (None, Some(key(2)), "the peer is on the open network"),
    ];
    for (ours, theirs, told) in keys {
        let with = |key: Option<NetworkKey>| match key {
            Some(key) => builder().network_key(key),
            None => builder(),
        };
        let (a, mut b): (Member, Member) = (start(with(ours)).await, start(with(theirs)).await);
        let error = stage(a.node.connect(b.address()).await.expect_err("keys differ"));
        assert_eq!(error.code, Some("NETWORK"), "{error}");
        let error = b.refused().await;
        assert_eq!(error.code, Some("NETWORK"), "{error}");
        assert!(error.reason.contains(told), "{error}");
    }
}

#[tokio::test]
async fn a_stranger_is_told_of_another_network_and_nothing_more() {
    let mut a = member().await;
    let mut raw = RawPeer::new().await;
    let up = raw.dial(&a.address()).await;
    let key = NetworkKey::from_bytes(&[7; 32]);
    let local = Arc::new(Local::new(raw.identity.clone(), Some(key), [1; 16]));
    let record = raw
        .handshake(up, Role::Dialer, local, |_, body| Some(framed(&body)))
        .await;
    let reason = &record.failure().reason;
    assert_eq!(*reason, Reason::RefusedByRemote(RejectCode::Network));
    assert_eq!(a.refused().await.code, Some("NETWORK"));
    raw.gone(up).await;
}

#[tokio::test]
async fn a_second_round_that_begins_before_the_first_is_over_does_not_pass() {
    let a = member().await;
    let mut raw = RawPeer::new().await;
    let (up, dial) = raw.dialled_by(&a.node).await;
    let (_reply, hello) = raw.request().await.expect("the node begins");
    // A Hello of ours while ours is to be a Challenge: the listener has no turn yet.
    raw.ask(up, &framed(&hello)).await;
    let error = stage(
        dial.await
            .expect("it answers")
            .expect_err("it did not pass"),
    );
    assert_eq!(error.code, Some("VIOLATION"), "{error}");
    raw.gone(up).await;
}
