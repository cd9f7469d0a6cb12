//! Delivery of events to quick and slow readers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::PeerId;
use proptest::prelude::*;

use super::super::{LogPage, MAX_WAITING_BYTES, MAX_WAITING_EVENTS, Message, Stretch};
use super::*;
use crate::model::BatchId;

fn error(n: usize) -> Event {
    Event::Error {
        reason: n.to_string(),
    }
}

fn bus() -> EventBus {
    EventBus::new(Clock::start())
}

fn tell(bus: &EventBus, n: usize) {
    bus.emit_as(None, error(n));
}

#[test]
fn a_slow_reader_is_told_what_it_missed_and_a_quick_one_misses_nothing() {
    let bus = bus();
    let (mut slow, mut quick) = (bus.subscribe(), bus.subscribe());
    let mut read = 0;
    for n in 0..MAX_WAITING_EVENTS + 10 {
        tell(&bus, n);
        read += usize::from(quick.next().now_or_never().flatten().is_some());
    }
    assert_eq!(read, MAX_WAITING_EVENTS + 10);
    let mut next = || slow.next().now_or_never();
    for _ in 0..MAX_WAITING_EVENTS {
        assert!(matches!(next(), Some(Some(Event::Error { .. }))));
    }
    let missed = next();
    assert!(matches!(
        missed,
        Some(Some(Event::Missed {
            events: 10,
            author: None
        }))
    ));
    tell(&bus, 0);
    assert!(matches!(next(), Some(Some(Event::Error { .. }))));
}

#[test]
fn a_reader_ends_after_the_last_event_of_a_closed_node() {
    let bus = bus();
    let mut reader = bus.subscribe();
    tell(&bus, 1);
    bus.close();
    assert!(matches!(
        reader.next().now_or_never(),
        Some(Some(Event::Error { .. }))
    ));
    assert!(matches!(reader.next().now_or_never(), Some(None)));
    let mut late = bus.subscribe();
    assert!(matches!(late.next().now_or_never(), Some(None)));
}

/// Whose numbers count together.
type Of = (PeerId, String, [u8; 16]);

fn of(message: &Message) -> Of {
    let Message {
        author,
        room,
        instance_id,
        ..
    } = message;
    (*author, room.as_str().to_owned(), *instance_id)
}

/// A log with all messages except the removed ones, in pages of three messages and batches of two.
#[derive(Default)]
struct Kept {
    messages: Mutex<BTreeMap<Of, BTreeMap<u64, Message>>>,
    is_closed: Mutex<bool>,
    /// Reads that are not answered at once.
    is_slow: bool,
}

impl MessageLog for Kept {
    fn read(&self, stretch: &Stretch) -> BoxFuture<'static, Option<LogPage>> {
        let of = (
            stretch.author,
            stretch.room.as_str().to_owned(),
            stretch.instance_id,
        );
        let all = lock(&self.messages);
        // Batches have two messages each: the first one may begin before the stretch, the last one may end after it.
        let begins = (stretch.first - 1) / 2 * 2 + 1;
        let found = all.get(&of).map(|all| all.range(begins..=stretch.last));
        let mut found: Vec<Message> = found
            .into_iter()
            .flatten()
            .map(|(_, m)| m.clone())
            .collect();
        let mut read_to = stretch.last;
        if found.len() > 3 {
            found.truncate(3);
            read_to = found[2].seq;
        }
        let batches: Vec<Vec<Message>> = found.chunks(2).map(<[Message]>::to_vec).collect();
        let page = (!*lock(&self.is_closed)).then(|| LogPage {
            batches: Box::new(batches.into_iter()),
            read_to,
        });
        let is_slow = self.is_slow;
        Box::pin(async move {
            if is_slow {
                tokio::task::yield_now().await;
            }
            page
        })
    }
}

fn author(n: u8) -> PeerId {
    static AUTHORS: LazyLock<Vec<PeerId>> = LazyLock::new(|| {
        let author = |n: u8| crate::identity::Identity::from_seed(&[n; 32]).peer_id();
        (0..3).map(author).collect()
    });
    AUTHORS[usize::from(n)]
}

/// Bytes that all messages share: the queue only counts them.
fn zeros(bytes: usize) -> Bytes {
    static ZEROS: LazyLock<Bytes> = LazyLock::new(|| vec![0; 16 << 20].into());
    ZEROS.slice(..bytes)
}

fn message(who: u8, process: u8, room: &str, seq: u64, bytes: usize) -> Message {
    Message {
        id: BatchId([0; 32]),
        room: room.parse().unwrap(),
        author: author(who),
        instance_id: [process; 16],
        seq,
        name: String::new(),
        data: zeros(bytes),
        sent_at_ms: 0,
        backfill: seq.is_multiple_of(5),
    }
}

/// Returns a bus with its messages in `kept`, and a reader.
fn logged(is_slow: bool) -> (EventBus, Events, Arc<Kept>) {
    let (bus, kept) = (
        bus(),
        Arc::new(Kept {
            is_slow,
            ..Kept::default()
        }),
    );
    let events = bus.subscribe();
    bus.set_log(kept.clone());
    (bus, events, kept)
}

fn say(bus: &EventBus, kept: &Kept, message: Message) {
    let mut all = lock(&kept.messages);
    let all = all.entry(of(&message)).or_default();
    all.insert(message.seq, message.clone());
    bus.emit_as(None, Event::Message(message));
}

