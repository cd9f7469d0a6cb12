//! Tests of the wait for subscriptions.

use super::*;

#[test]
fn a_link_is_waited_for_until_it_has_said_its_rooms_also_when_it_said_them_first() {
    let mut rooms = Rooms::new(Arc::default());
    let (slow, quick) = (PeerId::random(), PeerId::random());
    let now = Time::ZERO;
    assert_eq!(rooms.await_subscriptions(now, quick, true), now);
    assert_eq!(rooms.subscription_grace_until(now), None);
    assert_eq!(
        rooms.await_subscriptions(now, slow, false),
        now + SUBSCRIPTION_GRACE
    );
    assert_eq!(
        rooms.subscription_grace_until(now),
        Some(now + SUBSCRIPTION_GRACE)
    );
    rooms.subscriptions_known(&slow);
    assert_eq!(rooms.subscription_grace_until(now), None);
}

#[test]
fn a_silent_link_is_waited_for_longer_when_nobody_else_is_there_but_not_for_ever() {
    let mut rooms = Rooms::new(Arc::default());
    let (first, second) = (PeerId::random(), PeerId::random());
    let later = Time::ZERO + Duration::from_secs(1);
    rooms.await_subscriptions(Time::ZERO, first, false);
    assert_eq!(rooms.subscription_grace_until(later), None);
    assert_eq!(
        rooms.subscription_timeout_until(later),
        Some(Time::ZERO + SUBSCRIPTION_TIMEOUT)
    );
    rooms.await_subscriptions(later, second, false);
    assert_eq!(
        rooms.subscription_timeout_until(later),
        Some(later + SUBSCRIPTION_TIMEOUT)
    );
    assert_eq!(
        rooms.subscription_timeout_until(later + SUBSCRIPTION_TIMEOUT),
        None
    );
    rooms.forget(&second);
    assert_eq!(
        rooms.subscription_timeout_until(later),
        Some(Time::ZERO + SUBSCRIPTION_TIMEOUT)
    );
    rooms.subscriptions_known(&first);
    assert_eq!(rooms.subscription_timeout_until(later), None);
}

#[test]
fn large_batches_are_announced_when_every_peer_supports_it() {
    let mut rooms = Rooms::new(Arc::default());
    let (one, two) = (PeerId::random(), PeerId::random());
    assert!(!rooms.all_support_announcements([].iter()));
    rooms.set_supports_announcements(one);
    assert!(rooms.all_support_announcements([one].iter()));
    assert!(!rooms.all_support_announcements([one, two].iter()));
    rooms.set_supports_announcements(two);
    assert!(rooms.all_support_announcements([one, two].iter()));
    // A peer that refuses data checking cannot fetch either.
    rooms.set_without_sync(two);
    assert!(!rooms.all_support_announcements([one, two].iter()));
    rooms.forget(&one);
    assert!(!rooms.all_support_announcements([one].iter()));
}
