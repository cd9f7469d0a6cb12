//! One node against peers that the test plays: the exact output of a split, and peers that lie, repeat themselves, do not answer
//! or ask too much.

mod contacts;
mod eviction;
mod handovers;
mod hints;
mod joining;
mod links;
mod places;
mod vectors;

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use super::address::{Address, Remote};
use super::event::*;
use super::message::{Answer, Contact, Refusal, Request, Response, Role, Terms};
use super::options::Options;
use super::scope::Reach;
use super::state::Overlay;
use crate::clock::Time;

/// An address of a scope; the number is its host, and each hundred is a network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place(Reach, u32);

impl Address for Place {
    type Host = u32;

    fn reach(&self) -> Reach {
        self.0
    }

    fn host(&self) -> u32 {
        self.1
    }

    fn network(host: u32) -> u32 {
        host / 100 * 100
    }
}

fn public(n: u32) -> Place {
    Place(Reach::Public, n)
}

/// The other end of a connection that was dialled at this address, or dialled here from its host.
fn remote(address: &Place) -> Remote<Place> {
    Remote {
        host: address.host(),
        reach: address.reach(),
        address: Some(address.clone()),
    }
}

const ME: u32 = 1000;
/// From here on numbers are of entry nodes.
const ENTRY: u32 = 1_000_000;

/// The node under test, its time, and its outputs since the last look.
struct Node {
    overlay: Overlay<u32, Place, Xoshiro256PlusPlus>,
    now: Time,
    out: Vec<Output<u32, Place>>,
    exchange: u64,
}

impl Node {
    /// A node without upkeep, that serves joins.
    fn new() -> Node {
        let options = Options {
            shuffle: 0.0,
            flip: 0.0,
            anchor_swap: 0.0,
            top_up: 0.0,
            own_links: 0,
            ..Options::default()
        };
        let rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let now = Time::from_millis(1000);
        let mut node = Node {
            overlay: Overlay::new(now, ME, options, rng, Vec::new()),
            now,
            out: Vec::new(),
            exchange: 0,
        };
        node.feed(Input::Addresses {
            addresses: vec![public(ME)],
            dialable: true,
        });
        node
    }

    /// A node with links to 1 … `links`, which have joined and been taken.
    fn linked(links: u32) -> Node {
        let mut node = Node::new();
        for peer in 1..=links {
            node.link(peer, public(peer));
            let answer = node.ask(peer, join(peer, u64::from(peer), 0));
            assert!(
                matches!(
                    answer,
                    Response::Joined {
                        answer: Answer::Accepted,
                        ..
                    }
                ),
                "{answer:?}"
            );
        }
        node.out.clear();
        node
    }

    fn feed(&mut self, input: Input<u32, Place>) {
        self.overlay.handle(self.now, input, &mut self.out);
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.overlay.deadline().filter(|at| *at <= until) {
            self.now = at.max(self.now + Duration::from_millis(1));
            self.feed(Input::Tick);
        }
        self.now = until;
    }

    fn link(&mut self, peer: u32, address: Place) {
        assert_eq!(self.admit(peer), Admission::Accept);
        self.feed(Input::LinkUp {
            peer,
            direction: Direction::Inbound,
            remote: remote(&address),
            dial: None,
        });
    }

    /// Dials a peer and loses it again: from then on it is in the book.
    fn meet(&mut self, peer: u32) {
        let address = public(peer);
        let to = Target::Addresses(vec![address.clone()].into());
        let (mut cx, _, dialer) = self.overlay.split(self.now, &mut self.out);
        dialer.dial(&mut cx, Some(peer), to, Purpose::Seek);
        let (dial, _) = self.dials()[0];
        self.feed(Input::LinkUp {
            peer,
            direction: Direction::Outbound,
            remote: remote(&address),
            dial: Some(dial),
        });
        self.feed(Input::LinkDown { peer });
    }

    fn admit(&mut self, peer: u32) -> Admission<u32, Place> {
        let (now, address) = (self.now, remote(&public(peer)));
        let inbound = Direction::Inbound;
        match self
            .overlay
            .admit(now, peer, inbound, &address, &mut self.out)
        {
            Admission::Busy { .. } => Admission::Busy {
                referrals: Vec::new(),
            },
            accept => accept,
        }
    }

