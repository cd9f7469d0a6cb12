//! Announcements of large new batches, like gossipsub's IHAVE and IWANT: a node announces a batch to its neighbours,
//! and each of them fetches it once, from one of the nodes that announced it. Rounds of anti-entropy ("data checking")
//! repair failures.
//!
//! Entry points: [`AntiEntropy::announce`], [`AntiEntropy::on_announce`], [`AntiEntropy::drive_announcements`]. The
//! rules it keeps: a batch is fetched from one neighbour at a time, unless that one is slow; the number of fetches that
//! neighbours can cause is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::announcements::{Announced, Announcements, MAX_ANNOUNCED_PER_PEER, PendingFetch};
use super::event::{Output, RequestId};
use super::message::{Request, Response};
use super::peer_state::PeerState;
use super::state::AntiEntropy;
use super::sync_round::{Fault, MAX_FALSE_CLAIMS, PendingRequest};
use super::timing::{Moment, RETRY_DELAY};
use crate::clock::Time;
use crate::model::{Id, Item};

/// The feature bit of the handshake that says that a node supports announcements.
pub const ANNOUNCE_FEATURE: u64 = 1;

/// Size in bytes above which batches are announced. Smaller ones, among them those with many events, are gossiped.
pub const ANNOUNCE_ABOVE: usize = 320 << 10;

/// Approximate size of a large batch, in bytes.
const LARGE_BATCH_BYTES: usize = 1 << 20;

/// Maximum number of fetches in flight per neighbour: while one travels, the neighbour reads the next.
const MAX_FETCHES_PER_PEER: usize = 2;

/// Minimum number of announced batches that are fetched or wait to be stored, over all neighbours. More than one, so
/// that a neighbour with a slow link does not block the others. Between the bounds, as many as arrive in a second.
const MIN_CONCURRENT_FETCHES: usize = 2;

/// Maximum number of announced batches that are fetched or wait to be stored, over all neighbours: 8 MiB.
const MAX_CONCURRENT_FETCHES: usize = 8;

impl<P: Clone + Ord> AntiEntropy<P> {
    /// Announces a large batch that the neighbours may lack; `from` is the neighbour that sent it.
    pub(super) fn announce(
        &mut self,
        now: Time,
        room: &str,
        item: Item,
        bytes: usize,
        from: Option<&P>,
        out: &mut Vec<Output<P>>,
    ) {
        let sources = self
            .pending_fetches
            .all
            .shift_remove(&item.id)
            .map_or(Vec::new(), |fetch| fetch.sources);
        for (peer, neighbour) in &mut self.neighbours {
            let announcements = &mut neighbour.announcements;
            if !announcements.is_supported || !neighbour.rooms.contains(room) {
                continue;
            }
            let has_it = Some(peer) == from || sources.contains(peer);
            let is_queued = announcements.set_due(now, room, item, has_it);
            let announced = Announced {
                room: room.to_owned(),
                bytes,
                is_own: from.is_none(),
                replicated_at: None,
            };
            if is_queued && !has_it && announcements.set_announced(now, item.id, announced) {
                out.push(announcements.outstanding(now, peer));
            }
        }
    }

    /// Announces a small, gossiped batch to the neighbours in the room, with exceptions, so that they confirm it. A
    /// neighbour that lacks it fetches it, and announces it back when it is stored.
    pub(super) fn request_confirmations(
        &mut self,
        now: Time,
        room: &str,
        item: Item,
        except: &BTreeSet<P>,
    ) {
        let neighbours = self.neighbours.iter_mut();
        let asked =
            neighbours.filter(|(peer, it)| it.rooms.contains(room) && !except.contains(*peer));
        for (_, neighbour) in asked {
            if neighbour.announcements.is_supported {
                neighbour.announcements.set_due_to_confirm(now, room, item);
            }
        }
    }

    /// Reports `peer` as a holder of the watched batches among these.
    pub(super) fn report_holder(&self, peer: &P, ids: &[Id], out: &mut Vec<Output<P>>) {
        let watched = ids.iter().filter(|id| self.watched.contains(*id));
        out.extend(watched.map(|id| Output::Holds(peer.clone(), *id)));
    }

    /// Returns whether a large batch of `room` that was sent no later than `sent_at_ms` is being fetched.
    pub fn is_fetch_pending(&self, room: &str, sent_at_ms: u64) -> bool {
        self.pending_fetches.contains_sent_by(room, sent_at_ms)
    }

