//! The output of the demonstration: numbers instead of PeerIds for people, JSON lines for programs.
//!
//! Entry type: [`Narration`]. The rule it keeps: people read of a link once, when both ends have it; programs read
//! every line that a separate node would have written, with the number of the node.

use std::time::{Duration, Instant};

use libp2p::PeerId;

use super::ascii;
use super::state::{Delivery, MeshState};
use crate::app::escape::Escaped;
use crate::app::output::{self, DemoEnd, DemoNode, JsonLines, People, Record, Render, count};
use crate::node::{BroadcastReceipt, DEFAULT_ROOM, Event, Node};

/// The output of the demonstration.
pub(super) struct Narration {
    begun: Instant,
    /// Renderer for programs; none: the output is for people.
    json: Option<JsonLines>,
    people: People,
    settled: Option<Duration>,
}

impl Narration {
    pub(super) fn begin(begun: Instant, nodes: usize, json: bool) -> Narration {
        if !json {
            let text = format!(
                "{nodes} nodes in this process, each with a websocket port of its own on loopback.\n\
                 2 dials 1; when these two are linked, all others dial 1.\n\n"
            );
            output::print(text.as_bytes());
        }
        Narration {
            begun,
            json: json.then(JsonLines::default),
            people: People::new(output::on_terminal()),
            settled: None,
        }
    }

    /// Reports that a node is online.
    pub(super) fn online(&mut self, number: usize, node: &Node) {
        let record = Record::Online {
            peer_id: node.peer_id(),
            addresses: node.addresses().to_vec(),
            rooms: DEFAULT_ROOM.parse().into_iter().collect(),
        };
        if !self.record(number, &record) {
            let id = output::short(&node.peer_id());
            let place = node.addresses().first().map(short_of_address);
            let text = format!(
                "{number:>3}  online as …{id} at {}",
                place.unwrap_or_default()
            );
            self.line(Instant::now(), &self.people.dim(&text));
        }
    }

    /// Writes an event of a node: for people only when it `matters`. `number` maps peers to the numbers of nodes.
    pub(super) fn event(
        &mut self,
        node: usize,
        at: Instant,
        event: &Event,
        matters: bool,
        number: impl Fn(&PeerId) -> Option<usize>,
    ) {
        if let Some(json) = &mut self.json {
            let mut out = Vec::new();
            json.of_node(node, |json| json.event(event, &mut out));
            return output::print(&out);
        }
        let name = |peer: &PeerId| match number(peer) {
            Some(number) => number.to_string(),
            None => output::short(peer),
        };
        let people = &self.people;
        let text = match event {
            Event::LinkUp { peer_id, links, .. } if matters => {
                let text = format!(
                    "{node:>3} ── {:<3} linked ({node} has {})",
                    name(peer_id),
                    count(*links)
                );
                people.good(&text)
            }
            Event::LinkDown {
                peer_id, reason, ..
            } if matters => {
                let text = format!("{node:>3} ╌╌ {:<3} {}", name(peer_id), Escaped(reason));
                people.warning(&text)
            }
            Event::Redirected { peer_id, to, .. } => {
                let (peer, to) = (name(peer_id), name(to));
                format!("{node:>3}  redirects: {peer} is to link with {to} instead")
            }
            Event::Hint {
                from, to, outcome, ..
            } if *outcome != "linked" => {
                let (from, to) = (name(from), name(to));
                people.dim(&format!(
                    "{node:>3}  did not link with {to}, as {from} had said: {outcome}"
                ))
            }
            Event::Refused { error, .. } => people.dim(&format!(
                "{node:>3}  {}: {}",
                error.stage,
                Escaped(&error.reason)
            )),
            Event::Error { reason } => people.bad(&format!("{node:>3}  {}", Escaped(reason))),
            _ => return,
        };
        self.line(at, &text);
    }

