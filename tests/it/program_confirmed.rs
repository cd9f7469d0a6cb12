//! `--sync neighbours`: an event that is reported as sent is also stored by neighbours.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::program_support::{Program, answer, complaint, folder, parse};

/// Timeout of an answer that arrives when the time for confirmations is over.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

fn say(node: &mut Program, text: &str) {
    node.line(&serde_json::json!({ "text": text }).to_string());
}

/// Sends a text and returns the line that answers it.
fn told(node: &mut Program, text: &str) -> Value {
    say(node, text);
    loop {
        let line = node.next_within(ANSWERED_WITHIN, &["sent", "error"]);
        // An error without a room is no answer: the link may be lost by then.
        if line["type"] == "sent" || line["room"].is_string() {
            return line;
        }
    }
}

fn texts(path: &str) -> Vec<String> {
    let shown = answer(&["log", "show", "--json", "--data-dir", path]);
    let text = |line: &str| parse(line)["text"].as_str().expect("text").to_owned();
    shown.lines().map(text).collect()
}

#[test]
fn what_an_author_was_told_is_sent_is_at_a_neighbour_though_both_are_killed_at_once() {
    let (_folder, path) = folder();
    let mut reader = Program::node_in(&["--data-dir", &path]);
    let mut author = Program::node(&["--sync", "neighbours", "--dial", &reader.address()]);
    author.next("link_up");
    for n in 0..5 {
        let sent = told(&mut author, &n.to_string());
        assert_eq!(
            (&sent["type"], &sent["confirmed"]),
            (&"sent".into(), &1.into()),
            "{sent}"
        );
    }
    // A large one is offered instead of gossiped.
    let large = "x".repeat(700_000);
    assert_eq!(told(&mut author, &large)["confirmed"], 1);
    author.kill();
    reader.kill();
    assert_eq!(texts(&path), ["0", "1", "2", "3", "4", &large]);
}

#[test]
fn many_lines_at_once_are_confirmed_in_their_order() {
    let mut reader = Program::node(&[]);
    let mut author = Program::node(&["--sync", "neighbours=1", "--dial", &reader.address()]);
    author.next("link_up");
    for n in 0..2_000 {
        say(&mut author, &n.to_string());
    }
    for seq in 1..=2_000 {
        let sent = author.next_of(&["sent", "error"]);
        assert_eq!(
            (&sent["seq"], &sent["confirmed"]),
            (&seq.into(), &1.into()),
            "{sent}"
        );
    }
    reader.texts(2_000);
}

#[test]
fn a_neighbour_that_does_not_answer_has_confirmed_nothing_and_gets_it_all_the_same() {
    let mut reader = Program::node(&[]);
    let mut author = Program::node(&["--sync", "neighbours", "--dial", &reader.address()]);
    author.next("link_up");
    reader.signal(Signal::STOP);
    let error = told(&mut author, "is anybody there?");
    let reason = error["reason"]
        .as_str()
        .unwrap_or_else(|| panic!("{error}"));
    assert!(
        reason.contains("stored here") && reason.contains("0 of 1"),
        "{reason}"
    );
    reader.signal(Signal::CONT);
    assert_eq!(reader.texts(1), ["is anybody there?"]);
}

#[test]
fn as_many_must_confirm_as_were_asked_for_and_one_that_comes_in_time_counts() {
    let mut first = Program::node(&[]);
    let mut author = Program::node(&["--sync", "neighbours=2", "--dial", &first.address()]);
    author.next("link_up");
    let error = told(&mut author, "one is too few");
    let reason = error["reason"]
        .as_str()
        .unwrap_or_else(|| panic!("{error}"));
    assert!(reason.contains("1 of 2"), "{reason}");
    say(&mut author, "wait for another");
    assert_eq!(first.texts(2)[1], "wait for another");
    let mut second = Program::node(&["--dial", &author.address()]);
    let sent = author.next_within(ANSWERED_WITHIN, &["sent", "error"]);
    assert_eq!(sent["confirmed"], 2, "{sent}");
    second.texts(2);
}

#[test]
fn a_number_that_makes_no_sense_is_named() {
    for (value, expected) in [
        ("neighbours=0", "from 1 on"),
        ("neighbours=9", "at most 5"),
        ("neighbors", "neighbours=N"),
    ] {
        let said = complaint(&["node", "--sync", value], 2);
        assert!(said.contains(expected), "{value}: {said}");
    }
    let said = complaint(&["log", "repair", "--sync", "neighbours"], 2);
    assert!(said.contains("full or normal"), "{said}");
}
