//! Tests of bans and lists.

use super::*;

#[test]
fn a_denied_peer_stays_denied_although_it_is_trusted() {
    let (a, b, c) = (PeerId::random(), PeerId::random(), PeerId::random());
    let admission = Admission::new(vec![a, b], vec![b]);
    assert_eq!(admission.check(Time::ZERO, &a), Ok(()));
    assert_eq!(admission.check(Time::ZERO, &b), Err(RejectCode::Policy));
    assert_eq!(admission.check(Time::ZERO, &c), Err(RejectCode::Policy));
}

#[test]
fn an_offender_may_come_back_after_a_while() {
    let peer = PeerId::random();
    let mut admission = Admission::default();
    admission.ban(Time::ZERO, peer);
    assert_eq!(
        admission.check(Time::from_millis(59_999), &peer),
        Err(RejectCode::Policy)
    );
    assert_eq!(admission.check(Time::from_millis(60_000), &peer), Ok(()));
}

#[test]
fn memory_of_offenders_is_bounded() {
    let mut admission = Admission::default();
    for _ in 0..5000 {
        admission.ban(Time::ZERO, PeerId::random());
    }
    assert!(admission.bans.len() <= MAX_BANS);
}
