//! A member that fills the log: its own messages make room, everybody else's stay, and it is named.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use diatribe::conformance::rpc::publish;
use diatribe::gossip::{Author, Event as Said};
use diatribe::identity::NetworkId;
use diatribe::store::RetentionPolicy;
use diatribe::{Crowding, Event, HistoryQuery, RoomName};
use futures::{AsyncWriteExt, StreamExt};
use libp2p::PeerId;
use libp2p::swarm::Stream;

use crate::cluster::{EVENT_TIMEOUT, Member, builder, start};
use crate::raw_peer::RawPeer;

/// Maximum size of the nodes' logs. The hostile member sends three times as much.
const LOG_BYTES: u64 = 4 << 20;
const FLOOD: u64 = 200;
const FLOOD_BYTES: usize = 60_000;

/// Number of messages that honest members send.
const SAID: usize = 300;

fn lobby() -> RoomName {
    "lobby".parse().expect("a room")
}

async fn small() -> Member {
    let keep = RetentionPolicy {
        bytes: LOG_BYTES,
        ..RetentionPolicy::default()
    };
    start(builder().retention(keep)).await
}

/// A member that sends arbitrary messages.
struct Hostile {
    raw: RawPeer,
    stream: Stream,
}

impl Hostile {
    async fn linked(a: &mut Member) -> Hostile {
        let (raw, _up, stream) = RawPeer::linked(&a.address()).await;
        a.link_up(raw.id()).await;
        Hostile { raw, stream }
    }

    async fn send(&mut self, rpc: &[u8]) {
        self.stream
            .write_all(rpc)
            .await
            .expect("the stream is open");
        self.stream.flush().await.expect("the stream is open");
    }

    /// Sends valid batches that are dated `ahead_ms` after now.
    async fn flood(&mut self, ahead_ms: u64) {
        let author = Author::new(self.raw.identity.clone(), NetworkId::OPEN, [7; 16]);
        let mut prev = Vec::new();
        for n in 1..=FLOOD {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            let now_ms = since.expect("after 1970").as_millis() as u64;
            let events = vec![Said::new("chat", vec![n as u8; FLOOD_BYTES])];
            let sealed = author.seal(&lobby(), n, now_ms + ahead_ms, &prev, events);
            let sealed = sealed.expect("a good batch");
            prev = vec![sealed.id()];
            self.send(&publish(&lobby().topic(), sealed.bytes())).await;
            // It keeps answering requests.
            tokio::task::yield_now().await;
        }
    }
}

/// How many events of an author a node's log holds.
async fn held(member: &Member, author: PeerId) -> usize {
    let query = HistoryQuery {
        room: Some(lobby()),
        author: Some(author),
        ..HistoryQuery::default()
    };
    let events = member.node.history(query).collect::<Vec<_>>().await;
    events.iter().filter(|event| event.is_ok()).count()
}

/// Waits until the log has evicted batches because of one author, and nothing more has arrived for a while.
async fn crowded(member: &mut Member) -> Crowding {
    let crowding = member.next("crowding", |event| match event {
        Event::Crowding(crowding) => Some(crowding.clone()),
        _ => None,
    });
    let first = crowding.await;
    let quiet = Duration::from_secs(2);
    while let Ok(Some(_)) = tokio::time::timeout(quiet, member.events.next()).await {}
    first
}

#[tokio::test]
async fn batches_dated_ahead_take_nobody_s_past_and_nobody_s_present() {
    let mut a = small().await;
    let mut hostile = Hostile::linked(&mut a).await;
    for n in 0..20 {
        a.say(&format!("before {n}")).await;
    }
    hostile.flood(290_000).await;
    let crowding = crowded(&mut a).await;
    assert_eq!(crowding.author, hostile.raw.id());
    for n in 0..20 {
        a.say(&format!("after {n}")).await;
    }
    assert_eq!(
        held(&a, a.id()).await,
        40,
        "what is said to be sent is in the log"
    );
    assert!(held(&a, hostile.raw.id()).await < FLOOD as usize);
}

#[tokio::test]
async fn a_flood_takes_none_of_three_hundred_messages_from_any_log_and_is_named() {
    let (mut a, mut b) = (small().await, small().await);
    a.link(&mut b).await;
    for n in 0..SAID {
        match n % 2 {
            0 => a.say(&format!("{n}")).await,
            _ => b.say(&format!("{n}")).await,
        };
    }
    let mut hostile = Hostile::linked(&mut a).await;
    hostile.flood(0).await;
    for member in [&mut a, &mut b] {
        let crowding = crowded(member).await;
        assert_eq!(crowding.author, hostile.raw.id());
        assert!(crowding.bytes > crowding.share && crowding.share == LOG_BYTES / 16);
        let lately = member.node.crowding();
        assert!(lately.iter().all(|one| one.author == hostile.raw.id()) && !lately.is_empty());
    }
    for member in [&a, &b] {
        let said = held(member, a.id()).await + held(member, b.id()).await;
        assert_eq!(said, SAID);
    }
    // It arrived at each of them on its only link.
    assert_eq!(a.node.crowding()[0].link, Some(hostile.raw.id()));
    assert_eq!(b.node.crowding()[0].link, Some(a.id()));
    // The two agree, although each of them has evicted other batches.
    let agreed = async {
        while a.node.status().await[0].agreed < 1 {
            let checked = |event: &Event| matches!(event, Event::Checked { .. }).then_some(());
            a.next("checked", checked).await;
        }
    };
    tokio::time::timeout(2 * EVENT_TIMEOUT, agreed)
        .await
        .expect("they agree");
}
