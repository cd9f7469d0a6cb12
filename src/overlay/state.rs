//! The overlay's state machine: it takes inputs and appends the outputs that follow.
//!
//! Entry type: [`Overlay`]. The rules it keeps: at most `max_links` links, and one more only during a handover or while provisional; an old
//! link is closed only when both ends have confirmed the new one.
//!
//! Its parts: `admission` (places), `link_changes` (links that begin and end), `joins` (newcomers), `handover` (links that
//! move), `dialer` (dials and back-off), `upkeep` (shuffle, flip, anchor swap), `peer_store` (known peers).

use rand::{Rng, RngExt};

use super::address::{Address, NodeId};
use super::context::{Context, Core};
use super::dialer::Dialer;
use super::event::*;
use super::eviction::Eviction;
use super::handover::{HandoverSlot, Hint, Next};
use super::joins::JoinServer;
use super::link::Link;
use super::message::{Answer, Request, Response};
use super::options::{MAX_CONTACTS, Options};
use super::peer_store::{PeerStore, Saved};
use super::requests::Pending;
use super::upkeep::{Upkeep, on_shuffle};
use crate::clock::Time;

/// The overlay of one node. `I` names peers, `A` addresses.
#[derive(Clone, Debug)]
pub struct Overlay<I, A: Address, R> {
    pub(super) core: Core<I, A, R>,
    pub(super) slot: HandoverSlot<I, A>,
    pub(super) dialer: Dialer<I, A>,
    joins: JoinServer,
    upkeep: Upkeep<I>,
    pub(super) was_ever_linked: bool,
    pub(super) is_stopped: bool,
}

/// The outputs so far.
pub(super) type Out<I, A> = Vec<Output<I, A>>;

/// A context, and the parts beside the state that it lends out.
type Parts<'a, I, A, R> = (
    Context<'a, I, A, R>,
    &'a mut HandoverSlot<I, A>,
    &'a mut Dialer<I, A>,
);

impl<I: NodeId, A: Address, R: Rng> Overlay<I, A, R> {
    /// Returns the overlay of the node `me`, with the peers that an earlier run has kept.
    pub fn new(now: Time, me: I, options: Options, mut rng: R, saved: Vec<Saved<I, A>>) -> Self {
        let mut peers = PeerStore::new();
        let others = saved.into_iter().filter(|saved| saved.id != me);
        peers.load(&options, others.collect());
        let first_round = options.round.mul_f64(rng.random_range(0.5..1.5));
        Overlay {
            slot: HandoverSlot::new(),
            dialer: Dialer::new(now, &options),
            joins: JoinServer::new(),
            upkeep: Upkeep::new(now + first_round),
            core: Core::new(now, me, options, rng, peers),
            was_ever_linked: false,
            is_stopped: false,
        }
    }

    /// Returns the links, the oldest first.
    pub fn links(&self) -> &[Link<I, A>] {
        self.core.links.all()
    }

    /// Returns whether the node takes part in a handover, or awaits the Join on a provisional link beyond its limit.
    pub fn is_in_handover(&self) -> bool {
        !self.slot.is_free()
    }

    /// Returns the verified peers, to be kept and given to [`Overlay::new`] after a restart.
    pub fn saved_peers(&self) -> Vec<Saved<I, A>> {
        self.core.peers.saved()
    }

