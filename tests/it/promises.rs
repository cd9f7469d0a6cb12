//! Neighbours that announce messages and never send them.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use diatribe::conformance::rpc::{ihave, publish};
use diatribe::conformance::rpc_message::Rpc;
use diatribe::gossip::{MAX_IWANT_IDS, PROMISE_TIMEOUT};
use diatribe::wire::envelope::id_in_room;
use futures::AsyncReadExt;
use libp2p::swarm::Stream;
use prost::Message as _;
use tokio::sync::mpsc;

use crate::cluster::{EVENT_TIMEOUT, Member, member};
use crate::raw_peer::{RawPeer, send};

const TOPIC: &str = "/diatribe/1/lobby";
/// gossipsub's own.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A neighbour in the lobby that announces arbitrary ids.
struct Neighbour {
    _raw: RawPeer,
    to_it: Stream,
    /// Ids that it is asked for.
    asked: mpsc::UnboundedReceiver<Vec<u8>>,
    /// Messages that it is sent.
    heard: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl Neighbour {
    async fn of(a: &mut Member) -> Neighbour {
        let (mut raw, _up, to_it) = RawPeer::linked(&a.address()).await;
        a.link_up(raw.id()).await;
        let from_it = raw.gossip_stream().await.stream;
        let (wants, asked) = mpsc::unbounded_channel();
        let (messages, heard) = mpsc::unbounded_channel();
        tokio::spawn(hear(from_it, wants, messages));
        Neighbour {
            _raw: raw,
            to_it,
            asked,
            heard,
        }
    }

    async fn announce(&mut self, ids: Vec<Vec<u8>>) {
        send(&mut self.to_it, &ihave(TOPIC, ids)).await;
    }

    /// The next id that it is asked for, within `time`.
    async fn asked(&mut self, time: Duration) -> Option<Vec<u8>> {
        let asked = tokio::time::timeout(time, self.asked.recv()).await;
        asked.ok().map(|id| id.expect("the stream stays open"))
    }
}

/// Reads the node's RPCs until the stream ends.
async fn hear(
    mut stream: Stream,
    wants: mpsc::UnboundedSender<Vec<u8>>,
    messages: mpsc::UnboundedSender<Vec<u8>>,
) {
    while let Some(frame) = frame(&mut stream).await {
        let rpc = Rpc::decode(&frame[..]).expect("an RPC");
        for message in rpc.publish {
            let _ = messages.send(message.data);
        }
        let iwant = rpc.control.into_iter().flat_map(|control| control.iwant);
        for id in iwant.flat_map(|want| want.ids) {
            let _ = wants.send(id);
        }
    }
}

async fn frame(stream: &mut Stream) -> Option<Vec<u8>> {
    let (mut len, mut shift, mut byte) = (0usize, 0, [0]);
    loop {
        stream.read_exact(&mut byte).await.ok()?;
        len |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut frame = vec![0; len];
    stream.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

fn made_up(n: u32) -> Vec<u8> {
    [&n.to_be_bytes()[..], &[7; 28]].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_a_liar_has_promised_is_soon_fetched_from_another() {
    let (mut a, mut author) = (member().await, member().await);
    let (mut liar, mut honest) = (Neighbour::of(&mut a).await, Neighbour::of(&mut a).await);
    // Sent where the honest neighbour receives it and the node does not.
    let mut source = Neighbour::of(&mut author).await;
    author.say("worth having").await;
    let data = source.heard.recv().await.expect("it is said");
    let id = id_in_room("lobby", &data).to_vec();
    liar.announce(vec![id.clone()]).await;
    assert_eq!(liar.asked(EVENT_TIMEOUT).await, Some(id.clone()));
    let promised = Instant::now();
    while honest.asked(Duration::from_millis(200)).await.is_none() {
        assert!(
            promised.elapsed() < EVENT_TIMEOUT,
            "it is asked of nobody else"
        );
        honest.announce(vec![id.clone()]).await;
    }
    let waited = promised.elapsed();
    assert!(waited + HEARTBEAT / 2 >= PROMISE_TIMEOUT, "{waited:?}");
    send(&mut honest.to_it, &publish(TOPIC, &data)).await;
    assert_eq!(a.texts(1).await, ["worth having"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_liar_is_asked_for_is_bounded_and_forgotten() {
    let mut a = member().await;
    let mut liar = Neighbour::of(&mut a).await;
    let begun = Instant::now();
    let (mut next, mut asked) = (0, HashSet::new());
    // Ten announcements of 500 ids are as many as are read in a heartbeat.
    while begun.elapsed() < 4 * HEARTBEAT {
        liar.announce((next..next + 500).map(made_up).collect())
            .await;
        next += 500;
        while let Some(id) = liar.asked(Duration::from_millis(50)).await {
            assert!(asked.insert(id), "none is asked for twice at once");
        }
    }
    let heartbeats = begun.elapsed().as_secs() as usize + 2;
    assert!(
        asked.len() >= MAX_IWANT_IDS,
        "{} are asked for",
        asked.len()
    );
    assert!(asked.len() <= heartbeats * MAX_IWANT_IDS, "{}", asked.len());
    // The first promise is forgotten by now, or soon, and its id is requested again.
    let first = asked.iter().min().expect("some are").clone();
    while liar.asked(Duration::from_millis(200)).await != Some(first.clone()) {
        assert!(
            begun.elapsed() < EVENT_TIMEOUT,
            "it is never asked for again"
        );
        liar.announce(vec![first.clone()]).await;
    }
}
