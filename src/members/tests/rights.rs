//! Each rule of rights and endings, and each way around it that somebody may try.

use super::super::{KeyId, Kind, Level, NetworkKeyState, Record, seal_key};
use super::*;

fn role(who: &Identity, admin: bool, keep: Vec<BatchId>) -> Kind {
    Kind::Role {
        who: *who.public_key(),
        admin,
        keep,
    }
}

fn level(members: &Members, who: &Identity) -> Option<Level> {
    members.state().person(who.public_key()).map(|p| p.level)
}

/// A network key, sealed to these people.
fn key_record(members: &Members, number: u8, over: Vec<BatchId>, people: &[u8]) -> Kind {
    let people = people.iter().map(|number| person(*number));
    let keys: Vec<_> = people
        .map(|who| (*who.public_key(), who.sealing_public()))
        .collect();
    let keys = keys.iter().map(|(key, sealing)| (key, sealing));
    seal_key(members.network(), &[number; 32], over, &[number; 32], keys).expect("sealed")
}

#[test]
fn the_founder_admits_and_whoever_was_admitted_admits_others() {
    let network = Network::new(false);
    let mut members = network.members();
    assert_eq!(level(&members, &person(0)), Some(Level::Founder));
    admit(&mut members, &person(0), 1);
    admit(&mut members, &person(1), 2);
    assert_eq!(level(&members, &person(2)), Some(Level::Member));
    assert_eq!(members.state().people().count(), 3);
    assert_eq!(members.state().network_key(), Some(NetworkKeyState::First));
}

#[test]
fn any_member_admits_by_anybodys_invite() {
    let network = Network::new(false);
    let mut members = network.members();
    admit(&mut members, &person(0), 1);
    put(&mut members, &person(0), invite(2, KeyId::of(&FIRST_KEY)));
    let kind = admission(network.id, 2, &person(1), &person(2));
    put(&mut members, &person(1), kind);
    assert_eq!(level(&members, &person(2)), Some(Level::Member));
    let used = members
        .state()
        .invite(invite_key(2).public())
        .map(|i| i.used);
    assert_eq!(used, Some(1));
}

#[test]
fn where_only_admins_invite_a_members_invite_and_admission_count_for_nothing() {
    let network = Network::new(true);
    let mut members = network.members();
    admit(&mut members, &person(0), 1);
    put(&mut members, &person(1), invite(2, KeyId::of(&FIRST_KEY)));
    let kind = admission(network.id, 2, &person(0), &person(2));
    put(&mut members, &person(0), kind);
    assert_eq!(level(&members, &person(2)), None);
    assert!(!members.state().may_invite(person(1).public_key()));
}

#[test]
fn a_second_founded_record_and_one_by_somebody_else_found_nothing() {
    let network = Network::new(false);
    let mut members = network.members();
    let mut other = Network::new(true).founded;
    other.prev = Vec::new();
    members.insert(other);
    let mut stolen = network.founded.clone();
    stolen.author = *person(9).public_key();
    stolen.id = BatchId([9; 32]);
    members.insert(stolen);
    assert_eq!(members.state().founder(), Some(*person(0).public_key()));
    assert!(members.state().may_invite(person(0).public_key()));
    assert_eq!(members.state().people().count(), 1);
}

#[test]
fn an_invite_admits_up_to_its_date_and_with_both_signatures_only() {
    let network = Network::new(false);
    let mut members = network.members();
    put(&mut members, &person(0), invite(2, KeyId::of(&FIRST_KEY)));
    let kind = admission(network.id, 2, &person(0), &person(2));
    let mut late = write(&members, &person(0), Vec::new(), kind.clone()).expect("the founder");
    late.sent_at_ms = 2001;
    members.insert(late);
    assert_eq!(level(&members, &person(2)), None);

    // Relayed: signed for another admitter, for another newcomer, for another network.
    let by = members
        .state()
        .person(person(0).public_key())
        .expect("the founder")
        .right;
    let decode = |kind: Kind, author: &Identity| {
        let record = Record {
            n: 2,
            by: Some(by),
            after: Vec::new(),
            kind,
        };
        Record::decode(&record.encode(), network.id, author.public_key()).is_ok()
    };
    assert!(decode(kind.clone(), &person(0)));
    assert!(!decode(kind.clone(), &person(1)));
    assert!(!decode(
        admission(FoundedId([0; 32]), 2, &person(0), &person(2)),
        &person(0)
    ));
    let Kind::Member { mut redeem, .. } = kind else {
        unreachable!()
    };
    let who = *person(3).public_key();
    assert!(!decode(
        Kind::Member {
            who,
            redeem: redeem.clone()
        },
        &person(0)
    ));
    redeem.sealing_key = [3; 32];
    let who = *person(2).public_key();
    assert!(!decode(Kind::Member { who, redeem }, &person(0)));
}

