//! Cost of the overlay's state machine: five links go up, then time passes.

use criterion::Criterion;
use diatribe::clock::Time;
use diatribe::overlay::{Direction, Input, Options, Overlay, PeerAddress, Remote};
use libp2p::PeerId;
use rand::SeedableRng;
use rand::rngs::StdRng;

const LINKS: usize = 5;

pub(crate) fn step(c: &mut Criterion) {
    let me = PeerId::random();
    let links: Vec<(PeerId, Remote<PeerAddress>)> = (0..LINKS)
        .map(|n| {
            let text = format!("/ip4/8.8.8.{n}/tcp/9000/ws");
            let address = PeerAddress::from_text(&text, None).expect("an address");
            (
                PeerId::random(),
                Remote::at(Some(address.ip()), Some(address)),
            )
        })
        .collect();
    let mut out = Vec::new();
    c.bench_function("overlay/five links and a tick", |b| {
        b.iter(|| {
            let rng = StdRng::seed_from_u64(1);
            let mut overlay = Overlay::new(Time::ZERO, me, Options::default(), rng, Vec::new());
            for (peer, remote) in &links {
                let up = Input::LinkUp {
                    peer: *peer,
                    direction: Direction::Outbound,
                    remote: remote.clone(),
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