    /// Reports that all nodes have the promised links.
    pub(super) fn settled(&mut self, view: &MeshState) {
        let took = self.begun.elapsed();
        self.settled = Some(took);
        if self.json.is_none() {
            let text = format!(
                "     all have 2 to 5 links, and all are one mesh (at no time more than {})",
                count(view.most())
            );
            self.line(self.begun + took, &self.people.good(&text));
        }
    }

    /// Reports that the message was sent.
    pub(super) fn sent(&mut self, node: usize, text: &str, sent: BroadcastReceipt) {
        let links = sent.links;
        let Ok(room) = DEFAULT_ROOM.parse() else {
            return;
        };
        if !self.record(node, &Record::Sent { room, sent }) {
            let text = format!("{node:>3}  says {text:?} to {}", count(links));
            self.line(Instant::now(), &text);
        }
    }

    /// Reports the result.
    pub(super) fn end(&mut self, view: &MeshState, ids: &[PeerId]) {
        let missing = view.missing();
        let mut out = Vec::new();
        match &mut self.json {
            Some(json) => json.demo(&end_of(view, ids, self.settled, &missing), &mut out),
            None => out.extend(self.picture(view, ids.len(), &missing).into_bytes()),
        }
        output::print(&out);
    }

    fn picture(&self, view: &MeshState, nodes: usize, missing: &[String]) -> String {
        let mut text = format!("\n{:>6}  {:>11}  linked with\n", "node", "heard after");
        for node in 1..=nodes {
            let links: Vec<String> = view.links_of(node).iter().map(usize::to_string).collect();
            let heard = heard_text(view.when_heard(node), node == nodes);
            text += &format!("{node:>6}  {heard:>11}  {}\n", links.join(" "));
        }
        text += "\n";
        for line in ascii::draw(nodes, &view.links()) {
            text += &format!("{}\n", format!("  {line}").trim_end());
        }
        text += "\n";
        if missing.is_empty() {
            let settled = self.settled.unwrap_or_default().as_secs_f64();
            let well = format!(
                "All {nodes} nodes were linked after {settled:.2} s and have heard what one said."
            );
            text += &format!("{}\n", self.people.good(&well));
        }
        for what in missing {
            text += &format!("{}\n", self.people.bad(&format!("! {what}")));
        }
        text
    }

    /// Writes `record` as a JSON line. Returns false when the output is for people.
    fn record(&mut self, node: usize, record: &Record) -> bool {
        let Some(json) = &mut self.json else {
            return false;
        };
        let mut out = Vec::new();
        json.of_node(node, |json| json.record(record, &mut out));
        output::print(&out);
        true
    }

    fn line(&self, at: Instant, text: &str) {
        let since = at.saturating_duration_since(self.begun).as_secs_f64();
        output::print(format!("{since:>7.3} s  {text}\n").as_bytes());
    }
}

fn heard_text(heard: Option<Delivery>, says: bool) -> String {
    match heard {
        _ if says => "says it".to_owned(),
        None => "never".to_owned(),
        Some(heard) => {
            let mark = if heard.backfill { "checked " } else { "" };
            format!("{mark}{:.1} ms", heard.after.as_secs_f64() * 1e3)
        }
    }
}

fn end_of(
    view: &MeshState,
    ids: &[PeerId],
    settled: Option<Duration>,
    missing: &[String],
) -> DemoEnd {
    let id = |node: usize| ids.get(node.wrapping_sub(1)).map(ToString::to_string);
    let node = |node: usize| DemoNode {
        node,
        peer_id: id(node).unwrap_or_default(),
        links: view.links_of(node),
        heard_ms: view.when_heard(node).map(|heard| millis(heard.after)),
    };
    DemoEnd {
        ok: missing.is_empty(),
        settled_ms: settled.map(millis),
        most_links: view.most(),
        nodes: (1..=ids.len()).map(node).collect(),
        missing: missing.to_vec(),
    }
}

fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

/// Returns the address without the PeerId, which is printed beside it.
fn short_of_address(address: &libp2p::Multiaddr) -> String {
    let text = address.to_string();
    match text.split_once("/p2p/") {
        Some((place, _)) => place.to_owned(),
        None => text,
    }
}
