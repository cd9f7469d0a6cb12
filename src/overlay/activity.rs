//! Whether a link is of use: the batches, contacts and answers that its peer brings.
//!
//! Entry type: [`Activity`]. The rule it keeps: a request for a place (Join, Attach) shows nothing; a new batch, contacts, or
//! a part in a handover does.

use std::time::Duration;

use super::event::ExchangeError;
use super::message::{Answer, Request, Response};
use super::options::Options;
use crate::clock::Time;

/// Record of a link's usefulness.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    since: Time,
    /// Time of the last batch that was new here, of contacts, or of a part in a handover.
    last_use: Option<Time>,
    /// The peer has answered a request, or sent one that asks for more than a place.
    has_spoken: bool,
    /// The last request to the peer got no answer in time.
    is_unresponsive: bool,
    /// The peer was probed once, because it had not spoken yet.
    is_probed: bool,
}

impl Activity {
    pub(super) fn new(now: Time) -> Activity {
        Activity {
            since: now,
            last_use: None,
            has_spoken: false,
            is_unresponsive: false,
            is_probed: false,
        }
    }

    /// Records that the peer has brought a new batch, contacts, or its part in a handover.
    pub(super) fn record_use(&mut self, now: Time) {
        self.last_use = Some(now);
        (self.has_spoken, self.is_unresponsive) = (true, false);
    }

    /// Records a request of the peer's. An empty offer of contacts is of no use.
    pub(super) fn record_request<I, A>(&mut self, now: Time, request: &Request<I, A>) {
        self.is_unresponsive = false;
        self.has_spoken |= !matches!(request, Request::Join { .. } | Request::Attach { .. });
        let is_useful = match request {
            Request::Shuffle { offered } => !offered.is_empty(),
            Request::Report { linked, .. } => *linked,
            _ => false,
        };
        if is_useful {
            self.record_use(now);
        }
    }

    /// Records the answer to a request of this node's, or that there was none.
    pub(super) fn record_response<I, A>(
        &mut self,
        now: Time,
        result: &Result<Response<I, A>, ExchangeError>,
    ) {
        self.is_unresponsive = matches!(result, Err(ExchangeError::Lost));
        self.has_spoken |= result.is_ok();
        let is_useful = match result {
            Ok(Response::Contacts(contacts)) => !contacts.is_empty(),
            Ok(Response::Redirected { refusal, .. }) => refusal.is_none(),
            Ok(Response::HandoverReply(terms)) => terms.is_some(),
            Ok(Response::Done { ok }) => *ok,
            Ok(Response::Joined { answer, .. }) => *answer != Answer::Refused,
            Err(_) => false,
        };
        if is_useful {
            self.record_use(now);
        }
    }

    /// Records that the peer let the timeout of a handover's answer pass.
    pub(super) fn record_timeout(&mut self) {
        self.is_unresponsive = true;
    }

    /// Returns whether the link has ever been of use.
    pub(super) fn was_useful(&self) -> bool {
        self.last_use.is_some()
    }

    /// Returns the time of the last use, or else of the link's beginning.
    pub(super) fn last_use(&self) -> Time {
        self.last_use.unwrap_or(self.since)
    }

    /// Returns whether the link has been of no use for too long: `idle_after`, or `first_after` when the peer has not even
    /// answered.
    pub(super) fn is_idle(&self, now: Time, options: &Options) -> bool {
        let after = match self.has_spoken {
            true => options.idle_after,
            false => options.first_after,
        };
        now.since(self.last_use()) >= after
    }

    /// Returns whether the peer answers: it left no request unanswered, and has spoken if it had time to.
    pub(super) fn is_responsive(&self, now: Time, options: &Options) -> bool {
        let is_mute = !self.has_spoken && now.since(self.since) >= options.first_after;
        !self.is_unresponsive && !is_mute
    }

    /// Marks a silent peer as probed, once, when the link is `after` old. Returns whether a probe is due.
    pub(super) fn try_probe(&mut self, now: Time, after: Duration) -> bool {
        let is_due = !self.is_probed && !self.has_spoken && now.since(self.since) >= after;
        self.is_probed |= is_due;
        is_due
    }
}