    /// Asks as this peer, and takes the answer out of the output.
    fn ask(&mut self, from: u32, request: Request<u32, Place>) -> Response<u32, Place> {
        self.exchange += 1;
        let id = ExchangeId(self.exchange);
        self.feed(Input::Request { from, id, request });
        let answer =
            |o: &Output<u32, Place>| matches!(o, Output::Respond { id: known, .. } if *known == id);
        let at = self.out.iter().position(answer).expect("an answer");
        match self.out.remove(at) {
            Output::Respond { response, .. } => response,
            _ => unreachable!(),
        }
    }

    /// The requests that were sent, with the exchange to answer.
    fn sent(&mut self) -> Vec<(u32, ExchangeId, Request<u32, Place>)> {
        let mut sent = Vec::new();
        for output in std::mem::take(&mut self.out) {
            match output {
                Output::Send { to, id, request } => sent.push((to, id, request)),
                other => self.out.push(other),
            }
        }
        sent
    }

    fn answer(&mut self, from: u32, id: ExchangeId, response: Response<u32, Place>) {
        self.feed(Input::Response {
            from,
            id,
            result: Ok(response),
        });
    }

    /// The dials that were asked for, with the host that is dialled first; of an entry node, its place in the list and
    /// [`ENTRY`].
    fn dials(&mut self) -> Vec<(DialId, u32)> {
        let dial = |o: Output<u32, Place>| match o {
            Output::Dial { dial, to, .. } => Some((
                dial,
                match to {
                    Target::Entry(at) => ENTRY + at as u32,
                    Target::Addresses(addresses) => addresses[0].1,
                },
            )),
            _ => None,
        };
        std::mem::take(&mut self.out)
            .into_iter()
            .filter_map(dial)
            .collect()
    }

    fn outcomes(&self) -> Vec<HintOutcome> {
        let outcome = |o: &Output<u32, Place>| match o {
            Output::Report(Report::Hint { outcome, .. }) => Some(*outcome),
            _ => None,
        };
        self.out.iter().filter_map(outcome).collect()
    }

    fn closed(&self) -> Vec<(u32, Reason)> {
        let closed = |o: &Output<u32, Place>| match o {
            Output::Close { peer, reason } => Some((*peer, *reason)),
            _ => None,
        };
        self.out.iter().filter_map(closed).collect()
    }

    fn peers(&self) -> Vec<u32> {
        self.overlay
            .links()
            .iter()
            .map(|link| link.peer())
            .collect()
    }
}

fn contact(n: u32) -> Contact<u32, Place> {
    Contact {
        id: n,
        addresses: vec![public(n)].into(),
    }
}

fn join(from: u32, nonce: u64, need: u32) -> Request<u32, Place> {
    let addresses = vec![public(from)].into();
    Request::Join {
        terms: Terms {
            nonce,
            links: vec![ME],
            dialable: true,
            addresses,
        },
        need,
    }
}

fn hint(nonce: u64, to: Contact<u32, Place>) -> Request<u32, Place> {
    Request::Redirect {
        nonce,
        role: Role::Dial,
        to,
    }
}

fn agreed() -> Response<u32, Place> {
    Response::Redirected {
        refusal: None,
        addresses: vec![].into(),
    }
}

/// Lets the newcomer 6 join at a node with five links; returns the link that the hint asks to dial it.
fn split(node: &mut Node) -> u32 {
    node.link(6, public(6));
    let answer = node.ask(6, join(6, 66, 2));
    assert!(
        matches!(
            answer,
            Response::Joined {
                answer: Answer::Split,
                ..
            }
        ),
        "{answer:?}"
    );
    let sent = node.sent();
    let [
        (
            moved,
            id,
            Request::Redirect {
                nonce: 66,
                role: Role::Dial,
                to,
            },
        ),
    ] = &sent[..]
    else {
        panic!("{sent:?}");
    };
    assert_eq!(*to, contact(6));
    node.answer(*moved, *id, agreed());
    let sent = node.sent();
    let [
        (
            6,
            id,
            Request::Redirect {
                nonce: 66,
                role: Role::Expect,
                to,
            },
        ),
    ] = &sent[..]
    else {
        panic!("{sent:?}");
    };
    assert_eq!(to.id, *moved);
    node.answer(6, *id, agreed());
    *moved
}
