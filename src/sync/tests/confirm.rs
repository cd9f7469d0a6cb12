//! Tests of confirmations: the holders of our own batches are reported, and only after they confirmed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::anti_entropy::{Name, Net};
use super::*;
use crate::sync::Input;

/// Node 0, linked with the others, which support announcements.
fn net(others: &[Name]) -> Net {
    let mut net = Net::new(std::iter::once(0).chain(others.iter().copied()));
    for other in others {
        net.link(0, *other);
        net.tell(0, Input::SupportsAnnouncements(*other));
        net.tell(*other, Input::SupportsAnnouncements(0));
    }
    net.run(Duration::from_secs(1));
    net
}

fn confirm(net: &mut Net, batch: &Batch, but: &[Name]) {
    net.tell(0, Input::Watch(batch.0.id));
    let room = "a".into();
    let but = but.iter().copied().collect::<BTreeSet<Name>>();
    net.tell(
        0,
        Input::Confirm {
            room,
            item: item_of(batch),
            except: but,
        },
    );
}

fn batch(net: &Net, n: u64) -> Batch {
    batch_of("a", 0, n, 1, net.unix_ms(), 10)
}

#[test]
fn a_neighbour_with_the_batch_confirms_at_once_and_one_without_it_after_its_fetch() {
    let mut net = net(&[1, 2]);
    let batch = batch(&net, 1);
    // Gossip delivered it to one neighbour and not to the other.
    net.give(0, [batch.clone()]);
    net.give(1, [batch.clone()]);
    confirm(&mut net, &batch, &[]);
    net.run(Duration::from_millis(100));
    assert_eq!(net.holders, [(0, 1, batch.0.id)]);
    net.run(Duration::from_millis(900));
    assert!(net.nodes[&2].held.contains_key(&batch.0.id));
    assert_eq!(net.holders, [(0, 1, batch.0.id), (0, 2, batch.0.id)]);
    assert!(net.dropped.is_empty());
}

#[test]
fn a_large_batch_is_confirmed_when_it_is_announced_back() {
    let mut net = net(&[1]);
    let batch = batch(&net, 1);
    net.tell(0, Input::Watch(batch.0.id));
    net.give_large(0, batch.clone(), None);
    net.run(Duration::from_secs(1));
    assert_eq!(net.holders, [(0, 1, batch.0.id)]);
}

#[test]
fn confirmed_holders_are_not_asked_again_and_unwatched_batches_are_not_reported() {
    let mut net = net(&[1]);
    let (first, second) = (batch(&net, 1), batch(&net, 2));
    net.give(0, [first.clone(), second.clone()]);
    net.give(1, [first.clone(), second.clone()]);
    confirm(&mut net, &first, &[1]);
    confirm(&mut net, &second, &[]);
    net.tell(0, Input::Unwatch(second.0.id));
    net.run(Duration::from_secs(1));
    assert_eq!(net.holders, []);
    // A neighbour that supports no announcements is not asked.
    net.cut(0, 1);
    net.link(0, 1);
    confirm(&mut net, &first, &[]);
    net.run(Duration::from_secs(1));
    assert_eq!(net.holders, []);
}
