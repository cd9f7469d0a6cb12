//! The program as a user drives it: chat, input that is wrong, and how it ends.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::EVENT_TIMEOUT;
use crate::program_support::{Program, diatribe, folder};

/// The promised time for a shutdown by SIGINT or SIGTERM.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

#[test]
fn two_nodes_chat() {
    let (mut a, mut b) = Program::pair();
    let sent = a.say("hello");
    assert_eq!((&sent["links"], &sent["seq"]), (&json!(1), &json!(1)));
    let message = b.next("message");
    assert_eq!(
        (&message["text"], &message["author"]),
        (&json!("hello"), &json!(a.id()))
    );
    assert_eq!(
        (&message["id"], &message["seq"]),
        (&sent["id"], &sent["seq"])
    );
    assert_eq!(
        (&message["room"], &message["name"]),
        (&json!("lobby"), &json!("chat"))
    );
    assert_eq!(
        (&message["data"], &message["backfill"]),
        (&json!("aGVsbG8="), &json!(false))
    );
    b.say("good day");
    assert_eq!(a.texts(1), ["good day"]);
}

#[test]
fn what_is_said_at_one_end_of_a_line_reaches_the_other_once() {
    let (mut a, mut b) = Program::pair();
    let mut c = Program::node(&["--room", "lobby", "--room", "annex", "--dial", &b.address()]);
    c.next("link_up");
    b.next("link_up");
    // A second delivery would arrive before the last message.
    a.say("one");
    a.say("two");
    a.say("three");
    assert_eq!(c.texts(3), ["one", "two", "three"]);
    // C speaks in the first of its rooms.
    c.say("heard");
    assert_eq!(a.texts(1), ["heard"]);
}

