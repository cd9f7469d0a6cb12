//! Both rounds, and every refusal by name on both sides.

use std::sync::Arc;

use prost::Message;

use super::pair::*;
use crate::clock::Time;
use crate::handshake::{
    FailureOrigin, FrameKind, Input, Local, MAX_FRAME, Machine, NetworkMismatch, Output, Reason,
    RejectCode, Role, Stage,
};
use crate::wire::proto::handshake as proto;

#[test]
fn both_rounds_pass_and_each_side_learns_who_the_other_is() {
    let pair = Pair::new().run();
    assert!(pair.both_passed());
    assert_eq!(pair.frames.len(), FRAMES);

    let peer = pair.dialer.verified.as_ref().unwrap();
    assert_eq!(peer.peer_id(), listener().peer_id());
    assert_eq!(peer.public_key(), listener().public_key());
    assert_eq!(peer.sealing_key(), listener().sealing_public());
    assert_eq!(peer.instance_id(), LISTENER_INSTANCE);
    assert_eq!((peer.features(), peer.role()), (0, Role::Dialer));

    let peer = pair.listener.verified.as_ref().unwrap();
    assert_eq!(peer.peer_id(), dialer().peer_id());
    assert_eq!(peer.instance_id(), DIALER_INSTANCE);
    assert_eq!(peer.role(), Role::Listener);
}

#[test]
fn a_passed_handshake_has_no_deadline_and_each_side_was_asked_to_authorize_once() {
    let pair = Pair::new().run();
    assert_eq!(pair.dialer.machine.deadline(), None);
    assert_eq!(pair.listener.machine.deadline(), None);
    assert_eq!(pair.dialer.authorized, [LISTENER_INSTANCE]);
    assert_eq!(pair.listener.authorized, [DIALER_INSTANCE]);
}

#[test]
fn every_honest_frame_is_within_the_limit() {
    let pair = Pair::on_networks(network(7), network(7)).run();
    assert!(pair.both_passed());
    let longest = pair.frames.iter().map(Vec::len).max().unwrap();
    assert!(longest <= MAX_FRAME / 2, "{longest}");
}

#[test]
fn the_gate_opens_before_the_other_side_is_told() {
    // The listener before it sends Answer 2, the dialer before it sends Pass 2.
    for (role, told_by) in [(Role::Listener, ANSWER_2), (Role::Dialer, PASS_2)] {
        let mut pair = Pair::new()
            .through(move |n, body| (n < told_by - 1).then_some(body))
            .run();
        let body = pair.frames[told_by - 1].clone();
        let mut out = Vec::new();
        let side = pair.side(role);
        let arrive = if role == Role::Listener {
            Input::Response
        } else {
            Input::Request
        };
        side.machine.handle(Time::ZERO, arrive(body), &mut out);
        if role == Role::Dialer {
            assert!(matches!(out[..], [Output::Authorize { .. }]), "{out:?}");
            out.clear();
            side.machine
                .handle(Time::ZERO, Input::Decision(Ok(())), &mut out);
        }
        assert!(matches!(out[..], [Output::Verified(_)]), "{out:?}");
        out.clear();
        side.machine.handle(Time::ZERO, Input::GateOpen, &mut out);
        assert!(
            matches!(out[..], [Output::SendRequest(_) | Output::SendResponse(_)]),
            "{out:?}"
        );
    }
}

#[test]
fn round_two_waits_until_the_pass_of_round_one_has_left() {
    let mut pair = Pair::new()
        .through(|n, body| (n < ANSWER_1).then_some(body))
        .run();
    let (answer, machine) = (pair.frames[ANSWER_1].clone(), &mut pair.listener.machine);
    let mut out = Vec::new();
    machine.handle(Time::ZERO, Input::Request(answer), &mut out);
    machine.handle(Time::ZERO, Input::Decision(Ok(())), &mut out);
    assert!(
        matches!(out[..], [Output::Authorize { .. }, Output::SendResponse(_)]),
        "{out:?}"
    );
    machine.handle(Time::ZERO, Input::ResponseSent, &mut out);
    assert!(matches!(out[2..], [Output::SendRequest(_)]), "{out:?}");
}

