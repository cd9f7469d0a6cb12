//! A batch stored through the write buffer has the same result as one inserted into the tables.

use std::sync::mpsc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::Clock;
use crate::store::{FILE_NAME, Log, Reader, Writer, journal::Journal, schema};

/// Stores batches as the writer does: through the write buffer if it accepts them, or else in the tables.
fn stored(log: &mut Log, batches: &[Batch]) -> (Vec<Outcome>, bool) {
    let records: Vec<Record> = batches.iter().map(Verified::record).collect();
    let oldest_ms = policy().oldest_ms(NOW_MS.into());
    if log
        .write_buffer()
        .lock()
        .try_accept(NOW_MS, oldest_ms, &records)
    {
        return (vec![NEW; batches.len()], true);
    }
    let records: Vec<&Record> = records.iter().collect();
    (log.append_buffered(NOW_MS, &records).unwrap(), false)
}

fn is_at_once(log: &mut Log, batch: Batch) -> bool {
    stored(log, &[batch]).1
}

#[test]
fn what_comes_next_of_an_author_whose_last_number_is_known_needs_no_table() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), policy()).unwrap();
    assert!(!is_at_once(&mut log, batch(1, 1)), "it is not known yet");
    assert!(is_at_once(&mut log, batch(1, 2)));
    let (outcomes, at_once) = stored(&mut log, &[batch(1, 3), batch(1, 4)]);
    assert_eq!((outcomes, at_once), (vec![NEW; 2], true));
    assert!(!is_at_once(&mut log, batch(1, 4)), "it is held");
    assert!(!is_at_once(&mut log, batch(1, 6)), "there is a gap");
    assert!(is_at_once(&mut log, batch(1, 7)));
    assert!(!is_at_once(&mut log, batch(2, 1)), "another author");
    assert!(
        !is_at_once(&mut log, batch_in("b", 1, 8, 1, NOW_MS)),
        "another room"
    );
    let too_old = NOW_MS - policy().age.as_millis() as u64 - 1;
    assert!(!is_at_once(&mut log, batch_in("a", 1, 8, 1, too_old)));
    assert!(
        !is_at_once(&mut log, batch_of("a", 1, 8, 1, NOW_MS, 20_000)),
        "it is large"
    );
    assert!(
        is_at_once(&mut log, batch(1, 9)),
        "the large one is known of"
    );

    let path = dir.path().join(FILE_NAME);
    let held = |batch: &Batch| {
        let conn = schema::open_to_read(&path).unwrap();
        Reader::new(&conn, &path).holds(&batch.0.id).unwrap()
    };
    assert!(!held(&batch(1, 9)), "it is put off");
    log.flush().unwrap();
    assert!([1, 2, 3, 4, 6, 7, 9].iter().all(|n| held(&batch(1, *n))));
    assert!(is_at_once(&mut log, batch(1, 10)), "it is known still");
}

#[test]
fn what_was_removed_for_its_age_is_not_taken_at_once_either() {
    let an_hour = RetentionPolicy {
        age: Duration::from_secs(3600),
        ..policy()
    };
    let mut log = Log::ephemeral(an_hour).unwrap();
    let then_ms = NOW_MS - 4_000_000;
    let many: Vec<Batch> = (1..=100)
        .map(|n| batch_of("a", 1, n, 1, then_ms + n, 4096))
        .collect();
    log.append(then_ms, &many).unwrap();
    assert!(!log.prune(NOW_MS).unwrap().is_empty());
    let low_watermark_ms = log.low_watermark_ms("a");
    assert_eq!(low_watermark_ms, NOW_MS - 3_600_000);
    stored(&mut log, &[batch_in("a", 2, 1, 1, low_watermark_ms)]);
    assert!(!is_at_once(
        &mut log,
        batch_in("a", 2, 2, 1, low_watermark_ms - 1)
    ));
    assert!(is_at_once(
        &mut log,
        batch_in("a", 2, 2, 1, low_watermark_ms)
    ));
}

