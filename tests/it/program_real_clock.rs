//! The program on machines with a wrong clock, or one that changes while it runs. The clock is libfaketime's, which
//! Debian packages as `faketime`. These tests are ignored, and run with `cargo test --test it real_clock -- --ignored`.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::program_support::{Program, diatribe, folder, parse, text};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// A machine with a clock of its own, and the data directory of a node on it.
struct Machine {
    folder: TempDir,
    path: String,
}

impl Machine {
    /// Returns a machine with this clock, in libfaketime's syntax: `+0`, `+40d`, `-1h`, or a date.
    fn with_clock(clock: &str) -> Machine {
        let (folder, path) = folder();
        let machine = Machine { folder, path };
        machine.set(clock);
        machine
    }

    /// Sets the clock, also under a program that runs.
    fn set(&self, clock: &str) {
        let new = self.folder.path().join("clock.new");
        std::fs::write(&new, format!("{clock}\n")).expect("a file");
        std::fs::rename(new, self.clock()).expect("a file");
    }

    fn clock(&self) -> PathBuf {
        self.folder.path().join("clock")
    }

    /// The program with these arguments on this machine.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = diatribe(args);
        command
            .env("LD_PRELOAD", library())
            .env("FAKETIME_TIMESTAMP_FILE", self.clock())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    }

    /// A node on this machine, that is online.
    fn node(&self, more: &[&str]) -> Program {
        let mut args = vec!["node", "--json", "--listen", "127.0.0.1:0"];
        args.extend(["--exempt-loopback", "--data-dir", &self.path]);
        args.extend(more);
        let mut node = Program::spawn(self.command(&args));
        node.await_online();
        node
    }

    /// Returns the lines of its node's log.
    fn log(&self) -> Vec<Value> {
        let args = ["log", "show", "--json", "--data-dir", &self.path];
        let output = self.command(&args).output().expect("the program runs");
        text(&output.stdout).lines().map(parse).collect()
    }
}

/// Returns the path of the library that replaces the clock of a program.
fn library() -> PathBuf {
    let libraries = std::fs::read_dir("/usr/lib").expect("a folder").flatten();
    let inside = libraries.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    let found = inside.into_iter().find(|path| path.exists());
    found.expect("libfaketime is there: apt-get install faketime")
}

/// The next `clock` line of this state; others are passed over.
fn clock(node: &mut Program, state: &str) -> Value {
    loop {
        let line = node.next("clock");
        if line["state"] == state {
            return line;
        }
    }
}

/// Whether it is about this many milliseconds.
fn is_about(line: &Value, ahead_ms: i64) -> bool {
    let said = line["ahead_ms"].as_i64().expect("a number");
    said.abs_diff(ahead_ms) < 30_000
}

fn say(node: &mut Program, text: &str) {
    node.line(&serde_json::json!({ "text": text }).to_string());
}

/// Has each say `n` lines, and both hear them.
fn talk(a: &mut Program, b: &mut Program, n: usize) {
    tell(a, b, n);
    tell(b, a, n);
}

fn tell(from: &mut Program, to: &mut Program, n: usize) {
    let said: Vec<String> = (0..n).map(|n| format!("line {n}")).collect();
    for text in &said {
        from.say(text);
    }
    assert_eq!(to.texts(n), said);
}

#[test]
#[ignore = "needs faketime: run with --ignored on Linux"]
fn a_clock_that_jumps_40_days_ahead_and_back_under_a_node_costs_nothing_and_is_said() {
    let (wrong, right) = (Machine::with_clock("+0"), Machine::with_clock("+0"));
    let mut a = wrong.node(&[]);
    let mut b = right.node(&["--dial", &a.address()]);
    b.next("link_up");
    talk(&mut a, &mut b, 3);
    wrong.set("+40d");
    let jumped = clock(&mut a, "jumped");
    assert!(is_about(&jumped, 40 * DAY_MS), "{jumped}");
    assert_eq!(
        (&jumped["agreeing"], &jumped["neighbours"]),
        (&1.into(), &1.into())
    );
    // Enough for the log to check its retention.
    talk(&mut a, &mut b, 100);
    wrong.set("+0");
    clock(&mut a, "right");
    talk(&mut a, &mut b, 3);
    drop((a, b));
    assert_eq!((wrong.log().len(), right.log().len()), (212, 212));
}