    /// Returns the time at which [`Input::Tick`] is due at the latest.
    pub fn deadline(&self) -> Option<Time> {
        let links = &self.core.links;
        let is_running = !self.is_stopped;
        let own_work = is_running.then(|| self.upkeep.deadline());
        let next_dial = self.dialer.next_dial(&self.core, self.slot.is_free());
        [
            self.slot.deadline(),
            links.next_expiry(),
            links.next_grant(self.core.options.granted_after),
            self.dialer.next_timeout(),
            own_work,
            next_dial.filter(|_| is_running),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Handles one input and appends the outputs that follow.
    pub fn handle(&mut self, now: Time, input: Input<I, A>, out: &mut Out<I, A>) {
        match input {
            Input::LinkUp {
                peer,
                direction,
                remote,
                dial,
            } => self.on_link_up(now, peer, direction, remote, dial, out),
            Input::LinkDown { peer } => self.on_link_down(now, peer, out),
            Input::DialFailed { dial, error } => self.on_dial_failed(now, dial, error, out),
            Input::Request { from, id, request } => self.on_request(now, from, id, request, out),
            Input::Response { from, id, result } => self.on_response(now, from, id, result, out),
            Input::NewBatch { peer } => self.on_new_batch(now, peer),
            Input::Referred { remote, contacts } => {
                let (mut cx, _, dialer) = self.split(now, out);
                dialer.on_referrals(&mut cx, remote.reach, contacts);
            }
            Input::Tick => {}
            Input::Entries(entries) => self.dialer.set_entries(now, entries),
            Input::Addresses {
                addresses,
                dialable,
            } => self.core.set_listens(addresses, dialable),
            Input::Shutdown => self.on_shutdown(now, out),
        }
        self.after_input(now, out);
    }

    /// Runs expired timers and restores invariants; called after every input.
    fn after_input(&mut self, now: Time, out: &mut Out<I, A>) {
        self.core.links.release_expired(now);
        while let Some(dial) = self.dialer.timed_out(now) {
            self.on_dial_failed(now, dial, DialError::Failed, out);
        }
        if self.slot.deadline().is_some_and(|at| at <= now) {
            let (mut cx, slot, _) = self.split(now, out);
            let next = slot.on_timeout(&mut cx);
            self.follow(now, next, out);
        }
        let timeout = self.core.options.granted_after;
        self.core.links.grant_overdue(now, timeout);
        self.finish_replacing(now, out);
        self.enforce_max_links(now, out);
        if !self.is_stopped {
            self.run_own_work(now, out);
        }
        if self.core.peers.take_changed() {
            out.push(Output::Persist);
        }
    }

    /// Runs upkeep, and dials if there are too few links.
    fn run_own_work(&mut self, now: Time, out: &mut Out<I, A>) {
        let mut cx = Context {
            now,
            core: &mut self.core,
            out,
        };
        self.upkeep.run(&mut cx, &mut self.slot, &mut self.dialer);
        self.dialer.run(&mut cx, self.slot.is_free());
    }

    /// Lends out the shared state for one step, together with the slot and the dialer.
    pub(super) fn split<'a>(&'a mut self, now: Time, out: &'a mut Out<I, A>) -> Parts<'a, I, A, R> {
        let core = &mut self.core;
        let cx = Context { now, core, out };
        (cx, &mut self.slot, &mut self.dialer)
    }

    pub(super) fn eviction(&self, now: Time) -> Eviction<'_, I, A> {
        Eviction::new(now, &self.core.options, &self.core.links)
    }

    /// Takes the step that follows one inside a handover.
    pub(super) fn follow(&mut self, now: Time, next: Next<I, A>, out: &mut Out<I, A>) {
        let (mut cx, _, dialer) = self.split(now, out);
        match next {
            Next::Nothing => {}
            Next::DialAnchor => dialer.dial_anchor(&mut cx),
            Next::DialHint {
                from,
                to,
                addresses,
            } => {
                let at = Target::Addresses(addresses);
                dialer.dial(&mut cx, Some(to), at, Purpose::Hint(from));
            }
            Next::ReturnLink(peer) => self.upkeep.owe_link(now, peer),
        }
    }

    /// Handles a failed dial: one that followed a hint ends its handover, any other counts for the back-off.
    fn on_dial_failed(
        &mut self,
        now: Time,
        dial: DialId,
        error: DialError<I, A>,
        out: &mut Out<I, A>,
    ) {
        let (mut cx, slot, dialer) = self.split(now, out);
        let Some(dial) = dialer.remove(dial) else {
            return;
        };
        match (dial.purpose, dial.peer) {
            (Purpose::Hint(_), Some(to)) => slot.on_hint_dial_failed(&mut cx, to, &error),
            _ => dialer.on_failed(&mut cx, &dial, error),
        }
    }

    /// Handles a batch of a peer's that was new here.
    fn on_new_batch(&mut self, now: Time, peer: I) {
        if let Some(link) = self.core.links.get_mut(peer) {
            link.activity_mut().record_use(now);
        }
    }

    /// Handles a peer's request: the response is the first output, and those that follow from the request are after it.
    fn on_request(
        &mut self,
        now: Time,
        from: I,
        id: ExchangeId,
        request: Request<I, A>,
        out: &mut Out<I, A>,
    ) {
        let mut after = Vec::new();
        let response = match self.core.links.get_mut(from) {
            Some(link) => {
                link.activity_mut().record_request(now, &request);
                self.respond(now, from, request, &mut after)
            }
            None => refuse_unlinked(from, request, out),
        };
        out.push(Output::Respond {
            to: from,
            id,
            response,
        });
        out.append(&mut after);
    }

    /// Dispatches the request of a linked peer.
    fn respond(
        &mut self,
        now: Time,
        from: I,
        request: Request<I, A>,
        out: &mut Out<I, A>,
    ) -> Response<I, A> {
        let mut cx = Context {
            now,
            core: &mut self.core,
            out,
        };
        let (slot, limiter) = (&mut self.slot, self.dialer.limiter_mut());
        let done = Response::Done { ok: true };
        let (response, next) = match request {
            Request::Shuffle { offered } => (on_shuffle(&mut cx, from, offered), Next::Nothing),
            Request::Join { terms, need } => self.joins.on_join(&mut cx, slot, from, terms, need),
            Request::Redirect { nonce, role, to } => {
                let hint = Hint {
                    from,
                    nonce,
                    role,
                    to,
                };
                slot.on_redirect(&mut cx, limiter, hint)
            }
            Request::Attach { nonce } => slot.on_attach(&mut cx, from, nonce),
            Request::Report { nonce, linked } => {
                (done, slot.on_report(&mut cx, from, nonce, linked))
            }
            Request::Cancel {
                nonce,
                keep,
                contacts,
            } => {
                cx.core.learn_from_link(from, contacts, MAX_CONTACTS);
                slot.on_cancel(&mut cx, from, nonce);
                self.on_verdict(now, from, keep, out);
                return done;
            }
            Request::ProposeHandover { pair } => {
                (slot.on_propose_handover(&mut cx, from, pair), Next::Nothing)
            }
            Request::DropRedundantLink { links } => (
                slot.on_drop_redundant_link(&mut cx, from, &links),
                Next::Nothing,
            ),
            Request::Leave { contacts } => {
                self.on_leave(from, contacts);
                return done;
            }
        };
        self.follow(now, next, out);
        response
    }

    /// Handles the verdict of a Cancel on a link through which this node has joined. Only a link that was not granted yet can be
    /// revoked.
    fn on_verdict(&mut self, now: Time, from: I, keep: bool, out: &mut Out<I, A>) {
        let link = self.core.links.get(from);
        if keep {
            self.core.links.grant(from);
        } else if link.is_some_and(Link::is_revocable) {
            self.on_refused(now, from, out);
        }
    }

    /// Closes a link through which this node has joined, because its peer has no room.
    fn on_refused(&mut self, now: Time, from: I, out: &mut Out<I, A>) {
        let (mut cx, _, dialer) = self.split(now, out);
        dialer.on_refused(&mut cx, from);
        cx.close(from, Reason::Refused);
    }

    /// Dispatches the response to a request of this node's.
    fn on_response(
        &mut self,
        now: Time,
        from: I,
        id: ExchangeId,
        result: Result<Response<I, A>, ExchangeError>,
        out: &mut Out<I, A>,
    ) {
        let Some(pending) = self.core.requests.take(from, id) else {
            return;
        };
        if let Some(link) = self.core.links.get_mut(from) {
            link.activity_mut().record_response(now, &result);
            if result == Err(ExchangeError::Unsupported) {
                link.mark_plain();
            }
        }
        let is_agreed = result == Ok(Response::Done { ok: true });
        let (mut cx, slot, _) = self.split(now, out);
        let next = match pending {
            Pending::Shuffle => {
                if let Ok(Response::Contacts(contacts)) = result {
                    cx.core.learn_from_link(from, contacts, MAX_CONTACTS);
                }
                Next::Nothing
            }
            Pending::Join => return self.on_joined(now, from, result, out),
            Pending::ProposeHandover => {
                let terms = match result {
                    Ok(Response::HandoverReply(terms)) => terms,
                    _ => None,
                };
                slot.on_handover_reply(&mut cx, from, terms)
            }
            Pending::Redirect(nonce) => {
                let agreed = match result {
                    Ok(Response::Redirected { refusal, addresses }) => {
                        refusal.is_none().then_some(addresses)
                    }
                    _ => None,
                };
                slot.on_redirected(&mut cx, from, nonce, agreed)
            }
            Pending::Attach(nonce) => slot.on_attached(&mut cx, from, nonce, is_agreed),
            Pending::DropRedundantLink => slot.on_drop_reply(&mut cx, from, is_agreed),
            Pending::Notify => Next::Nothing,
        };
        self.follow(now, next, out);
    }

    /// Handles the answer to this node's Join.
    fn on_joined(
        &mut self,
        now: Time,
        from: I,
        result: Result<Response<I, A>, ExchangeError>,
        out: &mut Out<I, A>,
    ) {
        let answer = match result {
            Ok(Response::Joined { answer, contacts }) => {
                self.core.learn_from_link(from, contacts, MAX_CONTACTS);
                answer
            }
            // The peer does not speak the overlay, and has room if it has admitted this node.
            Err(ExchangeError::Unsupported) => Answer::Accepted,
            _ => Answer::Refused,
        };
        match answer {
            Answer::Split | Answer::Pending => {}
            Answer::Accepted => {
                self.slot.end_receiving(from);
                self.core.links.grant(from);
            }
            Answer::Refused => {
                self.slot.end_receiving(from);
                self.on_refused(now, from, out);
            }
        }
    }
}

/// Refuses the request of a peer without a link, and reports its redirect hint; no other request can pass the gate.
fn refuse_unlinked<I: NodeId, A: Address>(
    from: I,
    request: Request<I, A>,
    out: &mut Out<I, A>,
) -> Response<I, A> {
    if let Request::Redirect { to, .. } = request {
        out.push(Output::Report(Report::Hint {
            from,
            to: to.id,
            address: None,
            outcome: HintOutcome::NotALink,
        }));
    }
    Response::Done { ok: false }
}
