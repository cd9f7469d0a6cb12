//! The overlay's state machine: facts in, consequences out.
//!
//! Entry type: [`Overlay`]. The rules it keeps: at most `max_links` links, and one more only while
//! a handover runs; an old link is dropped only when the new one is confirmed by both its ends.
//!
//! Its parts: `admission` (who gets a place), `links` (their coming and going), `join` (newcomers), `give` (the side that moves a link), `handover` (the two that get
//! linked), `seek` (dials and back-off), `upkeep` (shuffle, flip, anchor swap), `budget` (what others can make us dial) and `book`.

use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, RngExt};

use super::address::{Address, in_scope};
use super::book::{Book, Saved};
use super::budget::DialBudget;
use super::event::*;
use super::link::{Link, Lock};
use super::message::{Request, Response};
use super::options::*;
use super::scope::Reach;
use crate::clock::Time;

/// The overlay of one node. `I` names peers, `A` addresses.
#[derive(Clone, Debug)]
pub struct Overlay<I, A: Address, R> {
    pub(super) me: I,
    pub(super) options: Options,
    pub(super) rng: R,
    /// HyParView's active view.
    pub(super) links: Vec<Link<I, A>>,
    /// Places held for peers that have proved their key, until when.
    pub(super) reserved: Vec<(I, Time)>,
    /// Links we have closed whose end has not been told yet.
    pub(super) closing: Vec<(I, Reason)>,
    pub(super) lock: Option<Lock<I, A>>,
    pub(super) dials: Vec<Dialling<I>>,
    pub(super) exchanges: Vec<(ExchangeId, I, Sent)>,
    pub(super) book: Book<I, A>,
    pub(super) entries: Vec<EntryNode<I>>,
    pub(super) budget: DialBudget<A>,
    pub(super) listens: Arc<[A]>,
    pub(super) dialable: bool,
    pub(super) seek_at: Time,
    pub(super) failures: u32,
    pub(super) upkeep_at: Time,
    /// A link that we owe for a flip, and when to give it.
    pub(super) owed: Option<(I, Time)>,
    /// When a newcomer was last refused for want of room.
    pub(super) turned_away: Option<Time>,
    /// Networks whose newcomers were refused for want of room, and when, the last one first.
    pub(super) waiting: Vec<(A::Host, Time)>,
    /// Networks whose newcomers wasted a visit, and when, the last one first.
    pub(super) wasted: Vec<(A::Host, Time)>,
    /// When a move of upkeep was last allowed.
    pub(super) moved: Time,
    /// When a link of ours last moved to another peer, or the node began.
    pub(super) handed_over: Time,
    /// The last handover that gave us a link, and with whom.
    pub(super) taken: Option<(u64, I)>,
    /// Nonces of joins that we have served.
    pub(super) nonces: Vec<u64>,
    /// Peers whose handovers failed, until when they get no other.
    pub(super) penalties: Vec<(I, Time)>,
    pub(super) ever_linked: bool,
    pub(super) stopped: bool,
    next_id: u64,
}

/// A dial in flight.
#[derive(Clone, Debug)]
pub(super) struct Dialling<I> {
    pub(super) id: DialId,
    pub(super) peer: Option<I>,
    pub(super) purpose: Purpose<I>,
    /// Which of the configured entry nodes, if it is one.
    pub(super) entry: Option<usize>,
    pub(super) started: Time,
    pub(super) deadline: Time,
}

/// A configured entry node.
#[derive(Clone, Debug)]
pub(super) struct EntryNode<I> {
    pub(super) id: Option<I>,
    /// Who has answered there.
    pub(super) seen: Option<I>,
    pub(super) failures: u32,
    pub(super) retry_at: Time,
}

/// What an exchange was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Shuffle,
    Join,
    ProposeHandover,
    Redirect(u64),
    Attach(u64),
    DropRedundantLink,
    Word,
}

type Out<I, A> = Vec<Output<I, A>>;

