//! Whose turn it is: when a room is compared with whom, and who is told that it is behind.
//!
//! Entry point: [`Checks::go_on`]. The rules it keeps: a room is compared with one neighbour at a time,
//! a neighbour compares one room at a time, and nobody keeps the others waiting.

use std::time::Duration;

use super::event::{Checked, Output};
use super::held::Held;
use super::message::Request;
use super::peer_state::Due;
use super::reconcile::Window;
use super::state::{Checks, Moment, RETRY};
use super::sync_round::Errand;
use crate::clock::Time;

/// What was sent this recently is left out of comparisons at intervals: it is still on its way by
/// gossip, and would be fetched for nothing.
pub const SETTLE: Duration = Duration::from_secs(2);

/// How long a comparison may keep others in the same room waiting.
pub(super) const TURN: Duration = Duration::from_secs(5);

/// A neighbour is not told more often than this. How often we listen is bounded in `quota.rs`.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(1);

/// The oldest part of the kept time that we do not ask about: the neighbour, whose clock runs on,
/// removes it while we compare.
const GRACE: Duration = Duration::from_secs(120);

impl<P: Clone + Ord> Checks<P> {
    /// Ends, begins and goes on with comparisons.
    pub(super) fn go_on(&mut self, moment: Moment, out: &mut Vec<Output<P>>) {
        self.looked_at = moment.now;
        self.take_turns(moment.now);
        self.tell_all(moment.now, out);
        let peers: Vec<P> = self.neighbours.keys().cloned().collect();
        for peer in &peers {
            self.go_on_with(moment, peer, out);
        }
        // What ended just now may have made room for who was looked at before.
        for peer in &peers {
            self.go_on_with(moment, peer, out);
        }
    }