#[test]
#[ignore = "needs faketime: run with --ignored on Linux"]
fn a_node_that_starts_with_a_wrong_clock_says_so_and_removes_nothing() {
    let machine = Machine::with_clock("+0");
    let mut peer = Program::node(&[]);
    let mut node = machine.node(&["--dial", &peer.address()]);
    node.next("link_up");
    talk(&mut node, &mut peer, 3);
    drop(node);
    for (clock_is, is_ahead) in [("+40d", true), ("1970-01-02 00:00:00", false)] {
        machine.set(clock_is);
        // First alone, then with a neighbour that has the right time.
        for dial in [&[][..], &["--dial", &peer.address()]] {
            let mut node = machine.node(dial);
            let said = clock(&mut node, "unconfirmed");
            let ahead_ms = said["ahead_ms"].as_i64().expect("a number");
            assert_eq!(ahead_ms > 0, is_ahead, "{said}");
            if !dial.is_empty() {
                let differs = clock(&mut node, "differs");
                assert_eq!(differs["peer_id"], peer.id());
                assert_eq!(clock(&mut peer, "differs")["peer_id"], node.id());
                node.next("checked");
            }
            drop(node);
            assert_eq!(machine.log().len(), 6, "{clock_is}");
        }
    }
    machine.set("+0");
    let mut node = machine.node(&["--dial", &peer.address()]);
    node.next("link_up");
    talk(&mut node, &mut peer, 1);
}

#[test]
#[ignore = "needs faketime: run with --ignored on Linux"]
fn an_author_whose_clock_is_ahead_is_told_that_nobody_takes_what_it_says_until_it_is_set() {
    for (ahead, ahead_ms) in [("+10m", 10 * MINUTE_MS), ("+1h", HOUR_MS)] {
        let machine = Machine::with_clock(ahead);
        let mut reader = Program::node(&[]);
        let mut author = machine.node(&["--dial", &reader.address()]);
        // Each reports the peer that has a different clock, and the difference.
        let (here, there) = (clock(&mut author, "differs"), clock(&mut reader, "differs"));
        assert_eq!(
            (&here["peer_id"], &there["peer_id"]),
            (&reader.id().into(), &author.id().into())
        );
        assert!(
            is_about(&here, -ahead_ms) && is_about(&there, ahead_ms),
            "{here} {there}"
        );
        author.next("link_up");
        say(&mut author, "too early");
        let answer = author.next_of(&["sent", "error"]);
        assert_eq!(answer["type"], "error", "{answer}");
        let reason = answer["reason"].as_str().expect("a reason");
        assert!(
            reason.contains("timedatectl") && reason.contains("1 of 1"),
            "{reason}"
        );
        // With the clock set under it the author is heard, without a start.
        machine.set("+0");
        clock(&mut author, "confirmed");
        author.say("in time");
        assert_eq!(reader.texts(1), ["in time"]);
    }
}

#[test]
#[ignore = "needs faketime: run with --ignored on Linux"]
fn a_reader_whose_clock_is_behind_hears_of_it_and_of_whose_messages_it_refuses() {
    let mut peer = Program::node(&[]);
    let mut author = Program::node(&["--dial", &peer.address()]);
    author.next("link_up");
    let addresses = [peer.address(), author.address()];
    let machine = Machine::with_clock("-1h");
    let mut behind = machine.node(&["--dial", &addresses[0], "--dial", &addresses[1]]);
    behind.next("link_up");
    behind.next("link_up");
    // Each wrong clock is reported by a node that has two right ones to compare with, or that takes part itself.
    assert_eq!(clock(&mut peer, "differs")["peer_id"], behind.id());
    assert_eq!(clock(&mut author, "differs")["peer_id"], behind.id());
    for n in 0..20 {
        author.say(&format!("{n}"));
    }
    peer.texts(20);
    let said = clock(&mut behind, "author_ahead");
    assert_eq!(said["peer_id"], author.id());
    assert!(is_about(&said, HOUR_MS), "{said}");
    // One line is enough, and stderr has none.
    let more = behind.written();
    let lines = more.iter().filter(|line| line["state"] == "author_ahead");
    assert!(lines.count() <= 1, "{more:?}");
    assert!(!behind.stderr().contains("refused"));
}

