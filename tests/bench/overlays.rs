//! The overlay's state machine: five links come up, then its time passes.

use criterion::Criterion;
use diatribe::clock::Time;
use diatribe::overlay::{Direction, Input, Options, Overlay};
use libp2p::{Multiaddr, PeerId};
use rand::SeedableRng;
use rand::rngs::StdRng;

const LINKS: usize = 5;

pub(crate) fn step(c: &mut Criterion) {
    let me = PeerId::random();
    let links: Vec<(PeerId, Multiaddr)> = (0..LINKS)
        .map(|n| {
            (
                PeerId::random(),
                format!("/ip4/192.0.2.{n}/tcp/9000/ws")
                    .parse()
                    .expect("a multiaddr"),
            )
        })
        .collect();
    let mut out = Vec::new();
    c.bench_function("overlay/five links and a tick", |b| {
        b.iter(|| {
            let rng = StdRng::seed_from_u64(1);
            let mut overlay = Overlay::new(Time::ZERO, me, Options::default(), rng, Vec::new());
            for (peer, address) in &links {
                let up = Input::LinkUp {
                    peer: *peer,
                    direction: Direction::Outbound,
                    address: address.clone(),
                    dial: None,
                };
                overlay.handle(Time::ZERO, up, &mut out);
            }
            let then = overlay.deadline().unwrap_or(Time::ZERO);
            overlay.handle(then, Input::Tick, &mut out);
            assert_eq!(overlay.links().len(), LINKS);
            out.clear();
        });
    });
}