    /// At its interval, a room's next neighbour is due.
    fn take_turns(&mut self, now: Time) {
        for (name, room) in &mut self.rooms {
            if !room.is_loaded() || room.next_at > now {
                continue;
            }
            room.next_at = now + self.config.interval;
            let mut peers = self
                .neighbours
                .iter()
                .filter(|(_, n)| n.rooms.contains(name));
            let first = peers.clone().next();
            let next = peers
                .find(|(peer, _)| Some(*peer) > room.in_turn.as_ref())
                .or(first);
            if let Some(peer) = next.map(|(peer, _)| peer.clone()) {
                if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                    neighbour.set_due(name, now, false);
                }
                room.in_turn = Some(peer);
            }
        }
    }

    /// Tells the neighbours in a room into which something was fetched.
    fn tell_all(&mut self, now: Time, out: &mut Vec<Output<P>>) {
        let due: Vec<String> = self
            .rooms
            .iter_mut()
            .filter(|(_, room)| room.tell_at.is_some_and(|at| at <= now))
            .map(|(name, room)| {
                room.tell_at = None;
                name.clone()
            })
            .collect();
        for name in due {
            self.tell_others(now, &name, None, out);
        }
    }

    fn tell_others(&mut self, now: Time, room: &str, but: Option<&P>, out: &mut Vec<Output<P>>) {
        let others = self
            .neighbours
            .iter()
            .filter(|(_, n)| n.rooms.contains(room));
        let others: Vec<P> = others
            .map(|(p, _)| p.clone())
            .filter(|p| Some(p) != but)
            .collect();
        for peer in others {
            self.tell(now, &peer, room, 0, out);
        }
    }

    fn tell(&mut self, now: Time, peer: &P, room: &str, count: u64, out: &mut Vec<Output<P>>) {
        let Some(neighbour) = self.neighbours.get_mut(peer) else {
            return;
        };
        if neighbour
            .told
            .get(room)
            .is_some_and(|told| now < *told + TELL_EVERY)
        {
            return;
        }
        neighbour.told.insert(room.to_owned(), now);
        self.last_token += 1;
        self.asked.insert(self.last_token, (peer.clone(), None));
        let request = Request::Lagging {
            room: room.to_owned(),
            count,
        };
        out.push(Output::Request(
            peer.clone(),
            self.last_token,
            request.encode(),
        ));
    }

    fn go_on_with(&mut self, moment: Moment, peer: &P, out: &mut Vec<Output<P>>) {
        self.go_on_offering(moment.now, peer, out);
        if self
            .neighbours
            .get(peer)
            .is_some_and(|n| n.errand.is_none())
        {
            self.begin(moment, peer);
        }
        let Some(neighbour) = self.neighbours.get_mut(peer) else {
            return;
        };
        let Some(errand) = &mut neighbour.errand else {
            return;
        };
        while let Some((asked, request)) = errand.next_request(moment.now, |id| {
            self.wants.contains(id) || neighbour.removed.is_untimed(id)
        }) {
            self.last_token += 1;
            self.asked
                .insert(self.last_token, (peer.clone(), Some(asked)));
            let request = request.encode();
            errand.report.bytes += framed(request.len());
            out.push(Output::Request(peer.clone(), self.last_token, request));
        }
        if errand.is_done()
            && let Some(errand) = neighbour.errand.take()
        {
            self.end(moment.now, peer, errand, out);
        }
    }

    fn begin(&mut self, moment: Moment, peer: &P) {
        let oldest_ms = self.oldest_ms(moment.unix.aging, GRACE);
        let Some(neighbour) = self.neighbours.get(peer) else {
            return;
        };
        let ripe = neighbour.due.iter().filter(|(_, due)| due.at <= moment.now);
        let ripe: Vec<(String, Due)> = ripe.map(|(name, due)| (name.clone(), *due)).collect();
        for (name, due) in ripe {
            let Some(room) = self.rooms.get_mut(&name).filter(|room| room.is_loaded()) else {
                continue;
            };
            if let Some(other) = room.busy_with.clone() {
                let errand = self
                    .neighbours
                    .get_mut(&other)
                    .and_then(|n| n.errand.as_mut());
                if let Some(errand) = errand.filter(|e| e.started + TURN <= moment.now) {
                    errand.wind_down();
                }
                continue;
            }
            let Some(neighbour) = self.neighbours.get_mut(peer) else {
                return;
            };
            neighbour.due.remove(&name);
            let settled_ms = moment.unix.now.saturating_sub(SETTLE.as_millis() as u64);
            let floor_ms = neighbour.floors.get(&name).copied().unwrap_or(0);
            let window = Window {
                since_ms: oldest_ms.max(room.low_watermark_ms()).max(floor_ms),
                until_ms: if due.to_now { u64::MAX } else { settled_ms },
            };
            if window.since_ms < window.until_ms {
                room.busy_with = Some(peer.clone());
                let held = Held::with(room.items(), neighbour.removed.of(&name));
                neighbour.errand = Some(Errand::new(moment.now, name, window, held));
                return;
            }
        }
    }

    fn end(&mut self, now: Time, peer: &P, errand: Errand, out: &mut Vec<Output<P>>) {
        self.release(peer, &errand.room);
        let report = errand.report;
        // What came by another way meanwhile, or could not be stored, shows at the next comparison.
        let complete = !report.unfinished && report.repaired == report.claimed;
        let agreed = complete && report.ahead == 0;
        if let Some(room) = self.rooms.get_mut(&errand.room) {
            room.note(now, peer, agreed, report.repaired);
        }
        if report.ahead > 0 {
            self.tell(now, peer, &errand.room, report.ahead, out);
        }
        if report.repaired > 0 {
            self.tell_others(now, &errand.room, Some(peer), out);
        }
        if report.unfinished
            && let Some(neighbour) = self.neighbours.get_mut(peer)
            && neighbour.rooms.contains(&errand.room)
        {
            neighbour.set_due(&errand.room, now + RETRY, false);
        }
        out.push(Output::Checked(Checked {
            room: errand.room,
            peer: peer.clone(),
            agreed,
            repaired: report.repaired,
            ahead: report.ahead,
            bytes: report.bytes,
            steps: report.steps,
        }));
    }

    pub(super) fn release(&mut self, peer: &P, room: &str) {
        if let Some(room) = self.rooms.get_mut(room) {
            room.busy_with.take_if(|with| with == peer);
        }
    }

    /// Before this nothing is compared, whatever is held.
    pub(super) fn oldest_ms(&self, aging_ms: u64, grace: Duration) -> u64 {
        let keep = self
            .config
            .keep
            .saturating_sub(grace.min(self.config.keep / 10));
        aging_ms.saturating_sub(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A message's bytes on its stream: itself and its length.
pub(super) fn framed(len: usize) -> u64 {
    let length = (usize::BITS - (len | 1).leading_zeros()).div_ceil(7);
    len as u64 + u64::from(length)
}
