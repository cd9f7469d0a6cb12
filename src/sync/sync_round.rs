//! One anti-entropy round ("data checking"), from our side: one room is compared with one neighbour, and the batches
//! that we lack are fetched.
//!
//! Entry type: [`SyncRound`]. The rules it keeps: a neighbour must hold the batches it claims; a round takes a bounded
//! number of steps, ids and bytes at a time.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::held::Held;
use super::message::{MAX_IDS, MAX_REQUEST_FRAME, MAX_RESPONSE, Malformed, Request, Response};
use super::reconcile::{self, BadFrame, Difference, Window};
use crate::clock::Time;
use crate::model::{Id, Item};
use crate::wire::envelope::id_in_room;

/// Maximum number of fetches in flight: while one is verified and stored, the next one travels.
const MAX_CONCURRENT_FETCHES: usize = 2;

/// Maximum number of responses that wait to be stored. Together with those in flight, they take about 5 MiB.
const MAX_UNSETTLED: usize = 2;

/// Number of ids known to be lacking from which the comparison pauses, until some of them are fetched.
const MAX_LACKING: usize = 16_384;

/// Maximum number of steps, besides one for every [`FINDINGS_PER_STEP`] findings. Honest rounds need the depth of a
/// tree of 16 branches, and some more for each frame that was too small.
const MAX_STEPS: u64 = 256;

/// Number of findings that allow one more step: an eighth of the ids of a full frame.
const FINDINGS_PER_STEP: u64 = 256;

/// Maximum number of ids that a neighbour claims and then does not hold. It may remove its oldest batches meanwhile,
/// 256 at a time, while two fetches are in flight.
pub(super) const MAX_FALSE_CLAIMS: u64 = 4096;

/// Maximum number of consecutive deferrals by the neighbour in one round. Then the round ends early.
const MAX_DEFERRALS: u32 = 20;

/// Maximum number of times that a round begins again with a later window.
const MAX_RESTARTS: u32 = 8;

/// Leeway after the low watermark that the neighbour named, in milliseconds: a round begins again this much later,
/// times the square of the number of its restarts.
const RESTART_LEEWAY_MS: u64 = 1_875;

/// A violation of the protocol by a neighbour. Its link is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The message does not parse.
    #[error("it sent what is no message of data checking: {0}")]
    Malformed(#[from] Malformed),
    /// The reconciliation frame does not parse.
    #[error("it sent what is no reconciliation frame: {0}")]
    Frame(#[from] BadFrame),
    /// The response is not of the kind that was requested.
    #[error("its answer does not belong to the question")]
    Mismatched,
    /// The response has a batch that was not requested.
    #[error("it sent a batch that was not asked for")]
    Unsolicited,
    /// The response has neither the batches that the neighbour claims to hold nor a notice that it lacks them.
    #[error("it holds back batches that it claims to have")]
    Withholding,
    /// The neighbour claimed too many batches that it does not hold.
    #[error("it claims batches that it does not hold")]
    FalseClaim,
    /// A fetched batch did not verify.
    #[error("it keeps batches that are not genuine")]
    Forged,
    /// The round exceeded its number of steps.
    #[error("comparing with it does not come to an end")]
    NonTerminating,
    /// The neighbour ignored too many deferrals.
    #[error("it keeps asking although it was told to wait")]
    Flood,
    /// The neighbour left several requests in a row unanswered.
    #[error("it does not answer data checking")]
    Unresponsive,
}

/// A request in flight, kept so that its response can be checked against it.
#[derive(Debug)]
pub(super) enum PendingRequest {
    Compare,
    Fetch(Vec<Id>),
    /// The fetch of an announced batch.
    FetchAnnounced(Id),
    /// The announcement of these batches.
    Announce(Vec<Id>),
}

/// The useful part of a fetch's response.
#[derive(Debug, Default)]
pub(super) struct FetchedBatches {
    pub(super) envelopes: Vec<Bytes>,
    /// Batches that the neighbour has removed under its retention limits.
    pub(super) removed: Vec<Item>,
}

/// Counters of a round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Whether the two sides differed.
    pub(super) differs: bool,
    /// Whether the round ended early.
    pub(super) unfinished: bool,
    /// Number of batches that we lacked and have now stored.
    pub(super) repaired: u64,
    /// Number of batches that the neighbour lacked.
    pub(super) ahead: u64,
    /// Number of batches that the neighbour claims to hold and we lacked.
    pub(super) claimed: u64,
    /// Number of batches that the neighbour claimed and did not hold.
    pub(super) missing: u64,
    /// Size of requests and responses with their length prefixes, in bytes.
    pub(super) bytes: u64,
    /// Number of comparison steps, without fetches.
    pub(super) steps: u64,
}

