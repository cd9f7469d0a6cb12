//! Responder: answers the requests of neighbours, within their quota.
//!
//! Entry points: [`AntiEntropy::on_request`], [`AntiEntropy::on_found`]. The rules it keeps: each request gets one
//! response, or its link is closed; large responses wait until the upload scheduler allows them.

use std::time::Duration;

use bytes::Bytes;

use super::announce::ANNOUNCE_ABOVE;
use super::event::{Output, RequestId};
use super::held::Held;
use super::message::{Request, Response};
use super::quota::{Answer, Refusal};
use super::state::AntiEntropy;
use super::sync_round::Fault;
use super::timing::{Moment, NOTIFY_INTERVAL, RETRY_DELAY};
use crate::clock::Time;
use crate::model::Found;

impl<P: Clone + Ord> AntiEntropy<P> {
    pub(super) fn on_request(
        &mut self,
        moment: Moment,
        peer: P,
        id: RequestId,
        bytes: Bytes,
        out: &mut Vec<Output<P>>,
    ) {
        let since_ms = self.oldest_ms(moment.unix.aging, Duration::ZERO);
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        let request = match Request::decode(bytes) {
            Ok(request) => request,
            Err(error) => return self.on_fault(moment.now, peer, error.into(), out),
        };
        let name = request.room().to_owned();
        let response = match self.rooms.get(&name) {
            None => Response::NotSubscribed,
            Some(room) if !room.is_loaded() => Response::RetryAfter(NOTIFY_INTERVAL),
            Some(room) => {
                let since_ms = since_ms.max(room.low_watermark_ms());
                let announced = match &request {
                    Request::Fetch { ids, .. } => neighbour.announcements.requested_announced(ids),
                    _ => None,
                };
                let deferral = announced.and_then(|(announced, bytes)| {
                    self.upload_scheduler
                        .deferral(moment.now, &peer, Some(&announced), bytes)
                });
                let answer = match deferral {
                    Some(after) => neighbour.quota.defer(moment.now, after),
                    None => neighbour.quota.answer(
                        moment.now,
                        Held::with(room.items(), neighbour.removed.of(&name)),
                        since_ms,
                        request,
                        announced.is_some(),
                    ),
                };
                match answer {
                    Ok(Answer::Now(response)) => response,
                    Ok(Answer::Compare) => {
                        neighbour.set_due(&name, moment.now, false);
                        Response::Ack(Vec::new())
                    }
                    Ok(Answer::Note(items)) => self.on_announce(moment, &peer, &name, &items, out),
                    Ok(Answer::Read(ids)) => {
                        let overdue_at = announced.map(|(announced, bytes)| {
                            let (now, peer) = (moment.now, peer.clone());
                            self.upload_scheduler
                                .begin(now, peer, id, Some(announced), bytes)
                        });
                        let overdue_at = overdue_at.unwrap_or(moment.now);
                        if neighbour
                            .announcements
                            .begin_upload(moment.now, id, &ids, overdue_at)
                        {
                            out.push(neighbour.announcements.outstanding(moment.now, &peer));
                        }
                        let most = super::FETCH_BYTES;
                        out.push(Output::Read {
                            peer,
                            request: id,
                            room: name,
                            ids,
                            most,
                        });
                        return;
                    }
                    Err(Refusal::Frame(error)) => {
                        return self.on_fault(moment.now, peer, error.into(), out);
                    }
                    Err(Refusal::Flood) => {
                        return self.on_fault(moment.now, peer, Fault::Flood, out);
                    }
                }
            }
        };
        out.push(Output::Respond(peer, id, response.encode()));
    }

    pub(super) fn on_found(
        &mut self,
        now: Time,
        peer: P,
        id: RequestId,
        found: Found,
        out: &mut Vec<Output<P>>,
    ) {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        let bytes = found.envelopes.iter().map(Bytes::len).sum();
        let is_announced = neighbour.announcements.is_uploading(id);
        let deferral = match bytes > ANNOUNCE_ABOVE {
            false => {
                // The response is not a large one after all.
                self.upload_scheduler.cancel(id);
                if neighbour.announcements.end_upload(now, id).is_some() {
                    out.push(neighbour.announcements.outstanding(now, &peer));
                }
                None
            }
            true if is_announced => None,
            true => self.upload_scheduler.deferral(now, &peer, None, bytes),
        };
        neighbour
            .quota
            .charge_fetch(now, found.looked_at, bytes, is_announced);
        if let Some(after) = deferral
            && neighbour.quota.defer(now, after).is_err()
        {
            return self.on_fault(now, peer, Fault::Flood, out);
        }
        let response = if found.looked_at == 0 {
            // The log could not be read.
            Response::RetryAfter(RETRY_DELAY)
        } else if let Some(after) = deferral {
            Response::RetryAfter(after)
        } else {
            if bytes > ANNOUNCE_ABOVE && !is_announced {
                self.upload_scheduler
                    .begin(now, peer.clone(), id, None, bytes);
            }
            Response::Batches {
                envelopes: found.envelopes,
                missing: found.missing,
                removed: found.removed,
            }
        };
        out.push(Output::Respond(peer, id, response.encode()));
    }
}
