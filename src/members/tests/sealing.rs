//! Network keys, sealed to members.

use super::super::{SealError, open_key, seal_key};
use super::*;

fn sealed_to(people: &[u8]) -> Kind {
    let keys: Vec<_> = people
        .iter()
        .map(|n| (*person(*n).public_key(), person(*n).sealing_public()))
        .collect();
    let keys = keys.iter().map(|(key, sealing)| (key, sealing));
    seal_key(FoundedId([1; 32]), &[5; 32], Vec::new(), &[6; 32], keys).expect("sealed")
}

#[test]
fn each_member_opens_the_same_key_and_nobody_else_does() {
    let kind = sealed_to(&[1, 2, 3]);
    for number in 1..=3 {
        let key = open_key(FoundedId([1; 32]), &kind, &person(number)).expect("opened");
        assert_eq!(*key, [5; 32]);
    }
    let outsider = open_key(FoundedId([1; 32]), &kind, &person(4));
    assert_eq!(outsider, Err(SealError::NoEntry));
    let elsewhere = open_key(FoundedId([2; 32]), &kind, &person(1));
    assert_eq!(elsewhere, Err(SealError::Broken));
}

#[test]
fn an_entry_with_another_key_than_the_record_names_is_not_used() {
    let Kind::NetworkKey {
        over,
        ephemeral,
        entries,
        ..
    } = sealed_to(&[1, 2])
    else {
        unreachable!()
    };
    let cheating = Kind::NetworkKey {
        key_id: KeyId::of(&[9; 32]),
        over,
        ephemeral,
        entries,
    };
    let opened = open_key(FoundedId([1; 32]), &cheating, &person(1));
    assert_eq!(
        opened,
        Err(SealError::Broken),
        "the key id is sealed with the key"
    );
}

#[test]
fn a_sealing_key_of_small_order_is_refused() {
    let key = *person(1).public_key();
    let weak = [(&key, &[0; 32])];
    let sealed = seal_key(FoundedId([1; 32]), &[5; 32], Vec::new(), &[6; 32], weak);
    assert_eq!(sealed, Err(SealError::WeakKey));
}