#[test]
fn a_withdrawn_invite_keeps_those_that_the_withdrawal_names() {
    let network = Network::new(false);
    let mut members = network.members();
    put(&mut members, &person(0), invite(5, KeyId::of(&FIRST_KEY)));
    let kept = put(
        &mut members,
        &person(0),
        admission(network.id, 5, &person(0), &person(1)),
    );
    put(
        &mut members,
        &person(0),
        admission(network.id, 5, &person(0), &person(2)),
    );
    let withdrawn = Kind::Withdrawn {
        invite: *invite_key(5).public(),
        keep: vec![kept],
    };
    put(&mut members, &person(0), withdrawn);
    assert_eq!(level(&members, &person(1)), Some(Level::Member));
    assert_eq!(level(&members, &person(2)), None);
    assert!(members.state().is_withdrawn(invite_key(5).public()));
}

#[test]
fn whoever_made_an_invite_withdraws_it_and_other_members_do_not() {
    let network = Network::new(false);
    let mut members = network.members();
    admit(&mut members, &person(0), 1);
    admit(&mut members, &person(0), 2);
    put(&mut members, &person(1), invite(5, KeyId::of(&FIRST_KEY)));
    let withdrawn = Kind::Withdrawn {
        invite: *invite_key(5).public(),
        keep: Vec::new(),
    };
    put(&mut members, &person(2), withdrawn.clone());
    assert!(!members.state().is_withdrawn(invite_key(5).public()));
    put(&mut members, &person(1), withdrawn);
    assert!(members.state().is_withdrawn(invite_key(5).public()));
}

#[test]
fn admins_remove_members_and_neither_admins_nor_the_founder() {
    let network = Network::new(false);
    let mut members = network.members();
    for newcomer in 1..=3 {
        admit(&mut members, &person(0), newcomer);
    }
    put(&mut members, &person(0), role(&person(1), true, Vec::new()));
    put(&mut members, &person(0), role(&person(2), true, Vec::new()));
    put(
        &mut members,
        &person(1),
        removal(person(0).public_key(), Vec::new()),
    );
    put(
        &mut members,
        &person(1),
        removal(person(2).public_key(), Vec::new()),
    );
    assert_eq!(level(&members, &person(0)), Some(Level::Founder));
    assert_eq!(level(&members, &person(2)), Some(Level::Admin));
    let state = members.state();
    assert!(state.may_remove(person(1).public_key(), person(3).public_key()));
    assert!(!state.may_remove(person(1).public_key(), person(2).public_key()));
    assert!(!state.may_remove(person(3).public_key(), person(1).public_key()));
    put(
        &mut members,
        &person(1),
        removal(person(3).public_key(), Vec::new()),
    );
    assert_eq!(level(&members, &person(3)), None);
    assert!(members.state().is_removed(person(3).public_key()));
}

#[test]
fn a_member_removes_nobody_but_itself_and_whoever_leaves_takes_nothing_back() {
    let network = Network::new(false);
    let mut members = network.members();
    admit(&mut members, &person(0), 1);
    admit(&mut members, &person(1), 2);
    put(
        &mut members,
        &person(2),
        removal(person(1).public_key(), Vec::new()),
    );
    assert_eq!(level(&members, &person(1)), Some(Level::Member));
    put(
        &mut members,
        &person(1),
        removal(person(1).public_key(), Vec::new()),
    );
    assert_eq!(level(&members, &person(1)), None);
    assert_eq!(level(&members, &person(2)), Some(Level::Member));
    assert_eq!(members.state().network_key(), Some(NetworkKeyState::First));
}

