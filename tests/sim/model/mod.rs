//! Model check of the handover with `stateright`: any order of messages, the loss of any one of them, and a lie of any of the four
//! nodes.
//!
//! The model has three nodes and a newcomer that joins through one of them, which is full. The state machine is the node's own. In
//! each state the overlay's limits hold; and every run ends with no node in a handover, and with a newcomer that has a link or was
//! refused. Without a fault all states are checked, with one the nearest.

mod dice;
mod driver;
mod net;
mod packet;

use std::time::Duration;

use diatribe::overlay::Overlay;
use net::{NODES, Net, Shape, Step};
use stateright::{Checker, Model, Property};

use crate::world::Id;

/// Maximum time in handovers, as in the random schedules.
const MAX_HANDOVER_TIME: Duration = Duration::from_secs(40);
/// Maximum time of a run: one that takes longer never ends.
const MAX_RUN_TIME: Duration = Duration::from_secs(120);

/// Maximum number of states of a model with a fault or a liar, the nearest first; `DIATRIBE_MODEL_STEPS` sets another number.
const MAX_STEPS: usize = 10_000;

/// The parameters of a model.
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
            Property::always("no handover for ever", |model: &Handover, net: &Net| {
                let long = |id: Id| net.in_handover[id as usize].map(|at| net.now.since(at));
                model
                    .honest()
                    .all(|id| long(id).is_none_or(|time| time <= MAX_HANDOVER_TIME))
            }),
            Property::always(
                "the three are never parted",
                |model: &Handover, net: &Net| {
                    net.was_cut || model.liar.is_some() || are_connected(net)
                },
            ),
            Property::always("every run ends", |_, net: &Net| {
                net.now.since(net.begun) <= MAX_RUN_TIME
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

    /// Checks all states, or the nearest `most`, and prints the path to the first that breaks a property. Returns the number of
    /// states.
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

fn max_steps() -> usize {
    let asked = std::env::var("DIATRIBE_MODEL_STEPS").ok();
    asked
        .and_then(|steps| steps.parse().ok())
        .unwrap_or(MAX_STEPS)
}

fn has_few_links(net: &Net, id: Id) -> bool {
    let node = &net.nodes[id as usize];
    node.links().len() <= net::max_links_of(id) + usize::from(node.is_in_handover())
}

/// Returns whether the first three nodes are connected by links that one of their ends has confirmed.
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

/// Returns both shapes, with a newcomer that can be dialled and with one that cannot.
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
fn in_every_order_of_messages_the_newcomer_joins_and_nobody_is_parted() {
    for model in each_model(0, None) {
        println!("{model:?}: {} states", model.check(None));
    }
}

#[test]
fn with_one_lost_or_late_message_or_one_lost_connection_the_limits_hold() {
    for model in each_model(1, None) {
        println!("{model:?}: {} states", model.check(Some(max_steps())));
    }
}

#[test]
fn with_one_liar_of_four_the_others_keep_their_limits_and_are_free_again() {
    for liar in 0..NODES as Id {
        for model in each_model(0, Some(liar)) {
            println!("{model:?}: {} states", model.check(Some(max_steps())));
        }
    }
}