#[test]
fn a_late_report_about_the_challenge_is_not_taken_for_the_pass() {
    let mut listener = listening(2);
    let mut pair = Pair::new().through(|_, _| None).run();
    let mut out = Vec::new();
    listener.handle(
        Time::ZERO,
        Input::Request(pair.frames[HELLO_1].clone()),
        &mut out,
    );
    let Some(Output::SendResponse(challenge)) = out.pop() else {
        panic!("{out:?}")
    };
    pair.feed(Role::Dialer, Input::Response(challenge));
    // The answer arrives before it was reported that the challenge had left.
    listener.handle(Time::ZERO, Input::Request(pair.frames[1].clone()), &mut out);
    listener.handle(Time::ZERO, Input::Decision(Ok(())), &mut out);
    out.clear();
    listener.handle(Time::ZERO, Input::ResponseSent, &mut out);
    assert!(out.is_empty(), "{out:?}");
    listener.handle(Time::ZERO, Input::ResponseSent, &mut out);
    assert!(matches!(out[..], [Output::SendRequest(_)]), "{out:?}");
}

#[test]
fn a_hello_that_overtakes_the_pass_is_held_and_a_second_one_is_not() {
    let overtaken = || {
        let mut pair = Pair::new().through(|n, body| (n != PASS_1 && n != HELLO_2).then_some(body));
        pair = pair.run();
        let hello = pair.frames[HELLO_2].clone();
        pair.feed(Role::Dialer, Input::Request(hello));
        pair
    };
    let mut pair = overtaken();
    let pass = pair.frames[PASS_1].clone();
    pair.feed(Role::Dialer, Input::Response(pass));
    assert!(pair.both_passed());

    let mut pair = overtaken();
    let hello = pair.frames[HELLO_2].clone();
    pair.feed(Role::Dialer, Input::Request(hello));
    assert_eq!(*pair.dialer.reason(), Reason::Unexpected(FrameKind::Hello));
    assert_eq!(
        pair.dialer.failure.unwrap().origin,
        FailureOrigin::Violation
    );
}

#[test]
fn different_networks_are_named_on_both_sides() {
    for (one, other, mismatch) in [
        (None, network(7), NetworkMismatch::PeerIsOpen),
        (network(7), None, NetworkMismatch::NodeIsOpen),
        (network(7), network(8), NetworkMismatch::KeysDiffer),
    ] {
        let pair = Pair::on_networks(one, other).run();
        assert_eq!(*pair.listener.reason(), Reason::Network(mismatch));
        assert_eq!(
            *pair.dialer.reason(),
            Reason::RefusedByRemote(RejectCode::Network)
        );
        for side in [&pair.dialer, &pair.listener] {
            assert_eq!(side.code(), Some(RejectCode::Network));
            let text = side.failure.as_ref().unwrap().to_string();
            assert!(text.contains("network keys differ"), "{text}");
        }
    }
}

#[test]
fn the_operators_refusals_are_named_on_both_sides() {
    for code in [
        RejectCode::Policy,
        RejectCode::DuplicateIdentity,
        RejectCode::Busy,
    ] {
        let mut pair = Pair::new();
        pair.listener.decision = Err(code.into());
        let pair = pair.run();
        let failure = pair.listener.failure.as_ref().unwrap();
        assert_eq!(failure.reason, Reason::RefusedByUs(code));
        assert_eq!(
            (failure.stage, failure.origin),
            (Stage::Round1, FailureOrigin::Local)
        );
        let failure = pair.dialer.failure.as_ref().unwrap();
        assert_eq!(failure.reason, Reason::RefusedByRemote(code));
        assert_eq!(
            (failure.origin, failure.code),
            (FailureOrigin::Remote, Some(code))
        );

        let mut pair = Pair::new();
        pair.dialer.decision = Err(code.into());
        let pair = pair.run();
        assert!(pair.dialer.verified.is_none());
        assert!(!pair.listener.passed);
        let failure = pair.listener.failure.as_ref().unwrap();
        assert_eq!(failure.reason, Reason::RefusedByRemote(code));
        assert_eq!(failure.stage, Stage::Round2);
    }
}

