//! Rate limits of events and log lines that peers can trigger at will: few are reported, the rest is counted, and a
//! flood hides no other peer's messages.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use diatribe::conformance::frame::framed;
use diatribe::conformance::rpc::publish;
use diatribe::gossip::{self, Author, MAX_EVENTS};
use diatribe::identity::NetworkId;
use diatribe::overlay::{self, Contact, NodeRequest, encode_request};
use diatribe::{Address, DatedThan, Event, Identity, MAX_WAITING_EVENTS};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::PeerId;
use libp2p::swarm::Stream;
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{Member, builder, member, start};
use crate::program_support::{diatribe, folder};
use crate::raw_peer::{RawPeer, send};

const TOPIC: &str = "/diatribe/1/lobby";
const OVERLAY: &str = "/diatribe/overlay/1.0.0";
const HOUR_MS: u64 = 3_600_000;

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_millis() as u64
}

/// Returns a batch of an author in the lobby, whose events are numbered from `first_seq`.
fn said(author: &Identity, first_seq: u64, sent_at_ms: u64, texts: &[&str]) -> Vec<u8> {
    let author = Author::new(author.clone(), NetworkId::OPEN, [7; 16]);
    let events = texts
        .iter()
        .map(|text| gossip::Event::new("chat", text.to_string()));
    let room = "lobby".parse().expect("a room");
    let sealed = author.seal(&room, first_seq, sent_at_ms, &[], events.collect());
    sealed.expect("a batch").bytes().to_vec()
}

async fn say(stream: &mut Stream, batch: &[u8]) {
    send(stream, &publish(TOPIC, batch)).await;
}

#[tokio::test]
async fn an_author_that_equivocates_or_back_dates_is_named() {
    let mut a = member().await;
    let (_raw, _up, mut stream) = RawPeer::linked(&a.address()).await;
    let author = Identity::generate();
    say(&mut stream, &said(&author, 1, now_ms(), &["one"])).await;
    let first = a.message().await;
    say(&mut stream, &said(&author, 1, now_ms(), &["another"])).await;
    assert_eq!(&first.data[..], b"one");
    let second = a.next("equivocation", |event| match event {
        Event::Equivocation {
            author,
            seq,
            first,
            second,
            ..
        } => Some((*author, *seq, *first, *second)),
        Event::Message(message) => panic!("{message:?} is delivered"),
        _ => None,
    });
    let (by, seq, counts, other) = second.await;
    assert_eq!((by, seq, counts), (author.peer_id(), 1, first.id));
    assert_ne!(other, counts);

    let author = Identity::generate();
    say(
        &mut stream,
        &said(&author, 1, now_ms() - HOUR_MS, &["long ago"]),
    )
    .await;
    let dated = a.next("back_dated", back_dated);
    assert_eq!(dated.await, (author.peer_id(), DatedThan::Arrival));
    assert_eq!(a.texts(1).await, ["long ago"]);
    say(&mut stream, &said(&author, 2, now_ms(), &["now"])).await;
    say(
        &mut stream,
        &said(&author, 3, now_ms() - 60_000, &["before"]),
    )
    .await;
    let dated = a.next("back_dated", back_dated);
    assert_eq!(dated.await, (author.peer_id(), DatedThan::EarlierMessage));
}

fn back_dated(event: &Event) -> Option<(PeerId, DatedThan)> {
    match event {
        Event::BackDated { author, than, .. } => Some((*author, *than)),
        _ => None,
    }
}

/// A hint that names a peer nowhere.
fn hint(n: u64) -> Vec<u8> {
    let request: NodeRequest = overlay::Request::Redirect {
        nonce: n,
        role: overlay::Role::Dial,
        to: Contact {
            id: PeerId::random(),
            addresses: Vec::new().into(),
        },
    };
    framed(&encode_request(&request))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_hints_are_some_lines_and_a_number() {
    const HINTS: u64 = 1000;
    let mut a = start(builder().fixed_links(false)).await;
    let (raw, up, _gossip) = RawPeer::linked(&a.address()).await;
    for n in 0..HINTS {
        let mut stream = raw.open(up, OVERLAY).await.expect("a link takes it");
        stream.write_all(&hint(n)).await.expect("it is open");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.is_empty(), "hint {n} is answered");
    }
    let (mut told, mut left_out) = (0, 0);
    while told + left_out < HINTS {
        let more = a.next("hint or how many", |event| match event {
            Event::Hint { .. } => Some((1, 0)),
            Event::Suppressed {
                kind: "hint",
                lines,
                ..
            } => Some((0, *lines)),
            _ => None,
        });
        let (one, several) = more.await;
        told += one;
        left_out += several;
    }
    assert_eq!(told + left_out, HINTS);
    assert!(told < 30, "{told} of {HINTS} are told one by one");
}

