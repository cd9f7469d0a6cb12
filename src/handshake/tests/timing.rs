//! Tests of the timeouts: no peer holds a connection longer than allowed.

use std::time::Duration;

use super::pair::*;
use crate::clock::Time;
use crate::handshake::{
    FRAME_TIMEOUT, Failure, FailureOrigin, FrameKind, HANDSHAKE_TIMEOUT, Input, Output, Reason,
    Role, Stage,
};

/// Returns the outputs of `role` at its deadline, and checks that there are none a millisecond before.
fn at_deadline(pair: &mut Pair, role: Role) -> (Time, Failure) {
    let machine = &mut pair.side(role).machine;
    let deadline = machine.deadline().expect("something is due");
    let early = Time::ZERO + (deadline.since_start() - Duration::from_millis(1));
    let mut out = Vec::new();
    machine.handle(early, Input::Deadline, &mut out);
    assert!(out.is_empty(), "{out:?}");
    machine.handle(deadline, Input::Deadline, &mut out);
    let Some(Output::Close(failure)) = out.pop() else {
        panic!("{out:?}")
    };
    assert!(out.is_empty(), "{out:?}");
    assert_eq!(machine.deadline(), None);
    (deadline, failure)
}

#[test]
fn a_peer_that_holds_its_frame_is_closed_at_three_seconds() {
    use FrameKind::{Answer, Challenge, Hello, Pass};
    // Each frame travels for 100 ms. Its timeout begins when its reader has sent the frame before it, for the first one at
    // the connection, and for the second Hello when the Pass has arrived.
    let frames = [
        (HELLO_1, Role::Listener, Hello, 0),
        (CHALLENGE_1, Role::Dialer, Challenge, 0),
        (ANSWER_1, Role::Listener, Answer, 100),
        (PASS_1, Role::Dialer, Pass, 200),
        (HELLO_2, Role::Dialer, Hello, 400),
        (CHALLENGE_2, Role::Listener, Challenge, 400),
        (ANSWER_2, Role::Dialer, Answer, 500),
        (PASS_2, Role::Listener, Pass, 600),
    ];
    for (held, waits, kind, due) in frames {
        let mut pair = Pair::new().through(move |n, body| (n != held).then_some(body));
        pair.delay = Duration::from_millis(100);
        let mut pair = pair.run();
        let (closed, failure) = at_deadline(&mut pair, waits);
        assert_eq!(closed, Time::from_millis(due) + FRAME_TIMEOUT, "{kind}");
        assert_eq!(failure.reason, Reason::NoFrame(kind));
        assert_eq!(
            (failure.origin, failure.code),
            (FailureOrigin::Timeout, None)
        );
        let stage = if held < HELLO_2 {
            Stage::Round1
        } else {
            Stage::Round2
        };
        assert_eq!(failure.stage, stage, "{kind}");
    }
}

#[test]
fn a_peer_that_is_always_just_in_time_is_closed_at_ten_seconds() {
    let mut pair = Pair::new();
    pair.delay = Duration::from_millis(1450);
    let pair = pair.run();
    let failures = [pair.dialer.failure.as_ref(), pair.listener.failure.as_ref()];
    assert!(
        failures
            .iter()
            .flatten()
            .any(|f| f.reason == Reason::TooSlow),
        "{failures:?}"
    );
    assert!(!pair.both_passed());
}

#[test]
fn the_whole_ends_at_ten_seconds_exactly() {
    // The caller never decides, so no frame is due.
    let mut pair = Pair::new()
        .through(|n, body| (n < ANSWER_1).then_some(body))
        .run();
    let answer = pair.frames[ANSWER_1].clone();
    let mut out = Vec::new();
    pair.listener
        .machine
        .handle(Time::from_millis(2_900), Input::Request(answer), &mut out);
    assert!(matches!(out[..], [Output::Authorize { .. }]), "{out:?}");
    let (closed, failure) = at_deadline(&mut pair, Role::Listener);
    assert_eq!(closed, Time::ZERO + HANDSHAKE_TIMEOUT);
    assert_eq!(
        (failure.reason, failure.origin),
        (Reason::TooSlow, FailureOrigin::Timeout)
    );
}

#[test]
fn a_frame_that_is_due_later_than_the_end_is_not_waited_for() {
    let mut pair = Pair::new().through(|n, body| (n != PASS_2).then_some(body));
    pair.delay = Duration::from_millis(1_200);
    let mut pair = pair.run();
    // The Pass would be due until 10.2 s.
    let (closed, failure) = at_deadline(&mut pair, Role::Listener);
    assert_eq!(closed, Time::ZERO + HANDSHAKE_TIMEOUT);
    assert_eq!(failure.reason, Reason::TooSlow);
}

#[test]
fn a_dialer_that_never_starts_ends_at_ten_seconds() {
    let (closed, failure) = at_deadline(&mut Pair::new(), Role::Dialer);
    assert_eq!(closed, Time::ZERO + HANDSHAKE_TIMEOUT);
    assert_eq!(failure.reason, Reason::TooSlow);
}

#[test]
fn the_deadline_closes_whatever_else_comes() {
    let mut pair = Pair::new().through(|_, _| None).run();
    let hello = pair.frames[HELLO_1].clone();
    let mut out = Vec::new();
    let late = Time::ZERO + FRAME_TIMEOUT;
    pair.listener
        .machine
        .handle(late, Input::Request(hello), &mut out);
    match &out[..] {
        [Output::Close(failure)] => {
            assert_eq!(failure.reason, Reason::NoFrame(FrameKind::Hello));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_peer_that_does_not_take_the_pass_is_closed() {
    let mut pair = Pair::new()
        .through(|n, body| (n < ANSWER_1).then_some(body))
        .run();
    let answer = pair.frames[ANSWER_1].clone();
    let machine = &mut pair.listener.machine;
    let mut out = Vec::new();
    machine.handle(Time::from_millis(500), Input::Request(answer), &mut out);
    machine.handle(Time::from_millis(500), Input::Decision(Ok(())), &mut out);
    let (closed, failure) = at_deadline(&mut pair, Role::Listener);
    assert_eq!(closed, Time::from_millis(3_500));
    assert_eq!(failure.reason, Reason::PassNotTaken);
}