    /// Handles an announcement by `peer`. Returns the response.
    pub(super) fn on_announce(
        &mut self,
        moment: Moment,
        peer: &P,
        name: &str,
        items: &[Item],
        out: &mut Vec<Output<P>>,
    ) -> Response {
        let oldest_ms = self.oldest_ms(moment.unix.aging, Duration::ZERO);
        let Some(neighbour) = self.neighbours.get_mut(peer) else {
            return Response::NotSubscribed;
        };
        let Some(room) = self.rooms.get(name) else {
            return Response::NotSubscribed;
        };
        let ids = items.iter().map(|item| item.id);
        let watched = ids.clone().filter(|id| self.watched.contains(id));
        out.extend(watched.map(|id| Output::Holds(peer.clone(), id)));
        if neighbour.announcements.acknowledge(moment.now, ids.clone()) {
            out.push(neighbour.announcements.outstanding(moment.now, peer));
            mark_replicated(&mut self.neighbours, moment.now, ids, out);
        }
        let mut held = Vec::new();
        let oldest_ms = oldest_ms.max(room.low_watermark_ms());
        let mut count = self
            .pending_fetches
            .all
            .values()
            .filter(|fetch| fetch.sources.contains(peer))
            .count();
        for item in items {
            // Batches that are too old are not wanted either.
            if item.sent_at_ms < oldest_ms || room.items().contains(item) {
                held.push(item.id);
                continue;
            }
            if count >= MAX_ANNOUNCED_PER_PEER {
                if let Some(neighbour) = self.neighbours.get_mut(peer) {
                    neighbour.set_due(name, moment.now + RETRY_DELAY, false);
                }
                break;
            }
            let fetch = self
                .pending_fetches
                .all
                .entry(item.id)
                .or_insert_with(|| PendingFetch {
                    room: name.to_owned(),
                    item: *item,
                    sources: Vec::new(),
                    requested_from: Vec::new(),
                    deferrals: 0,
                    is_received: false,
                });
            if fetch.room == name && !fetch.sources.contains(peer) {
                fetch.sources.push(peer.clone());
                count += 1;
            }
        }
        Response::Ack(held)
    }

    /// Announces a batch that arrived by another way to the neighbours that announced it.
    pub(super) fn announce_back(&mut self, now: Time, item: &Item) {
        let Some(fetch) = self.pending_fetches.all.shift_remove(&item.id) else {
            return;
        };
        for source in &fetch.sources {
            if let Some(neighbour) = self.neighbours.get_mut(source) {
                neighbour
                    .announcements
                    .set_due(now, &fetch.room, *item, true);
            }
        }
    }

    /// Sends the announcements and fetches for `peer` that are due.
    pub(super) fn drive_announcements(&mut self, now: Time, peer: &P, out: &mut Vec<Output<P>>) {
        let neighbour = self.neighbours.get_mut(peer);
        if let Some((room, items)) = neighbour.and_then(|n| n.announcements.next_announcement(now))
        {
            let ids = items.iter().map(|item| item.id).collect();
            let request = Request::Announce { room, items };
            self.ask(peer, PendingRequest::Announce(ids), &request, out);
        }
        while let Some((pending, request)) = self.next_fetch(now, peer) {
            self.ask(peer, pending, &request, out);
        }
    }

    fn ask(
        &mut self,
        peer: &P,
        pending: PendingRequest,
        request: &Request,
        out: &mut Vec<Output<P>>,
    ) {
        self.last_token += 1;
        self.pending_requests
            .insert(self.last_token, (peer.clone(), Some(pending)));
        out.push(Output::Request(
            peer.clone(),
            self.last_token,
            request.encode(),
        ));
    }

