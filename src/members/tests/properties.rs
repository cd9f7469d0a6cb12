//! Properties of the state over networks that are played at random: splits, any order, duplicates, back-dating, records by
//! those who have no right to them.

use std::collections::HashSet;

use proptest::prelude::*;

use super::super::{KeyId, Kind, Level, NetworkKeyState, seal_key};
use super::*;

/// One thing that somebody does on its own copy of the set.
#[derive(Clone, Debug)]
enum Act {
    Invite,
    Admit { newcomer: u8 },
    Remove { who: u8, keeps: bool },
    Role { who: u8, admin: bool, keeps: bool },
    Key,
    Withdraw { of: u8 },
    Name,
}

/// A step: in which half, by whom, what; whether by the right that another person has.
#[derive(Clone, Debug)]
struct Step {
    half: usize,
    author: u8,
    act: Act,
    stolen_right: bool,
    /// Written on a copy of the set from before, as if nothing had been seen since.
    hides: bool,
}

const PEOPLE: u8 = 6;

fn act() -> impl Strategy<Value = Act> {
    let who = 0..PEOPLE;
    prop_oneof![
        3 => Just(Act::Invite),
        4 => who.clone().prop_map(|newcomer| Act::Admit { newcomer }),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, keeps)| Act::Remove { who, keeps }),
        2 => (who.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(who, admin, keeps)| Act::Role { who, admin, keeps }),
        2 => Just(Act::Key),
        1 => who.prop_map(|of| Act::Withdraw { of }),
        1 => Just(Act::Name),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (
        0..2_usize,
        0..PEOPLE,
        act(),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.15),
    );
    let step = step.prop_map(|(half, author, act, stolen_right, hides)| Step {
        half,
        author,
        act,
        stolen_right,
        hides,
    });
    prop::collection::vec(step, 1..40)
}

/// The newest records of somebody, for `keep`.
fn newest(members: &Members, who: u8, keeps: bool) -> Vec<BatchId> {
    match keeps {
        true => members.heads(person(who).public_key()).0,
        false => Vec::new(),
    }
}

fn kind_of(members: &Members, step: &Step) -> Kind {
    let author = person(step.author);
    let state = members.state();
    let key_id = match state.network_key() {
        Some(NetworkKeyState::Record(_, id)) => id,
        _ => KeyId::of(&FIRST_KEY),
    };
    match step.act {
        Act::Invite => invite(step.author + 10, key_id),
        Act::Admit { newcomer } => {
            // By whichever invite is known here.
            let known = (10..10 + PEOPLE).find(|n| state.invite(invite_key(*n).public()).is_some());
            admission(
                members.network(),
                known.unwrap_or(10),
                &author,
                &person(newcomer),
            )
        }
        Act::Remove { who, keeps } => {
            removal(person(who).public_key(), newest(members, who, keeps))
        }
        Act::Role { who, admin, keeps } => Kind::Role {
            who: *person(who).public_key(),
            admin,
            keep: newest(members, who, keeps),
        },
        Act::Key => {
            let people: Vec<_> = state
                .people()
                .filter_map(|(key, person)| {
                    Some((PublicKey::from_bytes(key).ok()?, person.sealing_key?))
                })
                .collect();
            let over = match state.network_key() {
                Some(NetworkKeyState::Record(id, _)) => vec![id],
                _ => Vec::new(),
            };
            let sealed = people.iter().map(|(key, sealing)| (key, sealing));
            let secret = [step.author + 60; 32];
            seal_key(members.network(), &secret, over, &secret, sealed).expect("sealed")
        }
        Act::Withdraw { of } => Kind::Withdrawn {
            invite: *invite_key(of + 10).public(),
            keep: Vec::new(),
        },
        Act::Name => Kind::Profile {
            name: format!("name {}", step.author),
        },
    }
}

fn after_of(members: &Members, kind: &Kind) -> Vec<BatchId> {
    match kind {
        Kind::NetworkKey { .. } => members.state().removals().iter().copied().collect(),
        Kind::Role {
            who, admin: true, ..
        }
        | Kind::Member { who, .. } => members.state().endings_of(who),
        _ => Vec::new(),
    }
}

/// Plays the steps on two halves that do not hear each other, and returns all that was written.
fn play(network: &Network, steps: &[Step]) -> [Members; 2] {
    let mut begin = network.members();
    admit(&mut begin, &person(0), 1);
    admit(&mut begin, &person(0), 2);
    let mut halves = [begin.clone(), begin.clone()];
    for step in steps {
        let half = &mut halves[step.half];
        let seen = if step.hides {
            begin.clone()
        } else {
            half.clone()
        };
        let author = person(step.author);
        let kind = kind_of(&seen, step);
        let right_of = if step.stolen_right {
            person(0)
        } else {
            author.clone()
        };
        let right = seen
            .state()
            .person(right_of.public_key())
            .map(|person| person.right);
        let after = after_of(&seen, &kind);
        let entry = write_by(
            &seen,
            &author,
            right.unwrap_or(network.founded.id),
            after,
            kind,
        );
        half.insert(entry);
        assert_eq!(half.state(), &half.state_anew(), "grown and computed anew");
    }
    halves
}