/// All that there is to read now, or in the end.
fn read(events: &mut Events) -> Vec<Event> {
    let mut read = Vec::new();
    // What is asked of a slow log is there when it is asked for again.
    let mut idle = 0;
    while idle < 2 {
        match events.next().now_or_never() {
            Some(Some(event)) => {
                idle = 0;
                read.push(event);
            }
            Some(None) => break,
            None => idle += 1,
        }
    }
    read
}

fn seqs(events: &[Event], who: u8) -> Vec<u64> {
    let seq = |event: &Event| match event {
        Event::Message(message) if message.author == author(who) => Some(message.seq),
        _ => None,
    };
    events.iter().filter_map(seq).collect()
}

#[test]
fn a_reader_that_was_stopped_gets_everything_from_the_log_and_goes_on_with_what_comes() {
    let (bus, mut events, kept) = logged(false);
    let said = 2 * MAX_WAITING_EVENTS as u64;
    for seq in 1..=said {
        say(&bus, &kept, message(1, 1, "lobby", seq, 0));
    }
    assert!(lock(&events.reader).queue.is_within_bounds());
    let mut got = read(&mut events);
    for seq in said + 1..=said + 10 {
        say(&bus, &kept, message(1, 1, "lobby", seq, 0));
        got.extend(read(&mut events));
    }
    assert_eq!(seqs(&got, 1), (1..=said + 10).collect::<Vec<_>>());
    let whole = |event: &Event| match event {
        Event::Message(message) => message.backfill == message.seq.is_multiple_of(5),
        _ => false,
    };
    assert!(got.iter().all(whole), "as it came, and nothing else");
}

#[test]
fn an_author_that_is_read_from_the_log_holds_up_no_other() {
    let (bus, mut events, kept) = logged(false);
    for seq in 1..=100 {
        say(&bus, &kept, message(1, 1, "lobby", seq, 8 << 20));
    }
    // What waits in memory is read; the rest is in the log.
    for _ in 0..MAX_WAITING_BYTES / (8 << 20) {
        assert!(events.next().now_or_never().is_some());
    }
    for seq in 1..=10 {
        say(&bus, &kept, message(2, 1, "lobby", seq, 0));
    }
    let first: Vec<Event> = (0..22)
        .filter_map(|_| events.next().now_or_never().flatten())
        .collect();
    assert_eq!(seqs(&first, 2), (1..=10).collect::<Vec<_>>());
    assert!(seqs(&first, 1).len() >= 10, "and they take turns");
}

#[test]
fn what_a_log_has_removed_or_is_closed_before_it_was_read_is_counted() {
    let (bus, mut events, kept) = logged(false);
    for seq in 1..=100 {
        say(&bus, &kept, message(1, 1, "lobby", seq, 8 << 20));
    }
    assert_eq!(seqs(&read_some(&mut events, 4), 1), [1, 2, 3, 4]);
    lock(&kept.messages)
        .values_mut()
        .for_each(|all| all.retain(|seq, _| !(20..30).contains(seq)));
    let got = read_some(&mut events, 40);
    let missed = |event: &Event| match event {
        Event::Missed {
            author: who,
            events,
        } if *who == Some(author(1)) => Some(*events),
        _ => None,
    };
    assert_eq!(got.iter().filter_map(missed).sum::<u64>(), 10);
    *lock(&kept.is_closed) = true;
    bus.close();
    let rest = read(&mut events);
    let missed: u64 = rest.iter().filter_map(missed).sum();
    let last = seqs(&got, 1).into_iter().chain(seqs(&rest, 1)).max();
    assert_eq!(last.unwrap_or(0) + missed, 100);
    assert!(
        matches!(events.next().now_or_never(), Some(None)),
        "and it ends"
    );
}

fn read_some(events: &mut Events, count: usize) -> Vec<Event> {
    (0..count)
        .filter_map(|_| events.next().now_or_never().flatten())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_message_is_read_once_and_each_process_in_order_however_slowly(
        is_slow in any::<bool>(),
        steps in prop::collection::vec((0u8..3, 0u8..2, 0usize..2, 0usize..17, 0usize..3), 1..300)
    ) {
        let (bus, mut events, kept) = logged(is_slow);
        let mut said = BTreeMap::<Of, u64>::new();
        let mut got = Vec::new();
        for (who, process, room, mebibytes, reads) in steps {
            let room = ["lobby", "kitchen"][room];
            let head = said.entry((author(who), room.to_owned(), [process; 16])).or_default();
            *head += 1;
            say(&bus, &kept, message(who, process, room, *head, mebibytes << 20));
            prop_assert!(lock(&events.reader).queue.is_within_bounds());
            got.extend(read_some(&mut events, reads));
        }
        got.extend(read(&mut events));
        let mut heads = BTreeMap::<Of, u64>::new();
        for event in got {
            let Event::Message(message) = event else {
                panic!("{event:?}");
            };
            let head = heads.entry(of(&message)).or_default();
            prop_assert_eq!(message.seq, *head + 1);
            *head += 1;
        }
        prop_assert_eq!(heads, said);
        let authors: BTreeSet<u8> = (0..3).collect();
        prop_assert!(authors.iter().all(|who| !lock(&events.reader).queue.is_author_behind(author(*who))));
    }
}
