//! Slots on real links, with the node's defaults: peers that only hold links, peers that join and fall silent, and the
//! links that a newcomer and the node itself get all the same.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use diatribe::conformance::frame::framed;
use diatribe::handshake::Role;
use diatribe::overlay::{NodeRequest, PROTOCOL, Request, Terms, encode_request};
use diatribe::{Address, Event, Identity, NodeBuilder};
use futures::AsyncWriteExt;

use crate::cluster::{EVENT_TIMEOUT, Member, builder, start};
use crate::raw_peer::{RawPeer, Up};

/// Places that a node has.
const SLOTS: usize = 5;

fn node(entry: Option<Address>) -> NodeBuilder {
    builder().fixed_links(false).dial(entry)
}

/// A peer that passes the handshake, answers pings and does nothing else.
async fn hold(member: &mut Member) -> (RawPeer, Up) {
    let mut raw = RawPeer::new().await;
    let up = raw.dial(&member.address()).await;
    raw.pass(up, Role::Dialer).await;
    member.link_up(raw.id()).await;
    (raw, up)
}

async fn hold_all(member: &mut Member) -> Vec<(RawPeer, Up)> {
    let mut holders = Vec::new();
    for _ in 0..SLOTS {
        holders.push(hold(member).await);
    }
    holders
}

/// Waits until this member has put one of the holders out.
async fn one_is_out(member: &mut Member, holders: &[(RawPeer, Up)]) {
    let out = |event: &Event| match event {
        Event::LinkDown { peer_id, .. } if holders.iter().any(|(raw, _)| raw.id() == *peer_id) => {
            Some(())
        }
        _ => None,
    };
    member.next("link_down of a holder", out).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_only_answer_pings_yield_a_place_to_a_newcomer() {
    let mut member = start(node(None)).await;
    let holders = hold_all(&mut member).await;
    let newcomer = start(node(Some(member.address()))).await;
    // It visits and is refused until it is seen that the others bring nothing.
    one_is_out(&mut member, &holders).await;
    newcomer.say("let in").await;
    assert_eq!(member.texts(1).await, ["let in"]);
    let links = member.node.peers().await;
    assert!(links.iter().any(|link| link.peer_id == newcomer.id()));
    assert_eq!(links.len(), SLOTS, "nobody else was put out");
    drop(holders);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_places_are_all_held_still_gets_a_link_of_its_own_choice() {
    let port = TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("an address")
        .port();
    let at: Address = format!("/ip4/127.0.0.1/tcp/{port}/ws")
        .parse()
        .expect("an address");
    let mut member = start(node(Some(at.clone()))).await;
    // It serves nobody before it has had a link of its own; this one gives it that, and goes.
    let mut first = start(node(None)).await;
    member.node.connect(first.address()).await.expect("a link");
    first.link_up(member.id()).await;
    let first_id = first.id();
    first.node.shutdown().await;
    member.link_down(first_id).await;
    let holders = hold_all(&mut member).await;
    // Now the entry node starts.
    let entry = builder()
        .identity(Identity::generate())
        .listen([at.multiaddr().clone()])
        .fixed_links(false);
    let mut entry = start(entry).await;
    entry.link_up(member.id()).await;
    entry.say("chosen").await;
    assert_eq!(member.texts(1).await, ["chosen"]);
    // One of those that hold slots has made room for it.
    let links = member.node.peers().await;
    assert!(links.iter().any(|link| link.peer_id == entry.id()));
    assert_eq!(links.len(), SLOTS);
    drop(holders);
}

/// Joins as if it wanted two links, and says nothing more.
async fn join_and_fall_silent(raw: &RawPeer, up: Up) {
    let Some(mut stream) = raw.open(up, PROTOCOL).await else {
        return;
    };
    let request: NodeRequest = Request::Join {
        terms: Terms {
            nonce: rand::random(),
            links: vec![up.peer],
            dialable: false,
            addresses: Vec::new().into(),
        },
        need: 2,
    };
    let _ = stream.write_all(&framed(&encode_request(&request))).await;
    let _ = stream.close().await;
}

/// One after the other, as long as the test runs.
async fn join_in_vain(at: Address) {
    loop {
        let mut raw = RawPeer::new().await;
        let Ok(up) = raw.try_dial(&at).await else {
            // The pace of a peer whose connection is refused.
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        let local = raw.local();
        let record = raw
            .handshake(up, Role::Dialer, local, |_, body| Some(framed(&body)))
            .await;
        if matches!(record.end, crate::raw_peer::End::Passed) {
            join_and_fall_silent(&raw, up).await;
        }
        // A refused peer tries again as soon as it is disconnected.
        raw.gone(up).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_join_and_fall_silent_do_not_keep_a_newcomer_out() {
    let mut entry = start(node(None)).await;
    let mut others = Vec::new();
    for _ in 0..7 {
        others.push(start(node(Some(entry.address()))).await);
    }
    let full = |event: &Event| match event {
        Event::LinkUp { links, .. } if *links >= SLOTS => Some(()),
        _ => None,
    };
    entry.next("full node", full).await;
    let silent: Vec<_> = (0..2)
        .map(|_| tokio::spawn(join_in_vain(entry.address())))
        .collect();
    let begun = Instant::now();
    let mut newcomer = start(node(Some(entry.address()))).await;
    let two = |event: &Event| match event {
        Event::LinkUp { links: 2.., .. } => Some(()),
        _ => None,
    };
    newcomer.next("second link", two).await;
    assert!(begun.elapsed() < EVENT_TIMEOUT);
    newcomer.say("here").await;
    assert_eq!(entry.texts(1).await, ["here"]);
    silent.iter().for_each(tokio::task::JoinHandle::abort);
}
