//! Positions, missing records and names.

use super::super::{Inserted, KeyId, Level, checked_name};
use super::*;

#[test]
fn a_position_that_is_used_too_often_ends_what_the_author_says() {
    let network = Network::new(false);
    let mut members = network.members();
    admit(&mut members, &person(0), 1);
    let begin = members.clone();
    for number in 0..5 {
        let kind = invite(20 + number, KeyId::of(&FIRST_KEY));
        let entry = write(&begin, &person(1), Vec::new(), kind).expect("a member");
        let refused = members.insert(entry);
        assert_eq!(refused, Inserted::Held);
        assert_eq!(members.state(), &members.state_anew());
    }
    assert_eq!(members.state().invites().count(), 1, "the founder's");
    let kind = invite(30, KeyId::of(&FIRST_KEY));
    let sixth = write(&begin, &person(1), Vec::new(), kind).expect("a member");
    assert_eq!(members.insert(sixth), Inserted::Refused);
}

#[test]
fn a_record_waits_for_those_that_it_names() {
    let network = Network::new(false);
    let mut members = network.members();
    admit(&mut members, &person(0), 1);
    let mut whole = members.clone();
    let invited = put(&mut whole, &person(1), invite(2, KeyId::of(&FIRST_KEY)));
    put(
        &mut whole,
        &person(1),
        admission(network.id, 2, &person(1), &person(2)),
    );
    let entries: Vec<Entry> = whole.entries().cloned().collect();
    let missing = entries
        .iter()
        .find(|e| e.id == invited)
        .expect("it was put")
        .clone();
    for entry in entries.iter().filter(|e| e.id != invited) {
        members.insert(entry.clone());
    }
    assert_eq!(
        members
            .state()
            .person(person(2).public_key())
            .map(|p| p.level),
        None
    );
    members.insert(missing);
    assert_eq!(
        members
            .state()
            .person(person(2).public_key())
            .map(|p| p.level),
        Some(Level::Member)
    );
    assert_eq!(members.state(), whole.state());
}

#[test]
fn names_that_cannot_be_shown_are_refused() {
    for name in ["a\u{200b}b", "tab\t", "e\u{301}", &"x".repeat(65)] {
        assert!(checked_name(name.to_owned()).is_err(), "{name:?}");
    }
    for name in ["", "Zoë", "李雷", "🦊"] {
        assert!(checked_name(name.to_owned()).is_ok(), "{name:?}");
    }
}
