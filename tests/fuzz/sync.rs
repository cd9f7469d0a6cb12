//! Fuzz targets for data checking (anti-entropy): its messages, its frames, and its responses.

use std::time::Duration;

use bytes::Bytes;
use diatribe::clock::Time;
use diatribe::model::{Found, Item};
use diatribe::sync::message::{MAX_IDS, MAX_REQUEST, MAX_RESPONSE, Request, Response};
use diatribe::sync::reconcile::{self, Difference, Window};
use diatribe::sync::{AntiEntropy, Config, Input, Items, Output};

use crate::case::{Case, QUICK, SLOW, fuzz};
use crate::seeds;

const NOW_MS: u64 = 1_700_000_000_000;
/// Maximum size of a frame in a response, in this target.
const FRAME: usize = 60 << 10;

fn items(count: u64) -> Vec<Item> {
    let item = |n: u64| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        Item {
            sent_at_ms: NOW_MS - 1000 * (n / 2),
            id,
        }
    };
    (0..count).map(item).collect()
}

#[test]
fn a_message_of_data_checking_is_read_or_refused() {
    fuzz!("sync messages", QUICK, seeds::of("sync"), |case, seeds| {
        let bytes = Bytes::from(case.bytes(seeds));
        if let Ok(request) = Request::decode(bytes.clone()) {
            if let Request::Fetch { ids, .. } = &request {
                assert!((1..=MAX_IDS).contains(&ids.len()));
            }
            let again = Request::decode(request.encode().into()).expect("it is a request");
            assert_eq!(again, request);
        }
        let _ = Response::decode(bytes);
    });
}

#[test]
fn a_frame_is_answered_within_its_limit() {
    // Of hundreds of items, so that ranges are divided, and of none.
    let (many, none): (Items, Items) = (items(700).into_iter().collect(), Items::default());
    let all = Window {
        since_ms: 0,
        until_ms: u64::MAX,
    };
    let mut seeds = seeds::of("sync");
    seeds.push(reconcile::opening(&many, all));
    let half: Items = items(700).into_iter().step_by(2).collect();
    let first = reconcile::opening(&half, all);
    let answer = reconcile::answer(&many, all, &first, FRAME).expect("a frame");
    seeds.push(answer);
    let (many, none) = (&many, &none);
    fuzz!("reconcile frames", QUICK, seeds, |case, seeds| {
        let bytes = case.bytes(seeds);
        for items in [many, none] {
            if let Ok(answer) = reconcile::answer(items, all, &bytes, FRAME) {
                assert!(answer.len() <= FRAME);
            }
            let mut difference = Difference::default();
            let next = reconcile::advance(items, all, &bytes, FRAME, &mut difference);
            if let Ok(Some(next)) = next {
                assert!(next.len() <= FRAME);
            }
            // Each id was in the frame.
            assert!(difference.lacking.len() <= bytes.len() / 32);
        }
    });
}

#[test]
fn what_neighbours_ask_is_answered_within_the_limits() {
    fuzz!("sync machine", SLOW, seeds::of("sync"), |case, seeds| play(
        case, seeds
    ));
}

/// Two neighbours that answer each other's requests.
fn play(case: &Case, seeds: &[Vec<u8>]) {
    let mut anti_entropy: AntiEntropy<u8> = AntiEntropy::new(Config::default());
    let mut out = Vec::new();
    let mut now = Time::ZERO;
    for input in [
        Input::Join("lobby".into()),
        Input::Loaded("lobby".into(), 0, items(40)),
        Input::LinkUp(1),
        Input::SupportsAnnouncements(1),
        Input::RoomsOf(1, vec!["lobby".into()]),
        Input::LinkUp(2),
        Input::RoomsOf(2, vec!["lobby".into(), "attic".into()]),
    ] {
        anti_entropy.handle(now, NOW_MS, input, &mut out);
    }
    for step in 0..16u16 {
        now += Duration::from_millis(400);
        let bytes = Bytes::from(case.nth(step).bytes(seeds));
        let mut inputs = vec![Input::Request(
            1 + (step % 2) as u8,
            step.into(),
            bytes.clone(),
        )];
        for output in out.drain(..) {
            match output {
                Output::Request(_, token, request) => {
                    assert!(request.len() <= MAX_REQUEST);
                    inputs.push(Input::Response(token, bytes.clone()));
                }
                Output::Respond(_, _, response) => assert!(response.len() <= MAX_RESPONSE),
                Output::Read {
                    peer, request, ids, ..
                } => {
                    assert!(ids.len() <= MAX_IDS);
                    inputs.push(Input::Found(peer, request, Found::default()));
                }
                Output::Fetched { ticket, .. } => inputs.push(Input::Settled {
                    ticket,
                    stored: 0,
                    forged: 0,
                }),
                _ => {}
            }
        }
        inputs.push(Input::Tick);
        for input in inputs {
            anti_entropy.handle(now, NOW_MS, input, &mut out);
        }
    }
}