    fn next_fetch(&mut self, now: Time, peer: &P) -> Option<(PendingRequest, Request)> {
        let all = self
            .neighbours
            .values()
            .flat_map(|n| &n.announcements.fetching);
        let in_flight = all.count();
        // A slow neighbour does not block the others.
        let busy = self.neighbours.iter().map(|(peer, neighbour)| {
            let is_arriving = self.pending_fetches.arriving.contains(peer);
            neighbour.announcements.busy_fetches(now, is_arriving)
        });
        let busy: usize = busy.sum();
        let settling = self.tickets.values().filter(|(_, of)| of.is_some()).count();
        let mut blocked_until = self
            .neighbours
            .values()
            .filter_map(|n| n.announcements.blocked_until());
        let per_second =
            usize::try_from(self.download_throughput.bytes_per_second()).unwrap_or(usize::MAX);
        let most =
            (per_second / LARGE_BATCH_BYTES).clamp(MIN_CONCURRENT_FETCHES, MAX_CONCURRENT_FETCHES);
        let has_enough = busy + settling >= most || in_flight + settling >= MAX_CONCURRENT_FETCHES;
        if has_enough || blocked_until.any(|until| now < until) {
            return None;
        }
        if in_flight == 0 {
            self.download_throughput.begin(now);
        }
        let announcements = &mut self.neighbours.get_mut(peer)?.announcements;
        announcements.end_pause(now);
        if !announcements.is_ready(now, MAX_FETCHES_PER_PEER) {
            return None;
        }
        let fetch = self.pending_fetches.next_from(now, peer)?;
        fetch.requested_from.push((peer.clone(), now));
        let (room, id) = (fetch.room.clone(), fetch.item.id);
        announcements.fetching.push((id, now));
        Some((
            PendingRequest::FetchAnnounced(id),
            Request::Fetch {
                room,
                ids: vec![id],
            },
        ))
    }

