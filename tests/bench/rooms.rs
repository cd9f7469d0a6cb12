//! Two sets of 100,000 batches compared: equal, and with a hundred differences.

use criterion::{BenchmarkId, Criterion};
use diatribe::model::Item;
use diatribe::sync::Items;
use diatribe::sync::reconcile::{Difference, Window, advance, answer, opening};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const COUNT: u64 = 100_000;
/// Bytes of a frame at most.
const FRAME: usize = 64 * 1024;
const ALL: Window = Window {
    since_ms: 0,
    until_ms: u64::MAX,
};

pub(crate) fn reconcile(c: &mut Criterion) {
    let mut rng = StdRng::seed_from_u64(1);
    let all: Vec<Item> = (0..COUNT)
        .map(|sent_at_ms| Item {
            sent_at_ms,
            id: rng.random(),
        })
        .collect();
    let ours: Items = all.iter().copied().collect();
    let mut group = c.benchmark_group("sync/reconcile 100,000");
    for lacking in [0, 100] {
        let every = COUNT / (lacking + 1);
        let holes = |item: &&Item| lacking == 0 || item.sent_at_ms % every != every / 2;
        let theirs: Items = all.iter().filter(holes).copied().collect();
        group.bench_with_input(
            BenchmarkId::new("differences", lacking),
            &theirs,
            |b, theirs| {
                b.iter(|| compare(theirs, &ours));
            },
        );
    }
}

fn compare(ours: &Items, theirs: &Items) -> Difference {
    let mut difference = Difference::default();
    let mut frame = opening(ours, ALL);
    loop {
        let reply = answer(theirs, ALL, &frame, FRAME).expect("the frame is good");
        let next = advance(ours, ALL, &reply, FRAME, &mut difference);
        match next.expect("the reply is good") {
            Some(next) => frame = next,
            None => return difference,
        }
    }
}