#[test]
fn while_the_log_commits_what_is_small_queues_and_nothing_is_overtaken() {
    let log = Log::ephemeral(policy()).unwrap();
    let buffer = log.write_buffer();
    let clock = Clock::start();
    let writer = Writer::start(log, clock, |_| {}).unwrap();
    let (sender, heard) = mpsc::channel();
    let store = |author: u8, n: u64| {
        let batch = batch_in("a", author, n, 1, clock.unix_millis());
        let sender = sender.clone();
        let done = move |outcomes: crate::store::Appended| {
            sender.send((author, n, outcomes.unwrap())).unwrap();
        };
        futures::executor::block_on(writer.append_in_turn(&[batch], done));
    };
    let next = || heard.recv_timeout(Duration::from_secs(30)).unwrap();
    for author in [1, 2] {
        store(author, 1);
        assert_eq!(next(), (author, 1, vec![NEW]));
    }
    // It acknowledges them shortly before it is idle.
    while writer.is_busy() {
        std::thread::yield_now();
    }
    store(1, 2);
    let at_once = heard.try_recv();
    assert_eq!(at_once, Ok((1, 2, vec![NEW])), "it did not change threads");

    // A log in memory reads on the writer's thread: this blocks it.
    let (go_on, wait) = mpsc::channel::<()>();
    let (sender_of_read, seen) = mpsc::channel();
    writer.read(move |_| wait.recv().unwrap());
    {
        let _commits = buffer.lock();
        store(1, 3);
    }
    store(2, 2);
    assert!(heard.try_recv().is_err(), "they wait");
    go_on.send(()).unwrap();
    assert_eq!(
        [next(), next()].map(|(author, n, _)| (author, n)),
        [(1, 3), (2, 2)]
    );
    writer.read(move |reader| {
        let rooms = reader.rooms().unwrap();
        sender_of_read.send(rooms[0].batches).unwrap();
    });
    assert_eq!(seen.recv().unwrap(), 5, "readers see all of it");
}

#[test]
fn what_was_put_off_comes_into_the_file_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), policy()).unwrap();
    let clock = Clock::start();
    let writer = Writer::start(log, clock, |_| {}).unwrap();
    let path = dir.path().join(FILE_NAME);
    let mut store = |n: u64| {
        let batch = batch_in("a", 1, n, 1, clock.unix_millis());
        let stored = writer.append_when_room(std::slice::from_ref(&batch));
        assert_eq!(futures::executor::block_on(stored).unwrap(), [NEW]);
        let since = std::time::Instant::now();
        let conn = schema::open_to_read(&path).unwrap();
        while !Reader::new(&conn, &path).holds(&batch.0.id).unwrap() {
            assert!(since.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    // The first goes into the tables, the others into the write buffer.
    (1..=3).for_each(&mut store);
}

#[test]
fn what_was_in_a_transaction_that_is_lost_goes_into_the_next() {
    for next in [batch(1, 2), batch(2, 1)] {
        let mut log = Log::ephemeral(policy()).unwrap();
        stored(&mut log, &[batch(1, 1)]);
        assert!(log.has_uncommitted());
        // SQLite does this by itself when a statement that only reads meets a full or failing disk.
        log.tables.conn.execute_batch("ROLLBACK").unwrap();
        stored(&mut log, std::slice::from_ref(&next));
        log.flush().unwrap();
        for batch in [batch(1, 1), next] {
            assert!(log.reader().holds(&batch.0.id).unwrap());
        }
    }
}

#[test]
fn many_that_are_put_off_are_stored_also_when_the_first_try_fails() {
    let mut log = Log::ephemeral(policy()).unwrap();
    stored(&mut log, &[batch(1, 1)]);
    log.flush().unwrap();
    assert!((2..=60).all(|n| is_at_once(&mut log, batch(1, n))));
    log.refuse_writes(true).unwrap();
    assert!(log.flush().is_err());
    log.refuse_writes(false).unwrap();
    assert!((61..=70).all(|n| is_at_once(&mut log, batch(1, n))));
    log.flush().unwrap();
    assert!((1..=70).all(|n| log.reader().holds(&batch(1, n).0.id).unwrap()));
    assert!(!log.has_uncommitted());
}

#[test]
fn what_several_store_at_once_is_all_there_while_the_log_commits_and_makes_room() {
    const EACH: u64 = 400;
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), policy()).unwrap();
    let clock = Clock::start();
    let writer = Writer::start(log, clock, |_| {}).unwrap();
    let now_ms = clock.unix_millis();
    std::thread::scope(|scope| {
        for author in 1..=3 {
            let writer = &writer;
            scope.spawn(move || {
                for n in 1..=EACH {
                    let batch = batch_in("a", author, n, 1, now_ms);
                    let outcomes = futures::executor::block_on(writer.append_when_room(&[batch]));
                    assert_eq!(outcomes.unwrap(), [NEW]);
                }
            });
        }
        // Each round flushes the write buffer.
        for _ in 0..100 {
            let (sender, done) = mpsc::channel();
            writer.read(move |_| sender.send(()).unwrap());
            writer.prune();
            done.recv().unwrap();
        }
    });
    drop(writer);
    let log = Log::open(dir.path(), policy()).unwrap();
    assert_eq!(log.reader().rooms().unwrap()[0].batches, 3 * EACH);
}

