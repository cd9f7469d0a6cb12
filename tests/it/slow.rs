//! Slow lines: large messages arrive one after the other, once, in order, and no link is lost.

use diatribe::{Event, Message};

use crate::cluster::{Member, member};
use crate::slow_line::Line;

const MEBIBYTE: usize = 1 << 20;

/// 8 Mbit/s.
const SLOW: u64 = 1_000_000;
const QUICK: u64 = 100_000_000;

/// A mebibyte that no compression makes smaller.
fn large(n: u8) -> Vec<u8> {
    let mut state = u32::from(n) + 1;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..MEBIBYTE).map(next).collect()
}

async fn link_over(line: &Line, member: &mut Member, of_line: &mut Member) {
    let link = member.node.connect(line.address()).await;
    link.expect("the link comes up");
    of_line.link_up(member.id()).await;
}

/// Waits until `member` has found that it holds the same as all `count` neighbours.
async fn agree(member: &mut Member, count: usize) {
    let agreed = member.next("checked", |event| match event {
        Event::Checked { agreed, .. } if *agreed == count => Some(()),
        _ => None,
    });
    agreed.await;
}

/// Waits for the next messages of an author: large ones and then `then`, each live and in this order, without a lost
/// link.
async fn hear(member: &mut Member, larges: u8, then: Option<&str>) {
    let wanted = (0..larges).map(large);
    let wanted = wanted.chain(then.map(|text| text.as_bytes().to_vec()));
    for (n, wanted) in wanted.enumerate() {
        let come = member.next("message", |event| match event {
            Event::Message(message) => Some(message.clone()),
            Event::LinkDown { reason, .. } => panic!("a link was lost: {reason}"),
            _ => None,
        });
        let Message { data, backfill, .. } = come.await;
        assert!(data[..] == wanted[..], "{n} is next, and whole");
        assert!(!backfill, "{n} is live");
    }
}

/// Says large messages, and something after them, all at once.
async fn say(member: &Member, larges: u8, then: Option<&str>) {
    let node = &member.node;
    let files = (0..larges).map(|n| node.broadcast("lobby", "file", large(n)));
    let text = then.map(|text| node.broadcast("lobby", "chat", text.to_owned()));
    let (files, text) = (
        futures::future::join_all(files),
        futures::future::join_all(text),
    );
    let (files, text) = futures::join!(files, text);
    for sent in files.into_iter().chain(text) {
        sent.expect("it is sent");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_author_with_a_slow_line_sends_a_large_message_once_and_its_neighbours_pass_it_on() {
    let mut author = member().await;
    let line = Line::to(&author, SLOW, QUICK).await;
    let mut others: Vec<Member> = Vec::new();
    for _ in 0..4 {
        let mut newcomer = member().await;
        link_over(&line, &mut newcomer, &mut author).await;
        for other in &mut others {
            newcomer.link(other).await;
        }
        others.push(newcomer);
    }
    for member in &mut others {
        agree(member, 4).await;
    }
    agree(&mut author, 4).await;
    let before = line.carried_from_it();
    say(&author, 3, None).await;
    for member in &mut others {
        hear(member, 3, None).await;
    }
    // One over the other: four times three mebibytes, if each were to fetch them from the author.
    let carried = line.carried_from_it() - before;
    assert!(carried < 7 * MEBIBYTE as u64, "{carried} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_with_a_slow_line_gets_each_large_message_once_from_several_neighbours() {
    let mut reader = member().await;
    // Four mebibytes take longer than a neighbour is given before another one is asked as well.
    let line = Line::to(&reader, QUICK, SLOW / 2).await;
    let (mut a, mut b, mut c) = (member().await, member().await, member().await);
    a.link(&mut b).await;
    a.link(&mut c).await;
    for neighbour in [&mut a, &mut b, &mut c] {
        link_over(&line, neighbour, &mut reader).await;
    }
    agree(&mut a, 3).await;
    agree(&mut reader, 3).await;
    let before = line.carried_to_it();
    say(&a, 4, None).await;
    hear(&mut reader, 4, None).await;
    let carried = line.carried_to_it() - before;
    assert!(carried < 5 * MEBIBYTE as u64, "{carried} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_after_a_large_message_is_heard_after_it_two_hops_behind_a_slow_line() {
    let (mut a, mut b, mut c) = (member().await, member().await, member().await);
    let line = Line::to(&a, SLOW, QUICK).await;
    link_over(&line, &mut b, &mut a).await;
    b.link(&mut c).await;
    agree(&mut a, 1).await;
    agree(&mut b, 2).await;
    agree(&mut c, 1).await;
    say(&a, 1, Some("that was all")).await;
    hear(&mut b, 1, Some("that was all")).await;
    hear(&mut c, 1, Some("that was all")).await;
}