#[test]
fn what_a_removed_member_wrote_counts_as_far_as_every_removal_keeps_it() {
    let network = Network::new(false);
    let mut members = network.members();
    admit(&mut members, &person(0), 1);
    let kept = admit(&mut members, &person(1), 2);
    admit(&mut members, &person(1), 3);
    let removed = removal(person(1).public_key(), vec![kept]);
    let removed = put(&mut members, &person(0), removed);
    // Its own key covers the removal, sealed to those who stay and were kept.
    let key = key_record(&members, 8, Vec::new(), &[0, 2]);
    let key = write(&members, &person(0), vec![removed], key).expect("the founder");
    members.insert(key);
    assert_eq!(members.state(), &members.state_anew());
    assert_eq!(level(&members, &person(1)), None);
    assert_eq!(level(&members, &person(3)), None);
}

#[test]
fn a_removed_member_gains_nothing_by_back_dating_or_hiding_what_it_has_seen() {
    let network = Network::new(false);
    let mut members = network.members();
    admit(&mut members, &person(0), 1);
    let before = members.clone();
    put(
        &mut members,
        &person(0),
        removal(person(1).public_key(), Vec::new()),
    );
    let gone: Vec<BatchId> = members.state().removals().iter().copied().collect();
    let key = key_record(&members, 8, Vec::new(), &[0]);
    members.insert(write(&members, &person(0), gone, key).expect("the founder"));
    // Written as if the removal were not known, with an early date, on a chain that forks before it, for the new key.
    let mut hidden = before.clone();
    let invited = invite(9, KeyId::of(&[8; 32]));
    let mut invited = write(&hidden, &person(1), Vec::new(), invited).expect("a member there");
    invited.sent_at_ms = 1;
    hidden.insert(invited.clone());
    members.insert(invited);
    let kind = admission(network.id, 9, &person(1), &person(9));
    members.insert(write(&hidden, &person(1), Vec::new(), kind).expect("a member there"));
    assert_eq!(level(&members, &person(9)), None);
    assert_eq!(members.state(), &members.state_anew());
}

#[test]
fn only_an_admin_gives_a_right_again_and_names_every_removal() {
    let network = Network::new(false);
    let mut members = network.members();
    admit(&mut members, &person(0), 1);
    admit(&mut members, &person(0), 2);
    let gone = put(
        &mut members,
        &person(0),
        removal(person(1).public_key(), Vec::new()),
    );
    // Person 2 was admitted by an invite whose key covers no removal: the new key, sealed to it, gives the right.
    let key = key_record(&members, 8, Vec::new(), &[0, 2]);
    let key = write(&members, &person(0), vec![gone], key).expect("the founder");
    members.insert(key);
    assert_eq!(level(&members, &person(2)), Some(Level::Member));

    put(&mut members, &person(0), invite(1, KeyId::of(&[8; 32])));
    let kind = admission(network.id, 1, &person(2), &person(1));
    let entry = write(&members, &person(2), vec![gone], kind).expect("a member");
    members.insert(entry);
    assert_eq!(
        level(&members, &person(1)),
        None,
        "by a member, whatever it names"
    );
    let kind = admission(network.id, 1, &person(0), &person(1));
    put(&mut members, &person(0), kind.clone());
    assert_eq!(
        level(&members, &person(1)),
        None,
        "the removal is not named"
    );
    let entry = write(&members, &person(0), vec![gone], kind).expect("the founder");
    members.insert(entry);
    assert_eq!(level(&members, &person(1)), Some(Level::Member));
    assert_eq!(members.state(), &members.state_anew());
}

#[test]
fn a_line_from_before_a_removal_admits_nobody_after_it() {
    let network = Network::new(false);
    let mut members = network.members();
    admit(&mut members, &person(0), 1);
    put(&mut members, &person(0), invite(5, KeyId::of(&FIRST_KEY)));
    let gone = put(
        &mut members,
        &person(0),
        removal(person(1).public_key(), Vec::new()),
    );
    let key = key_record(&members, 8, Vec::new(), &[0]);
    members.insert(write(&members, &person(0), vec![gone], key).expect("the founder"));
    // The removed member comes back under another key, with the line that it kept.
    let kind = admission(network.id, 5, &person(0), &person(6));
    put(&mut members, &person(0), kind);
    assert_eq!(level(&members, &person(6)), None);
    put(&mut members, &person(0), invite(7, KeyId::of(&[8; 32])));
    put(
        &mut members,
        &person(0),
        admission(network.id, 7, &person(0), &person(7)),
    );
    assert_eq!(level(&members, &person(7)), Some(Level::Member));
}

