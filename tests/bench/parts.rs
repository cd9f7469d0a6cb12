//! Benchmarks of the parts of a node, one figure each. `cargo bench` runs them.

mod batches;
mod frames;
mod handshakes;
mod logs;
mod overlays;
mod rooms;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    all,
    handshakes::both_rounds,
    batches::seal,
    batches::open,
    frames::codec,
    logs::append,
    logs::read,
    rooms::reconcile,
    overlays::step,
);
criterion_main!(all);
