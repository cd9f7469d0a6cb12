//! Large messages: each node fetches each of them once and delivers it live, whatever nodes are in between and whatever
//! the neighbours support.

use std::collections::BTreeSet;

use diatribe::{Event, Message};

use crate::cluster::{Member, builder, member, start};

const MEBIBYTE: usize = 1 << 20;

/// A mebibyte that is like no other.
fn large(n: u8) -> Vec<u8> {
    let mut bytes = vec![n; MEBIBYTE];
    bytes[..8].copy_from_slice(&u64::from(n).to_be_bytes());
    bytes
}

async fn say(member: &Member, n: u8) -> diatribe::BroadcastReceipt {
    let said = member.node.broadcast_when_linked("lobby", "file", large(n));
    said.await.expect("the event is sent")
}

/// Waits for the next `count` messages, each of them complete and delivered once.
async fn hear(member: &mut Member, count: u8) -> BTreeSet<u8> {
    let mut heard = BTreeSet::new();
    for _ in 0..count {
        let Message { data, .. } = member.message().await;
        let n = data[MEBIBYTE - 1];
        assert!(data[..] == large(n)[..], "{n} is whole");
        assert!(heard.insert(n), "{n} came twice");
    }
    heard
}

/// Waits for the next `count` messages as [`hear`] does, all of them live: call it after [`agree`].
async fn hear_live(member: &mut Member, count: u8) -> BTreeSet<u8> {
    let mut heard = BTreeSet::new();
    for _ in 0..count {
        let message = member.message().await;
        let n = message.data[MEBIBYTE - 1];
        assert!(!message.backfill, "{n} is live");
        assert!(heard.insert(n), "{n} came twice");
    }
    heard
}

/// Waits until each member has compared the room with all of its neighbours. A message sent before could be found by
/// these comparisons as well as by its announcement.
async fn agree(members: &mut [Member], neighbours: impl Fn(usize) -> usize) {
    for (m, member) in members.iter_mut().enumerate() {
        let all = neighbours(m);
        let checked = member.next("checked", |event| match event {
            Event::Checked { agreed, .. } if *agreed == all => Some(()),
            _ => None,
        });
        checked.await;
    }
}

/// Copies of messages that these nodes were given, their own that they gossiped among them.
fn copies(members: &[Member]) -> u64 {
    members
        .iter()
        .map(|member| member.node.message_copies())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_of_a_full_mesh_gets_one_copy_of_each_large_message() {
    let mut members = Vec::new();
    for _ in 0..5 {
        let mut newcomer = member().await;
        for member in &mut members {
            newcomer.link(member).await;
        }
        members.push(newcomer);
    }
    agree(&mut members, |_| 4).await;
    let before = copies(&members);
    for n in 0..10 {
        let sent = say(&members[usize::from(n) % 2], n).await;
        assert_eq!(sent.links, 4);
    }
    for (m, member) in members.iter_mut().enumerate() {
        hear_live(member, if m < 2 { 5 } else { 10 }).await;
    }
    assert_eq!(copies(&members) - before, 5 + 5 + 3 * 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_pass_between_those_who_fetch_and_those_who_only_gossip() {
    // a – b – c – d – e: c only gossips.
    let mut line = Vec::new();
    for n in 0..5 {
        let mut newcomer = start(builder().gossip_only(n == 2)).await;
        if let Some(last) = line.last_mut() {
            newcomer.link(last).await;
        }
        line.push(newcomer);
    }
    agree(&mut line, |m| if m % 4 == 0 { 1 } else { 2 }).await;
    for n in 0..5 {
        say(&line[usize::from(n)], n).await;
    }
    for (m, member) in line.iter_mut().enumerate() {
        let mut heard = hear_live(member, 4).await;
        heard.insert(m as u8);
        assert_eq!(heard.len(), 5);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_links_while_large_messages_are_sent_has_them_all() {
    let (mut a, mut b) = (member().await, member().await);
    a.link(&mut b).await;
    let mut late = member().await;
    for n in 0..6 {
        say(&a, n).await;
        if n == 2 {
            let link = late.node.connect(b.address());
            link.await.expect("the link comes up");
        }
    }
    hear(&mut b, 6).await;
    let mut heard = BTreeSet::new();
    while heard.len() < 6 {
        assert!(
            heard.insert(late.message().await.data[MEBIBYTE - 1]),
            "twice"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_neighbour_that_offered_it_is_gone_a_large_message_comes_from_another() {
    // a is linked with b and c, both with d: b stops in the middle.
    let (mut a, mut b, mut c, mut d) = (
        member().await,
        member().await,
        member().await,
        member().await,
    );
    a.link(&mut b).await;
    a.link(&mut c).await;
    b.link(&mut d).await;
    c.link(&mut d).await;
    for n in 0..12 {
        say(&a, n).await;
        if n == 3 {
            b.node.shutdown().await;
        }
    }
    let mut heard = BTreeSet::new();
    while heard.len() < 12 {
        let wanted = d.next("message", |event| match event {
            Event::Message(message) => Some(message.data[MEBIBYTE - 1]),
            _ => None,
        });
        assert!(heard.insert(wanted.await), "twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_right_after_a_large_message_has_still_brought_it_to_its_neighbours() {
    let (mut a, mut b, mut c) = (member().await, member().await, member().await);
    a.link(&mut b).await;
    a.link(&mut c).await;
    for n in 0..3 {
        say(&a, n).await;
    }
    a.node.shutdown().await;
    hear(&mut b, 3).await;
    hear(&mut c, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_after_a_large_message_is_heard_after_it() {
    let mut line = vec![member().await, member().await, member().await];
    for n in [1, 2] {
        let (before, after) = line.split_at_mut(n);
        after[0].link(&mut before[n - 1]).await;
    }
    agree(&mut line, |m| if m == 1 { 2 } else { 1 }).await;
    for n in 0..8 {
        let node = line[0].node.clone();
        let large = node.broadcast("lobby", "file", large(n));
        let small = node.broadcast("lobby", "chat", format!("that was {n}"));
        let (large, small) = futures::join!(large, small);
        assert!(large.unwrap().seq < small.unwrap().seq);
    }
    for member in &mut line[1..] {
        let mut seqs = Vec::new();
        for _ in 0..16 {
            let message = member.message().await;
            assert!(!message.backfill, "{}", message.seq);
            seqs.push(message.seq);
        }
        assert!(seqs.is_sorted(), "{seqs:?}");
    }
}
