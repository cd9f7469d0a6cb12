//! Tests of the trusted time and of the reports when clocks disagree.

use proptest::prelude::*;

use super::*;

const NOW_MS: u64 = 1_900_000_000_000;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

fn peer(n: u8) -> PeerId {
    crate::identity::Identity::from_seed(&[n; 32]).peer_id()
}

/// A node with the clock `own_ms` at the start, and neighbours with clocks ahead of [`NOW_MS`] by these.
fn clocks(own_ms: u64, ahead_ms: &[i64]) -> (Clocks, Vec<ClockReport>) {
    let mut clocks = Clocks::new(KEEP);
    let mut reports = Vec::new();
    clocks.start(Time::ZERO, own_ms, Some(own_ms), &mut reports);
    for (n, ahead_ms) in (1..).zip(ahead_ms) {
        let theirs_ms = NOW_MS.saturating_add_signed(*ahead_ms);
        reports.extend(clocks.record_peer(Time::ZERO, peer(n), theirs_ms, own_ms));
    }
    (clocks, reports)
}

/// Returns the trusted time and the reports for this system clock, after `after`, in a node that has followed its clock
/// from [`NOW_MS`] on.
fn check(clocks: &mut Clocks, after: Duration, system_ms: u64) -> (Trust, Vec<ClockState>) {
    let now = Time::ZERO + after;
    let trusted_ms = NOW_MS + after.as_millis() as u64;
    let mut reports = Vec::new();
    let trust = clocks.check(now, system_ms, trusted_ms, &mut reports);
    (trust, reports.iter().map(|report| report.state).collect())
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_jump_is_said_once_and_not_followed_and_that_it_is_over_is_said_too() {
    for neighbours in [&[][..], &[0], &[0, 1000, -40_000]] {
        let (mut clocks, reports) = clocks(NOW_MS, neighbours);
        assert_eq!(reports, []);
        let jumped = NOW_MS + 40 * DAY_MS;
        let (trust, said) = check(&mut clocks, seconds(5), jumped + 5000);
        assert_eq!(
            (trust.now_ms, said),
            (NOW_MS + 5000, vec![ClockState::Jumped])
        );
        assert_eq!(trust.is_backed, !neighbours.is_empty());
        let status = clocks.status(Time::ZERO + seconds(5), NOW_MS + 5000);
        assert!(status.in_doubt.is_some() && status.differing.is_empty());
        assert_eq!(check(&mut clocks, seconds(10), jumped + 10_000).1, []);
        let (trust, said) = check(&mut clocks, seconds(15), NOW_MS + 15_200);
        assert_eq!(
            (trust.now_ms, said),
            (NOW_MS + 15_200, vec![ClockState::Right])
        );
        assert_eq!(clocks.status(Time::ZERO, NOW_MS).in_doubt, None);
    }
}

#[test]
fn a_jump_to_the_time_of_most_neighbours_is_followed_at_once() {
    // The machine's clock was an hour behind, and is set.
    let (mut clocks, reports) = clocks(NOW_MS, &[HOUR_MS as i64, HOUR_MS as i64 + 900, 0]);
    assert_eq!(reports.len(), 2);
    let (trust, said) = check(&mut clocks, seconds(5), NOW_MS + HOUR_MS + 5000);
    let expected = Trust {
        now_ms: NOW_MS + HOUR_MS + 5000,
        is_backed: true,
    };
    assert_eq!((trust, said), (expected, vec![ClockState::Confirmed]));
}

#[test]
fn a_jump_that_nobody_confirms_is_followed_after_a_day_unless_a_neighbour_contradicts_it() {
    let jumped = NOW_MS + 40 * DAY_MS;
    for (neighbours, is_followed) in [(&[][..], true), (&[0][..], false)] {
        let (mut clocks, _) = clocks(NOW_MS, neighbours);
        check(&mut clocks, seconds(0), jumped);
        let day = CONFIRM_AFTER;
        let almost = day - seconds(1);
        let at = |after: Duration| jumped + after.as_millis() as u64;
        assert_eq!(check(&mut clocks, almost, at(almost)).1, []);
        let (trust, said) = check(&mut clocks, day, at(day));
        assert_eq!(trust.now_ms == at(day), is_followed, "{said:?}");
        assert_eq!(said == [ClockState::Confirmed], is_followed);
    }
}

#[test]
fn the_day_begins_anew_with_another_jump() {
    let (mut clocks, _) = clocks(NOW_MS, &[]);
    check(&mut clocks, seconds(0), NOW_MS + 40 * DAY_MS);
    let later = CONFIRM_AFTER - seconds(10);
    let (_, said) = check(&mut clocks, later, NOW_MS + 80 * DAY_MS);
    assert_eq!(said, [ClockState::Jumped]);
    let (trust, said) = check(&mut clocks, CONFIRM_AFTER, NOW_MS + 80 * DAY_MS + 10_000);
    assert_eq!((trust.now_ms, said), (NOW_MS + DAY_MS, vec![]));
}

#[test]
fn at_the_start_a_clock_that_makes_all_old_or_is_before_the_log_is_said_and_none_is_trusted_that_fits_badly()
 {
    for (newest_ms, is_said, is_trusted) in [
        (Some(NOW_MS), false, true),
        (Some(NOW_MS + 60_000), false, true),
        // Switched off for a week: nothing is reported, and nothing is removed without a confirmation.
        (Some(NOW_MS - 7 * DAY_MS), false, false),
        (Some(NOW_MS - 40 * DAY_MS), true, false),
        (Some(NOW_MS + HOUR_MS), true, false),
        (None, false, false),
    ] {
        let mut clocks = Clocks::new(KEEP);
        let mut reports = Vec::new();
        let trust = clocks.start(Time::ZERO, NOW_MS, newest_ms, &mut reports);
        assert_eq!(!reports.is_empty(), is_said, "{newest_ms:?}: {reports:?}");
        assert_eq!(trust.now_ms == NOW_MS, is_trusted, "{newest_ms:?}");
        // The first neighbour with the same clock confirms it.
        clocks.record_peer(Time::ZERO, peer(1), NOW_MS, NOW_MS);
        let mut after = Vec::new();
        let trust = clocks.check(Time::ZERO, NOW_MS, trust.now_ms, &mut after);
        assert_eq!(trust.now_ms, NOW_MS);
        assert_eq!(after.len(), usize::from(is_said), "{after:?}");
    }
}

#[test]
fn a_clock_that_is_set_before_it_was_confirmed_has_jumped_from_where_it_stood() {
    let mut clocks = Clocks::new(KEEP);
    let mut reports = Vec::new();
    let trust = clocks.start(Time::ZERO, NOW_MS, None, &mut reports);
    let set_ms = NOW_MS + HOUR_MS;
    clocks.check(Time::ZERO, set_ms, trust.now_ms, &mut reports);
    clocks.record_peer(Time::ZERO, peer(1), set_ms, set_ms);
    clocks.check(Time::ZERO, set_ms, trust.now_ms, &mut reports);
    let said: Vec<_> = reports.iter().map(|it| (it.state, it.ahead_ms)).collect();
    let hour_ms = HOUR_MS as i64;
    let expected = [
        (ClockState::Jumped, hour_ms),
        (ClockState::Confirmed, hour_ms),
    ];
    assert_eq!(said, expected);
}

#[test]
fn the_newest_message_of_a_log_is_no_time_to_date_by_however_many_neighbours_say_so() {
    for (newest_ms, is_backed) in [
        (None, false),
        (Some(NOW_MS - 7 * DAY_MS), false),
        // This machine's clock is before it, so that it is wrong by at least that much.
        (Some(NOW_MS + HOUR_MS), true),
    ] {
        let mut clocks = Clocks::new(KEEP);
        let mut reports = Vec::new();
        clocks.start(Time::ZERO, NOW_MS, newest_ms, &mut reports);
        let trusted_ms = newest_ms.unwrap_or(MIN_CLOCK_MS);
        clocks.record_peer(Time::ZERO, peer(1), trusted_ms, NOW_MS);
        let trust = clocks.check(Time::ZERO, NOW_MS, trusted_ms, &mut reports);
        assert_eq!(trust.is_backed, is_backed, "{newest_ms:?}");
    }
}

#[test]
fn a_peer_that_does_not_say_its_time_is_none_that_differs() {
    let mut clocks = clocks(NOW_MS, &[]).0;
    assert_eq!(clocks.record_peer(Time::ZERO, peer(1), 3_000, NOW_MS), None);
    let peers = [peer(1)];
    assert_eq!(clocks.refusal(Time::ZERO, NOW_MS, peers.iter()), None);
    assert_eq!(clocks.status(Time::ZERO, NOW_MS), ClockStatus::default());
}

#[test]
fn whose_clock_differs_is_said_with_whose_is_wrong_as_far_as_others_tell() {
    let ahead = 10 * 60_000;
    let wrong = |neighbours: &[i64]| {
        let (_, reports) = clocks(NOW_MS, neighbours);
        let last = reports.last().expect("a difference");
        (last.wrong, last.ahead_ms)
    };
    assert_eq!(wrong(&[ahead]), (WrongClock::Unknown, ahead));
    assert_eq!(wrong(&[0, -ahead]), (WrongClock::Peer, -ahead));
    assert_eq!(wrong(&[ahead, ahead + 500]), (WrongClock::Own, ahead + 500));
    assert_eq!(wrong(&[0, ahead, ahead]), (WrongClock::Unknown, ahead));
    // A difference of two minutes is ignored, and a report is not repeated.
    let (mut clocks, reports) = clocks(NOW_MS, &[100_000, ahead]);
    assert_eq!(reports.len(), 1);
    let heard = clocks.record_peer(Time::ZERO, peer(2), NOW_MS + 600_000, NOW_MS);
    assert_eq!(heard, None);
    assert_eq!(clocks.status(Time::ZERO, NOW_MS).differing, reports);
    clocks.forget_peer(&peer(2));
    assert_eq!(clocks.status(Time::ZERO, NOW_MS).differing, []);
}

#[test]
fn what_most_neighbours_refuse_for_its_date_is_known_beforehand() {
    let refusal = |neighbours: &[i64], sent_at_ms: u64| {
        let (clocks, _) = clocks(NOW_MS, neighbours);
        let peers: Vec<PeerId> = (1..=9).map(peer).collect();
        clocks.refusal(Time::ZERO, sent_at_ms, peers.iter())
    };
    let limit = MAX_AHEAD_MS as i64;
    assert_eq!(refusal(&[], NOW_MS), None);
    assert_eq!(refusal(&[-limit], NOW_MS), None);
    let refused = refusal(&[-limit - 1], NOW_MS).expect("too far ahead");
    assert_eq!(
        (refused.ahead_ms, refused.refusing, refused.neighbours),
        (limit + 1, 1, 1)
    );
    // One of two accepts it.
    assert_eq!(refusal(&[0, -2 * limit], NOW_MS), None);
    assert!(refusal(&[0, -2 * limit, -3 * limit], NOW_MS).is_some());
    // Older than the retention.
    assert_eq!(refusal(&[29 * DAY_MS as i64], NOW_MS), None);
    assert!(refusal(&[31 * DAY_MS as i64], NOW_MS).is_some_and(|it| it.ahead_ms < 0));
}

#[test]
fn each_report_names_by_how_much_and_what_to_do() {
    for (state, ahead_ms, expected) in [
        (
            ClockState::Differs,
            600_000,
            "10 min 0 s ahead of this machine's",
        ),
        (
            ClockState::Differs,
            -600_000,
            "10 min 0 s behind this machine's",
        ),
        (
            ClockState::Jumped,
            40 * DAY_MS as i64,
            "jumped ahead by 40 d 0 h",
        ),
        (ClockState::Jumped, -(DAY_MS as i64), "set back by 1 d 0 h"),
        (
            ClockState::Unconfirmed,
            -(365 * 56 * DAY_MS as i64),
            "56 y 0 d before",
        ),
        (
            ClockState::AuthorAhead,
            600_000,
            "dates its messages 10 min 0 s ahead",
        ),
    ] {
        let report = ClockReport {
            peer_id: Some(peer(1)),
            wrong: WrongClock::Unknown,
            ..ClockReport::new(state, ahead_ms)
        };
        let text = report.to_string();
        assert!(
            text.contains(expected) && text.contains("timedatectl"),
            "{text}"
        );
    }
}

proptest! {
    /// For any clocks of neighbours and any jumps of the system clock, the trusted time moves only with the monotonic
    /// clock, or to the system clock; and to that only when most neighbours agree, or after a day without them.
    #[test]
    fn what_is_trusted_is_never_made_up(
        neighbours in prop::collection::vec(any::<i64>(), 0..5),
        steps in prop::collection::vec((0_u64..CONFIRM_AFTER.as_secs(), any::<u64>()), 1..20),
    ) {
        let (mut clocks, _) = clocks(NOW_MS, &neighbours);
        let (mut now, mut trusted_ms) = (Time::ZERO, NOW_MS);
        for (passed, system_ms) in steps {
            now += Duration::from_secs(passed);
            trusted_ms = trusted_ms.saturating_add(passed * 1000);
            let mut reports = Vec::new();
            let trust = clocks.check(now, system_ms, trusted_ms, &mut reports);
            prop_assert!(trust.now_ms == trusted_ms || trust.now_ms == system_ms);
            let agreeing = clocks.agreeing(now, system_ms);
            if trust.now_ms == system_ms && system_ms.abs_diff(trusted_ms) > MAX_CLOCK_STEP_MS && agreeing * 2 <= neighbours.len() {
                // Random clocks do not stay the same for a day.
                prop_assert!(false, "followed to {system_ms} from {trusted_ms} by {agreeing}");
            }
            trusted_ms = trust.now_ms;
        }
    }
}
