//! Property tests: the invariants under random schedules of joins, crashes, leaves, partitions, lost exchanges, messages out of
//! order, and nodes that cannot be dialled.
//!
//! An ordinary run has a thousand schedules; `DIATRIBE_SCHEDULES` sets another number, and `DIATRIBE_SEED` runs a single one. A
//! failure names its seed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use diatribe::clock::Time;
use diatribe::overlay::Options;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::conditions::Conditions;
use super::measure::Graph;
use super::world::{Id, World};

/// Maximum time for which a node may be in handovers without a break: a provisional link, a handover that times out, and the newcomer's leave;
/// or a part in one handover. Two may follow each other at once.
const MAX_HANDOVER_TIME: Duration = Duration::from_secs(40);

/// Runs the schedules, or the single one of `DIATRIBE_SEED`.
fn each_seed(run: impl Fn(u64)) {
    let set = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok())
    };
    if let Some(seed) = set("DIATRIBE_SEED") {
        return run(seed);
    }
    for seed in 0..set("DIATRIBE_SCHEDULES").unwrap_or(1000) {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed))).is_err() {
            panic!("schedule {seed} broke an invariant; DIATRIBE_SEED={seed} repeats it");
        }
    }
}

/// Checks the invariants of a node after each of its events.
fn watch_always(world: &mut World) {
    let mut in_handover: HashMap<Id, Time> = HashMap::new();
    world.watch = Some(Box::new(move |world, id| {
        let Some(machine) = &world.nodes[id as usize].machine else {
            return;
        };
        let peers: Vec<Id> = machine.links().iter().map(|link| link.peer()).collect();
        let max = if machine.is_in_handover() { 6 } else { 5 };
        assert!(
            peers.len() <= max,
            "{id} has {} links, at most {max}",
            peers.len()
        );
        assert!(!peers.contains(&id), "{id} is linked with itself");
        for (at, peer) in peers.iter().enumerate() {
            assert!(
                !peers[..at].contains(peer),
                "{id} is linked twice with {peer}"
            );
        }
        if machine.is_in_handover() {
            let since = *in_handover.entry(id).or_insert(world.now);
            assert!(
                world.now.since(since) <= MAX_HANDOVER_TIME,
                "{id} is in a handover since {since:?}"
            );
        } else {
            in_handover.remove(&id);
        }
    }));
}

/// Returns the component of each member. A member has a confirmed link; a link that is provisional at both ends does not count.
fn components(world: &World) -> HashMap<Id, usize> {
    let granted = |a: Id, b: Id| {
        let machine = world.nodes[a as usize].machine.as_ref();
        machine.is_some_and(|m| {
            m.links()
                .iter()
                .any(|link| link.peer() == b && link.is_confirmed())
        })
    };
    let mut graph = Graph::of(world, |_| true);
    for (at, edges) in graph.edges.iter_mut().enumerate() {
        let (a, ids) = (graph.ids[at], &graph.ids);
        edges.retain(|b| granted(a, ids[*b as usize]) || granted(ids[*b as usize], a));
    }
    let mut component = HashMap::new();
    for (name, &from) in graph.ids.iter().enumerate() {
        let mut stack = vec![name];
        if component.contains_key(&from) {
            continue;
        }
        component.insert(from, name);
        while let Some(at) = stack.pop() {
            for &next in &graph.edges[at] {
                if component.insert(graph.ids[next as usize], name).is_none() {
                    stack.push(next as usize);
                }
            }
        }
    }
    let member = |id: &Id| {
        let machine = world.nodes[*id as usize].machine.as_ref();
        machine.is_some_and(|machine| machine.links().iter().any(|link| link.is_confirmed()))
    };
    component.retain(|id, _| member(id));
    component
}

#[test]
fn redirects_never_part_nodes_that_are_connected() {
    each_seed(|seed| {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let setup = rng.random_range(2..30);
        let referrals = rng.random_bool(0.8);
        let mut options = Options::default();
        // More upkeep than in reality, since it moves links.
        (options.flip, options.anchor_swap) = (0.5, 0.2);
        let conditions = Conditions {
            setup,
            referrals,
            ..Conditions::default()
        };
        let mut world = World::new(seed, conditions, options);
        watch_always(&mut world);
        let nodes = rng.random_range(3..25);
        for id in 0..nodes {
            let start = Time::from_millis(rng.random_range(0..30_000) * u64::from(id > 0));
            world.add(start, id == 0 || rng.random_bool(0.8), false);
        }
        let before = Rc::new(RefCell::new(components(&world)));
        for _ in 0..2000 {
            let changes = world.changes;
            world.run_delays(1);
            if world.changes == changes {
                continue;
            }
            let now = components(&world);
            let before = before.replace(now.clone());
            let mut images: HashMap<usize, usize> = HashMap::new();
            for (id, old) in before {
                // A member that has lost all its links was parted as well.
                let new = now.get(&id).copied().unwrap_or(usize::MAX - id as usize);
                let image = *images.entry(old).or_insert(new);
                assert_eq!(
                    image, new,
                    "{id} was parted from its component at {:?}",
                    world.now
                );
            }
        }
        let graph = Graph::of(&world, |_| true);
        assert_eq!(graph.connected(), 1.0, "degrees {:?}", graph.degrees());
    });
}

#[test]
fn the_mesh_closes_again_after_any_schedule() {
    each_seed(|seed| {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0xd1a7);
        let setup = rng.random_range(2..30);
        let loss = if rng.random_bool(0.5) {
            rng.random_range(0..10_000)
        } else {
            0
        };
        let silent = rng.random_range(0..100);
        let conditions = Conditions {
            setup,
            loss,
            silent,
            ..Conditions::default()
        };
        let mut world = World::new(seed, conditions, Options::default());
        watch_always(&mut world);
        for id in 0..rng.random_range(3..12) {
            world.add(
                Time::from_millis(id * 100),
                id == 0 || rng.random_bool(0.8),
                false,
            );
        }
        world.run(Time::from_millis(2000));
        for _ in 0..rng.random_range(5..40) {
            let alive: Vec<Id> = world.alive().filter(|id| *id != 0).collect();
            let one = (!alive.is_empty()).then(|| alive[rng.random_range(0..alive.len())]);
            match (rng.random_range(0..10), one) {
                (0..=4, _) => {
                    let start = world.now;
                    let dialable = rng.random_bool(0.8);
                    world.add(start, dialable, false);
                }
                (5 | 6, Some(id)) => world.crash(id),
                (7, Some(id)) => world.leave(id),
                (8, _) => {
                    for id in 0..world.nodes.len() {
                        world.nodes[id].side = rng.random_range(0..2);
                    }
                    world.cut();
                }
                _ => world.cut = false,
            }
            world.run_delays(rng.random_range(0..60));
        }
        world.cut = false;
        world.conditions.loss = 0;
        world.run_delays(4000);
        let graph = Graph::of(&world, |_| true);
        let (connected, degrees) = (graph.connected(), graph.degrees());
        assert_eq!(connected, 1.0, "degrees {degrees:?}");
        let dialable = world
            .alive()
            .filter(|id| world.nodes[*id as usize].dialable)
            .count();
        // Nodes that nobody can dial depend on the places of those that can be dialled.
        if dialable >= 4 && dialable * 4 >= graph.ids.len() * 3 {
            assert_eq!(degrees[..2], [0, 0], "degrees {degrees:?}");
        }
    });
}
