//! Gossip of a member: an invalid message never blocks a valid one.

use std::path::Path;

use bytes::Bytes;
use diatribe::conformance::rpc::{publish, publish_with};
use diatribe::gossip::{self, Author, Event, PROTOCOLS, VerifiedBatch};
use diatribe::identity::{Identity, NetworkId};
use diatribe::model::{BatchId, RoomName};
use diatribe::store::{Archive, Query};
use libp2p::swarm::Stream;

use crate::cluster::{Member, builder, member, start};
use crate::raw_peer::{RawPeer, Up, send};

const TOPIC: &str = "/diatribe/1/lobby";

fn lobby() -> RoomName {
    "lobby".parse().expect("a room")
}

/// A batch of an author of its own.
fn batch(text: &str) -> Vec<u8> {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    let now_ms = since.expect("after 1970").as_millis() as u64;
    let author = Author::new(Identity::generate(), NetworkId::OPEN, [7; 16]);
    let events = vec![Event::new("chat", text.to_owned())];
    let sealed = author.seal(&lobby(), 1, now_ms, &[], events);
    sealed.expect("a small batch").bytes().to_vec()
}

/// A raw peer with a link to `a` and a gossip stream, in the lobby.
async fn linked(a: &mut Member) -> (RawPeer, Up, Stream) {
    let linked = RawPeer::linked(&a.address()).await;
    a.link_up(linked.0.id()).await;
    linked
}

#[tokio::test]
async fn a_batch_that_came_first_in_other_topics_is_heard_in_its_own() {
    let (mut a, mut b) = (member().await, member().await);
    b.link(&mut a).await;
    let (_raw, _up, mut stream) = linked(&mut a).await;
    let data = batch("first elsewhere");
    for topic in [
        "/diatribe/1/nobody's",
        "/diatribe/1/a/b",
        "another program",
        "",
    ] {
        send(&mut stream, &publish(topic, &data)).await;
    }
    send(&mut stream, &publish(TOPIC, &data)).await;
    assert_eq!(a.texts(1).await, ["first elsewhere"]);
    assert_eq!(b.texts(1).await, ["first elsewhere"]);
    assert_eq!(a.node.peers().await.len(), 2);
}

#[tokio::test]
async fn a_batch_of_which_a_forged_copy_came_first_is_heard() {
    let (mut a, mut b) = (member().await, member().await);
    b.link(&mut a).await;
    let data = batch("first forged");
    let mut forged = data.clone();
    *forged.last_mut().expect("a signature") ^= 1;
    let (mut liar, up, mut stream) = linked(&mut a).await;
    send(&mut stream, &publish(TOPIC, &forged)).await;
    liar.gone(up).await;
    let (_honest, _up, mut stream) = linked(&mut a).await;
    send(&mut stream, &publish(TOPIC, &data)).await;
    assert_eq!(a.texts(1).await, ["first forged"]);
    assert_eq!(b.texts(1).await, ["first forged"]);
}

#[tokio::test]
async fn a_message_with_any_field_of_gossipsubs_own_is_dropped_and_its_batch_is_heard_without_it() {
    let (mut a, mut b) = (member().await, member().await);
    b.link(&mut a).await;
    let (_raw, _up, mut stream) = linked(&mut a).await;
    for (number, bytes) in [
        (1, &[0, 0x24][..]),
        (3, &[0; 8]),
        (5, &[7; 64]),
        (6, &[8, 1]),
    ] {
        for bytes in [bytes, &[]] {
            let dropped = publish_with(&[(number, bytes)], TOPIC, &batch("dropped"));
            send(&mut stream, &dropped).await;
            let data = batch("as it must be");
            send(&mut stream, &publish_with(&[(number, bytes)], TOPIC, &data)).await;
            send(&mut stream, &publish(TOPIC, &data)).await;
            assert_eq!(a.texts(1).await, ["as it must be"], "field {number}");
            assert_eq!(b.texts(1).await, ["as it must be"], "field {number}");
        }
    }
    assert_eq!(a.node.peers().await.len(), 2);
}

#[tokio::test]
async fn gossip_is_spoken_in_its_three_protocols_and_in_no_other() {
    let mut a = member().await;
    let (mut raw, up, _stream) = linked(&mut a).await;
    for protocol in ["/meshsub/1.3.0", "/floodsub/1.0.0", "/meshsub/1.4.0"] {
        assert!(raw.open(up, protocol).await.is_none(), "{protocol}");
    }
    for protocol in PROTOCOLS {
        assert!(raw.open(up, protocol).await.is_some(), "{protocol}");
    }
    // This peer would take 1.3.0, which libp2p's gossipsub prefers.
    let opened = raw.gossip_stream().await.protocol;
    assert_eq!(opened.as_ref(), PROTOCOLS[0]);
}

/// Returns the batches of one author in the lobby from a log, in the order of arrival.
fn said(dir: &Path, author: &Identity) -> Vec<VerifiedBatch> {
    let archive = Archive::open(dir).expect("a log");
    let pages = archive.reader().history(Query::default());
    let records = pages.flat_map(|page| page.expect("it is read"));
    records
        .map(|stored| Bytes::copy_from_slice(&stored.record.bytes))
        .map(|data| gossip::open(data, NetworkId::OPEN, &lobby(), u64::MAX).expect("a batch"))
        .filter(|batch| batch.author() == author.peer_id())
        .collect()
}

#[tokio::test]
async fn a_batch_follows_the_one_before_it_and_what_earlier_runs_have_left() {
    let dir = tempfile::tempdir().expect("a folder");
    let me = Identity::generate();
    let mut other = member().await;
    for run in 0..3 {
        let node = builder().identity(me.clone()).data_dir(dir.path());
        let mut own = start(node).await;
        own.link(&mut other).await;
        for n in 0..3 {
            own.say(&format!("{n} of run {run}")).await;
        }
        assert_eq!(other.texts(3).await.len(), 3);
        own.node.shutdown().await;
        other.link_down(me.peer_id()).await;
    }
    let said = said(dir.path(), &me);
    assert_eq!(said.len(), 9);
    assert_eq!(said[0].prev(), []);
    for pair in said.windows(2) {
        assert_eq!(pair[1].prev(), [pair[0].id()]);
    }
}

#[tokio::test]
async fn two_runs_of_one_identity_follow_each_other() {
    let dir = tempfile::tempdir().expect("a folder");
    let me = Identity::generate();
    let (mut left, mut right) = (start(builder().data_dir(dir.path())).await, member().await);
    right.link(&mut left).await;
    let twin = || start(builder().identity(me.clone()));
    let (mut one, mut two) = (twin().await, twin().await);
    one.link(&mut left).await;
    two.link(&mut right).await;
    let first = one.say("from one").await;
    assert_eq!(two.texts(1).await, ["from one"]);
    let second = two.say("from two").await;
    assert_eq!(one.texts(1).await, ["from two"]);
    let third = one.say("from one again").await;
    assert_eq!(left.texts(3).await.len(), 3);
    let prev_of = |id: BatchId| {
        let said = said(dir.path(), &me);
        let batch = said.iter().find(|batch| batch.id() == id);
        batch.expect("it is stored").prev().to_vec()
    };
    assert_eq!(prev_of(first.id), []);
    assert_eq!(prev_of(second.id), [first.id]);
    assert_eq!(prev_of(third.id), [first.id, second.id]);
}
