//! One comparison with one neighbour, from our side: find out what we lack, fetch it.
//!
//! Entry type: [`SyncRound`]. The rules it keeps: a neighbour is held to what it claims; a comparison
//! takes a bounded number of steps, of ids and of bytes at a time.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::held::Held;
use super::message::{MAX_IDS, MAX_REQUEST_FRAME, MAX_RESPONSE, Malformed, Request, Response};
use super::reconcile::{self, BadFrame, Difference, Window};
use crate::clock::Time;
use crate::model::{Id, Item};
use crate::wire::envelope::id_in_room;

/// Fetches under way at once: while one is verified and stored, the next travels.
const MAX_CONCURRENT_FETCHES: usize = 2;

/// Fetched answers that may wait to be stored: with those under way some 5 MiB.
const MAX_UNSETTLED: usize = 2;

/// Ids that are known to be lacking past which the comparison itself waits.
const MAX_LACKING: usize = 16_384;

/// Steps of a comparison beyond those that its findings account for. Honest ones need the depth of
/// a tree of 16 branches, and some more for each frame that was too small.
const MAX_STEPS: u64 = 256;

/// Findings that account for one step more: an eighth of the ids of a full frame.
const FINDINGS_PER_STEP: u64 = 256;

/// Ids that a neighbour may have claimed and then not hold: it may remove its oldest meanwhile,
/// 256 at a time, while as many as two fetches hold are on their way.
pub(super) const MAX_FALSE_CLAIMS: u64 = 4096;

/// How often a neighbour may put off one comparison, in a row, before it is left for another time.
const MAX_DEFERRALS: u32 = 20;

/// How often its beginning may move.
const MAX_RESTARTS: u32 = 8;

/// How much later than the beginning that a neighbour has named a comparison begins anew, in milliseconds:
/// times the square of how often it has done so.
const RESTART_LEEWAY_MS: u64 = 1_875;

/// A neighbour's violation: it is dropped for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A message that is none.
    #[error("it sent what is no message of data checking: {0}")]
    Malformed(#[from] Malformed),
    /// A frame that is none.
    #[error("it sent what is no reconciliation frame: {0}")]
    Frame(#[from] BadFrame),
    /// An answer of another kind than the question.
    #[error("its answer does not belong to the question")]
    Mismatched,
    /// A batch that was not asked for.
    #[error("it sent a batch that was not asked for")]
    Unsolicited,
    /// Neither the batches it claims to hold nor word that it does not.
    #[error("it holds back batches that it claims to have")]
    Withholding,
    /// Too many ids claimed that it does not hold.
    #[error("it claims batches that it does not hold")]
    FalseClaim,
    /// A batch that did not verify.
    #[error("it keeps batches that are not genuine")]
    Forged,
    /// A comparison without end.
    #[error("comparing with it does not come to an end")]
    NonTerminating,
    /// Too many requests.
    #[error("it keeps asking although it was told to wait")]
    Flood,
    /// No answers.
    #[error("it does not answer data checking")]
    Unresponsive,
}

/// What was asked, so that the answer can be held against it.
#[derive(Debug)]
pub(super) enum PendingRequest {
    Compare,
    Fetch(Vec<Id>),
    /// A large batch that the neighbour has offered.
    FetchAnnounced(Id),
    /// That it takes note of an offer of these.
    Announce(Vec<Id>),
}

/// What an answer has of the batches that were asked for.
#[derive(Debug, Default)]
pub(super) struct FetchedBatches {
    pub(super) envelopes: Vec<Bytes>,
    /// Those that made room with the neighbour.
    pub(super) removed: Vec<Item>,
}

/// How a comparison went so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Whether anything differed.
    pub(super) differs: bool,
    /// Whether it was ended early.
    pub(super) unfinished: bool,
    /// Batches stored that were not held.
    pub(super) repaired: u64,
    /// Batches that the neighbour lacked.
    pub(super) ahead: u64,
    /// Ids of batches that it claims to hold and we did not.
    pub(super) claimed: u64,
    /// Ids that it claimed and did not hold.
    pub(super) missing: u64,
    /// Requests and responses, in bytes, with their lengths.
    pub(super) bytes: u64,
    /// Steps of the comparison, fetches apart.
    pub(super) steps: u64,
}

/// A comparison under way.
#[derive(Debug)]
pub(super) struct SyncRound {
    pub(super) room: String,
    pub(super) window: Window,
    pub(super) started: Time,
    /// When it goes on, after the neighbour put it off.
    pub(super) resume_at: Option<Time>,
    pub(super) report: Report,
    /// The frame to send next, or to send again.
    frame: Option<Vec<u8>>,
    comparing: bool,
    lacking: VecDeque<Id>,
    fetching: usize,
    unsettled: usize,
    /// Ids to ask for in one fetch, so that the answer just fits.
    ids_per_fetch: usize,
    deferrals: u32,
    restarts: u32,
    /// Whether it asks for nothing more.
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

    /// The next request, when one is to be sent now. Batches that come by another way are left out.
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
        // Each id is looked at once: all of them with each answer would be many for a few bytes.
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

    /// Takes an answer; returns what is in it of the batches that were asked for. Those that come by another way are
    /// left out.
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

    /// What was fetched has been dealt with.
    pub(super) fn on_settled(&mut self, stored: u64) {
        self.unsettled = self.unsettled.saturating_sub(1);
        self.report.repaired += stored;
    }

    /// Asks for nothing more; what is under way is still taken.
    pub(super) fn wind_down(&mut self) {
        self.winding_down = true;
        self.report.unfinished |= self.frame.is_some() || !self.lacking.is_empty();
        self.frame = None;
        self.lacking.clear();
        self.resume_at = None;
    }

    /// Whether it was told to end.
    pub(super) fn is_winding_down(&self) -> bool {
        self.winding_down
    }

    /// Whether nothing is left to ask, to hear or to store.
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
        // A beginning by age moves on with the neighbour's clock: exactly there each next question would
        // be too early again. More is left out the more often that happens, 2 minutes in the end.
        let leeway_ms = RESTART_LEEWAY_MS * u64::from(self.restarts).pow(2);
        self.window.since_ms = since_ms.saturating_add(leeway_ms);
        // What is left of the differences is found again, without what the neighbour has removed.
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
        // It goes on.
        self.deferrals = 0;
        // It holds them as far as it can: nothing is left to repair.
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
            // Not an round's.
            PendingRequest::FetchAnnounced(_) | PendingRequest::Announce(_) => {}
        }
    }
}
