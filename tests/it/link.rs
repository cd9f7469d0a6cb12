//! A link is established when both sides have proved their identity, carries messages at once, and reports the reason
//! when it fails.

use std::time::Duration;

use diatribe::{BroadcastError, ConnectError, RoomName, Stage};

use crate::cluster::{Member, builder, member, start};

#[tokio::test]
async fn what_one_says_the_other_hears() {
    let (mut a, mut b) = (member().await, member().await);
    a.link(&mut b).await;
    a.say("hello").await;
    b.say("good day").await;
    assert_eq!(b.texts(1).await, ["hello"]);
    assert_eq!(a.texts(1).await, ["good day"]);
}

#[tokio::test]
async fn twenty_messages_each_way_right_after_the_link_all_arrive_in_twenty_runs() {
    for run in 0..20 {
        let (mut a, mut b) = (member().await, member().await);
        match run % 4 {
            // Both dial at once.
            0 => {
                let (ours, theirs) =
                    tokio::join!(a.node.connect(b.address()), b.node.connect(a.address()));
                ours.expect("the link comes up");
                theirs.expect("the link comes up");
            }
            n if n % 2 == 0 => a.link(&mut b).await,
            _ => b.link(&mut a).await,
        }
        let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        for text in &expected {
            let (from_a, from_b) = tokio::join!(a.say(text), b.say(text));
            assert_eq!((from_a.links, from_b.links), (1, 1));
        }
        assert_eq!(a.texts(20).await, expected, "run {run}");
        assert_eq!(b.texts(20).await, expected, "run {run}");
    }
}

fn lobby() -> RoomName {
    "lobby".parse().expect("a room")
}

/// A link with a node that is in no room, and so sends no subscription.
async fn linked_in_silence() -> (Member, Member) {
    let (mut a, mut b) = (member().await, member().await);
    assert!(b.node.leave(lobby()).await);
    a.link(&mut b).await;
    a.link_up(b.id()).await;
    (a, b)
}

/// Half a second of silence is no proof that nobody is there: the link may be a far one.
#[tokio::test]
async fn what_is_said_before_a_slow_peer_has_said_its_rooms_waits_for_it() {
    let (a, mut b) = linked_in_silence().await;
    let mut saying = Box::pin(a.node.broadcast("lobby", "chat", "hello"));
    let answer = tokio::time::timeout(Duration::from_millis(100), &mut saying).await;
    assert!(answer.is_err(), "it waits");
    b.node.join(lobby()).await.expect("a room");
    assert_eq!(saying.await.expect("it is sent").links, 1);
    assert_eq!(b.texts(1).await, ["hello"]);
}

#[tokio::test]
async fn who_speaks_to_nobody_is_told_so_when_the_links_have_had_time_to_say_their_rooms() {
    let (a, _b) = linked_in_silence().await;
    let error = a.node.broadcast("lobby", "chat", "hello").await;
    assert!(
        matches!(error, Err(BroadcastError::NoLinks(_))),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_message_crosses_a_line_of_three_once() {
    let (mut a, mut b, mut c) = (member().await, member().await, member().await);
    a.link(&mut b).await;
    b.link(&mut c).await;
    a.say("one").await;
    a.say("two").await;
    assert_eq!(c.texts(2).await, ["one", "two"]);
}

#[tokio::test]
async fn an_untrusted_peer_is_refused_by_name_on_both_sides() {
    let mut a = start(builder().trust([libp2p::PeerId::random()])).await;
    let b = member().await;
    let error = b
        .node
        .connect(a.address())
        .await
        .expect_err("it is not trusted");
    let ConnectError::Stage(error) = error else {
        panic!("{error}")
    };
    assert_eq!(
        (error.stage, error.code),
        (Stage::Handshake1, Some("POLICY"))
    );
    assert_eq!(a.refused().await.code, Some("POLICY"));
}
