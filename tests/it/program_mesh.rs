//! A mesh of real processes: through one entry, through restarts, and when everyone known is dead.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::EVENT_TIMEOUT;
use crate::program_support::{Program, complaint, folder};

/// How long a node has had two links before it counts as one that has arrived.
const ARRIVAL: Duration = Duration::from_secs(1);

/// Processes and their links, as their lines report them.
struct Watch {
    programs: Vec<Program>,
    lines: Receiver<(String, Value)>,
    teller: Sender<(String, Value)>,
    links: BTreeMap<String, BTreeSet<String>>,
    /// How many links a node may have in peace.
    most: usize,
    /// Since when each has had a second link without a break. Until the handover that brings it is over, which takes
    /// some round trips more, its node is a newcomer that may be sent away.
    second: BTreeMap<String, Instant>,
    redirects: usize,
}

impl Watch {
    fn new(most: usize) -> Watch {
        let (teller, lines) = channel();
        Watch {
            programs: Vec::new(),
            lines,
            teller,
            links: BTreeMap::new(),
            most,
            second: BTreeMap::new(),
            redirects: 0,
        }
    }

    /// Starts one more; where it can be dialled.
    fn start(&mut self, args: &[&str]) -> String {
        let mut program = Program::node(args);
        self.links.insert(program.id(), BTreeSet::new());
        program.hand_on(self.teller.clone());
        let address = program.address();
        self.programs.push(program);
        address
    }

    /// Takes a line, which must keep the promises: never more links than one over the limit, and
    /// nobody loses its last one to a redirect.
    fn take(&mut self, id: String, line: &Value) {
        let count = line["links"].as_u64();
        assert!(
            count.is_none_or(|n| n <= self.most as u64 + 1),
            "too many links: {line}"
        );
        let links = self.links.entry(id.clone()).or_default();
        let peer = || line["peer_id"].as_str().expect("a peer").to_owned();
        match line["type"].as_str() {
            Some("link_up") => {
                assert!(count > Some(0), "a link, and none: {line}");
                links.insert(peer());
                if links.len() > 1 {
                    self.second.entry(id).or_insert_with(Instant::now);
                }
            }
            Some("link_down") => {
                links.remove(&peer());
                let reason = line["reason"].as_str().expect("a reason");
                let moved = reason.starts_with("handover") || reason.starts_with("aborted");
                // Only a link that was never granted is refused.
                let refused = reason.starts_with("refused");
                let arrived = |since: &Instant| since.elapsed() >= ARRIVAL;
                let arrived = self.second.get(&id).is_some_and(arrived);
                let protected = moved || (arrived && !refused);
                assert!(count != Some(0) || !protected, "{id} was cut off: {line}");
                if links.len() < 2 && !arrived {
                    self.second.remove(&id);
                }
            }
            Some("redirected") => self.redirects += 1,
            _ => {}
        }
    }

    /// Reads lines until `done`; how long that took.
    fn until(&mut self, what: &str, done: impl Fn(&Watch) -> bool) -> Duration {
        let begun = Instant::now();
        while !done(self) {
            let left = EVENT_TIMEOUT.saturating_sub(begun.elapsed());
            match self.lines.recv_timeout(left) {
                Ok((id, line)) => self.take(id, &line),
                Err(_) => panic!("not {what} in {EVENT_TIMEOUT:?}: {:?}", self.links),
            }
        }
        begun.elapsed()
    }

    fn is_settled(&self) -> bool {
        let fits = |l: &BTreeSet<String>| (2..=self.most).contains(&l.len());
        self.links.values().all(fits) && self.is_one_component()
    }

    fn is_one_component(&self) -> bool {
        let mut found = BTreeSet::new();
        let mut next: Vec<&String> = self.links.keys().take(1).collect();
        while let Some(id) = next.pop() {
            if found.insert(id) {
                next.extend(self.links.get(id).into_iter().flatten());
            }
        }
        self.links.keys().all(|id| found.contains(id))
    }
}

#[test]
fn eight_processes_through_one_entry_make_one_mesh_and_nobody_is_cut_off() {
    let mut watch = Watch::new(5);
    let entry = watch.start(&[]);
    for _ in 1..8 {
        watch.start(&["--entry", &entry]);
    }
    let took = watch.until("one mesh of 2 to 5 links", Watch::is_settled);
    println!(
        "8 processes settled {took:?} after the last start: {} redirects",
        watch.redirects
    );
}

#[test]
fn ten_processes_that_were_all_given_a_name_make_one_mesh() {
    let mut watch = Watch::new(5);
    let entry = watch.start(&[]);
    let port = entry.split('/').nth(4).expect("a port");
    let name = format!("localhost:{port}");
    for _ in 1..10 {
        watch.start(&["--dial", &name]);
    }
    watch.until("one mesh of 2 to 5 links", Watch::is_settled);
}

#[test]
fn a_mesh_of_nodes_with_three_links_each_holds_together() {
    let mut watch = Watch::new(3);
    let entry = watch.start(&["--max-links", "3"]);
    for _ in 1..6 {
        watch.start(&["--max-links", "3", "--entry", &entry]);
    }
    watch.until("one mesh of 2 to 3 links", Watch::is_settled);
}

#[test]
fn fewer_links_than_needed_are_refused() {
    let said = complaint(&["node", "--max-links", "2", "--min-links", "3"], 2);
    assert!(
        said.contains("--min-links 3 is more than --max-links 2"),
        "{said}"
    );
}

/// Waits until the address book in `folder` names a peer.
fn await_book(folder: &str) {
    let path = Path::new(folder).join("peers.json");
    let begun = Instant::now();
    while !std::fs::read_to_string(&path).is_ok_and(|text| text.contains("peer_id")) {
        assert!(
            begun.elapsed() < EVENT_TIMEOUT,
            "no address book is written"
        );
        // Another process writes the file: it can only be polled.
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_node_that_comes_back_finds_its_peers_by_its_address_book() {
    let (_keep, home) = folder();
    let mut entry = Program::node(&[]);
    let mut node = Program::node_in(&["--data-dir", &home, "--entry", &entry.address()]);
    entry.next("link_up");
    await_book(&home);
    drop(node);
    entry.next("link_down");

    node = Program::node_in(&["--data-dir", &home]);
    assert_eq!(node.next("link_up")["peer_id"], entry.id());
    assert_eq!(entry.next("link_up")["peer_id"], node.id());
}

#[cfg(unix)]
#[test]
fn who_stops_right_after_its_first_link_remembers_the_peer() {
    let (_keep, home) = folder();
    let entry = Program::node(&[]);
    let mut node = Program::node_in(&["--data-dir", &home, "--entry", &entry.address()]);
    node.next("link_up");
    node.signal(rustix::process::Signal::TERM);
    assert!(node.ends_within(EVENT_TIMEOUT).success());
    let book = std::fs::read_to_string(Path::new(&home).join("peers.json")).expect("a book");
    assert!(book.contains(&entry.id()), "{book}");
}

#[test]
fn a_node_whose_peers_are_all_dead_keeps_trying_and_says_so() {
    let (_keep, home) = folder();
    let mut entry = Program::node(&[]);
    let node = Program::node_in(&["--data-dir", &home, "--entry", &entry.address()]);
    entry.next("link_up");
    await_book(&home);
    drop(node);
    drop(entry);

    let mut node = Program::node_in(&["--data-dir", &home]);
    let reason = node.next("error")["reason"].to_string();
    assert!(
        reason.contains("none of the known peers answers"),
        "{reason}"
    );
}
