//! How many large answers are on their way to neighbours at once: on a quick line as many as are asked for,
//! on a slow one a batch after the other, each to somebody else.
//!
//! Entry type: [`Pace`]. Five neighbours that fetch the same batch over one slow line get it five times later
//! than one that then passes it on. The rules it keeps: a second's worth of what the line carries may be on
//! its way, and one answer in any case; a neighbour that does not take its answer holds the others up for a
//! bounded time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::event::RequestId;
use super::throughput::Rate;
use crate::clock::Time;
use crate::model::Id;

/// A line that carries less than this in a second is slow: two of the largest batches.
const SLOW: u64 = 2 << 20;

/// On a slow line a batch is given to another neighbour only so long after the first one has it: that one
/// passes it on meanwhile.
const SPREAD: Duration = Duration::from_secs(2);

/// Batches that are remembered as given lately.
const LATELY_MOST: usize = 64;

/// An answer that is not taken in twice the time that is expected, and this, is not waited for.
const PATIENCE: Duration = Duration::from_secs(4);

/// The same before anything was measured: a mebibyte in that time is 0.8 Mbit/s.
const PATIENCE_AT_FIRST: Duration = Duration::from_secs(10);

/// No answer is waited for longer.
const PATIENCE_MOST: Duration = Duration::from_secs(30);

/// How long a neighbour is put off, at least and at most.
const PUT_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// The large answers to neighbours `P`.
#[derive(Debug)]
pub(super) struct Pace<P> {
    sending: BTreeMap<RequestId, Sending<P>>,
    rate: Rate,
    lately: VecDeque<(Time, Id)>,
}

#[derive(Debug)]
struct Sending<P> {
    peer: P,
    bytes: u64,
    /// The offered batch, if it is one.
    id: Option<Id>,
    since: Time,
    overdue_at: Time,
}

impl<P: PartialEq> Pace<P> {
    pub(super) fn new() -> Pace<P> {
        Pace {
            sending: BTreeMap::new(),
            rate: Rate::new(),
            lately: VecDeque::new(),
        }
    }

    /// For how long `peer`, which fetches so much, is to be put off, if it is: an offered batch of this id, or
    /// others.
    pub(super) fn puts_off(
        &self,
        now: Time,
        peer: &P,
        id: Option<&Id>,
        bytes: usize,
    ) -> Option<Duration> {
        let mut of_peer = self.sending.values().filter(|it| it.peer == *peer);
        if of_peer.any(|sending| sending.overdue_at <= now) {
            // It does not take what it has asked for before.
            return Some(PUT_OFF.1);
        }
        let mut waited_for = self.waited_for(now).peekable();
        if waited_for.peek().is_none() {
            let mut lately = self.lately.iter().filter(|(at, _)| now < *at + SPREAD);
            let was_given =
                self.rate.a_second() < SLOW && lately.any(|(_, given)| Some(given) == id);
            return was_given.then_some(PUT_OFF.1 / 2);
        }
        let (mut ahead, mut longest) = (0, Duration::ZERO);
        for sending in waited_for {
            ahead += sending.bytes;
            longest = longest.max(now.since(sending.since));
        }
        let is_full = ahead + bytes as u64 > self.rate.a_second();
        let takes = match self.rate.is_measured() {
            true => self.rate.time_of(ahead),
            // As long again as it has taken so far.
            false => longest,
        };
        is_full.then(|| takes.clamp(PUT_OFF.0, PUT_OFF.1))
    }

    /// An answer of so many bytes sets out, or is about to, with an offered batch or without; by when it should
    /// have arrived.
    pub(super) fn set_out(
        &mut self,
        now: Time,
        peer: P,
        request: RequestId,
        id: Option<Id>,
        bytes: usize,
    ) -> Time {
        if self.waited_for(now).next().is_none() {
            self.rate.begin(now);
        }
        let bytes = bytes as u64;
        let ahead: u64 = self.waited_for(now).map(|sending| sending.bytes).sum();
        let overdue_at = match self.rate.is_measured() {
            true => self.rate.time_of(ahead + bytes).saturating_mul(2) + PATIENCE,
            false => PATIENCE_AT_FIRST,
        };
        let overdue_at = now + overdue_at.min(PATIENCE_MOST);
        let sending = Sending {
            peer,
            bytes,
            id,
            since: now,
            overdue_at,
        };
        self.sending.insert(request, sending);
        overdue_at
    }