#[test]
fn a_busy_listener_says_so_without_looking_into_the_hello() {
    let mut pair = Pair::new();
    pair.feed(Role::Listener, Input::Busy);
    let pair = pair.run();
    assert_eq!(
        *pair.dialer.reason(),
        Reason::RefusedByRemote(RejectCode::Busy)
    );
    assert_eq!(
        *pair.listener.reason(),
        Reason::RefusedByUs(RejectCode::Busy)
    );
}

#[test]
fn an_unknown_refusal_counts_as_auth() {
    let unknown = changed(&[0x2a, 0x02, 0x08, 0x07], |_| ());
    let pair = Pair::new()
        .with_frame(CHALLENGE_1, move |_| unknown.clone())
        .run();
    assert_eq!(
        *pair.dialer.reason(),
        Reason::RefusedByRemote(RejectCode::Auth)
    );
}

#[test]
fn a_relay_between_two_nodes_gets_no_pass() {
    // Each of the two is connected to the relay, which forwards their frames.
    let relay = stranger().peer_id();
    let dialing = Machine::new(
        Arc::new(Local::new(dialer(), None, DIALER_INSTANCE)),
        Role::Dialer,
        relay,
        Time::ZERO,
        entropy(1),
    );
    let listening = Machine::new(
        Arc::new(Local::new(listener(), None, LISTENER_INSTANCE)),
        Role::Listener,
        relay,
        Time::ZERO,
        entropy(2),
    );
    let pair = Pair::of(dialing, listening).run();
    // The tags are for the connection with the relay, so it cannot forward them.
    assert!(matches!(pair.listener.reason(), Reason::Network(_)));
    assert_eq!(
        *pair.dialer.reason(),
        Reason::RefusedByRemote(RejectCode::Network)
    );
}

#[test]
fn a_relay_that_is_trusted_by_one_side_only_gets_no_pass_either() {
    // The listener sees the dialer's id on its connection: the tags are still another connection's.
    let mut pair = Pair::new();
    let relay = stranger().peer_id();
    let local = Arc::new(Local::new(dialer(), None, DIALER_INSTANCE));
    pair.dialer.machine = Machine::new(local, Role::Dialer, relay, Time::ZERO, entropy(1));
    let pair = pair.run();
    assert!(matches!(pair.listener.reason(), Reason::Network(_)));
    assert!(pair.dialer.verified.is_none() && pair.listener.verified.is_none());
}

#[test]
fn own_frames_sent_back_are_refused() {
    // A dialer's Hello is reflected as the request of round 2, or its core as a Challenge.
    let mut pair = Pair::new().through(|_, _| None).run();
    let hello = pair.frames[HELLO_1].clone();
    pair.feed(Role::Dialer, Input::Request(hello));
    assert_eq!(*pair.dialer.reason(), Reason::Unexpected(FrameKind::Hello));

    let mut pair = Pair::new().through(|_, _| None).run();
    let hello = pair.frames[HELLO_1].clone();
    pair.feed(Role::Dialer, Input::Response(hello));
    assert_eq!(*pair.dialer.reason(), Reason::Unexpected(FrameKind::Hello));

    // Round 1's frames as those of round 2.
    for (number, with) in [
        (HELLO_2, HELLO_1),
        (CHALLENGE_2, CHALLENGE_1),
        (ANSWER_2, ANSWER_1),
        (PASS_2, PASS_1),
    ] {
        let mut seen = Vec::new();
        let pair = Pair::new()
            .through(move |n, body| {
                seen.push(body.clone());
                Some(if n == number {
                    seen[with].clone()
                } else {
                    body
                })
            })
            .run();
        assert!(!pair.both_passed());
        let receiver = if number % 2 == 0 {
            &pair.dialer
        } else {
            &pair.listener
        };
        assert!(
            receiver.failure.is_some() && !receiver.passed,
            "frame {number}"
        );
    }
}

#[test]
fn a_connection_to_oneself_is_refused() {
    let own = dialer().peer_id();
    let mut pair = Pair::new();
    for (role, seed) in [(Role::Dialer, 1), (Role::Listener, 2)] {
        let local = Arc::new(Local::new(dialer(), None, DIALER_INSTANCE));
        pair.side(role).machine = Machine::new(local, role, own, Time::ZERO, entropy(seed));
    }
    let pair = pair.run();
    assert_eq!(*pair.listener.reason(), Reason::OwnId);
}