/// A file that can be opened and not written.
#[cfg(target_os = "linux")]
#[test]
fn a_torn_journal_takes_nothing_until_it_is_cleared() {
    let records = [batch(1, 1).0];
    let mut journal = Journal::create("/dev/full".into()).unwrap();
    assert!(journal.append(NOW_MS, &records).is_err());
    assert!(!journal.append(NOW_MS, &records).unwrap());
    journal.clear().unwrap();
    assert!(
        journal.append(NOW_MS, &records).is_err(),
        "it is tried again"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Store(Vec<Batch>),
    Flush,
    Fail,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = (0u8..2, 1u8..3, 1u64..8, 1u64..3).prop_map(|(room, author, first_seq, count)| {
        let room = ["a", "b"][usize::from(room)];
        batch_in(room, author, first_seq, count, NOW_MS + first_seq)
    });
    let step = prop_oneof![
        8 => prop::collection::vec(one, 1..4).prop_map(Step::Store),
        1 => Just(Step::Flush),
        1 => Just(Step::Fail),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #[test]
    fn every_outcome_is_the_one_of_a_log_that_commits_at_once(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path(), policy()).unwrap();
        let mut plain = Log::ephemeral(policy()).unwrap();
        let mut ids = Vec::new();
        for step in steps {
            match step {
                Step::Store(batches) => {
                    let expected = plain.append(NOW_MS, &batches).unwrap();
                    prop_assert_eq!(stored(&mut log, &batches).0, expected);
                    ids.extend(batches.iter().map(|batch| batch.0.id));
                }
                Step::Flush => log.flush().unwrap(),
                Step::Fail => {
                    log.refuse_writes(true).unwrap();
                    let large = batch_of("c", 9, 1, 1, NOW_MS, 20_000);
                    prop_assert!(log.append_buffered(NOW_MS, &[&large.0]).is_err());
                    log.refuse_writes(false).unwrap();
                }
            }
        }
        log.flush().unwrap();
        for id in ids {
            prop_assert!(log.reader().holds(&id).unwrap());
        }
        let rooms = |log: &Log| {
            let rooms = log.reader().rooms().unwrap().into_iter();
            rooms.map(|room| (room.room, room.batches, room.span_ms)).collect::<Vec<_>>()
        };
        prop_assert_eq!(rooms(&log), rooms(&plain));
    }
}