    /// Handles the response to a fetch of a batch that `peer` announced.
    ///
    /// # Errors
    ///
    /// Returns a [`Fault`] if the response breaks the protocol.
    pub(super) fn on_fetch_response(
        &mut self,
        now: Time,
        peer: P,
        id: Id,
        response: Response,
        out: &mut Vec<Output<P>>,
    ) -> Result<(), Fault> {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return Ok(());
        };
        let announcements = &mut neighbour.announcements;
        if let Some(began) = announcements.end_fetch(&id)
            && let Response::Batches { envelopes, .. } = &response
            && !envelopes.is_empty()
        {
            self.pending_fetches.record_fetch_time(now.since(began));
            let bytes = envelopes.iter().map(Bytes::len).sum::<usize>();
            self.download_throughput.record(now, bytes as u64);
        }
        let fetch = self
            .pending_fetches
            .all
            .get_mut(&id)
            .filter(|fetch| !fetch.is_received);
        match response {
            Response::Batches {
                envelopes,
                missing,
                removed,
            } if missing.is_empty() && removed.is_empty() => {
                let [envelope]: [Bytes; 1] = match envelopes.len() {
                    0 => return Err(Fault::Withholding),
                    _ => envelopes.try_into().map_err(|_| Fault::Unsolicited)?,
                };
                // Otherwise, it has arrived from another neighbour meanwhile.
                let Some(fetch) = fetch else { return Ok(()) };
                fetch.is_received = true;
                let room = fetch.room.clone();
                self.last_token += 1;
                let ticket = self.last_token;
                self.tickets.insert(ticket, (peer.clone(), Some(id)));
                out.push(Output::Fetched {
                    peer,
                    ticket,
                    room,
                    envelopes: vec![envelope],
                    announced: Some(id),
                });
            }
            Response::Batches {
                envelopes,
                missing,
                removed,
            } => {
                let is_removed = matches!(&removed[..], [item] if item.id == id);
                if !envelopes.is_empty() || !(missing == [id] || is_removed && missing.is_empty()) {
                    return Err(Fault::Unsolicited);
                }
                announcements.false_claims += u64::from(!is_removed);
                if announcements.false_claims > MAX_FALSE_CLAIMS {
                    return Err(Fault::FalseClaim);
                }
                self.drop_source(now, &peer, |of| *of == id);
            }
            Response::RetryAfter(after) => {
                announcements.resume_at = Some(now + after);
                if let Some(fetch) = fetch {
                    fetch.requested_from.retain(|(asked, _)| *asked != peer);
                    fetch.deferrals += 1;
                }
            }
            Response::NotSubscribed => {
                if let Some(room) = fetch.map(|fetch| fetch.room.clone()) {
                    neighbour.rooms.remove(&room);
                }
                self.drop_source(now, &peer, |of| *of == id);
            }
            _ => return Err(Fault::Mismatched),
        }
        Ok(())
    }

    /// Handles the failure of a fetch of a batch that `peer` announced.
    pub(super) fn on_fetch_failed(&mut self, now: Time, peer: &P, id: Id) {
        if let Some(neighbour) = self.neighbours.get_mut(peer) {
            neighbour.announcements.end_fetch(&id);
        }
        self.drop_source(now, peer, |of| *of == id);
    }

    /// Handles the acknowledgement of an announcement, or its failure.
    pub(super) fn on_announce_ack(
        &mut self,
        now: Time,
        peer: &P,
        held: Vec<Id>,
        out: &mut Vec<Output<P>>,
    ) {
        if let Some(neighbour) = self.neighbours.get_mut(peer) {
            neighbour.announcements.is_in_flight = false;
            if neighbour
                .announcements
                .acknowledge(now, held.iter().copied())
            {
                out.push(neighbour.announcements.outstanding(now, peer));
                mark_replicated(&mut self.neighbours, now, held.into_iter(), out);
            }
        }
    }

    /// Removes `peer` as a source of the batches that match the predicate. Batches without a source are left to rounds
    /// with the neighbours in the room.
    fn drop_source(&mut self, now: Time, peer: &P, matches: impl Fn(&Id) -> bool) {
        for room in self
            .pending_fetches
            .remove_source(peer, |id, _| matches(id))
        {
            self.compare_soon(now, &room);
        }
    }

    /// Drops all announcements exchanged with `peer` in rooms that the predicate rejects.
    pub(super) fn retain_announcements(
        &mut self,
        now: Time,
        peer: &P,
        is_kept: impl Fn(&str) -> bool,
        out: &mut Vec<Output<P>>,
    ) {
        if let Some(neighbour) = self.neighbours.get_mut(peer)
            && neighbour.announcements.retain_rooms(&is_kept)
        {
            out.push(neighbour.announcements.outstanding(now, peer));
        }
        for room in self
            .pending_fetches
            .remove_source(peer, |_, room| !is_kept(room))
        {
            self.compare_soon(now, &room);
        }
    }

    /// Ends the upload of an announced batch, which was sent or failed.
    pub(super) fn on_upload_end(
        &mut self,
        now: Time,
        peer: &P,
        request: RequestId,
        is_sent: bool,
        out: &mut Vec<Output<P>>,
    ) {
        let Some(neighbour) = self.neighbours.get_mut(peer) else {
            return;
        };
        let Some(id) = neighbour.announcements.end_upload(now, request) else {
            return;
        };
        out.push(neighbour.announcements.outstanding(now, peer));
        if is_sent {
            mark_replicated(&mut self.neighbours, now, [id].into_iter(), out);
        }
    }

    /// Drops all announcements in a room that we left.
    pub(super) fn forget_announcements_in(
        &mut self,
        now: Time,
        room: &str,
        out: &mut Vec<Output<P>>,
    ) {
        self.pending_fetches
            .all
            .retain(|_, fetch| fetch.room != room);
        for (peer, neighbour) in &mut self.neighbours {
            if neighbour.announcements.retain_rooms(|of| of != room) {
                out.push(neighbour.announcements.outstanding(now, peer));
            }
        }
    }

    /// Returns when [`AntiEntropy::drive_announcements`] is next due.
    pub(super) fn announcements_deadline(&self) -> Option<Time> {
        let announcements = self.neighbours.values().map(|n| &n.announcements);
        let queued = announcements.clone().filter_map(|announcements| {
            announcements.due_at.filter(|_| !announcements.is_in_flight)
        });
        let resumed = announcements
            .clone()
            .filter_map(|announcements| announcements.resume_at);
        let slow = announcements
            .clone()
            .flat_map(Announcements::slow_fetch_deadlines);
        let blocked_until = announcements.filter_map(Announcements::blocked_until);
        // Deadlines that have passed wait for another input.
        queued
            .chain(resumed)
            .chain(slow)
            .chain(blocked_until)
            .chain(self.pending_fetches.deadlines())
            .filter(|at| *at > self.driven_at)
            .min()
    }

    fn compare_soon(&mut self, now: Time, room: &str) {
        for neighbour in self.neighbours.values_mut() {
            if neighbour.rooms.contains(room) {
                neighbour.set_due(room, now, true);
            }
        }
    }
}

/// Records that a neighbour now has these batches.
fn mark_replicated<P: Clone>(
    neighbours: &mut BTreeMap<P, PeerState>,
    now: Time,
    ids: impl Iterator<Item = Id>,
    out: &mut Vec<Output<P>>,
) {
    for id in ids {
        for (peer, neighbour) in neighbours.iter_mut() {
            if neighbour.announcements.set_replicated(now, &id) {
                out.push(neighbour.announcements.outstanding(now, peer));
            }
        }
    }
}
