//! What neighbours ask, and what they get.
//!
//! Entry points: [`Checks::on_request`], [`Checks::on_found`]. The rules it keeps: every request has one answer,
//! or costs the link; what is large sets out when the line has room for it.

use std::time::Duration;

use bytes::Bytes;

use super::announce::OFFER_ABOVE;
use super::event::{Output, RequestId};
use super::held::Held;
use super::message::{Request, Response};
use super::quota::{Answer, Refusal};
use super::scheduler::TELL_EVERY;
use super::state::{Checks, Moment, RETRY};
use super::sync_round::Fault;
use crate::clock::Time;
use crate::model::Found;

impl<P: Clone + Ord> Checks<P> {
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
            Some(room) if !room.is_loaded() => Response::RetryAfter(TELL_EVERY),
            Some(room) => {
                let since_ms = since_ms.max(room.low_watermark_ms());
                let offered = match &request {
                    Request::Fetch { ids, .. } => neighbour.offers.asks_for(ids),
                    _ => None,
                };
                let put_off = offered.and_then(|(offered, bytes)| {
                    self.pace.puts_off(moment.now, &peer, Some(&offered), bytes)
                });
                let answer = match put_off {
                    Some(after) => neighbour.allowance.put_off(moment.now, after),
                    None => neighbour.allowance.answer(
                        moment.now,
                        Held::with(room.items(), neighbour.removed.of(&name)),
                        since_ms,
                        request,
                        offered.is_some(),
                    ),
                };
                match answer {
                    Ok(Answer::Now(response)) => response,
                    Ok(Answer::Compare) => {
                        neighbour.set_due(&name, moment.now, false);
                        Response::Ack(Vec::new())
                    }
                    Ok(Answer::Note(items)) => self.on_offer(moment, &peer, &name, &items, out),
                    Ok(Answer::Read(ids)) => {
                        let overdue_at = offered.map(|(offered, bytes)| {
                            let (now, peer) = (moment.now, peer.clone());
                            self.pace.set_out(now, peer, id, Some(offered), bytes)
                        });
                        let overdue_at = overdue_at.unwrap_or(moment.now);
                        if neighbour.offers.take_up(moment.now, id, &ids, overdue_at) {
                            out.push(neighbour.offers.outstanding(moment.now, &peer));
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
        let is_offered = neighbour.offers.is_serving(id);
        let put_off = match bytes > OFFER_ABOVE {
            false => {
                // Nothing of it is on its way, whatever was expected.
                self.pace.take_back(id);
                if neighbour.offers.is_served(now, id).is_some() {
                    out.push(neighbour.offers.outstanding(now, &peer));
                }
                None
            }
            true if is_offered => None,
            true => self.pace.puts_off(now, &peer, None, bytes),
        };
        neighbour
            .allowance
            .fetched(now, found.looked_at, bytes, is_offered);
        if let Some(after) = put_off
            && neighbour.allowance.put_off(now, after).is_err()
        {
            return self.on_fault(now, peer, Fault::Flood, out);
        }
        let response = if found.looked_at == 0 {
            // The log could not be read.
            Response::RetryAfter(RETRY)
        } else if let Some(after) = put_off {
            Response::RetryAfter(after)
        } else {
            if bytes > OFFER_ABOVE && !is_offered {
                self.pace.set_out(now, peer.clone(), id, None, bytes);
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
