//! Whose turn it is: when a room is compared with whom, and who is notified that it is behind.
//!
//! Entry point: [`AntiEntropy::drive`]. The rules it keeps: a room is compared with one neighbour at a time,
//! a neighbour compares one room at a time, and nobody keeps the others waiting.

use std::time::Duration;

use super::event::{Checked, Output};
use super::held::Held;
use super::message::Request;
use super::peer_state::Due;
use super::reconcile::Window;
use super::state::{AntiEntropy, Moment, RETRY_DELAY};
use super::sync_round::SyncRound;
use crate::clock::Time;

/// What was sent this recently is left out of comparisons at intervals: it is still on its way by
/// gossip, and would be fetched for nothing.
pub const SETTLE_DELAY: Duration = Duration::from_secs(2);

/// How long a comparison may keep others in the same room waiting.
pub(super) const ROUND_TIMEOUT: Duration = Duration::from_secs(5);

/// A neighbour is not notified more often than this. How often we listen is bounded in `quota.rs`.
pub(super) const NOTIFY_INTERVAL: Duration = Duration::from_secs(1);

/// The oldest part of the kept time that we do not ask about: the neighbour, whose clock runs on,
/// removes it while we compare.
const RETENTION_GRACE: Duration = Duration::from_secs(120);

impl<P: Clone + Ord> AntiEntropy<P> {
    /// Ends, begins and goes on with comparisons.
    pub(super) fn drive(&mut self, moment: Moment, out: &mut Vec<Output<P>>) {
        self.driven_at = moment.now;
        self.schedule_rounds(moment.now);
        self.notify_due(moment.now, out);
        let peers: Vec<P> = self.neighbours.keys().cloned().collect();
        for peer in &peers {
            self.drive_peer(moment, peer, out);
        }
        // What ended just now may have made room for who was looked at before.
        for peer in &peers {
            self.drive_peer(moment, peer, out);
        }
    }

    /// At its interval, a room's next neighbour is due.
    fn schedule_rounds(&mut self, now: Time) {
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
    fn notify_due(&mut self, now: Time, out: &mut Vec<Output<P>>) {
        let due: Vec<String> = self
            .rooms
            .iter_mut()
            .filter(|(_, room)| room.notify_at.is_some_and(|at| at <= now))
            .map(|(name, room)| {
                room.notify_at = None;
                name.clone()
            })
            .collect();
        for name in due {
            self.notify_others(now, &name, None, out);
        }
    }

    fn notify_others(
        &mut self,
        now: Time,
        room: &str,
        except: Option<&P>,
        out: &mut Vec<Output<P>>,
    ) {
        let others = self
            .neighbours
            .iter()
            .filter(|(_, n)| n.rooms.contains(room));
        let others: Vec<P> = others
            .map(|(p, _)| p.clone())
            .filter(|p| Some(p) != except)
            .collect();
        for peer in others {
            self.notify_lagging(now, &peer, room, 0, out);
        }
    }

    fn notify_lagging(
        &mut self,
        now: Time,
        peer: &P,
        room: &str,
        count: u64,
        out: &mut Vec<Output<P>>,
    ) {
        let Some(neighbour) = self.neighbours.get_mut(peer) else {
            return;
        };
        if neighbour
            .last_notified
            .get(room)
            .is_some_and(|notified| now < *notified + NOTIFY_INTERVAL)
        {
            return;
        }
        neighbour.last_notified.insert(room.to_owned(), now);
        self.last_token += 1;
        self.pending_requests
            .insert(self.last_token, (peer.clone(), None));
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

    fn drive_peer(&mut self, moment: Moment, peer: &P, out: &mut Vec<Output<P>>) {
        self.drive_announcements(moment.now, peer, out);
        if self.neighbours.get(peer).is_some_and(|n| n.round.is_none()) {
            self.begin(moment, peer);
        }
        let Some(neighbour) = self.neighbours.get_mut(peer) else {
            return;
        };
        let Some(round) = &mut neighbour.round else {
            return;
        };
        while let Some((pending, request)) = round.next_request(moment.now, |id| {
            self.pending_fetches.contains(id) || neighbour.removed.is_untimed(id)
        }) {
            self.last_token += 1;
            self.pending_requests
                .insert(self.last_token, (peer.clone(), Some(pending)));
            let request = request.encode();
            round.report.bytes += framed(request.len());
            out.push(Output::Request(peer.clone(), self.last_token, request));
        }
        if round.is_done()
            && let Some(round) = neighbour.round.take()
        {
            self.end(moment.now, peer, round, out);
        }
    }

    fn begin(&mut self, moment: Moment, peer: &P) {
        let oldest_ms = self.oldest_ms(moment.unix.aging, RETENTION_GRACE);
        let Some(neighbour) = self.neighbours.get(peer) else {
            return;
        };
        let due_rooms = neighbour.due.iter().filter(|(_, due)| due.at <= moment.now);
        let due_rooms: Vec<(String, Due)> =
            due_rooms.map(|(name, due)| (name.clone(), *due)).collect();
        for (name, due) in due_rooms {
            let Some(room) = self.rooms.get_mut(&name).filter(|room| room.is_loaded()) else {
                continue;
            };
            if let Some(other) = room.busy_with.clone() {
                let round = self
                    .neighbours
                    .get_mut(&other)
                    .and_then(|n| n.round.as_mut());
                if let Some(round) = round.filter(|e| e.started + ROUND_TIMEOUT <= moment.now) {
                    round.wind_down();
                }
                continue;
            }
            let Some(neighbour) = self.neighbours.get_mut(peer) else {
                return;
            };
            neighbour.due.remove(&name);
            let settled_ms = moment
                .unix
                .now
                .saturating_sub(SETTLE_DELAY.as_millis() as u64);
            let floor_ms = neighbour.low_watermarks.get(&name).copied().unwrap_or(0);
            let window = Window {
                since_ms: oldest_ms.max(room.low_watermark_ms()).max(floor_ms),
                until_ms: if due.to_now { u64::MAX } else { settled_ms },
            };
            if window.since_ms < window.until_ms {
                room.busy_with = Some(peer.clone());
                let held = Held::with(room.items(), neighbour.removed.of(&name));
                neighbour.round = Some(SyncRound::new(moment.now, name, window, held));
                return;
            }
        }
    }

    fn end(&mut self, now: Time, peer: &P, round: SyncRound, out: &mut Vec<Output<P>>) {
        self.release(peer, &round.room);
        let report = round.report;
        // What came by another way meanwhile, or could not be stored, shows at the next comparison.
        let complete = !report.unfinished && report.repaired == report.claimed;
        let agreed = complete && report.ahead == 0;
        if let Some(room) = self.rooms.get_mut(&round.room) {
            room.note(now, peer, agreed, report.repaired);
        }
        if report.ahead > 0 {
            self.notify_lagging(now, peer, &round.room, report.ahead, out);
        }
        if report.repaired > 0 {
            self.notify_others(now, &round.room, Some(peer), out);
        }
        if report.unfinished
            && let Some(neighbour) = self.neighbours.get_mut(peer)
            && neighbour.rooms.contains(&round.room)
        {
            neighbour.set_due(&round.room, now + RETRY_DELAY, false);
        }
        out.push(Output::Checked(Checked {
            room: round.room,
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