/// Starts a node whose lines are read only as the returned iterator is advanced.
#[cfg(unix)]
fn unread_program() -> (TempDir, Child, impl Iterator<Item = Value> + Send) {
    let (folder, path) = folder();
    let mut command = diatribe(&["node", "--json", "--exempt-loopback"]);
    command.args(["--data-dir", &path, "--listen", "127.0.0.1:0"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let lines = lines.map(|line| {
        let line = line.expect("it can be read");
        serde_json::from_str(&line).expect("whole lines of JSON")
    });
    (folder, child, lines)
}

/// Returns the first address in the line `online`.
#[cfg(unix)]
fn address_in(online: &Value) -> Address {
    let address = online["addresses"][0].as_str().expect("an address");
    address.parse().expect("an address")
}

/// More is queued than can be written before the end: the rest is counted, and the output does not claim to be
/// complete.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_ends_before_all_is_written_says_how_much_it_leaves_out() {
    let (_folder, mut child, mut lines) = unread_program();
    let address = address_in(&lines.next().expect("a line"));
    let (_raw, _up, mut stream) = RawPeer::linked(&address).await;
    let mut witness = member().await;
    witness.node.connect(address).await.expect("a link");
    let (flooder, full) = (Identity::generate(), vec![""; MAX_EVENTS]);
    let batches = 2 * MAX_WAITING_EVENTS as u64 / MAX_EVENTS as u64;
    for n in 0..batches {
        let flood = said(&flooder, 1 + n * MAX_EVENTS as u64, now_ms(), &full);
        say(&mut stream, &flood).await;
    }
    let last = said(&Identity::generate(), 1, now_ms(), &["over"]);
    say(&mut stream, &last).await;
    heard(&mut witness, "over").await;

    let id = i32::try_from(child.id()).expect("a process id");
    let process = rustix::process::Pid::from_raw(id).expect("a process id");
    rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("it runs");
    let reading = tokio::task::spawn_blocking(move || {
        let (mut written, mut missed) = (0, 0);
        for line in lines {
            written += u64::from(line["type"] == "message");
            missed += line["missed"].as_u64().unwrap_or(0);
        }
        (written, missed)
    });
    let (written, missed) = reading.await.expect("it reads");
    let status = child.wait().expect("a child of ours");
    assert!(status.success(), "{status}");
    let said = batches * MAX_EVENTS as u64 + 1;
    assert!(written < said, "it takes longer than an end may");
    // Lines of links are left out as well.
    assert!(
        (said..said + 20).contains(&(written + missed)),
        "{written} are written and {missed} said to be left out of {said}"
    );
}

/// Two authors speak to a program of which nobody reads the lines; then they are read.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_gets_a_flood_whole_and_everybody_elses_words_before_its_end() {
    const WORDS: u64 = 40;
    let (_folder, mut child, mut lines) = unread_program();
    let mut next = move || lines.next().expect("a line");
    let address = address_in(&next());

    let (flooder, other) = (Identity::generate(), Identity::generate());
    let (_raw, _up, mut stream) = RawPeer::linked(&address).await;
    let mut witness = member().await;
    witness.node.connect(address).await.expect("a link");
    let full = vec![""; MAX_EVENTS];
    // Twice as many as wait for a reader.
    let batches = 2 * MAX_WAITING_EVENTS as u64 / MAX_EVENTS as u64;
    for n in 0..batches {
        let flood = said(&flooder, 1 + n * MAX_EVENTS as u64, now_ms(), &full);
        say(&mut stream, &flood).await;
        if n % (batches / WORDS) == 0 {
            let text = format!("word {n}");
            let seq = 1 + n / (batches / WORDS);
            say(&mut stream, &said(&other, seq, now_ms(), &[&text])).await;
        }
    }
    say(
        &mut stream,
        &said(&Identity::generate(), 1, now_ms(), &["over"]),
    )
    .await;
    heard(&mut witness, "over").await;

    let (other, flooder) = (other.peer_id().to_string(), flooder.peer_id().to_string());
    let reading = tokio::task::spawn_blocking(move || {
        let (mut seqs, mut flooded, mut over) = (Vec::new(), 0, None);
        while flooded < batches * MAX_EVENTS as u64 {
            let line = next();
            match line["type"].as_str() {
                Some("message") if line["author"] == *other => seqs.push(line["seq"].as_u64()),
                Some("message") if line["author"] == *flooder => {
                    flooded += 1;
                    assert_eq!(line["seq"], flooded, "each once, in order");
                }
                Some("message") if line["text"] == "over" => over = Some(flooded),
                Some("error") => panic!("{line}"),
                _ => {}
            }
        }
        (seqs, over)
    });
    let (seqs, over) = reading.await.expect("it reads");
    child.kill().expect("it runs");
    child.wait().expect("a child of ours");
    let words = batches.div_ceil(batches / WORDS);
    assert_eq!(seqs, (1..=words).map(Some).collect::<Vec<_>>());
    // Events that waited in memory, and those that the program was about to write.
    let waiting = MAX_WAITING_EVENTS as u64 * 5 / 4;
    assert!(
        over.is_some_and(|before| before <= waiting),
        "nobody waits for what is read from the log: {over:?}"
    );
}

async fn heard(member: &mut Member, text: &str) {
    let find = |event: &Event| match event {
        Event::Message(message) if message.data == text.as_bytes() => Some(()),
        _ => None,
    };
    member.next("last word", find).await;
}
