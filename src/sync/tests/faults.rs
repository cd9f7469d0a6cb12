//! Tests of faults: a neighbour that breaks the rules of anti-entropy is dropped; one that is merely slow is not.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::anti_entropy::{Name, Net, batches};
use super::*;
use crate::model::Id;
use crate::sync::message::{Request, Response};
use crate::sync::{Checked, Fault, Input, Output, reconcile::Window};

/// Node 1 with a neighbour 2 that the test plays.
struct Played {
    net: Net,
}

impl Played {
    fn new(held: Vec<Batch>) -> Played {
        let mut net = Net::new([1]);
        net.give(1, held);
        Played { net }
    }

    /// Handles an input. Returns the outputs.
    fn outputs(&mut self, input: Input<Name>) -> Vec<Output<Name>> {
        let mut out = Vec::new();
        let unix_ms = self.net.unix_ms();
        self.net.nodes.get_mut(&1).unwrap().anti_entropy.handle(
            self.net.now,
            unix_ms,
            input,
            &mut out,
        );
        out
    }

    fn link(&mut self) -> u64 {
        self.outputs(Input::LinkUp(2));
        token(&self.outputs(Input::RoomsOf(2, vec!["a".into()])))
    }

    fn answer(&mut self, token: u64, response: &Response) -> Vec<Output<Name>> {
        self.outputs(Input::Response(token, response.encode().into()))
    }
}

fn token(out: &[Output<Name>]) -> u64 {
    match out {
        [Output::Request(2, token, _), ..] => *token,
        other => panic!("expected a request, not {other:?}"),
    }
}

fn fault(out: &[Output<Name>]) -> &Fault {
    match out {
        [Output::Drop(2, fault)] => fault,
        other => panic!("expected to be dropped, not {other:?}"),
    }
}

/// Returns a response with a frame that claims these ids.
fn claims(ids: &[Id]) -> Response {
    let mut frame = vec![
        0x61,
        0,
        0,
        2,
        (ids.len() >> 7) as u8 | 0x80,
        ids.len() as u8 & 0x7f,
    ];
    frame.extend(ids.concat());
    Response::Ranges(frame.into())
}

#[test]
fn rubbish_and_answers_of_the_wrong_kind_are_named() {
    let mut played = Played::new(vec![]);
    let token = played.link();
    assert!(matches!(
        fault(&played.outputs(Input::Response(token, vec![0xff; 9].into()))),
        Fault::Malformed(_)
    ));
    let mut played = Played::new(vec![]);
    let token = played.link();
    assert!(matches!(
        fault(&played.answer(token, &Response::Ranges(vec![0x61, 9].into()))),
        Fault::Frame(_)
    ));
    let mut played = Played::new(vec![]);
    let token = played.link();
    assert_eq!(
        fault(&played.answer(token, &Response::Ack(Vec::new()))),
        &Fault::Mismatched
    );
    let mut played = Played::new(vec![]);
    played.link();
    assert!(matches!(
        fault(&played.outputs(Input::Request(2, 1, vec![0xff; 9].into()))),
        Fault::Malformed(_)
    ));
}

#[test]
fn a_neighbour_is_held_to_what_it_claims() {
    let genuine = batch(1, 1);
    let id = genuine.0.id;
    let answered = |response: Response| {
        let mut played = Played::new(vec![]);
        let first = played.link();
        let fetch = token(&played.answer(first, &claims(&[id])));
        (played.answer(fetch, &response), played)
    };
    let none = Response::Batches {
        envelopes: vec![],
        missing: vec![],
        removed: vec![],
    };
    assert_eq!(fault(&answered(none).0), &Fault::Withholding);
    let other = Response::Batches {
        envelopes: vec![batch(1, 2).0.bytes],
        missing: vec![],
        removed: vec![],
    };
    assert_eq!(fault(&answered(other).0), &Fault::Unsolicited);
    let twice = Response::Batches {
        envelopes: vec![genuine.0.bytes.clone(); 2],
        missing: vec![],
        removed: vec![],
    };
    assert_eq!(fault(&answered(twice).0), &Fault::Unsolicited);
    let (out, mut played) = answered(Response::Batches {
        envelopes: vec![genuine.0.bytes.clone()],
        missing: vec![],
        removed: vec![],
    });
    let [Output::Fetched { ticket, .. }] = out[..] else {
        panic!("{out:?}")
    };
    let out = played.outputs(Input::Settled {
        ticket,
        stored: 0,
        forged: 1,
    });
    assert_eq!(fault(&out), &Fault::Forged);
    // A neighbour that has removed a batch meanwhile is no offender.
    let (out, _) = answered(Response::Batches {
        envelopes: vec![],
        missing: vec![id],
        removed: vec![],
    });
    assert!(
        matches!(
            &out[..],
            [Output::Checked(Checked {
                agreed: false,
                repaired: 0,
                ..
            })]
        ),
        "{out:?}"
    );
}

