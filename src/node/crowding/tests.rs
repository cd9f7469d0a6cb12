//! Tests of the remembered sources.

use super::*;
use crate::identity::Identity;

fn said(batches: u64, is_by_link: bool) -> store::Crowding {
    let key = Identity::generate().public_key_protobuf();
    store::Crowding {
        author: key.to_vec().into(),
        link: Some(PeerId::random().to_bytes().into()),
        is_by_link,
        bytes: 10,
        share: 5,
        batches,
    }
}

#[test]
fn what_one_has_removed_adds_up_and_who_is_remembered_is_bounded() {
    let crowders = Crowders::new(Clock::start());
    let first = said(3, false);
    let second = store::Crowding {
        link: None,
        batches: 4,
        ..first.clone()
    };
    crowders.record_at(Time::ZERO, &first);
    let told = crowders.record_at(Time::ZERO, &second).unwrap();
    assert_eq!((told.batches, told.link), (7, None));
    assert_eq!(crowders.recent_at(Time::ZERO), [told]);
    for _ in 0..100 {
        crowders.record_at(Time::ZERO, &said(1, false));
    }
    assert_eq!(crowders.recent_at(Time::ZERO).len(), MAX_CROWDERS);
    assert_eq!(crowders.recent_at(Time::ZERO + MEMORY_DURATION), []);
}

#[test]
fn many_authors_of_one_link_are_one() {
    let crowders = Crowders::new(Clock::start());
    let first = said(1, true);
    let other = store::Crowding {
        author: said(1, true).author,
        ..first.clone()
    };
    crowders.record_at(Time::ZERO, &first);
    let told = crowders.record_at(Time::ZERO, &other).unwrap();
    assert_eq!(told.batches, 2);
    assert_eq!(Some(told.who()), told.link);
    assert_eq!(crowders.recent_at(Time::ZERO).len(), 1);
}
