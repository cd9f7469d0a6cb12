//! Shares and losses of authors when a reader is too slow.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::gossip::EVENT_OVERHEAD;
use crate::model::BatchId;
use crate::node::Message;

fn author(n: u8) -> PeerId {
    crate::identity::Identity::from_seed(&[n; 32]).peer_id()
}

/// Bytes that all messages share: the queue only counts them.
fn zeros(bytes: usize) -> Bytes {
    static ZEROS: LazyLock<Bytes> = LazyLock::new(|| vec![0; 8 << 20].into());
    ZEROS.slice(..bytes)
}

fn message(author: PeerId, seq: u64, bytes: usize) -> Event {
    Event::Message(Message {
        id: BatchId([0; 32]),
        room: "lobby".parse().unwrap(),
        author,
        instance_id: [0; 16],
        seq,
        name: String::new(),
        data: zeros(bytes),
        sent_at_ms: 0,
        backfill: false,
    })
}

/// Everything that is to be read: the numbers of each author's messages, and the gaps.
fn read(queue: &mut Queue) -> (BTreeMap<Author, Vec<u64>>, BTreeMap<Author, u64>) {
    let (mut seqs, mut gaps) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::new());
    while let Some(event) = queue.pop() {
        match event {
            Event::Message(message) => seqs
                .entry(Some(message.author))
                .or_default()
                .push(message.seq),
            Event::Missed { author, events } => *gaps.entry(author).or_default() += events,
            _ => {}
        }
    }
    assert_eq!((queue.count, queue.bytes), (0, 0));
    (seqs, gaps)
}

#[test]
fn a_flood_displaces_its_own_authors_events_and_no_others() {
    let (flooder, others) = (author(1), [author(2), author(3)]);
    let mut queue = Queue::default();
    let mut said = 0;
    for n in 0..3 * MAX_WAITING_EVENTS as u64 {
        queue.push(message(flooder, n, 0));
        if n % 1000 == 0 {
            said += 1;
            for other in others {
                queue.push(message(other, said, 100));
            }
        }
    }
    assert!(queue.count <= MAX_WAITING_EVENTS);
    let (seqs, gaps) = read(&mut queue);
    for other in others {
        assert_eq!(seqs[&Some(other)], (1..=said).collect::<Vec<_>>());
    }
    let kept = MAX_WAITING_EVENTS as u64 - 2 * said;
    assert_eq!(seqs[&Some(flooder)], (0..kept).collect::<Vec<_>>());
    let missed = 3 * MAX_WAITING_EVENTS as u64 - kept;
    assert_eq!(gaps, BTreeMap::from([(Some(flooder), missed)]));
}

#[test]
fn large_messages_are_no_way_around_it() {
    let (flooder, other) = (author(1), author(2));
    let mut queue = Queue::default();
    for n in 0..200 {
        queue.push(message(flooder, n, 1 << 20));
        queue.push(message(other, n, 10));
    }
    assert!(queue.bytes <= MAX_WAITING_BYTES);
    let (seqs, gaps) = read(&mut queue);
    assert_eq!(seqs[&Some(other)].len(), 200);
    assert_eq!(gaps.keys().collect::<Vec<_>>(), [&Some(flooder)]);
}

#[test]
fn an_event_counts_as_its_bookkeeping_at_least() {
    let empty = message(author(1), 1, 0);
    assert_eq!(empty.bytes(), EVENT_OVERHEAD);
}

#[test]
fn an_author_is_heard_again_after_its_gap_was_told() {
    let flooder = author(1);
    let mut queue = Queue::default();
    for n in 0..=MAX_WAITING_EVENTS as u64 {
        queue.push(message(flooder, n, 0));
    }
    // There is room again, but the gap is first.
    assert!(queue.pop().is_some());
    queue.push(message(flooder, 1_000_000, 0));
    let mut last = None;
    while let Some(event) = queue.pop() {
        last = Some(event);
    }
    let author = Some(flooder);
    assert!(matches!(last, Some(Event::Missed { author: a, events: 2 }) if a == author));
    queue.push(message(flooder, 1_000_001, 0));
    assert!(matches!(queue.pop(), Some(Event::Message(_))));
}

#[test]
fn a_new_key_for_each_message_makes_no_memory_grow() {
    let mut queue = Queue::default();
    for n in 0..MAX_WAITING_EVENTS as u64 + 5000 {
        // PeerIds that nobody proved serve here.
        let digest = [&[0; 24][..], &n.to_be_bytes()].concat();
        let hash = libp2p::multihash::Multihash::wrap(0x12, &digest).unwrap();
        queue.push(message(PeerId::from_multihash(hash).unwrap(), n, 0));
    }
    let shares = queue.shares.as_ref().expect("it is full");
    assert!(shares.gaps.len() <= MAX_GAPS);
    let (seqs, gaps) = read(&mut queue);
    assert_eq!(seqs.len(), MAX_WAITING_EVENTS);
    assert_eq!(gaps.values().sum::<u64>(), 5000);
    assert!(queue.shares.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_vanishes_and_each_author_is_read_in_order(
        steps in prop::collection::vec((0u8..4, 0usize..8, any::<bool>()), 1..400)
    ) {
        let mut queue = Queue::default();
        let (mut said, mut seen) = (BTreeMap::new(), BTreeMap::<Author, u64>::new());
        let mut accounted = |event: Event| match event {
            Event::Message(message) => {
                let next = seen.entry(Some(message.author)).or_default();
                // The events between were reported as a gap.
                assert_eq!(message.seq, *next);
                *next += 1;
            }
            Event::Missed { author, events } => *seen.entry(author).or_default() += events,
            _ => {}
        };
        for (who, mebibytes, reads) in steps {
            let who = author(who);
            let seq = said.entry(Some(who)).or_insert(0u64);
            queue.push(message(who, *seq, mebibytes << 20));
            *seq += 1;
            prop_assert!(queue.bytes <= MAX_WAITING_BYTES);
            if reads && let Some(event) = queue.pop() {
                accounted(event);
            }
        }
        while let Some(event) = queue.pop() {
            accounted(event);
        }
        prop_assert_eq!(said, seen);
    }
}