#[test]
fn a_neighbour_that_removes_old_batches_meanwhile_is_compared_with_anew() {
    let held = batches(1..200);
    let begins = held[100].0.sent_at_ms;
    let mut played = Played::new(held);
    let first = played.link();
    let differs = [&[0x61, 0, 0, 1][..], &[0; 16]].concat();
    let second = token(&played.answer(first, &Response::Ranges(differs.into())));
    let out = played.answer(second, &Response::From(begins));
    let [Output::Request(2, third, bytes)] = &out[..] else {
        panic!("expected a first frame, not {out:?}")
    };
    let Ok(Request::Compare { window, frame, .. }) = Request::decode(bytes.clone().into()) else {
        panic!("not a comparison")
    };
    assert_eq!(window.since_ms, begins + 1_875);
    assert_eq!(frame.len(), 20, "one fingerprint of all");
    // A low watermark that is not later than the window is a fault.
    let out = played.answer(*third, &Response::From(begins));
    assert_eq!(fault(&out), &Fault::Mismatched);
}

#[test]
fn a_neighbour_that_claims_much_and_holds_nothing_is_dropped() {
    let mut played = Played::new(vec![]);
    let first = played.link();
    let ids: Vec<Id> = batches(1..6000).iter().map(|batch| batch.0.id).collect();
    let mut asked: VecDeque<Output<Name>> = played.answer(first, &claims(&ids)).into();
    while let Some(output) = asked.pop_front() {
        match output {
            Output::Request(2, token, bytes) => {
                let Ok(Request::Fetch { ids, .. }) = Request::decode(bytes.into()) else {
                    panic!("not a fetch")
                };
                let missing = Response::Batches {
                    envelopes: vec![],
                    missing: ids,
                    removed: vec![],
                };
                asked.extend(played.answer(token, &missing));
            }
            Output::Drop(2, fault) => return assert_eq!(fault, Fault::FalseClaim),
            other => panic!("{other:?}"),
        }
    }
    panic!("believed to the end");
}

#[test]
fn a_comparison_without_end_is_ended() {
    let mut played = Played::new((1..200).map(|n| batch(1, n)).collect());
    let mut next = played.link();
    for _ in 0..2000 {
        // Each response has a new fingerprint of everything.
        let mut frame = vec![0x61, 0, 0, 1];
        frame.extend([7; 16]);
        let out = played.answer(next, &Response::Ranges(frame.into()));
        if let [Output::Drop(2, fault)] = &out[..] {
            return assert_eq!(fault, &Fault::NonTerminating);
        }
        next = token(&out);
    }
    panic!("still comparing");
}