impl<I, A, R> Overlay<I, A, R>
where
    I: Copy + Ord + std::hash::Hash + std::fmt::Debug,
    A: Address,
    R: Rng,
{
    /// The overlay of the node `me`, with what an earlier run has kept of the address book.
    pub fn new(now: Time, me: I, options: Options, mut rng: R, saved: Vec<Saved<I, A>>) -> Self {
        let mut book = Book::new();
        book.load(
            &options,
            saved.into_iter().filter(|saved| saved.id != me).collect(),
        );
        let first = options.round.mul_f64(rng.random_range(0.5..1.5));
        Overlay {
            me,
            budget: DialBudget::new(&options),
            options,
            rng,
            links: Vec::new(),
            reserved: Vec::new(),
            closing: Vec::new(),
            lock: None,
            dials: Vec::new(),
            exchanges: Vec::new(),
            book,
            entries: Vec::new(),
            listens: Arc::new([]),
            dialable: false,
            seek_at: now,
            failures: 0,
            upkeep_at: now + first,
            owed: None,
            turned_away: None,
            waiting: Vec::new(),
            wasted: Vec::new(),
            moved: now,
            handed_over: now,
            taken: None,
            nonces: Vec::new(),
            penalties: Vec::new(),
            ever_linked: false,
            stopped: false,
            next_id: 0,
        }
    }

    /// The links, oldest first.
    pub fn links(&self) -> &[Link<I, A>] {
        &self.links
    }

    /// Whether a handover runs, or a visitor has yet to say what it wants.
    pub fn locked(&self) -> bool {
        self.lock.is_some()
    }

    /// The address book, to be kept and given to [`Overlay::new`] after a restart.
    pub fn book(&self) -> Vec<Saved<I, A>> {
        self.book.saved()
    }

    /// When to call again with [`Input::Tick`] at the latest.
    pub fn deadline(&self) -> Option<Time> {
        let lock = self.lock.as_ref().map(Lock::deadline);
        let reserved = self.reserved.iter().map(|(_, until)| *until);
        let dials = self.dials.iter().map(|dial| dial.deadline);
        let granted = self.links.iter().filter(|link| link.joined_through);
        let granted = granted.map(|link| link.since + self.options.granted_after);
        let work = if self.stopped {
            [None; 3]
        } else {
            [
                Some(self.upkeep_at),
                self.owed.map(|(_, at)| at),
                self.seek_deadline(),
            ]
        };
        lock.into_iter()
            .chain(reserved)
            .chain(dials)
            .chain(granted)
            .chain(work.into_iter().flatten())
            .min()
    }

    /// Takes one fact and appends its consequences.
    pub fn handle(&mut self, now: Time, input: Input<I, A>, out: &mut Out<I, A>) {
        match input {
            Input::LinkUp {
                peer,
                direction,
                remote,
                dial,
            } => {
                self.on_link_up(now, peer, direction, remote, dial, out);
            }
            Input::LinkDown { peer } => self.on_link_down(now, peer, out),
            Input::DialFailed { dial, error } => self.on_dial_failed(now, dial, error, out),
            Input::Request { from, id, request } => self.on_request(now, from, id, request, out),
            Input::Response { from, id, result } => self.on_response(now, from, id, result, out),
            Input::Brought { peer } => self.on_brought(now, peer),
            Input::Referred { remote, contacts } => self.on_referred(now, &remote, contacts),
            Input::Tick => {}
            Input::Entries(entries) => self.on_entries(now, entries),
            Input::Addresses {
                addresses,
                dialable,
            } => {
                self.listens = addresses.into_iter().take(MAX_LISTENS).collect();
                self.dialable = dialable && !self.listens.is_empty();
            }
            Input::Shutdown => self.on_shutdown(out),
        }
        self.turn(now, out);
    }

    /// What time brings, and what must hold after every fact.
    fn turn(&mut self, now: Time, out: &mut Out<I, A>) {
        self.reserved.retain(|(_, until)| *until > now);
        while let Some(dial) = self
            .dials
            .iter()
            .find(|dial| dial.deadline <= now)
            .map(|d| d.id)
        {
            self.on_dial_failed(now, dial, DialError::Failed, out);
        }
        if self
            .lock
            .as_ref()
            .is_some_and(|lock| lock.deadline() <= now)
        {
            self.on_lock_timeout(now, out);
        }
        self.take_for_granted(now);
        self.finish_replacing(now, out);
        self.shed(out);
        if !self.stopped {
            self.upkeep(now, out);
            self.seek(now, out);
        }
        if self.book.take_changed() {
            out.push(Output::Persist);
        }
    }

    fn on_request(
        &mut self,
        now: Time,
        from: I,
        id: ExchangeId,
        request: Request<I, A>,
        out: &mut Out<I, A>,
    ) {
        if !self.linked(from) {
            // A hint of nobody's link: nothing is done, and the rest cannot happen behind the gate.
            if let Request::Redirect { to, .. } = request {
                let outcome = HintOutcome::NotALink;
                out.push(Output::Report(Report::Hint {
                    from,
                    to: to.id,
                    address: None,
                    outcome,
                }));
            }
            out.push(Output::Respond {
                to: from,
                id,
                response: Response::Done { ok: false },
            });
            return;
        }
        self.note_request(now, from, &request);
        // What an answer leads to follows the answer.
        let mut after = Vec::new();
        let response = match request {
            Request::Shuffle { offered } => self.on_shuffle(now, from, offered),
            Request::Join { terms, need } => self.on_join(now, from, terms, need, &mut after),
            Request::Redirect { nonce, role, to } => {
                self.on_redirect(now, from, nonce, role, to, &mut after)
            }
            Request::Attach { nonce } => self.on_attach(now, from, nonce, &mut after),
            Request::Report { nonce, linked } => {
                self.on_report(now, from, nonce, linked, &mut after)
            }
            Request::Cancel {
                nonce,
                keep,
                contacts,
            } => self.on_cancel(now, from, nonce, keep, contacts, &mut after),
            Request::ProposeHandover { pair } => self.on_take(now, from, pair),
            Request::DropRedundantLink { links } => self.on_thin(now, from, &links),
            Request::Leave { contacts } => self.on_leave(from, contacts),
        };
        out.push(Output::Respond {
            to: from,
            id,
            response,
        });
        out.append(&mut after);
    }

    fn on_response(
        &mut self,
        now: Time,
        from: I,
        id: ExchangeId,
        result: Result<Response<I, A>, ExchangeError>,
        out: &mut Out<I, A>,
    ) {
        let ours = |(known, to, _): &(ExchangeId, I, Sent)| *known == id && *to == from;
        let Some(at) = self.exchanges.iter().position(ours) else {
            return;
        };
        let (_, _, sent) = self.exchanges.swap_remove(at);
        self.note_response(now, from, &result);
        if result == Err(ExchangeError::Unsupported)
            && let Some(link) = self.link_mut(from)
        {
            link.plain = true;
        }
        match (sent, result) {
            (Sent::Shuffle, Ok(Response::Contacts(contacts))) => {
                self.learn(from, contacts, MAX_CONTACTS)
            }
            (Sent::Join, result) => self.on_joined(now, from, result, out),
            (Sent::ProposeHandover, Ok(Response::HandoverReply(terms))) => {
                self.on_taken(now, from, terms, out)
            }
            (Sent::ProposeHandover, _) => self.on_taken(now, from, None, out),
            (Sent::Redirect(nonce), Ok(Response::Redirected { refusal, addresses })) => {
                self.on_redirected(
                    now,
                    from,
                    nonce,
                    refusal.is_none().then_some(addresses),
                    out,
                );
            }
            (Sent::Redirect(nonce), _) => self.on_redirected(now, from, nonce, None, out),
            (Sent::Attach(nonce), result) => {
                self.on_attached(
                    now,
                    from,
                    nonce,
                    result == Ok(Response::Done { ok: true }),
                    out,
                );
            }
            (Sent::DropRedundantLink, result) => {
                self.on_thinned(now, from, result == Ok(Response::Done { ok: true }), out);
            }
            (Sent::Shuffle | Sent::Word, _) => {}
        }
    }

    pub(super) fn linked(&self, peer: I) -> bool {
        self.links.iter().any(|link| link.peer == peer)
    }

    pub(super) fn link_mut(&mut self, peer: I) -> Option<&mut Link<I, A>> {
        self.links.iter_mut().find(|link| link.peer == peer)
    }

    pub(super) fn reach_of(&self, peer: I) -> Option<Reach> {
        self.links
            .iter()
            .find(|link| link.peer == peer)
            .map(|link| link.reach)
    }

    /// Where we can be dialled, as far as this link is to know.
    pub(super) fn listens_for(&self, peer: I) -> Arc<[A]> {
        match self.dialable {
            true => in_scope(self.reach_of(peer), &self.listens).into(),
            false => Arc::new([]),
        }
    }

    pub(super) fn peers(&self) -> Vec<I> {
        self.links.iter().map(|link| link.peer).collect()
    }

    pub(super) fn close(&mut self, peer: I, reason: Reason, out: &mut Out<I, A>) {
        let Some(at) = self.links.iter().position(|link| link.peer == peer) else {
            return;
        };
        self.links.remove(at);
        self.exchanges.retain(|(_, to, _)| *to != peer);
        self.closing.push((peer, reason));
        out.push(Output::Close { peer, reason });
    }

    pub(super) fn send(&mut self, to: I, sent: Sent, request: Request<I, A>, out: &mut Out<I, A>) {
        let id = ExchangeId(self.fresh_id());
        self.exchanges.push((id, to, sent));
        out.push(Output::Send { to, id, request });
    }

    pub(super) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn jitter(&mut self, duration: Duration) -> Duration {
        duration.mul_f64(self.rng.random_range(0.5..1.5))
    }

    pub(super) fn offence(&mut self, peer: I, what: &'static str, out: &mut Out<I, A>) {
        let Some(link) = self.link_mut(peer) else {
            return;
        };
        if !std::mem::replace(&mut link.reported, true) {
            out.push(Output::Report(Report::Offence { peer, what }));
        }
    }

    pub(super) fn dial(
        &mut self,
        now: Time,
        peer: Option<I>,
        to: Target<A>,
        purpose: Purpose<I>,
        out: &mut Out<I, A>,
    ) {
        let id = DialId(self.fresh_id());
        let deadline = now + self.options.connect_timeout;
        self.dials.push(Dialling {
            id,
            peer,
            purpose,
            entry: None,
            started: now,
            deadline,
        });
        out.push(Output::Dial {
            dial: id,
            peer,
            to,
            purpose,
        });
    }
}