/// An anti-entropy round in progress.
#[derive(Debug)]
pub(super) struct SyncRound {
    pub(super) room: String,
    pub(super) window: Window,
    pub(super) started: Time,
    /// Time at which it continues, after the neighbour deferred it.
    pub(super) resume_at: Option<Time>,
    pub(super) report: Report,
    /// The frame to send next, or to repeat after a deferral.
    frame: Option<Vec<u8>>,
    comparing: bool,
    lacking: VecDeque<Id>,
    fetching: usize,
    unsettled: usize,
    /// Number of ids in one fetch, adjusted so that the response just fits.
    ids_per_fetch: usize,
    deferrals: u32,
    restarts: u32,
    /// Whether it sends no more requests.
    winding_down: bool,
}

impl SyncRound {
    pub(super) fn new(now: Time, room: String, window: Window, held: Held<'_>) -> SyncRound {
        SyncRound {
            frame: Some(reconcile::opening(held, window)),
            room,
            window,
            started: now,
            resume_at: None,
            report: Report::default(),
            comparing: false,
            lacking: VecDeque::new(),
            fetching: 0,
            unsettled: 0,
            ids_per_fetch: 32,
            deferrals: 0,
            restarts: 0,
            winding_down: false,
        }
    }

    /// Returns the next request if one can be sent now. Skips batches for which `is_fetch_pending` holds: they arrive
    /// by another way.
    pub(super) fn next_request(
        &mut self,
        now: Time,
        is_fetch_pending: impl Fn(&Id) -> bool,
    ) -> Option<(PendingRequest, Request)> {
        if self.resume_at.is_some_and(|at| now < at) {
            return None;
        }
        self.resume_at = None;
        let room = self.room.clone();
        if !self.comparing
            && self.lacking.len() < MAX_LACKING
            && let Some(frame) = self.frame.clone()
        {
            self.comparing = true;
            self.report.steps += 1;
            let request = Request::Compare {
                room,
                window: self.window,
                frame: frame.into(),
            };
            return Some((PendingRequest::Compare, request));
        }
        if self.fetching >= MAX_CONCURRENT_FETCHES || self.unsettled >= MAX_UNSETTLED {
            return None;
        }
        // Each id is examined once. To examine all of them with each response would be too slow.
        let next = std::iter::from_fn(|| self.lacking.pop_front());
        let ids: Vec<Id> = next
            .filter(|id| !is_fetch_pending(id))
            .take(self.ids_per_fetch)
            .collect();
        if ids.is_empty() {
            return None;
        }
        self.fetching += 1;
        Some((
            PendingRequest::Fetch(ids.clone()),
            Request::Fetch { room, ids },
        ))
    }

    /// Handles a response and returns the batches in it. Skips batches for which `is_fetch_pending` holds.
    pub(super) fn on_response(
        &mut self,
        now: Time,
        held: Held<'_>,
        is_fetch_pending: impl Fn(&Id) -> bool,
        request: PendingRequest,
        response: Response,
    ) -> Result<FetchedBatches, Fault> {
        let mut fetched = FetchedBatches::default();
        match (request, response) {
            (PendingRequest::Compare, Response::Ranges(frame)) => {
                self.comparing = false;
                self.on_ranges(held, is_fetch_pending, &frame)?;
            }
            (PendingRequest::Compare, Response::From(since_ms)) => {
                self.comparing = false;
                self.on_restart(held, since_ms)?;
            }
            (
                PendingRequest::Fetch(ids),
                Response::Batches {
                    envelopes,
                    missing,
                    removed,
                },
            ) => {
                self.fetching -= 1;
                self.on_batches(ids, &envelopes, &missing, &removed)?;
                self.unsettled += usize::from(!envelopes.is_empty());
                fetched = FetchedBatches { envelopes, removed };
            }
            (request, Response::RetryAfter(after)) => self.on_retry_after(now, request, after),
            (request, Response::NotSubscribed) => {
                self.requeue(request);
                self.winding_down = true;
            }
            _ => return Err(Fault::Mismatched),
        }
        if self.winding_down {
            self.wind_down();
        }
        Ok(fetched)
    }

    /// A fetched response was verified and stored.
    pub(super) fn on_settled(&mut self, stored: u64) {
        self.unsettled = self.unsettled.saturating_sub(1);
        self.report.repaired += stored;
    }

    /// Sends no more requests. Responses to those in flight are still taken.
    pub(super) fn wind_down(&mut self) {
        self.winding_down = true;
        self.report.unfinished |= self.frame.is_some() || !self.lacking.is_empty();
        self.frame = None;
        self.lacking.clear();
        self.resume_at = None;
    }

