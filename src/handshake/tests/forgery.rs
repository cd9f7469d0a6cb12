//! A peer that proves its key and violates the protocol gets no Pass, and no signature that it could use elsewhere.

use std::cell::RefCell;
use std::rc::Rc;

use super::forge;
use super::pair::*;
use crate::clock::Time;
use crate::handshake::forge::Forgery;
use crate::handshake::{Input, Output, Reason};

const FORGERIES: [(Forgery, Reason); 9] = [
    (Forgery::SignedByOther, Reason::Signature),
    (Forgery::SignedAsOtherRole, Reason::Signature),
    (Forgery::SignedBare, Reason::Signature),
    (Forgery::SealedToOther, Reason::Sealed),
    (Forgery::SealedAsOtherRole, Reason::Sealed),
    (Forgery::SealedUnbound, Reason::Sealed),
    (Forgery::SealedGarbage, Reason::Sealed),
    (Forgery::SmallOrderEnc, Reason::Sealed),
    (Forgery::Nonce, Reason::Nonce),
];

#[test]
fn a_server_that_signs_what_it_should_not_is_found_out() {
    let forge = |forgery| {
        let hello = Rc::new(RefCell::new(Vec::new()));
        Pair::new()
            .through(move |n, body| {
                Some(match n {
                    HELLO_1 => {
                        *hello.borrow_mut() = body.clone();
                        body
                    }
                    CHALLENGE_1 => forge::challenge(&hello.borrow(), &body, forgery),
                    _ => body,
                })
            })
            .run()
    };
    for (forgery, expected) in FORGERIES {
        assert_eq!(*forge(forgery).dialer.reason(), expected, "{forgery:?}");
    }
    // Without a deviation the forger's Challenge is accepted and answered.
    let pair = forge(Forgery::None);
    assert!(pair.dialer.failure.is_none() || pair.frames.len() > ANSWER_1);
    assert!(matches!(pair.dialer.reason(), Reason::RefusedByRemote(_)));
}

#[test]
fn a_client_that_signs_what_it_should_not_is_found_out() {
    for key in [None, network(7)] {
        let forge = |forgery| {
            let mut frames = Vec::new();
            let network = key.clone();
            Pair::on_networks(key.clone(), key.clone())
                .through(move |n, body| {
                    frames.push(body.clone());
                    Some(match n {
                        ANSWER_1 => forge::answer(&frames[0], &frames[1], network.clone(), forgery),
                        _ => body,
                    })
                })
                .run()
        };
        for (forgery, expected) in FORGERIES {
            let pair = forge(forgery);
            assert_eq!(*pair.listener.reason(), expected, "{forgery:?}");
            assert!(pair.listener.authorized.is_empty());
        }
        // Without a deviation the forger's Answer is accepted and a Pass is sent.
        assert_eq!(forge(Forgery::None).listener.authorized.len(), 1);
    }
}

#[test]
fn who_has_only_seen_a_tag_of_the_network_key_does_not_pass() {
    let mut frames = Vec::new();
    let pair = Pair::on_networks(network(7), network(7))
        .through(move |n, body| {
            frames.push(body.clone());
            Some(match n {
                ANSWER_1 => {
                    forge::answer(&frames[0], &frames[1], network(7), Forgery::OtherNetworkKey)
                }
                _ => body,
            })
        })
        .run();
    assert_eq!(*pair.listener.reason(), Reason::Confirm);
    assert!(pair.listener.authorized.is_empty());
}

#[test]
fn what_is_signed_is_a_label_and_a_hash_that_the_stranger_cannot_choose() {
    // The same Hello twice: the Challenges differ, and only their own transcripts are signed.
    let hello = Pair::of(dialing(21), listening(22)).run().frames[HELLO_1].clone();
    let challenge = |seed| {
        let mut out = Vec::new();
        listening(seed).handle(Time::ZERO, Input::Request(hello.clone()), &mut out);
        match out.pop() {
            Some(Output::SendResponse(body)) => body,
            other => panic!("{other:?}"),
        }
    };
    let [one, two] = [1, 2].map(challenge);
    assert_ne!(forge::signed(&hello, &one), forge::signed(&hello, &two));
    for challenge in [one, two] {
        let (text, signature) = forge::signed(&hello, &challenge);
        assert_eq!(
            (&text[..29], text.len()),
            (&b"diatribe-handshake-v2/server/"[..], 29 + 32)
        );
        assert!(listener().public_key().verify(&text, &signature));
        assert!(!listener().public_key().verify(&text[29..], &signature));
    }
}
