//! Measures how fast a newcomer catches up with the long history of a room, and the cost to those that send meanwhile.
//! Prints figures: `cargo test --release --test it catch_up -- --ignored --nocapture`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use diatribe::gossip::{self, Author, VerifiedBatch};
use diatribe::identity::NetworkId;
use diatribe::store::{Log, RetentionPolicy};
use diatribe::{Event, Events, Identity};
use tokio::sync::mpsc;

use crate::cluster::{Member, builder, member, start};

/// Batches that the room holds: CATCH_UP_BATCHES says otherwise.
const PAST: usize = 100_000;
/// How often somebody speaks meanwhile.
const EVERY: Duration = Duration::from_millis(10);

/// Writes a past of batches of one event each into the log of `dir`.
fn write_past(dir: &std::path::Path, batches: usize, now_ms: u64) {
    let author = Author::new(Identity::generate(), NetworkId::OPEN, [7; 16]);
    let room = "lobby".parse().expect("a room");
    let mut log = Log::open(dir, RetentionPolicy::default()).expect("a log");
    let all: Vec<VerifiedBatch> = (0..batches as u64)
        .map(|n| {
            let event = gossip::Event::new("chat", format!("line {n} of a long conversation"));
            let sent_at = now_ms - 3_600_000 + n * 3_000_000 / batches as u64;
            author
                .seal(&room, n + 1, sent_at, &[], vec![event])
                .expect("a batch")
                .batch()
                .clone()
        })
        .collect();
    for group in all.chunks(1000) {
        log.append(now_ms, group).expect("stored");
    }
}

/// Reports the time and text of each live message, and a `None` for each one that anti-entropy brought.
fn listen(mut events: Events) -> mpsc::UnboundedReceiver<(Instant, Option<String>)> {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                Event::Message(message) => {
                    let live = String::from_utf8_lossy(&message.data).starts_with("live");
                    let text = live.then(|| String::from_utf8_lossy(&message.data).into_owned());
                    let _ = sender.send((Instant::now(), text));
                }
                Event::Missed { events, .. } => panic!("the test reads too slowly: {events}"),
                _ => {}
            }
        }
    });
    receiver
}

/// Says something now and then until it is dropped; tells when.
fn talk(
    member: &Member,
    tag: &'static str,
) -> (
    tokio::task::JoinHandle<()>,
    mpsc::UnboundedReceiver<(Instant, String)>,
) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let node = member.node.clone();
    let talking = tokio::spawn(async move {
        for n in 0.. {
            let text = format!("live {tag} {n}");
            let _ = sender.send((Instant::now(), text.clone()));
            node.broadcast_when_linked("lobby", "chat", text)
                .await
                .expect("it is sent");
            tokio::time::sleep(EVERY).await;
        }
    });
    (talking, receiver)
}

fn figures(what: &str, mut delays: Vec<Duration>) -> Duration {
    delays.sort_unstable();
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
    println!(
        "{what}: {} live messages, median {:?}, 99 % {:?}, worst {:?}",
        delays.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    at(0.5)
}

/// Returns the delays of those messages that arrived.
fn delays(said: &[(Instant, String)], heard: &HashMap<String, Instant>) -> Vec<Duration> {
    said.iter()
        .filter_map(|(at, text)| heard.get(text).map(|heard| *heard - *at))
        .collect()
}

/// Returns the live messages that have arrived so far.
fn live(from: &mut mpsc::UnboundedReceiver<(Instant, Option<String>)>) -> HashMap<String, Instant> {
    let so_far = std::iter::from_fn(|| from.try_recv().ok());
    so_far.filter_map(|(at, text)| Some((text?, at))).collect()
}

fn drained<T>(from: &mut mpsc::UnboundedReceiver<T>) -> Vec<T> {
    std::iter::from_fn(|| from.try_recv().ok()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn a_newcomer_catches_up_with_a_long_past_while_others_talk() {
    let batches = std::env::var("CATCH_UP_BATCHES").ok();
    let batches = batches.map_or(PAST, |text| text.parse().expect("a number"));
    let (old, new) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    write_past(
        old.path(),
        batches,
        now.expect("after 1970").as_millis() as u64,
    );
    let begun = Instant::now();
    let a = start(builder().data_dir(old.path())).await;
    println!(
        "a node with {batches} batches is online after {:?}",
        begun.elapsed()
    );
    // The sender has caught up before: only the newcomer's catching up is measured.
    let b = member().await;
    let mut at_a = listen(a.node.events());
    let mut of_b = listen(b.node.events());
    b.node.connect(a.address()).await.expect("a link");
    let mut got = 0;
    while got < batches {
        let (_, text) = of_b.recv().await.expect("the node runs");
        got += usize::from(text.is_none());
    }
    println!("the first one had all after {:?}", begun.elapsed());

    let (talking, mut said) = talk(&b, "before");
    // The duration of the measurement.
    tokio::time::sleep(Duration::from_secs(3)).await;
    talking.abort();
    // The abort may have cut off the last message, which then never arrives: a time, no event.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let quiet = figures("at rest", delays(&drained(&mut said), &live(&mut at_a)));

    let c = start(builder().data_dir(new.path())).await;
    let mut at_c = listen(c.node.events());
    let (talking, mut said) = talk(&b, "meanwhile");
    let begun = Instant::now();
    c.node.connect(a.address()).await.expect("a link");
    let (mut got, mut at_once) = (0, HashMap::new());
    while got < batches {
        let (at, text) = at_c.recv().await.expect("the node runs");
        match text {
            Some(text) => drop(at_once.insert(text, at)),
            None => got += 1,
        }
    }
    let took = begun.elapsed();
    talking.abort();
    // As above.
    tokio::time::sleep(Duration::from_millis(500)).await;
    println!(
        "{batches} batches caught up in {took:?}: {:.0} a second",
        batches as f64 / took.as_secs_f64()
    );
    at_once.extend(live(&mut at_c));
    let said = drained(&mut said);
    let at_a = live(&mut at_a);
    let serving = figures("at the node that serves the past", delays(&said, &at_a));
    let arriving = figures("at the newcomer", delays(&said, &at_once));
    println!(
        "delayed by a factor of {:.1} and {:.1}",
        serving.as_secs_f64() / quiet.as_secs_f64(),
        arriving.as_secs_f64() / quiet.as_secs_f64()
    );
}