#[test]
fn demoting_an_admin_undoes_what_is_not_kept() {
    let network = Network::new(false);
    let mut members = network.members();
    admit(&mut members, &person(0), 1);
    admit(&mut members, &person(0), 2);
    admit(&mut members, &person(0), 3);
    put(&mut members, &person(0), role(&person(1), true, Vec::new()));
    let good = put(&mut members, &person(1), invite(4, KeyId::of(&FIRST_KEY)));
    put(
        &mut members,
        &person(1),
        removal(person(2).public_key(), Vec::new()),
    );
    assert_eq!(level(&members, &person(2)), None);
    put(
        &mut members,
        &person(0),
        role(&person(1), false, vec![good]),
    );
    assert_eq!(
        level(&members, &person(2)),
        Some(Level::Member),
        "the removal is undone"
    );
    assert_eq!(level(&members, &person(1)), Some(Level::Member));
    assert!(members.state().counts(&good));
    assert_eq!(members.state().network_key(), Some(NetworkKeyState::First));
}

#[test]
fn of_two_halves_that_made_keys_the_one_that_covers_both_removals_is_in_force() {
    let network = Network::new(false);
    let mut members = network.members();
    for newcomer in 1..=4 {
        admit(&mut members, &person(0), newcomer);
    }
    put(&mut members, &person(0), role(&person(1), true, Vec::new()));
    let (mut left, mut right) = (members.clone(), members);
    let a = put(
        &mut left,
        &person(0),
        removal(person(3).public_key(), Vec::new()),
    );
    let key_a = key_record(&left, 10, Vec::new(), &[0, 1, 2, 4]);
    let key_a = write(&left, &person(0), vec![a], key_a).expect("the founder");
    left.insert(key_a.clone());
    let b = put(
        &mut right,
        &person(1),
        removal(person(4).public_key(), Vec::new()),
    );
    let key_b = key_record(&right, 11, Vec::new(), &[0, 1, 2, 3]);
    let key_b = write(&right, &person(1), vec![b], key_b).expect("an admin");
    right.insert(key_b.clone());
    let ids = |set: &Members| {
        let entries = set.entries();
        entries.cloned().collect::<Vec<_>>()
    };
    let (from_left, from_right) = (ids(&left), ids(&right));
    from_right
        .into_iter()
        .for_each(|entry| assert_ne!(left.insert(entry), super::super::Inserted::Refused));
    from_left
        .into_iter()
        .for_each(|entry| assert_ne!(right.insert(entry), super::super::Inserted::Refused));
    assert_eq!(left.state(), right.state());
    assert_eq!(left.state().network_key(), Some(NetworkKeyState::Needed));
    let key = key_record(&left, 12, vec![key_a.id, key_b.id], &[0, 1, 2]);
    let key = write(&left, &person(0), vec![a, b], key).expect("the founder");
    left.insert(key.clone());
    right.insert(key.clone());
    assert_eq!(left.state(), right.state());
    let in_force = NetworkKeyState::Record(key.id, KeyId::of(&[12; 32]));
    assert_eq!(left.state().network_key(), Some(in_force));
    assert!(left.state().is_member(person(2).public_key()));
}

#[test]
fn the_recovery_key_names_another_founder_and_says_what_stays() {
    let recovery = person(50);
    let network = Network::with_recovery(false, Some(&recovery));
    let mut members = network.members();
    admit(&mut members, &person(0), 1);
    let kept = put(&mut members, &person(0), role(&person(1), true, Vec::new()));
    put(
        &mut members,
        &person(0),
        removal(person(1).public_key(), Vec::new()),
    );
    let founder = Kind::Founder {
        who: *person(1).public_key(),
        number: 1,
        keep: vec![kept],
    };
    let entry = write_by(&members, &recovery, network.founded.id, Vec::new(), founder);
    members.insert(entry);
    assert_eq!(members.state().founder(), Some(*person(1).public_key()));
    assert_eq!(level(&members, &person(0)), None);
    assert_eq!(level(&members, &person(1)), Some(Level::Founder));
    // Somebody else's recovery counts for nothing.
    let founder = Kind::Founder {
        who: *person(9).public_key(),
        number: 5,
        keep: Vec::new(),
    };
    let entry = write_by(
        &members,
        &person(9),
        network.founded.id,
        Vec::new(),
        founder,
    );
    members.insert(entry);
    assert_eq!(members.state().founder(), Some(*person(1).public_key()));
}