    /// An answer was sent; to whom.
    pub(super) fn is_sent(&mut self, now: Time, request: RequestId) -> Option<P> {
        let sending = self.sending.remove(&request)?;
        self.rate.has_carried(now, sending.bytes);
        if let Some(id) = sending.id {
            self.lately.push_back((now, id));
            let surplus = self.lately.len().saturating_sub(LATELY_MOST);
            self.lately.drain(..surplus);
        }
        Some(sending.peer)
    }

    /// What was about to set out does not, is small, or could not be sent; to whom it would have gone.
    pub(super) fn take_back(&mut self, request: RequestId) -> Option<P> {
        Some(self.sending.remove(&request)?.peer)
    }

    /// A link is down.
    pub(super) fn forget(&mut self, peer: &P) {
        self.sending.retain(|_, sending| sending.peer != *peer);
    }

    fn waited_for(&self, now: Time) -> impl Iterator<Item = &Sending<P>> {
        self.sending
            .values()
            .filter(move |sending| now < sending.overdue_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn id(n: u8) -> Id {
        [n; 32]
    }

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    /// One whose line takes so long for a mebibyte.
    fn measured(ms: u64) -> (Pace<u8>, Time) {
        let mut pace = Pace::new();
        let mut now = at(0);
        for n in 0..8 {
            pace.set_out(now, 9, n, None, MIB);
            now += Duration::from_millis(ms);
            pace.is_sent(now, n);
        }
        (pace, now)
    }

    #[test]
    fn before_anything_is_measured_one_batch_goes_at_a_time() {
        let mut pace = Pace::new();
        assert_eq!(pace.puts_off(at(0), &77, Some(&id(1)), MIB), None);
        pace.set_out(at(0), 1, 1, Some(id(1)), MIB);
        let put_off = |ms| pace.puts_off(at(ms), &77, Some(&id(2)), MIB);
        assert_eq!(put_off(1), Some(PUT_OFF.0), "it may be over in a moment");
        assert_eq!(put_off(500), Some(Duration::from_millis(500)));
    }

    #[test]
    fn a_quick_line_puts_nobody_off() {
        let (mut pace, now) = measured(10);
        for n in 0..10 {
            assert_eq!(pace.puts_off(now, &77, Some(&id(1)), MIB), None, "{n}");
            pace.set_out(now, n, 100 + u64::from(n), Some(id(1)), MIB);
        }
    }

    #[test]
    fn a_slow_line_brings_one_batch_after_the_other_and_the_same_to_another_only_later() {
        let (mut pace, now) = measured(4_000);
        pace.set_out(now, 1, 100, Some(id(1)), MIB);
        let put_off = pace
            .puts_off(now, &77, Some(&id(2)), MIB)
            .expect("one at a time");
        assert_eq!(put_off, PUT_OFF.1);
        let now = now + Duration::from_secs(4);
        pace.is_sent(now, 100);
        assert!(
            pace.puts_off(now, &77, Some(&id(1)), MIB).is_some(),
            "it is passed on"
        );
        assert_eq!(pace.puts_off(now, &77, Some(&id(2)), MIB), None);
        assert_eq!(pace.puts_off(now + SPREAD, &77, Some(&id(1)), MIB), None);
    }

    #[test]
    fn who_does_not_take_its_answer_holds_the_others_up_for_a_while_only() {
        let (mut pace, now) = measured(4_000);
        pace.set_out(now, 1, 100, Some(id(1)), MIB);
        let just_before = now + Duration::from_millis(11_900);
        assert!(pace.puts_off(just_before, &77, Some(&id(2)), MIB).is_some());
        let after = now + Duration::from_millis(12_100);
        assert_eq!(pace.puts_off(after, &77, Some(&id(2)), MIB), None);
    }

    #[test]
    fn who_is_gone_holds_nobody_up() {
        let (mut pace, now) = measured(4_000);
        pace.set_out(now, 1, 100, Some(id(1)), MIB);
        pace.forget(&1);
        assert_eq!(pace.puts_off(now, &77, Some(&id(1)), MIB), None);
    }

    #[test]
    fn a_line_that_becomes_slow_is_found_slow_with_the_next_batch() {
        let (mut pace, mut now) = measured(10);
        pace.set_out(now, 1, 100, None, MIB);
        now += Duration::from_secs(4);
        pace.is_sent(now, 100);
        pace.set_out(now, 1, 101, None, MIB);
        assert!(pace.puts_off(now, &77, Some(&id(2)), MIB).is_some());
    }
}