#[test]
#[ignore = "needs faketime: run with --ignored on Linux"]
fn an_author_whose_clock_is_behind_is_heard_and_one_that_is_too_old_for_a_log_too_once() {
    let reader_is = Machine::with_clock("+0");
    // It knows by another's clock that its own is right.
    let right = Program::node(&[]);
    let mut reader = reader_is.node(&["--keep-days", "1", "--dial", &right.address()]);
    reader.next("link_up");
    for (behind, is_kept) in [("-1h", true), ("-20d", false)] {
        let machine = Machine::with_clock(behind);
        let mut author = machine.node(&["--dial", &reader.address()]);
        author.next("link_up");
        author.say(behind);
        assert_eq!(reader.texts(1), [behind]);
        drop(author);
        let kept = reader_is.log().iter().any(|line| line["text"] == behind);
        assert_eq!(kept, is_kept, "{behind}");
    }
    let told = reader.written();
    assert!(
        told.iter().all(|line| line["type"] != "message"),
        "{told:?}"
    );
}

#[test]
#[ignore = "needs faketime: run with --ignored on Linux"]
fn a_neighbour_whose_clock_is_set_is_known_to_have_the_right_time_while_the_link_lasts() {
    let machine = Machine::with_clock("-1h");
    let mut behind = machine.node(&[]);
    let mut author = Program::node(&["--dial", &behind.address()]);
    assert!(is_about(&clock(&mut author, "differs"), -HOUR_MS));
    author.next("link_up");
    say(&mut author, "too early for it");
    assert_eq!(author.next_of(&["sent", "error"])["type"], "error");
    machine.set("+0");
    clock(&mut behind, "confirmed");
    // It sends its clock with the request that compares the room.
    let said = (0..20).find(|n| {
        author.next("checked");
        say(&mut author, &n.to_string());
        author.next_of(&["sent", "error", "link_down"])["type"] == "sent"
    });
    assert_eq!(behind.texts(1), [said.expect("it is sent").to_string()]);
}

#[test]
#[ignore = "needs faketime: run with --ignored on Linux"]
fn dates_do_not_go_back_with_a_clock_that_is_set_back_a_little() {
    let machine = Machine::with_clock("+0");
    let mut reader = Program::node(&[]);
    let mut author = machine.node(&["--dial", &reader.address()]);
    author.next("link_up");
    let mut said = |node: &mut Program| {
        node.say("a line");
        reader.next("message")["sent_at"]
            .as_str()
            .expect("a time")
            .to_owned()
    };
    let before = said(&mut author);
    machine.set("-60s");
    assert!(said(&mut author) >= before);
}

#[test]
#[ignore = "needs faketime: run with --ignored on Linux"]
fn check_says_how_far_the_clocks_are_apart() {
    let node = Program::node(&[]);
    let machine = Machine::with_clock("-10m");
    let check = |json: &[&str]| {
        let address = node.address();
        let args = [&["check", "--data-dir", &machine.path, &address][..], json].concat();
        let output = machine.command(&args).output().expect("the program runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let said = check(&[]);
    assert!(
        said.contains("ahead of this machine's") && said.contains("timedatectl"),
        "{said}"
    );
    let lines = check(&["--json"]);
    let end = parse(lines.lines().last().expect("lines"));
    let ahead_ms = end["clock_ahead_ms"].as_i64().expect("a number");
    assert!(ahead_ms.abs_diff(10 * MINUTE_MS) < 30_000, "{end}");
}
