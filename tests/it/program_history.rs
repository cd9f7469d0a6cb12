//! Nothing is lost, with real processes: a node that was away, killed or stopped has everything in the end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::EVENT_TIMEOUT;
use crate::program_support::{Program, answer, folder, parse};

/// How long nodes are killed and started again while all send: CRASH_SECONDS says otherwise.
const CRASHES: u64 = 15;

/// An event, as `sent` and `message` lines name it.
type Name = (String, u64);

fn name(line: &Value) -> Name {
    let id = line["id"].as_str().expect("an id").to_owned();
    (id, line["seq"].as_u64().expect("a number"))
}

/// Returns the events of the lobby in the log of a data directory. A node may use it at the same time.
fn kept(path: &str) -> BTreeSet<Name> {
    let show = [
        "log",
        "show",
        "--json",
        "--room",
        "lobby",
        "--data-dir",
        path,
    ];
    let shown = answer(&show);
    let all: Vec<Name> = shown.lines().map(|line| name(&parse(line))).collect();
    let set: BTreeSet<Name> = all.iter().cloned().collect();
    assert_eq!(
        set.len(),
        all.len(),
        "the log of {path} holds an event twice"
    );
    set
}

/// Waits until every log holds `all`, and the same.
fn end_equal(paths: &[&str], all: &BTreeSet<Name>) -> Duration {
    let since = Instant::now();
    loop {
        let logs: Vec<BTreeSet<Name>> = paths.iter().map(|path| kept(path)).collect();
        let missing: Vec<usize> = logs.iter().map(|log| all.difference(log).count()).collect();
        let equal = logs.windows(2).all(|two| two[0] == two[1]);
        if equal && missing.iter().all(|n| *n == 0) {
            return since.elapsed();
        }
        let sizes: Vec<usize> = logs.iter().map(BTreeSet::len).collect();
        assert!(
            since.elapsed() < 2 * EVENT_TIMEOUT,
            "of {} sent each log lacks {missing:?} and holds {sizes:?}",
            all.len()
        );
        // Reading the logs starts a process for each of them: a pause between two comparisons, no wait for an event.
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn who_was_away_for_a_thousand_messages_has_them_after_its_first_link() {
    let (_dir, path) = folder();
    let mut a = Program::node(&[]);
    let mut b = Program::node(&["--dial", &a.address()]);
    let mut away = Program::node_in(&["--data-dir", &path, "--dial", &a.address()]);
    away.next("link_up");
    a.next("link_up");
    b.next("link_up");
    a.say("before");
    assert_eq!(away.texts(1), ["before"]);
    drop(away);

    let texts: BTreeSet<String> = (0..1000).map(|n| format!("message {n}")).collect();
    for text in &texts {
        a.line(&json!({ "text": text }).to_string());
    }
    for _ in 0..texts.len() {
        a.next("sent");
    }
    let mut away = Program::node_in(&["--data-dir", &path, "--dial", &a.address()]);
    away.next("link_up");
    let begun = Instant::now();
    let got = away.texts(texts.len());
    let took = begun.elapsed();
    println!("1,000 messages were there {took:?} after the first link");
    assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), texts);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// A node that is killed and started again on the same data directory.
struct Survivor {
    program: Option<Program>,
    dir: TempDir,
    sent: BTreeSet<Name>,
    heard: BTreeSet<Name>,
    /// Lines of its present process that were not answered yet.
    unanswered: usize,
}

impl Survivor {
    fn new() -> Survivor {
        let (dir, _) = folder();
        Survivor {
            program: None,
            dir,
            sent: BTreeSet::new(),
            heard: BTreeSet::new(),
            unanswered: 0,
        }
    }

    fn path(&self) -> &str {
        self.dir.path().to_str().expect("a path")
    }

    fn start(&mut self, entries: &[String]) {
        let mut args = vec!["--data-dir", self.path()];
        for entry in entries {
            args.extend(["--dial", entry]);
        }
        self.program = Some(Program::node_in(&args));
    }

    /// Reads the lines that it has written so far.
    fn read(&mut self) {
        let Some(program) = &mut self.program else {
            return;
        };
        for line in program.written() {
            self.on_line(&line);
        }
    }

    fn on_line(&mut self, line: &Value) {
        match line["type"].as_str() {
            Some("sent") => {
                self.sent.insert(name(line));
                self.unanswered = self.unanswered.saturating_sub(1);
            }
            // An error about an event names its room.
            Some("error") if line["room"].is_string() => {
                self.unanswered = self.unanswered.saturating_sub(1);
            }
            Some("message") => {
                let new = self.heard.insert(name(line));
                assert!(new, "told twice, perhaps in two lives: {line}");
            }
            _ => {}
        }
    }

    /// Reads until every line given to the running process is answered.
    fn await_answers(&mut self) {
        while self.unanswered > 0 {
            let program = self.program.as_mut().expect("it runs");
            let line = program.next_of(&["sent", "error", "message"]);
            self.on_line(&line);
        }
    }

    fn kill(&mut self) {
        if let Some(program) = &mut self.program {
            program.kill();
        }
        self.read();
        self.program = None;
        self.unanswered = 0;
    }
}

#[test]
fn what_was_sent_is_in_every_log_though_nodes_are_killed_all_the_time() {
    let seconds = std::env::var("CRASH_SECONDS").ok();
    let seconds = seconds.map_or(CRASHES, |text| text.parse().expect("seconds"));
    let mut nodes: Vec<Survivor> = (0..10).map(|_| Survivor::new()).collect();
    let mut entries: Vec<String> = Vec::new();
    for node in &mut nodes {
        node.start(&entries);
        let address = node.program.as_ref().expect("it runs").address();
        entries.push(address);
        entries.truncate(2);
    }
    let begun = Instant::now();
    let (mut said, mut kills) = (0, 0);
    while begun.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..10 {
            for node in &mut nodes {
                let program = node.program.as_mut().expect("it runs");
                program.line(&json!({ "text": format!("event {said}") }).to_string());
                node.unanswered += 1;
                said += 1;
                node.read();
            }
            // The pace at which all speak.
            std::thread::sleep(Duration::from_millis(100));
        }
        let victim = kills % nodes.len();
        nodes[victim].kill();
        kills += 1;
        let entries: Vec<String> = [1, 4]
            .iter()
            .map(|n| &nodes[(victim + n) % nodes.len()])
            .map(|node| node.program.as_ref().expect("it runs").address())
            .collect();
        nodes[victim].start(&entries);
    }
    nodes.iter_mut().for_each(Survivor::await_answers);
    let all: BTreeSet<Name> = nodes.iter().flat_map(|node| node.sent.clone()).collect();
    let paths: Vec<&str> = nodes.iter().map(Survivor::path).collect();
    let took = end_equal(&paths, &all);
    nodes.iter_mut().for_each(Survivor::read);
    println!(
        "{kills} kills; of {said} lines {} were told to be sent; all logs equal {took:?} later",
        all.len()
    );
    assert!(all.len() * 2 > said, "most of what was said must be sent");
}

