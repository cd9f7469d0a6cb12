//! Reads of an author's events by their sequence numbers.

use super::super::{Log, PAGE_ROWS, SeqRange, Writer};
use super::*;
use crate::clock::Clock;

fn numbers(author: u8, first: u64, last: u64) -> SeqRange {
    SeqRange {
        room: "a".parse().unwrap(),
        author: [&[8, 1, 18, 32][..], &[author; 32]].concat(),
        instance: [author; 16],
        first,
        last,
    }
}

/// Returns the first numbers of the batches of a page, and whether there are more.
fn page(log: &Log, numbers: &SeqRange) -> (Vec<u64>, bool) {
    let page = log.reader().by_sequence(numbers).unwrap();
    let firsts = page.batches.iter().map(|stored| stored.record.first_seq);
    (firsts.collect(), page.has_more)
}

#[test]
fn a_stretch_is_read_from_the_batch_that_holds_its_first_event_to_that_with_its_last() {
    let mut log = Log::ephemeral(policy()).unwrap();
    let batches: Vec<Batch> = (0..10)
        .map(|n| batch_in("a", 1, 1 + n * 10, 10, NOW_MS + n))
        .chain([
            batch_in("b", 1, 1, 10, NOW_MS),
            batch_in("a", 2, 1, 99, NOW_MS),
        ])
        // A second batch with the same numbers is in conflict.
        .chain([batch_of("a", 1, 25, 3, NOW_MS, 200)])
        .collect();
    log.append(NOW_MS, &batches).unwrap();
    assert_eq!(page(&log, &numbers(1, 11, 20)), (vec![11], false));
    assert_eq!(page(&log, &numbers(1, 15, 25)), (vec![11, 21], false));
    assert_eq!(page(&log, &numbers(1, 1, 100)).0.len(), 10);
    assert_eq!(page(&log, &numbers(1, 95, 200)), (vec![91], false));
    assert_eq!(page(&log, &numbers(1, 101, 200)), (vec![], false));
    assert_eq!(page(&log, &numbers(3, 1, 200)), (vec![], false));
    let elsewhere = SeqRange {
        room: "c".parse().unwrap(),
        ..numbers(1, 1, 10)
    };
    assert_eq!(page(&log, &elsewhere), (vec![], false));
}

#[test]
fn a_long_stretch_comes_in_pages_and_what_is_missing_in_it_is_passed_over() {
    let mut log = Log::ephemeral(policy()).unwrap();
    let batches: Vec<Batch> = (1..=1000)
        .filter(|seq| !(300..400).contains(seq))
        .map(|seq| batch(1, seq))
        .collect();
    log.append(NOW_MS, &batches).unwrap();
    let (mut read, mut first, mut pages) = (Vec::new(), 1, 0);
    loop {
        let (firsts, has_more) = page(&log, &numbers(1, first, 1000));
        assert!(firsts.len() <= PAGE_ROWS);
        first = firsts.last().unwrap() + 1;
        read.extend(firsts);
        pages += 1;
        if !has_more {
            break;
        }
    }
    let held: Vec<u64> = batches.iter().map(|batch| batch.0.first_seq).collect();
    assert_eq!((read, pages), (held, 4));
}

#[tokio::test]
async fn what_cannot_be_committed_yet_is_not_taken_for_missing() {
    for is_stuck in [false, true] {
        let mut log = Log::ephemeral(policy()).unwrap();
        log.append_buffered(NOW_MS, &[&batch(1, 1).0]).unwrap();
        log.flush().unwrap();
        let put_off = [batch(1, 2).0];
        assert!(log.write_buffer().lock().try_accept(NOW_MS, 0, &put_off));
        log.refuse_writes(is_stuck).unwrap();
        let writer = Writer::start(log, Clock::start(), |_| {}).unwrap();
        let asked = numbers(1, 2, 2);
        let page = writer.ask_whole(move |reader| reader.by_sequence(&asked));
        let found = page.await.unwrap().map(|page| page.batches.len());
        assert_eq!(found, (!is_stuck).then_some(1));
    }
}
