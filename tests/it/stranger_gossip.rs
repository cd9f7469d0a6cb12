//! A peer that passed and then misbehaves: nothing of it is believed or passed on, its link ends,
//! and nobody else notices.

use std::time::{SystemTime, UNIX_EPOCH};

use diatribe::conformance::frame::framed;
use diatribe::conformance::rpc::{publish, publish_from, subscribe};
use diatribe::conformance::streams::MESHSUB;
use diatribe::gossip::{Author, Event, MAX_MESSAGE};
use diatribe::handshake::{Reason, RejectCode, Role};
use diatribe::identity::NetworkId;
use diatribe::{Identity, RoomName};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::swarm::Stream;

use crate::cluster::{Member, builder, member, start};
use crate::raw_peer::{RawPeer, Up, send};
use crate::stranger::untouched;

const SYNC: &str = "/diatribe/sync/1.0.0";
const OVERLAY: &str = "/diatribe/overlay/1.0.0";

fn lobby() -> RoomName {
    "lobby".parse().expect("a room")
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_millis() as u64
}

/// Returns a batch of an honest author, dated `ahead` of now.
fn batch(author: &Identity, room: &RoomName, ahead_ms: u64, text: &str) -> Vec<u8> {
    let events = vec![Event::new("chat", text.to_owned())];
    let author = Author::new(author.clone(), NetworkId::OPEN, [7; 16]);
    let sealed = author.seal(room, 1, now_ms() + ahead_ms, &[], events);
    sealed.expect("a small batch").bytes().to_vec()
}

/// A raw peer with a link and a gossip stream, in the lobby.
async fn linked(a: &mut Member) -> (RawPeer, Up, Stream) {
    let linked = RawPeer::linked(&a.address()).await;
    a.link_up(linked.0.id()).await;
    linked
}

/// Something that no honest node sends.
struct Offence {
    what: &'static str,
    named: &'static str,
    data: fn(&Identity) -> Vec<u8>,
}

const OFFENCES: [Offence; 7] = [
    Offence {
        what: "no batch at all",
        named: "not an envelope",
        data: |_| b"hello".to_vec(),
    },
    Offence {
        what: "an envelope around nothing",
        named: "no event",
        data: |_| [&[0x0a, 0x02, 0x18, 0x01, 0x12, 0x40][..], &[1; 64]].concat(),
    },
    Offence {
        what: "a signature that is not the author's",
        named: "signature",
        data: |author| {
            let mut data = batch(author, &lobby(), 0, "forged");
            *data.last_mut().expect("a signature") ^= 1;
            data
        },
    },
    Offence {
        what: "a text that the author did not sign",
        named: "signature",
        data: |author| {
            let data = batch(author, &lobby(), 0, "forged");
            let at = data.windows(6).position(|w| w == b"forged").expect("it");
            [&data[..at], b"FORGED", &data[at + 6..]].concat()
        },
    },
    Offence {
        what: "a batch of another room",
        named: "another room",
        data: |author| batch(author, &"attic".parse().expect("a room"), 0, "misplaced"),
    },
    Offence {
        what: "another spelling of a good envelope",
        named: "not an envelope",
        data: |author| {
            let data = batch(author, &lobby(), 0, "twice");
            // The same length, encoded in one byte more.
            let (len, rest) = (data[1], &data[2..]);
            let second = if len & 0x80 == 0 { 0 } else { rest[0] | 0x80 };
            let rest = if len & 0x80 == 0 { rest } else { &rest[1..] };
            let longer = [0x0a, len | 0x80, second];
            let end: &[u8] = if len & 0x80 == 0 { &[] } else { &[0] };
            [&longer[..], end, rest].concat()
        },
    },
    Offence {
        what: "a message over the limit",
        named: "the limit is",
        data: |_| vec![0x0a; MAX_MESSAGE + 1],
    },
];

#[tokio::test]
async fn what_is_no_batch_ends_its_senders_link_and_goes_no_further() {
    for Offence { what, named, data } in OFFENCES {
        let (mut a, mut b) = (member().await, member().await);
        b.link(&mut a).await;
        let (mut raw, up, mut stream) = linked(&mut a).await;
        let data = data(&raw.identity);
        send(&mut stream, &publish(&lobby().topic(), &data)).await;
        let error = a.refused().await;
        assert_eq!(error.code, Some("INVALID_BATCH"), "{what}");
        assert!(error.reason.contains(named), "{what}: {error}");
        let reason = a.link_down(raw.id()).await;
        assert!(reason.contains(named), "{what}: {reason}");
        raw.gone(up).await;
        untouched(&mut a, &mut b).await;
    }
}

#[tokio::test]
async fn an_offender_is_not_let_back_for_a_while() {
    let mut a = member().await;
    let (mut raw, up, mut stream) = linked(&mut a).await;
    send(&mut stream, &publish(&lobby().topic(), b"no batch")).await;
    raw.gone(up).await;
    let up = raw.dial(&a.address()).await;
    let local = raw.local();
    let record = raw
        .handshake(up, Role::Dialer, local, |_, body| Some(framed(&body)))
        .await;
    let reason = &record.failure().reason;
    assert_eq!(*reason, Reason::RefusedByRemote(RejectCode::Policy));
}