#[cfg(unix)]
#[test]
fn who_was_stopped_while_queues_overflowed_has_everything_in_the_end() {
    use rustix::process::Signal;

    let (_da, pa) = folder();
    let (_db, pb) = folder();
    let (_dc, pc) = folder();
    let mut a = Program::node_in(&["--data-dir", &pa]);
    let mut b = Program::node_in(&["--data-dir", &pb, "--dial", &a.address()]);
    b.next("link_up");
    let mut c = Program::node_in(&["--data-dir", &pc, "--dial", &a.address()]);
    c.next("link_up");
    a.say("before");
    b.next("message");
    b.signal(Signal::STOP);
    // More than waits for one link, and more bytes than a stream takes that nobody reads.
    let mut all = BTreeSet::new();
    let text = "x".repeat(2000);
    for n in 0..2500 {
        all.insert(name(&a.say(&format!("{n} {text}"))));
    }
    b.signal(Signal::CONT);
    let mut heard = BTreeSet::new();
    let mut backfill = 0;
    while heard.len() < all.len() {
        let line = b.next("message");
        backfill += usize::from(line["backfill"] == true);
        assert!(heard.insert(name(&line)), "told twice");
    }
    println!("of {} messages {backfill} came by data checking", all.len());
    assert!(backfill > 0, "the queue must overflow");
    assert_eq!(heard, all);
    // A later line would show a second delivery.
    b.say("after");
    assert_eq!(
        b.written()
            .iter()
            .filter(|line| line["type"] == "message")
            .count(),
        0
    );
    let all = &all | &kept(&pb);
    end_equal(&[&pa, &pb, &pc], &all);
}

#[test]
fn another_program_that_opens_and_closes_the_log_takes_nothing_from_under_a_running_node() {
    let (_folder, path) = folder();
    let mut a = Program::node(&[]);
    let mut b = Program::node_in(&["--data-dir", &path, "--dial", &a.address()]);
    a.next("link_up");
    b.next("link_up");
    let log = std::path::Path::new(&path).join("log.sqlite3");
    let mut said = BTreeSet::from([name(&b.say("before"))]);
    // As a person does with `sqlite3`.
    let other = rusqlite::Connection::open(&log).expect("it can be opened");
    let readable = other.query_row("SELECT count(*) FROM readable", [], |row| {
        row.get::<_, i64>(0)
    });
    readable.expect("it can be read");
    other.close().expect("it can be closed");
    assert!(log.with_extension("sqlite3-wal").exists(), "the node's WAL");
    said.extend((0..50).map(|n| name(&b.say(&format!("after {n}")))));
    assert_eq!(kept(&path), said);
    b.kill();
    assert_eq!(kept(&path), said, "also after a kill");
}
