//! The conformance kit passes this program, whichever of the two dials, and reports only the cases that it has run.

use std::time::Duration;

use serde_json::{Value, json};

use crate::program_support::{Program, answer, diatribe, folder, parse, run, text};

/// Number of addresses that the node dials. The kit's observer uses the first.
const LISTEN_PORTS: usize = 4;

/// The kit gives up a case in two minutes: a node that dials waits up to one before it tries again.
const CASE: Duration = Duration::from_secs(150);

/// The lines of a run against `address`, the last of which is its end.
fn conformance(args: &[&str]) -> (Vec<Value>, Option<i32>) {
    let (_folder, data) = folder();
    let output = run(&[&["conformance", "--json", "--data-dir", &data], args].concat());
    let lines = text(&output.stdout).lines().map(parse).collect();
    (lines, output.status.code())
}

/// The cases that have not passed.
fn wrong(lines: &[Value]) -> Vec<String> {
    let bad = |line: &&Value| line["type"] == "case" && line["outcome"] != "passed";
    let name_and_result = |line: &Value| format!("{}: {}", line["name"], line["came"]);
    lines.iter().filter(bad).map(name_and_result).collect()
}

fn cases(lines: &[Value]) -> usize {
    lines.iter().filter(|line| line["type"] == "case").count()
}

/// Cases of every chapter that do not hang on how busy this machine is. All of them are for a quiet
/// machine, and for `tests/interop/cells/conformance.js`.
const SOME: &[&str] = &[
    "tcp",
    "handshake-1",
    "handshake-2",
    "identify-without-addresses",
    "ping",
    "room",
    "message",
    "future-date",
    "hint-with-a-path",
    "hint-to-a-name",
    "contacts-at-one-address",
    "wrong-signature",
    "envelope-with-longer-varint",
    "batch-with-cofactored-signature",
    "version-3",
    "wrong-network",
    "wrong-id",
    "challenge-signed-by-another-key",
    "cofactored-signature",
    "wrong-nonce-challenge",
    "wrong-pass",
    "replay",
    "reflection",
    "confirm-with-another-first-byte",
    "tag-of-another-nonce",
    "fresh-values",
    "clock",
    "relay",
];

fn some() -> Vec<&'static str> {
    SOME.iter().flat_map(|name| ["--case", name]).collect()
}

#[test]
fn nothing_is_wrong_with_a_node_that_is_dialled() {
    let a = Program::node(&[]);
    let (lines, code) = conformance(&[&some()[..], &[&a.address()]].concat());
    let end = lines.last().expect("an end");
    assert_eq!(end["peer_id"], json!(a.id()));
    assert_eq!(cases(&lines), SOME.len());
    assert_eq!(wrong(&lines), [""; 0]);
    assert_eq!((&end["ok"], code), (&json!(true), Some(0)), "{end}");
}

#[test]
fn nothing_is_wrong_with_a_node_that_dials() {
    let (_folder, data) = folder();
    let mut command = diatribe(&["conformance", "--json", "--data-dir", &data]);
    command.args(["--listen", "127.0.0.1:0"].repeat(LISTEN_PORTS));
    command.args(some());
    let mut kit = Program::spawn(command);
    let lanes: Vec<String> = (0..LISTEN_PORTS)
        .map(|_| text_of(&kit.next("listening")["address"]))
        .collect();
    let dial: Vec<&str> = lanes.iter().flat_map(|at| ["--dial", at]).collect();
    let _node = Program::node(&dial);
    let mut lines = Vec::new();
    while lines
        .last()
        .is_none_or(|line: &Value| line["type"] != "conformance")
    {
        lines.push(kit.next_within(CASE, &["case", "conformance"]));
    }
    assert_eq!(wrong(&lines), [""; 0]);
    let end = lines.last().expect("an end");
    assert_eq!(end["ok"], json!(true), "{end}");
    assert_eq!(cases(&lines), SOME.len());
}

fn text_of(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

#[test]
fn a_network_with_a_key_is_tested_with_its_key() {
    let (folder, _) = folder();
    let key = folder.path().join("key");
    let key = key.to_str().expect("a path");
    answer(&["key", "network", key]);
    let a = Program::node(&["--network-key", key, "--room", "attic"]);
    let some = ["message", "tag-without-the-key", "wrong-network"];
    let chosen: Vec<&str> = some.iter().flat_map(|name| ["--case", name]).collect();
    let with = [&["--network-key", key, "--room", "attic"], &chosen[..]].concat();
    let (lines, code) = conformance(&[&with[..], &[&a.address()]].concat());
    assert_eq!((wrong(&lines), code), (vec![], Some(0)));
    assert_eq!(cases(&lines), some.len());
}

#[test]
fn what_was_not_run_is_not_passed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let (lines, code) = conformance(&[&address]);
    let end = lines.last().expect("an end");
    assert_eq!((&end["ok"], code), (&json!(false), Some(1)));
    assert_eq!(
        (&end["passed"], &end["failed"]),
        // The address itself is resolved.
        (&json!(0), &json!(1)),
        "{end}"
    );
    assert_eq!(end["not_run"], json!(cases(&lines) - 1));
    assert!(cases(&lines) > 100);
}

/// A machine that stalls for a moment loses one connection: the peer is not at fault, and all other cases still run.
#[test]
fn a_first_connection_that_is_lost_is_made_again() {
    let a = Program::node(&[]);
    let address = a.address();
    let port = address.split('/').nth(4).expect("a port").to_owned();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        drop(listener.accept());
        while let Ok((from, _)) = listener.accept() {
            let to = std::net::TcpStream::connect(format!("127.0.0.1:{port}")).expect("the node");
            for (mut from, mut to) in [
                (
                    from.try_clone().expect("a socket"),
                    to.try_clone().expect("a socket"),
                ),
                (to, from),
            ] {
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
        }
    });
    let (lines, code) = conformance(&["--case", "handshake-1", "--case", "ping", &at.to_string()]);
    assert_eq!((wrong(&lines), code), (vec![], Some(0)));
    assert_eq!(cases(&lines), 2);
}

#[test]
fn a_node_in_another_room_is_told_from_one_that_is_silent() {
    let a = Program::node(&[]);
    let (lines, code) = conformance(&["--room", "attic", "--case", "room", &a.address()]);
    assert_eq!(code, Some(1));
    let came = text_of(&lines[0]["came"]);
    assert!(came.contains("start it with that room"), "{came}");
}

#[test]
fn wrong_usage_is_named() {
    for (args, named) in [
        (&["conformance"][..], "name the peer"),
        (
            &["conformance", "--case", "nonsense", "127.0.0.1:1"],
            "no case \"nonsense\"",
        ),
        (
            &["conformance", "--listen", "127.0.0.1:0", "127.0.0.1:1"],
            "not both",
        ),
        (
            &["conformance", "--case", "hello-before-pass", "127.0.0.1:1"],
            "--listen",
        ),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            text(&output.stderr).contains(named),
            "{}",
            text(&output.stderr)
        );
    }
    assert!(answer(&["conformance", "--list"]).contains("replay"));
}
