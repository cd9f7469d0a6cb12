//! Anti-entropy scheduler ("data checking"): picks the next round, a room and a neighbour, and sends Lagging notices.
//!
//! Entry point: [`AntiEntropy::drive`]. The rules it keeps: a room is compared with one neighbour at a time, a
//! neighbour compares one room at a time, and a slow round makes way for others.

use std::time::Duration;

use super::event::{Checked, Output};
use super::held::Held;
use super::message::Request;
use super::peer_state::Due;
use super::reconcile::Window;
use super::state::AntiEntropy;
use super::sync_round::SyncRound;
use super::timing::{Moment, NOTIFY_INTERVAL, RETRY_DELAY, ROUND_TIMEOUT, framed};
use crate::clock::Time;

/// Age below which batches are left out of the rounds at intervals: gossip is still spreading them, and to fetch them
/// would be wasteful.
pub const SETTLE_DELAY: Duration = Duration::from_secs(2);

/// The oldest part of the retention time, which our rounds leave out: the neighbour's clock advances, and it removes
/// these batches during the round.
const RETENTION_GRACE: Duration = Duration::from_secs(120);

impl<P: Clone + Ord> AntiEntropy<P> {
    /// Ends, begins and continues rounds, and sends requests and notices that are due.
    pub(super) fn drive(&mut self, moment: Moment, out: &mut Vec<Output<P>>) {
        self.driven_at = moment.now;
        self.schedule_rounds(moment.now);
        self.notify_due(moment.now, out);
        let peers: Vec<P> = self.neighbours.keys().cloned().collect();
        for peer in &peers {
            self.drive_peer(moment, peer, out);
        }
        // Rounds that have just ended may have made room for neighbours earlier in the list.
        for peer in &peers {
            self.drive_peer(moment, peer, out);
        }
    }

    /// Makes each room's next neighbour due, at the room's interval.
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

    /// Notifies the neighbours in rooms for which batches were fetched, if the notice is due.
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
        // Batches that arrived by another way meanwhile, or could not be stored, show in the next round.
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

    /// Returns the time, in Unix milliseconds, before which batches are not compared even if they are held.
    pub(super) fn oldest_ms(&self, aging_ms: u64, grace: Duration) -> u64 {
        let keep = self
            .config
            .keep
            .saturating_sub(grace.min(self.config.keep / 10));
        aging_ms.saturating_sub(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX))
    }
}