/// Follows the rights of a person up to the founder.
fn has_chain(members: &Members, id: BatchId) -> bool {
    let mut at = id;
    for _ in 0..1000 {
        let Some(entry) = members.entry(&at) else {
            return false;
        };
        match entry.record.by {
            None => return entry.founds == Some(members.network()),
            Some(by) => at = by,
        }
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn equal_sets_give_equal_state_in_whatever_order(
        steps in steps(),
        admins_invite in prop::bool::weighted(0.2),
        seed in any::<u64>(),
    ) {
        let network = Network::new(admins_invite);
        let halves = play(&network, &steps);
        let mut all: Vec<Entry> = halves.iter().flat_map(|half| half.entries().cloned()).collect();
        // Not more at one position than are held: which of them are refused depends on the order.
        let mut seen = HashSet::new();
        all.sort_by_key(|entry| entry.id);
        all.retain(|entry| seen.insert(entry.id));
        let count = |entry: &Entry| {
            all.iter().filter(|e| e.author == entry.author && e.record.n == entry.record.n).count()
        };
        prop_assume!(all.iter().all(|entry| count(entry) <= 5));
        let mut whole = Members::new(network.id);
        whole.extend(all.iter().cloned());
        let mut shuffled = all.clone();
        let mut random = seed;
        for at in (1..shuffled.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(at, (random >> 33) as usize % (at + 1));
        }
        let mut one_by_one = Members::new(network.id);
        for entry in &shuffled {
            one_by_one.insert(entry.clone());
            one_by_one.insert(entry.clone());
        }
        prop_assert_eq!(one_by_one.state(), whole.state());
    }

    #[test]
    fn nobody_has_a_right_without_a_chain_from_the_founder(steps in steps()) {
        let network = Network::new(false);
        for half in play(&network, &steps) {
            prop_assert_eq!(half.state().founder(), Some(*person(0).public_key()));
            for (key, person) in half.state().people() {
                prop_assert!(has_chain(&half, person.right));
                prop_assert!(half.state().counts(&person.right));
                let is_founder = Some(*key) == half.state().founder().map(|f| *f.as_bytes());
                prop_assert_eq!(person.level == Level::Founder, is_founder);
            }
        }
    }

    /// Nothing that a removed person writes as if it had not seen its removal gives anybody a right, or takes one away.
    #[test]
    fn an_ended_right_gains_nothing_by_what_its_holder_writes_later(
        steps in steps(),
        victim in 1..PEOPLE,
        later in prop::collection::vec(act(), 1..6),
    ) {
        let network = Network::new(false);
        let [mut half, _] = play(&network, &steps);
        let right = half.state().person(person(victim).public_key()).map(|person| person.right);
        let stay: Vec<_> = (0..PEOPLE)
            .map(person)
            .filter(|who| who.public_key() != person(victim).public_key() && half.state().is_member(who.public_key()))
            .map(|who| (*who.public_key(), who.sealing_public()))
            .collect();
        let kept = newest(&half, victim, true);
        put(&mut half, &person(0), removal(person(victim).public_key(), kept));
        // The key that covers the removal is known to everybody, also to the removed one.
        let sealed = stay.iter().map(|(key, sealing)| (key, sealing));
        let key = seal_key(network.id, &[99; 32], Vec::new(), &[99; 32], sealed).expect("sealed");
        let after = half.state().removals().iter().copied().collect();
        half.insert(write(&half, &person(0), after, key).expect("the founder"));
        let people: Vec<_> = half.state().people().map(|(key, person)| (*key, person.level)).collect();
        for act in later {
            let step = Step { half: 0, author: victim, act, stolen_right: false, hides: false };
            let kind = kind_of(&half, &step);
            // A member that leaves ends its own rights only.
            let leaves = matches!(&kind, Kind::Removed { who, .. } if who == person(victim).public_key());
            if let (false, Some(right)) = (leaves, right) {
                half.insert(write_by(&half, &person(victim), right, Vec::new(), kind));
            }
        }
        let now: Vec<_> = half.state().people().map(|(key, person)| (*key, person.level)).collect();
        prop_assert_eq!(people, now);
        prop_assert!(!half.state().is_member(person(victim).public_key()));
        prop_assert_eq!(half.state(), &half.state_anew());
    }
}