#[test]
fn old_frames_on_a_new_connection_are_refused() {
    let old = Pair::new().run().frames;
    for number in 0..FRAMES {
        let old = old.clone();
        let mut pair = Pair::of(dialing(101), listening(102));
        pair = pair.with_frame(number, move |_| old[number].clone()).run();
        let receiver = if [CHALLENGE_1, PASS_1, HELLO_2, ANSWER_2].contains(&number) {
            &pair.dialer
        } else {
            &pair.listener
        };
        assert!(!receiver.passed, "old frame {number}");
        // The listener's gate is open inbound when the last frame is due, as it was proved.
        assert_eq!(
            receiver.verified.is_some(),
            number == PASS_2,
            "old frame {number}"
        );
    }
}

#[test]
fn a_frame_may_have_1024_bytes_and_not_one_more() {
    let hello = Pair::new().run().frames[HELLO_1].clone();
    for (len, refused) in [(MAX_FRAME, false), (MAX_FRAME + 1, true)] {
        // An unknown field of which only the length changes: tag and length are 4 bytes.
        let padding = len - hello.len() - 4;
        let mut body = [&hello[..], &[0xfa, 0x01]].concat();
        body.extend([padding as u8 | 0x80, (padding >> 7) as u8]);
        body.resize(len, 0);
        let mut pair = Pair::new();
        pair.feed(Role::Listener, Input::Request(body));
        let failure = pair.listener.failure.map(|failure| failure.reason);
        assert_eq!(failure, refused.then_some(Reason::Malformed), "{len}");
    }
}

#[test]
fn frames_that_are_none_are_refused() {
    for body in [
        vec![],
        vec![0xff; 40],
        vec![0x0a, 0x05, 0x01],
        vec![0x7a, 0x00],
    ] {
        let mut pair = Pair::new();
        pair.feed(Role::Listener, Input::Request(body.clone()));
        assert_eq!(*pair.listener.reason(), Reason::Malformed, "{body:?}");
        assert_eq!(pair.listener.code(), Some(RejectCode::Auth));

        let mut pair = Pair::new()
            .with_frame(CHALLENGE_1, move |_| body.clone())
            .run();
        assert_eq!(*pair.side(Role::Dialer).reason(), Reason::Malformed);
    }
}

#[test]
fn a_core_that_does_not_parse_is_refused() {
    let mut pair = Pair::new();
    let garbage = proto::Hello {
        core: vec![0x0f, 1, 2].into(),
    };
    let frame = proto::Frame {
        kind: Some(proto::frame::Kind::Hello(garbage)),
    };
    pair.feed(Role::Listener, Input::Request(frame.encode_to_vec()));
    assert_eq!(*pair.listener.reason(), Reason::Malformed);
}

#[test]
fn a_frame_in_anothers_place_closes_without_a_word() {
    let frames = Pair::new().run().frames;
    let reject = vec![0x2a, 0x02, 0x08, 0x01];
    let local = || Arc::new(Local::new(listener(), None, LISTENER_INSTANCE));
    for (body, kind) in [
        (frames[CHALLENGE_1].clone(), FrameKind::Challenge),
        (frames[ANSWER_1].clone(), FrameKind::Answer),
        (frames[PASS_1].clone(), FrameKind::Pass),
        (reject, FrameKind::Reject),
    ] {
        let from = dialer().peer_id();
        let mut machine = Machine::new(local(), Role::Listener, from, Time::ZERO, entropy(1));
        let mut out = Vec::new();
        machine.handle(Time::ZERO, Input::Request(body), &mut out);
        match &out[..] {
            [Output::Close(failure)] => assert_eq!(failure.reason, Reason::Unexpected(kind)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_frame_after_the_pass_closes() {
    for role in [Role::Dialer, Role::Listener] {
        let mut pair = Pair::new().run();
        let hello = pair.frames[HELLO_1].clone();
        pair.feed(role, Input::Request(hello));
        assert_eq!(
            *pair.side(role).reason(),
            Reason::Unexpected(FrameKind::Hello)
        );
    }
}