#[test]
fn bytes_that_are_no_text_have_no_text() {
    let (mut a, mut b) = Program::pair();
    a.line(r#"{"name": "sample", "data": "AP8="}"#);
    let message = b.next("message");
    assert_eq!(
        (&message["data"], &message["name"]),
        (&json!("AP8="), &json!("sample"))
    );
    assert_eq!(message.get("text"), None);
}

#[test]
fn many_lines_at_once_are_sent_and_answered_in_their_order() {
    let (mut a, mut b) = Program::pair();
    let texts: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
    for text in &texts {
        a.line(&json!({ "text": text }).to_string());
    }
    assert_eq!(b.texts(texts.len()), texts);
    for n in 1..=texts.len() {
        assert_eq!(a.next("sent")["seq"], n);
    }
}

#[test]
fn a_bad_line_is_named_and_the_next_is_sent() {
    let (mut a, mut b) = Program::pair();
    for (line, named) in [
        ("hello", "not a line of input"),
        (r#"{"text": "a", "colour": "red"}"#, "`colour`"),
        (r#"{"name": "a"}"#, "neither"),
        (r#"{"data": "not base64"}"#, "base64"),
        (r#"{"room": "a/b", "text": "a"}"#, "`room`"),
        (r#"{"room": "elsewhere", "text": "a"}"#, "elsewhere"),
    ] {
        a.line(line);
        let reason = a.next("error")["reason"].to_string();
        assert!(reason.contains(named), "{line}: {reason}");
    }
    a.say("still here");
    assert_eq!(b.texts(1), ["still here"]);
}

#[test]
fn an_event_over_the_limit_is_named_at_the_sender_and_the_link_stays() {
    let (mut a, mut b) = Program::pair();
    a.line(&json!({ "text": "x".repeat((1 << 20) + 1) }).to_string());
    let reason = a.next("error")["reason"].to_string();
    assert!(reason.contains("1048576"), "{reason}");
    a.line(&json!({ "text": "x".repeat(4 << 20) }).to_string());
    let reason = a.next("error")["reason"].to_string();
    assert!(reason.contains("passed over"), "{reason}");
    a.line(&json!({ "text": "x".repeat(1 << 20) }).to_string());
    assert_eq!(b.texts(1)[0].len(), 1 << 20);
    a.say("small");
    assert_eq!(b.texts(1), ["small"]);
}

#[test]
fn with_nobody_linked_nothing_is_said_to_be_sent() {
    let mut a = Program::node(&[]);
    a.line(r#"{"text": "is anybody there"}"#);
    let error = a.next("error");
    assert_eq!(error["room"], "lobby");
    assert!(error["reason"].to_string().contains("not sent"));
}

#[test]
fn the_end_of_a_pipe_is_not_the_end_of_the_node() {
    let (mut a, mut b) = Program::pair();
    a.close_stdin();
    b.say("hello");
    assert_eq!(a.texts(1), ["hello"]);
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_cleanly_and_the_peer_is_told() {
    use rustix::process::Signal;

    for signal in [Signal::TERM, Signal::INT] {
        let (mut a, mut b) = Program::pair();
        a.signal(signal);
        assert_eq!(a.ends_within(ENDS_WITHIN).code(), Some(0));
        assert_eq!(b.next("link_down")["peer_id"], a.id());
        assert_eq!(a.stderr(), "");
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_stopped_reading_does_not_keep_it_from_ending() {
    use rustix::process::Signal;

    let (_a, path) = folder();
    let mut command = diatribe(&["node", "--json", "--no-input", "--listen", "127.0.0.1:0"]);
    command.args(["--exempt-loopback", "--data-dir", &path]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut first = String::new();
    stdout.read_line(&mut first).expect("a line");
    let online = crate::program_support::parse(&first);
    let address = online["addresses"][0].as_str().expect("an address");
    let mut b = Program::node(&["--dial", address]);
    b.next("link_up");
    // More than a pipe holds, and nobody reads it.
    for _ in 0..8 {
        b.line(&json!({ "text": "x".repeat(100_000) }).to_string());
        b.next("sent");
    }
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, Signal::TERM).expect("it runs");
    let since = Instant::now();
    assert_eq!(child.wait().expect("a child").code(), Some(0));
    assert!(
        since.elapsed() < ENDS_WITHIN + Duration::from_millis(500),
        "{:?}",
        since.elapsed()
    );
}

#[test]
fn a_broken_pipe_ends_it_quietly() {
    let (_folder, path) = folder();
    let mut command = diatribe(&[
        "node",
        "--json",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        &path,
    ]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    stdout.read_line(&mut String::new()).expect("a line");
    drop(stdout);
    // Something for it to write; again, because a test beside this one that starts a program has
    // a copy of the pipe's other end for a moment.
    let mut stdin = child.stdin.take().expect("a pipe");
    let since = Instant::now();
    while child.try_wait().expect("a child of ours").is_none() {
        assert!(since.elapsed() < EVENT_TIMEOUT, "it still runs");
        // It fails when the program has ended meanwhile.
        let _ = writeln!(stdin, "{{}}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(crate::program_support::text(&output.stderr), "");
}

#[test]
fn people_read_who_said_what_and_strangers_cannot_draw_on_their_terminal() {
    let a = Program::node(&[]);
    let (_folder, path) = folder();
    let mut command = diatribe(&["node", "--listen", "127.0.0.1:0", "--data-dir", &path]);
    command.args(["--dial", &a.address()]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut line_with = |part: &str| {
        let line = lines
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("no line with {part:?}"))
    };
    let mut a = a;
    a.next("link_up");
    a.say("red \u{1b}[31m alert\nand a second line");
    let id = a.id();
    let short = &id[id.len() - 8..];
    assert!(line_with("linked").contains(short));
    assert_eq!(
        line_with("alert"),
        format!("[lobby] {short}: red \\u{{1b}}[31m alert\\nand a second line")
    );
    child.kill().expect("it runs");
    child.wait().expect("a child");
}

#[test]
fn a_node_without_input_does_not_read_it() {
    let (mut a, mut b) = Program::pair();
    let mut c = Program::node(&["--no-input", "--dial", &a.address()]);
    c.next("link_up");
    // It would be refused by name, and would be sent.
    c.line("{}");
    c.line(r#"{"text": "unheard"}"#);
    b.say("hello");
    assert_eq!(c.texts(1), ["hello"]);
    a.say("good day");
    assert_eq!(b.texts(1), ["good day"]);
}