#[test]
fn a_flood_of_requests_is_deferred_and_then_dropped() {
    let mut played = Played::new(vec![batch(1, 1)]);
    played.link();
    let request = Request::Compare {
        room: "a".into(),
        window: Window {
            since_ms: NOW_MS,
            until_ms: u64::MAX,
        },
        frame: vec![0x61].into(),
    };
    let (mut answered, mut deferred) = (0, 0);
    for n in 0..1000 {
        match &played.outputs(Input::Request(2, n, request.encode().into()))[..] {
            [Output::Respond(2, _, bytes)] => match Response::decode(bytes.clone().into()).unwrap()
            {
                Response::Ranges(_) => answered += 1,
                Response::RetryAfter(_) => deferred += 1,
                other => panic!("{other:?}"),
            },
            [Output::Drop(2, Fault::Flood)] => {
                assert!(answered <= 64 && deferred >= 20, "{answered} {deferred}");
                return;
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("never dropped");
}

#[test]
fn an_unresponsive_neighbour_is_dropped_after_three_requests() {
    let mut played = Played::new(vec![]);
    let mut next = played.link();
    for _ in 0..2 {
        assert_eq!(played.outputs(Input::Failed(next)), []);
        played.net.now += Duration::from_secs(5);
        next = token(&played.outputs(Input::Tick));
    }
    assert_eq!(
        fault(&played.outputs(Input::Failed(next))),
        &Fault::Unresponsive
    );
}

#[test]
fn a_neighbour_without_data_checking_is_asked_once_and_not_dropped() {
    let mut played = Played::new(vec![]);
    let first = played.link();
    assert_eq!(played.outputs(Input::RoomsOf(2, vec![])), []);
    assert_eq!(played.outputs(Input::Failed(first)), []);
    for _ in 0..60 {
        played.net.now += Duration::from_secs(5);
        assert_eq!(played.outputs(Input::Tick), []);
    }
}

#[test]
fn a_response_to_a_round_that_has_ended_is_ignored() {
    let mut played = Played::new(vec![]);
    let old = played.link();
    let fetch = token(&played.answer(old, &claims(&[[1; 32]])));
    played.outputs(Input::Leave("a".into()));
    played.outputs(Input::Join("a".into()));
    let again = played.outputs(Input::Loaded("a".into(), 0, vec![]));
    let none = Response::Batches {
        envelopes: vec![],
        missing: vec![],
        removed: vec![],
    };
    assert_eq!(played.answer(fetch, &none), []);
    assert_eq!(
        played
            .answer(token(&again), &Response::Ranges(vec![0x61].into()))
            .len(),
        1
    );
}

#[test]
fn a_deferral_is_obeyed() {
    let mut played = Played::new(vec![]);
    let first = played.link();
    assert_eq!(
        played.answer(first, &Response::RetryAfter(Duration::from_secs(3))),
        []
    );
    assert_eq!(played.outputs(Input::Tick), []);
    played.net.now += Duration::from_secs(3);
    token(&played.outputs(Input::Tick));
}

proptest! {
    #[test]
    fn arbitrary_messages_never_panic(
        bytes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20),
    ) {
        let mut played = Played::new((1..100).map(|n| batch(1, n)).collect());
        for (bytes, token) in bytes.into_iter().zip(played.link()..) {
            played.outputs(Input::Request(2, token, bytes.clone().into()));
            played.outputs(Input::Response(token, bytes.into()));
        }
    }
}

/// Sends a request up to `most` times to a node that holds a batch. Returns the number of responses other than
/// RetryAfter.
fn answered(request: &Request, most: u64, answer: impl Fn(&mut Played, Id)) -> u64 {
    let mut played = Played::new(vec![batch(1, 1)]);
    played.link();
    for n in 0..most {
        for output in played.outputs(Input::Request(2, n, request.encode().into())) {
            match output {
                Output::Respond(2, _, bytes) => {
                    let response = Response::decode(bytes.into()).unwrap();
                    if matches!(response, Response::RetryAfter(_)) {
                        return n;
                    }
                }
                Output::Read { ids, .. } => answer(&mut played, ids[0]),
                other => panic!("{other:?}"),
            }
        }
    }
    most
}

#[test]
fn a_frame_of_many_ranges_counts_as_several_exchanges() {
    let compare = |ranges: usize| Request::Compare {
        room: "a".into(),
        window: Window {
            since_ms: NOW_MS,
            until_ms: u64::MAX,
        },
        frame: [&[0x61][..], &[1, 0, 0].repeat(ranges)].concat().into(),
    };
    assert_eq!(answered(&compare(1), 100, |_, _| {}), 64);
    assert_eq!(answered(&compare(1023), 100, |_, _| {}), 64);
    assert_eq!(answered(&compare(1024), 100, |_, _| {}), 32);
    assert_eq!(answered(&compare(19_000), 100, |_, _| {}), 3);
}

#[test]
fn a_neighbour_that_obeys_its_deferrals_is_answered() {
    let mut played = Played::new(vec![]);
    played.link();
    let frame: Vec<u8> = [&[0x61][..], &[1, 0, 0].repeat(19_000)].concat();
    let window = Window {
        since_ms: NOW_MS,
        until_ms: u64::MAX,
    };
    let request = Request::Compare {
        room: "a".into(),
        window,
        frame: frame.into(),
    };
    let mut answers = 0;
    for n in 0..12 {
        match &played.outputs(Input::Request(2, n, request.encode().into()))[..] {
            [Output::Respond(2, _, bytes)] => match Response::decode(bytes.clone().into()).unwrap()
            {
                Response::Ranges(_) => answers += 1,
                Response::RetryAfter(after) => played.net.now += after,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
    assert!(answers >= 7, "each second time: {answers} of 12");
}

#[test]
fn looking_for_ids_counts_whether_they_are_held_or_not() {
    let ids: Vec<Id> = batches(1..1025).iter().map(|batch| batch.0.id).collect();
    let fetch = Request::Fetch {
        room: "a".into(),
        ids: ids.clone(),
    };
    let missing = |played: &mut Played, _| {
        let found = crate::model::Found {
            missing: ids.clone(),
            looked_at: ids.len(),
            ..Default::default()
        };
        played.outputs(Input::Found(2, 0, found));
    };
    // A gibibyte, in fetches of a thousand ids that cost a kibibyte each.
    assert_eq!(answered(&fetch, 2000, missing), 1024);
}
