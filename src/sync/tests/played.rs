//! A node whose neighbours the test plays, step by step.

use std::collections::BTreeMap;
use std::time::Duration;

use super::anti_entropy::{Name, Net};
use super::*;
use crate::model::Id;
use crate::sync::message::{Request, Response};
use crate::sync::{Fault, Input, Output, OwnPending};

/// Node 1 in the room "a", with neighbours that the test plays and that support announcements.
pub(super) struct Played {
    pub(super) net: Net,
    /// Pending requests of node 1: receiver, token, request.
    pub(super) asked: Vec<(Name, u64, Request)>,
    pub(super) responses: Vec<Response>,
    pub(super) fetched: Vec<(Name, u64, Id)>,
    pub(super) outstanding: Vec<(Name, usize)>,
    pub(super) own_pending: BTreeMap<Name, OwnPending>,
    pub(super) faults: Vec<(Name, Fault)>,
    pub(super) requests: u64,
}

impl Played {
    pub(super) fn new(neighbours: impl IntoIterator<Item = Name>) -> Played {
        let mut played = Played {
            net: Net::new([1]),
            asked: Vec::new(),
            responses: Vec::new(),
            fetched: Vec::new(),
            outstanding: Vec::new(),
            own_pending: BTreeMap::new(),
            faults: Vec::new(),
            requests: 0,
        };
        for name in neighbours {
            played.tell(Input::LinkUp(name));
            played.tell(Input::SupportsAnnouncements(name));
            played.tell(Input::RoomsOf(name, vec!["a".into()]));
        }
        // No node has a batch: this ends the rounds that follow the link-up.
        while let Some(at) = played.position(|request| matches!(request, Request::Compare { .. })) {
            let (_, token, _) = played.asked.remove(at);
            let agreed = Response::Ranges(vec![0x61].into());
            played.tell(Input::Response(token, agreed.encode().into()));
        }
        assert!(played.asked.is_empty(), "{:?}", played.asked);
        played
    }

    pub(super) fn position(&self, is_meant: impl Fn(&Request) -> bool) -> Option<usize> {
        self.asked
            .iter()
            .position(|(.., request)| is_meant(request))
    }

    pub(super) fn tell(&mut self, input: Input<Name>) {
        let (now, unix_ms) = (self.net.now, self.net.unix_ms());
        let mut out = Vec::new();
        let node = self.net.nodes.get_mut(&1).unwrap();
        node.anti_entropy.handle(now, unix_ms, input, &mut out);
        for output in out {
            match output {
                Output::Request(to, token, bytes) => {
                    let request = Request::decode(bytes.into()).unwrap();
                    self.asked.push((to, token, request));
                }
                Output::Respond(_, _, bytes) => {
                    self.responses.push(Response::decode(bytes.into()).unwrap());
                }
                Output::Fetched {
                    peer,
                    ticket,
                    announced: Some(id),
                    ..
                } => self.fetched.push((peer, ticket, id)),
                Output::Outstanding { peer, bytes, own } => {
                    self.own_pending.insert(peer, own);
                    let last = self.outstanding.iter().rfind(|(of, _)| *of == peer);
                    if last.is_none_or(|(_, before)| *before != bytes) {
                        self.outstanding.push((peer, bytes));
                    }
                }
                Output::Drop(peer, fault) => self.faults.push((peer, fault)),
                Output::Checked(_) | Output::Read { .. } | Output::Load(..) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(super) fn request(&mut self, from: Name, request: &Request) -> u64 {
        self.requests += 1;
        let bytes = request.encode().into();
        self.tell(Input::Request(from, self.requests, bytes));
        self.requests
    }

    pub(super) fn announce(&mut self, from: Name, batches: &[Batch]) {
        for some in batches.chunks(64) {
            let items = some.iter().map(item_of).collect();
            let room = "a".into();
            self.request(from, &Request::Announce { room, items });
        }
    }

    /// Returns the pending fetches of node 1.
    pub(super) fn fetches(&self) -> Vec<(Name, Id)> {
        let fetch = |(to, _, request): &(Name, u64, Request)| match request {
            Request::Fetch { ids, .. } => Some((*to, ids[0])),
            _ => None,
        };
        self.asked.iter().filter_map(fetch).collect()
    }

    /// Returns the pending announcements of node 1, with the number of batches.
    pub(super) fn announcements(&self) -> Vec<(Name, usize)> {
        let announcement = |(to, _, request): &(Name, u64, Request)| match request {
            Request::Announce { items, .. } => Some((*to, items.len())),
            _ => None,
        };
        self.asked.iter().filter_map(announcement).collect()
    }

    pub(super) fn answer(
        &mut self,
        from: Name,
        is_meant: impl Fn(&Request) -> bool,
        response: &Response,
    ) {
        let of = |(to, _, request): &(Name, u64, Request)| *to == from && is_meant(request);
        let at = self.asked.iter().position(of).expect("it was asked");
        let (_, token, _) = self.asked.remove(at);
        self.tell(Input::Response(token, response.encode().into()));
    }

    pub(super) fn bring(&mut self, from: Name, batch: &Batch) {
        let response = Response::Batches {
            envelopes: vec![batch.0.bytes.clone()],
            missing: Vec::new(),
            removed: vec![],
        };
        self.answer(from, fetch_of(batch), &response);
    }

    /// A neighbour fetches an announced batch from node 1, which responds.
    pub(super) fn serve(&mut self, to: Name, batch: &Batch) {
        let (room, ids) = ("a".into(), vec![batch.0.id]);
        let request = self.request(to, &Request::Fetch { room, ids });
        let found = crate::model::Found {
            envelopes: vec![batch.0.bytes.clone()],
            looked_at: 1,
            ..Default::default()
        };
        self.tell(Input::Found(to, request, found));
        let answer = self.responses.pop();
        assert!(matches!(answer, Some(Response::Batches { .. })));
        self.tell(Input::Sent(request, true));
    }

    /// Stores the last received batch, or reports it as forged.
    pub(super) fn settle(&mut self, batch: &Batch, forged: u64) {
        let (from, ticket, id) = self.fetched.pop().expect("something has come");
        assert_eq!(id, batch.0.id);
        if forged == 0 {
            self.store(batch, Some(from));
        }
        let stored = 1 - forged;
        self.tell(Input::Settled {
            ticket,
            stored,
            forged,
        });
    }

    pub(super) fn store(&mut self, batch: &Batch, from: Option<Name>) {
        let (item, bytes) = (item_of(batch), batch.0.bytes.len());
        let room = "a".into();
        self.tell(Input::Large {
            room,
            item,
            bytes,
            from,
        });
    }

    pub(super) fn wait(&mut self, span: Duration) {
        let end = self.net.now + span;
        while let Some(at) = self.net.nodes[&1]
            .anti_entropy
            .deadline()
            .filter(|at| *at <= end)
        {
            self.net.now = self.net.now.max(at);
            self.tell(Input::Tick);
            let next = self.net.nodes[&1].anti_entropy.deadline();
            assert!(next.is_none_or(|next| next > self.net.now), "it spins");
        }
        self.net.now = end;
    }
}

pub(super) fn fetch_of(batch: &Batch) -> impl Fn(&Request) -> bool {
    let id = batch.0.id;
    move |request| matches!(request, Request::Fetch { ids, .. } if *ids == [id])
}

pub(super) fn large(n: u64) -> Batch {
    batch_of("a", 1, n, 1, NOW_MS + 60_000 + n, 1 << 20)
}

pub(super) fn larges(range: std::ops::Range<u64>) -> Vec<Batch> {
    range.map(large).collect()
}