    /// Returns whether it only waits for the requests in flight.
    pub(super) fn is_winding_down(&self) -> bool {
        self.winding_down
    }

    /// Returns whether no request, response or store operation is left.
    pub(super) fn is_done(&self) -> bool {
        self.frame.is_none()
            && !self.comparing
            && self.lacking.is_empty()
            && self.fetching == 0
            && self.unsettled == 0
    }

    fn on_ranges(
        &mut self,
        held: Held<'_>,
        is_fetch_pending: impl Fn(&Id) -> bool,
        frame: &[u8],
    ) -> Result<(), Fault> {
        let limit = MAX_REQUEST_FRAME;
        let mut difference = Difference::default();
        let next = reconcile::advance(held, self.window, frame, limit, &mut difference)?;
        self.report.differs |= frame.len() > 1;
        self.report.ahead += difference.ahead;
        self.report.claimed += difference.lacking.len() as u64;
        let lacking = difference.lacking.into_iter();
        self.lacking
            .extend(lacking.filter(|id| !is_fetch_pending(id)));
        let findings = self.report.claimed + self.report.ahead;
        if next.is_some() && self.report.steps > MAX_STEPS + findings / FINDINGS_PER_STEP {
            return Err(Fault::NonTerminating);
        }
        self.frame = next;
        Ok(())
    }

    fn on_restart(&mut self, held: Held<'_>, since_ms: u64) -> Result<(), Fault> {
        if since_ms <= self.window.since_ms {
            return Err(Fault::Mismatched);
        }
        self.restarts += 1;
        // The neighbour's low watermark by age advances with its clock: exactly there, each next request would be too
        // early again. The more restarts, the more is left out, at last 2 minutes.
        let leeway_ms = RESTART_LEEWAY_MS * u64::from(self.restarts).pow(2);
        self.window.since_ms = since_ms.saturating_add(leeway_ms);
        // The rest of the differences is found again, without the batches that the neighbour has removed.
        self.report.claimed -= self.lacking.len() as u64;
        self.report.ahead = 0;
        self.lacking.clear();
        self.frame = Some(reconcile::opening(held, self.window));
        if self.restarts > MAX_RESTARTS || self.window.since_ms >= self.window.until_ms {
            self.winding_down = true;
        }
        Ok(())
    }

    fn on_batches(
        &mut self,
        ids: Vec<Id>,
        envelopes: &[Bytes],
        missing: &[Id],
        removed: &[Item],
    ) -> Result<(), Fault> {
        if envelopes.is_empty() && missing.is_empty() && removed.is_empty() {
            return Err(Fault::Withholding);
        }
        let mut open: HashSet<Id> = ids.iter().copied().collect();
        let mut bytes = 0;
        for envelope in envelopes {
            bytes += envelope.len();
            if !open.remove(&id_in_room(&self.room, envelope)) {
                return Err(Fault::Unsolicited);
            }
        }
        for id in missing.iter().chain(removed.iter().map(|item| &item.id)) {
            if !open.remove(id) {
                return Err(Fault::Unsolicited);
            }
        }
        // Progress: the deferrals are no longer consecutive.
        self.deferrals = 0;
        // The neighbour cannot provide them any more, so nothing is left to repair.
        self.report.claimed -= (removed.len() as u64).min(self.report.claimed);
        self.report.missing += missing.len() as u64;
        if self.report.missing > MAX_FALSE_CLAIMS {
            return Err(Fault::FalseClaim);
        }
        let answered = ids.len() - open.len();
        if !open.is_empty() {
            self.ids_per_fetch = answered.max(1);
        } else if bytes < MAX_RESPONSE / 2 {
            self.ids_per_fetch = (2 * self.ids_per_fetch).min(MAX_IDS);
        }
        for id in ids.into_iter().rev().filter(|id| open.contains(id)) {
            self.lacking.push_front(id);
        }
        Ok(())
    }

    fn on_retry_after(&mut self, now: Time, request: PendingRequest, after: Duration) {
        self.requeue(request);
        self.deferrals += 1;
        self.resume_at = Some(now + after);
        self.winding_down |= self.deferrals > MAX_DEFERRALS;
    }

    fn requeue(&mut self, request: PendingRequest) {
        match request {
            PendingRequest::Compare => self.comparing = false,
            PendingRequest::Fetch(ids) => {
                self.fetching -= 1;
                for id in ids.into_iter().rev() {
                    self.lacking.push_front(id);
                }
            }
            // A round does not send these.
            PendingRequest::FetchAnnounced(_) | PendingRequest::Announce(_) => {}
        }
    }
}
