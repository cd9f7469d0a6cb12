//! Reads of history in pages, by id, and as items of anti-entropy.

use super::*;
use crate::store::{Log, Page, Query};

pub(super) fn seqs(page: &Page) -> Vec<u64> {
    page.batches
        .iter()
        .map(|stored| stored.record.first_seq)
        .collect()
}

#[test]
fn history_is_read_in_pages_by_room_time_author_and_the_last() {
    let mut log = Log::ephemeral(policy()).unwrap();
    let mut all: Vec<Batch> = (1..=700).map(|n| batch((n % 2) as u8, n)).collect();
    all.rotate_left(300);
    log.append(NOW_MS, &all).unwrap();
    let reader = log.reader();
    let read = |query: Query| -> Vec<u64> {
        reader
            .history(query)
            .flat_map(|page| {
                seqs(&Page {
                    batches: page.unwrap(),
                    ..Page::default()
                })
            })
            .collect()
    };
    let room = Some("a".parse().unwrap());
    let base = Query {
        room: room.clone(),
        ..Query::default()
    };
    assert_eq!(read(base.clone()), (1..=700).collect::<Vec<_>>());
    assert_eq!(
        read(Query {
            last: Some(3),
            ..base.clone()
        }),
        [698, 699, 700]
    );
    assert_eq!(
        read(Query {
            last: Some(0),
            ..base.clone()
        }),
        [0; 0]
    );
    assert_eq!(
        read(Query {
            last: Some(300),
            ..base.clone()
        })
        .len(),
        300
    );
    assert_eq!(
        read(Query {
            last: Some(9999),
            ..base.clone()
        })
        .len(),
        700
    );
    assert_eq!(
        read(Query {
            since_ms: Some(NOW_MS + 699),
            ..base.clone()
        }),
        [699, 700]
    );
    let author = Some(batch(1, 1).0.author.to_vec());
    assert_eq!(
        read(Query {
            author,
            last: Some(2),
            ..base
        }),
        [697, 699]
    );
    // All rooms are in the order of arrival.
    let arrived = read(Query::default());
    assert_eq!(arrived.first(), Some(&301));
    assert_eq!(arrived.len(), 700);
    assert_eq!(
        read(Query {
            room: Some("nobody".parse().unwrap()),
            ..Query::default()
        }),
        [0; 0]
    );
}

#[test]
fn a_fetch_answers_in_order_up_to_its_bytes_and_names_what_is_missing() {
    let mut log = Log::ephemeral(policy()).unwrap();
    let held: Vec<Batch> = (1..=5)
        .map(|n| batch_of("a", 1, n, 1, NOW_MS, 1000))
        .collect();
    log.append(NOW_MS, &held).unwrap();
    let ids: Vec<_> = [held[4].0.id, [9; 32], held[0].0.id, held[1].0.id].into();
    let found = log.reader().fetch("a", &ids, 2500).unwrap();
    assert_eq!(
        found.envelopes,
        [held[4].0.bytes.clone(), held[0].0.bytes.clone()]
    );
    assert_eq!((found.missing, found.looked_at), (vec![[9; 32]], 3));
    let found = log.reader().fetch("a", &ids, 1).unwrap();
    assert_eq!(found.envelopes.len(), 1, "one passes however large it is");
    assert_eq!(
        log.reader().fetch("b", &ids, 2500).unwrap().missing,
        ids,
        "not of another room"
    );
}

#[test]
fn the_newest_items_tell_where_they_begin() {
    let mut log = Log::ephemeral(policy()).unwrap();
    log.append(NOW_MS, &(1..=10).map(|n| batch(1, n)).collect::<Vec<_>>())
        .unwrap();
    let (low_watermark, items) = log.reader().items("a", 4).unwrap();
    assert_eq!(
        items
            .iter()
            .map(|i| i.sent_at_ms - NOW_MS)
            .collect::<Vec<_>>(),
        [7, 8, 9, 10]
    );
    assert_eq!(low_watermark, NOW_MS + 8);
    assert_eq!(log.reader().items("a", 11).unwrap().0, 0);
    assert_eq!(log.reader().items("b", 11).unwrap(), (0, vec![]));
}