#[tokio::test]
async fn an_offender_with_two_connections_loses_both() {
    let mut a = member().await;
    let (mut raw, up, mut stream) = linked(&mut a).await;
    // Noise knows it as the same peer; the node has not yet chosen between the two.
    let mut twin = RawPeer::with(raw.identity.clone(), true).await;
    twin.instance_id = raw.instance_id;
    let second = twin.dial(&a.address()).await;
    twin.pass(second, Role::Dialer).await;
    send(&mut stream, &publish(&lobby().topic(), b"no batch")).await;
    let (first, second) = (raw.gone(up).await, twin.gone(second).await);
    assert!(
        first.as_secs() < 2 && second.as_secs() < 2,
        "{first:?} {second:?}"
    );
    a.link_down(raw.id()).await;
    assert_eq!(a.node.peers().await, []);
}

#[tokio::test]
async fn a_batch_from_the_future_is_passed_over_and_its_sender_stays() {
    let (mut a, mut b) = (member().await, member().await);
    b.link(&mut a).await;
    let (raw, _up, mut stream) = linked(&mut a).await;
    let future = batch(&raw.identity, &lobby(), 6 * 60 * 1000, "too early");
    send(&mut stream, &publish(&lobby().topic(), &future)).await;
    let slow_clock = batch(&raw.identity, &lobby(), 4 * 60 * 1000, "a slow clock");
    send(&mut stream, &publish(&lobby().topic(), &slow_clock)).await;
    assert_eq!(a.texts(1).await, ["a slow clock"]);
    assert_eq!(b.texts(1).await, ["a slow clock"]);
    assert_eq!(a.node.peers().await.len(), 2);
}

#[tokio::test]
async fn a_message_in_gossipsubs_own_name_is_neither_believed_nor_passed_on() {
    let (mut a, mut b) = (member().await, member().await);
    b.link(&mut a).await;
    let (raw, _up, mut stream) = linked(&mut a).await;
    let data = batch(&raw.identity, &lobby(), 0, "with an author of gossipsub's");
    let from = raw.id().to_bytes();
    send(&mut stream, &publish_from(&from, &lobby().topic(), &data)).await;
    let topic = "/diatribe/1/a/b";
    send(&mut stream, &subscribe(topic)).await;
    send(&mut stream, &publish(topic, b"in a room that cannot be")).await;
    let honest = batch(&raw.identity, &lobby(), 0, "as it must be");
    send(&mut stream, &publish(&lobby().topic(), &honest)).await;
    assert_eq!(a.texts(1).await, ["as it must be"]);
    assert_eq!(b.texts(1).await, ["as it must be"]);
}

#[tokio::test]
async fn a_message_that_comes_a_thousand_times_is_heard_once() {
    let (mut a, mut b) = (member().await, member().await);
    b.link(&mut a).await;
    let (raw, _up, mut stream) = linked(&mut a).await;
    let rpc = publish(&lobby().topic(), &batch(&raw.identity, &lobby(), 0, "once"));
    for _ in 0..1000 {
        stream.write_all(&rpc).await.expect("the stream is open");
    }
    stream.flush().await.expect("the stream is open");
    assert_eq!(a.texts(1).await, ["once"]);
    assert_eq!(b.texts(1).await, ["once"]);
    untouched(&mut a, &mut b).await;
}

#[tokio::test]
async fn a_link_on_which_gossip_has_given_up_is_renewed() {
    let (mut a, mut b) = (member().await, member().await);
    b.link(&mut a).await;
    let (mut raw, up, first) = linked(&mut a).await;
    drop(first);
    // gossipsub counts the streams of a connection, and takes no more than four.
    while let Some(stream) = raw.open(up, MESHSUB).await {
        drop(stream);
    }
    let reason = a.link_down(raw.id()).await;
    assert!(reason.contains("gossip stream died"), "{reason}");
    raw.gone(up).await;
    // It is no offence: the peer may return.
    let up = raw.dial(&a.address()).await;
    raw.pass(up, Role::Dialer).await;
    a.link_up(raw.id()).await;
    untouched(&mut a, &mut b).await;
}

#[tokio::test]
async fn a_request_that_is_cut_short_costs_nothing_and_one_that_is_none_costs_the_link() {
    for protocol in [SYNC, OVERLAY] {
        let mut a = start(builder().fixed_links(false)).await;
        let (raw, up, mut gossip) = linked(&mut a).await;
        for cut in [&[][..], &[100], &[100, 1, 2, 3]] {
            // A peer that gives up because the line is slow ends the stream in the middle.
            let mut request = raw.open(up, protocol).await.expect("a link takes it");
            request.write_all(cut).await.expect("the stream is open");
            request.close().await.expect("the stream is open");
            let mut answer = Vec::new();
            let end = request.read_to_end(&mut answer).await;
            assert!(answer.is_empty(), "{answer:?} {end:?}");
        }
        let honest = batch(&raw.identity, &lobby(), 0, "I stay");
        send(&mut gossip, &publish(&lobby().topic(), &honest)).await;
        assert_eq!(a.texts(1).await, ["I stay"]);

        let mut request = raw.open(up, protocol).await.expect("a link takes it");
        request.write_all(&[0]).await.expect("the stream is open");
        let reason = a.link_down(raw.id()).await;
        assert!(reason.contains("the frame is empty"), "{reason}");
    }
}
