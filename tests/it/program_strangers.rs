//! Connections to a node's port by others than peers that want a link: health checks, browsers, `diatribe check`,
//! crowds.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::EVENT_TIMEOUT;
use crate::program_check::check;
use crate::program_support::{Program, diatribe, folder};

fn connect(node: &Program) -> TcpStream {
    let stream = TcpStream::connect(node.socket()).expect("the node listens");
    stream
        .set_read_timeout(Some(EVENT_TIMEOUT))
        .expect("a socket");
    stream
}

/// Sends a request to the port and returns the answer.
fn answer(node: &Program, request: &str) -> String {
    let mut stream = connect(node);
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("an answer in text");
    answer
}

#[test]
fn a_plain_request_is_told_that_the_port_speaks_websocket() {
    let node = Program::node(&[]);
    let said = answer(&node, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let (head, body) = said.split_once("\r\n\r\n").expect("a head and a body");
    assert!(
        head.starts_with("HTTP/1.1 426 Upgrade Required\r\n"),
        "{said}"
    );
    assert!(head.contains("Upgrade: websocket"), "{said}");
    assert!(
        head.contains(&format!("Content-Length: {}", body.len())),
        "{said}"
    );
    assert!(
        body.contains("WebSocket") && body.ends_with(".\n"),
        "{said}"
    );
    let said = answer(&node, "HEAD /health HTTP/1.0\r\n\r\n");
    assert!(
        said.starts_with("HTTP/1.1 426") && said.ends_with("\r\n\r\n"),
        "{said}"
    );
}

#[test]
fn health_checks_are_told_from_this_side_and_only_now_and_then() {
    let mut node = Program::node(&[]);
    for _ in 0..30 {
        drop(connect(&node));
        answer(&node, "GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let mut peer = Program::node(&["--dial", &node.address()]);
    peer.next("link_up");
    // All lines about them are before the link, or are suppressed.
    let mut told: Vec<Value> = Vec::new();
    loop {
        let line = node.next_of(&["refused", "link_up"]);
        if line["type"] == "link_up" {
            break;
        }
        told.push(line);
    }
    assert!((1..=3).contains(&told.len()), "{told:#?}");
    for line in told {
        let reason = line["reason"].as_str().expect("a reason");
        assert!(reason.starts_with("a visitor"), "{reason}");
        assert!(!reason.contains("listens there"), "{reason}");
    }
}

#[test]
fn checks_are_visits_and_every_one_of_many_gets_an_answer() {
    let mut node = Program::node(&["--max-links", "2", "--min-links", "1"]);
    let mut peer = Program::node(&["--dial", &node.address()]);
    let _other = Program::node(&["--dial", &node.address()]);
    node.next("link_up");
    node.next("link_up");
    peer.next("link_up");
    for _ in 0..8 {
        // Each has an identity of its own, and the node is full.
        let (lines, code) = check(&[&node.address()]);
        assert_eq!(code, Some(0), "{lines:#?}");
    }
    node.next("visit");
    peer.say("still linked");
    assert_eq!(node.texts(1), ["still linked"]);
    for line in node.written() {
        let kind = line["type"].as_str().expect("a type");
        assert!(
            !["link_up", "link_down", "refused"].contains(&kind),
            "{line}"
        );
    }
}

/// With the identity of a node that is linked, as the operator of that node has it.
#[test]
fn a_check_with_the_identity_of_a_link_leaves_the_link_alone() {
    let mut node = Program::node(&[]);
    let (_folder, data) = folder();
    let mut peer = Program::node_in(&["--data-dir", &data, "--dial", &node.address()]);
    node.next("link_up");
    peer.next("link_up");
    let output = diatribe(&["check", "--json", "--data-dir", &data, &node.address()]).output();
    let output = output.expect("the program runs");
    assert!(output.status.success(), "{output:?}");
    node.next("visit");
    peer.say("still linked");
    assert_eq!(node.texts(1), ["still linked"]);
}

#[test]
fn an_address_of_ones_own_is_said_once_and_the_others_are_dialled() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let elsewhere = listener.local_addr().expect("an address").to_string();
    let own = TcpListener::bind("127.0.0.1:0").expect("a port");
    let own_address = own.local_addr().expect("an address").to_string();
    drop(own);
    let (_folder, data) = folder();
    let mut command = diatribe(&[
        "node",
        "--json",
        "--data-dir",
        &data,
        "--listen",
        &own_address,
    ]);
    let by_name = own_address.replace("127.0.0.1", "localhost");
    command.args(["--dial", &by_name, "--dial", &elsewhere]);
    let mut node = Program::spawn(command);
    node.await_online();
    // The other one is dialled again and again, as its own would be.
    for _ in 0..5 {
        drop(listener.accept().expect("it is dialled"));
    }
    let lines = node.written();
    let own: Vec<&Value> = lines
        .iter()
        .filter(|line| line["code"] == json!("OWN_ID"))
        .collect();
    assert_eq!(own.len(), 1, "{lines:#?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_node_with_all_its_files_open_says_so_seldom_and_serves_newcomers_again() {
    let (_folder, data) = folder();
    let program = diatribe(&["node", "--json", "--data-dir", &data]);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$@\"", "sh"]);
    command.arg(program.get_program()).args(program.get_args());
    command.args(["--listen", "127.0.0.1:0", "--exempt-loopback"]);
    command.env_remove("RUST_LOG");
    let mut node = Program::spawn(command);
    node.await_online();
    let crowd: Vec<TcpStream> = (0..200).map(|_| connect(&node)).collect();
    // The last one is served when those before it have had their time.
    let mut last = crowd.last().expect("a crowd");
    let begun = Instant::now();
    let _ = last.read(&mut [0]);
    drop(crowd);
    let mut peer = Program::node(&["--dial", &node.address()]);
    peer.next_within(Duration::from_secs(10), &["link_up"]);
    assert!(begun.elapsed() < EVENT_TIMEOUT);
    let said = node.stderr();
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("open files"))
        .collect();
    assert!((1..=4).contains(&lines.len()), "{said}");
    assert!(lines[0].contains("ulimit -n"), "{said}");
}
