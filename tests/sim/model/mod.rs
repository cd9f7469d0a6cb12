//! The handover, model-checked with `stateright`: whatever order messages come in, whatever one of them is lost,
//! whoever of the four lies.
//!
//! Three nodes, of which the one that it joins through is full, and a newcomer. The state machine is
//! the node's own. In each state the overlay's limits hold; and every run ends with nobody locked and with a newcomer
//! that has a link or was told that it gets none. Without a fault all states are looked at, with one the nearest.

mod dice;
mod driver;
mod net;
mod packet;

use std::time::Duration;

use diatribe::overlay::Overlay;
use net::{NODES, Net, Shape, Step};
use stateright::{Checker, Model, Property};

use crate::world::Id;

/// As in the random schedules: a visit, a handover that runs into its time-out, the visitor's leave, or a part in one.
const LONGEST_LOCK: Duration = Duration::from_secs(40);
/// A run that is not over by then does not end.
const LONGEST_RUN: Duration = Duration::from_secs(120);

/// Ways on which a model with a fault or a liar is followed, the shortest first; `DIATRIBE_MODEL_STEPS` asks for more.
const MOST_STEPS: usize = 10_000;

/// What may happen to the four.
#[derive(Clone, Copy, Debug)]
struct Handover {
    shape: Shape,
    dialable: bool,
    faults: u32,
    liar: Option<Id>,
}

impl Model for Handover {
    type State = Net;
    type Action = Step;

    fn init_states(&self) -> Vec<Net> {
        vec![Net::new(self.shape, self.dialable, self.faults, self.liar)]
    }

    fn actions(&self, net: &Net, steps: &mut Vec<Step>) {
        net.steps(steps);
    }

    fn next_state(&self, net: &Net, step: Step) -> Option<Net> {
        let mut next = net.clone();
        next.step(&step);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "no more links than allowed",
                |model: &Handover, net: &Net| model.honest().all(|id| has_few_links(net, id)),
            ),
            Property::always("no lock for ever", |model: &Handover, net: &Net| {
                let long = |id: Id| net.locked[id as usize].map(|at| net.now.since(at));
                model
                    .honest()
                    .all(|id| long(id).is_none_or(|time| time <= LONGEST_LOCK))
            }),
            Property::always(
                "the three are never parted",
                |model: &Handover, net: &Net| {
                    net.was_cut || model.liar.is_some() || are_connected(net)
                },
            ),
            Property::always("every run ends", |_, net: &Net| {
                net.now.since(net.begun) <= LONGEST_RUN
            }),
            Property::sometimes("the newcomer gets two links", |_, net: &Net| {
                net.nodes[net::NEWCOMER as usize].links().len() == 2
            }),
        ]
    }
}

impl Handover {
    fn honest(&self) -> impl Iterator<Item = Id> + '_ {
        (0..NODES as Id).filter(|id| Some(*id) != self.liar)
    }

    /// Looks at all states, or at the nearest so many, and shows the way to the first that breaks a promise. How many
    /// there were.
    fn check(self, most: Option<usize>) -> usize {
        let mut checker = self.checker();
        if let Some(most) = most {
            checker = checker.target_state_count(most);
        }
        let checker = checker.spawn_bfs().join();
        checker.assert_properties();
        checker.unique_state_count()
    }
}

fn most_steps() -> usize {
    let asked = std::env::var("DIATRIBE_MODEL_STEPS").ok();
    asked
        .and_then(|steps| steps.parse().ok())
        .unwrap_or(MOST_STEPS)
}

fn has_few_links(net: &Net, id: Id) -> bool {
    let node = &net.nodes[id as usize];
    node.links().len() <= net::most_links(id) + usize::from(node.is_in_handover())
}

/// Whether the three that were there are connected by links that one of their ends has granted.
fn are_connected(net: &Net) -> bool {
    let granted = |a: usize, b: usize| {
        let links = |node: &Overlay<_, _, _>, peer: Id| {
            node.links()
                .iter()
                .any(|link| link.peer() == peer && link.is_confirmed())
        };
        links(&net.nodes[a], b as Id) || links(&net.nodes[b], a as Id)
    };
    let mut found = vec![0];
    let mut at = 0;
    while at < found.len() {
        let from = found[at];
        found.extend(
            (0..NODES)
                .filter(|to| granted(from, *to))
                .filter(|to| !found.contains(to))
                .collect::<Vec<_>>(),
        );
        at += 1;
    }
    (0..3).all(|id| found.contains(&id))
}

/// Both shapes, with a newcomer that can be dialled and with one that cannot.
fn each_model(faults: u32, liar: Option<Id>) -> impl Iterator<Item = Handover> {
    let shapes = [Shape::Triangle, Shape::Star].into_iter();
    shapes.flat_map(move |shape| {
        [true, false].map(|dialable| Handover {
            shape,
            dialable,
            faults,
            liar,
        })
    })
}

#[test]
fn in_every_order_of_messages_the_newcomer_comes_in_and_nobody_is_parted() {
    for model in each_model(0, None) {
        println!("{model:?}: {} states", model.check(None));
    }
}

#[test]
fn whatever_one_message_is_lost_or_late_or_one_connection_ends_the_limits_hold() {
    for model in each_model(1, None) {
        println!("{model:?}: {} states", model.check(Some(most_steps())));
    }
}

#[test]
fn whoever_of_the_four_lies_the_others_keep_their_limits_and_are_free_again() {
    for liar in 0..NODES as Id {
        for model in each_model(0, Some(liar)) {
            println!("{model:?}: {} states", model.check(Some(most_steps())));
        }
    }
}
