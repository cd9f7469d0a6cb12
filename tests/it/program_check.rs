//! `diatribe check` against addresses with a node, and with services that do not speak libp2p. Other libp2p peers are
//! in `program_check_others`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::address::self_signed;
use crate::program_support::{Program, answer, folder, parse, run, text};

/// Every stage of a link by IP address.
const STAGES: [&str; 8] = [
    "resolve",
    "tcp",
    "websocket",
    "noise",
    "yamux",
    "identify",
    "handshake_1",
    "handshake_2",
];

/// The lines of a check, the last of which is its end.
pub(crate) fn check(args: &[&str]) -> (Vec<Value>, Option<i32>) {
    let (_folder, data) = folder();
    let output = run(&[&["check", "--json", "--data-dir", &data], args].concat());
    let lines = text(&output.stdout).lines().map(parse).collect();
    (lines, output.status.code())
}

/// Where a check that must fail fails, with its code and reason.
pub(crate) fn failure(args: &[&str]) -> (String, Value, String) {
    let (lines, code) = check(args);
    assert_eq!(code, Some(1), "{lines:#?}");
    let [before @ .., failed, end] = &lines[..] else {
        panic!("{lines:#?}")
    };
    assert!(before.iter().all(|line| line["ok"] == true), "{lines:#?}");
    assert_eq!((&failed["ok"], &end["ok"]), (&json!(false), &json!(false)));
    assert_eq!(
        (&failed["stage"], &failed["reason"]),
        (&end["stage"], &end["reason"])
    );
    let reason = failed["reason"].as_str().expect("a reason").to_owned();
    (
        failed["stage"].as_str().expect("a stage").to_owned(),
        failed["code"].clone(),
        reason,
    )
}

#[test]
fn a_node_that_is_there_passes_every_stage_and_sees_a_visit() {
    let mut a = Program::node(&[]);
    let (lines, code) = check(&[&a.address()]);
    assert_eq!(code, Some(0), "{lines:#?}");
    let stages: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["stage"].as_str())
        .collect();
    assert_eq!(stages, STAGES);
    let end = lines.last().expect("an end");
    assert_eq!(
        (&end["ok"], &end["peer_id"]),
        (&json!(true), &json!(a.id()))
    );
    a.next("visit");
}

#[test]
fn a_port_that_nobody_listens_on_fails_at_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let (stage, _, reason) = failure(&[&address]);
    assert_eq!(stage, "tcp");
    assert!(reason.contains("nothing listens there"), "{reason}");
}

/// Listens on a port and serves its connections one after the other.
fn port(mut serve: impl FnMut(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            serve(stream);
        }
    });
    address
}

/// A web server that gives this answer to everything.
fn web_server(answer: &'static str) -> String {
    port(move |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(answer.as_bytes());
    })
}

#[test]
fn a_port_that_says_nothing_is_timed_out_at_the_websocket() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let begun = Instant::now();
    let (stage, code, reason) = failure(&[&address.to_string()]);
    assert_eq!((&*stage, code), ("websocket", json!("TIMEOUT")));
    assert!(reason.contains("nothing answers"), "{reason}");
    assert!(reason.contains("dial it as /tls/ws"), "{reason}");
    assert!(begun.elapsed() < Duration::from_secs(13), "too patient");
    let (_, code, reason) = failure(&[&format!("/dns4/localhost/tcp/{}/tls/ws", address.port())]);
    assert_eq!(code, json!("TIMEOUT"));
    assert!(reason.contains("dial it as /ws"), "{reason}");
}

/// So does a node that has no place for another connection.
#[test]
fn a_port_that_hangs_up_at_once_may_be_a_node_without_a_place() {
    let (stage, _, reason) = failure(&[&port(drop)]);
    assert_eq!(stage, "websocket", "{reason}");
    assert!(reason.contains("may have no place"), "{reason}");
    assert!(!reason.contains("not a WebSocket peer"), "{reason}");
}

#[test]
fn a_web_server_fails_at_the_websocket_with_its_status() {
    for (answer, said) in [
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "HTTP 404",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP 200"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.0"),
        (
            "HTTP/1.1 301 Moved\r\nLocation: https://example.org/\r\n\r\n",
            "redirect",
        ),
    ] {
        let (stage, _, reason) = failure(&[&web_server(answer)]);
        assert_eq!(stage, "websocket");
        assert!(reason.contains("a web server answers there"), "{reason}");
        assert!(reason.contains(said), "{reason}");
    }
}

#[test]
fn what_is_not_http_fails_at_the_websocket() {
    let address = port(|mut stream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let (stage, _, reason) = failure(&[&address]);
    assert_eq!(stage, "websocket");
    assert!(reason.contains("is not HTTP"), "{reason}");
}

#[test]
fn tls_on_one_side_alone_is_told_with_the_other_form() {
    let (folder, _) = folder();
    let (cert, key) = self_signed(&folder);
    let path = |path: &std::path::Path| path.to_str().expect("a path").to_owned();
    let (cert, key) = (path(&cert), path(&key));
    let listen = "/ip4/127.0.0.1/tcp/0/tls/ws";
    let a = Program::node(&["--listen", listen, "--tls-cert", &cert, "--tls-key", &key]);
    let secure = a.address_with("/tls/");
    let port = secure.split('/').nth(4).expect("a port");
    let (lines, code) = check(&[
        "--tls-ca",
        &cert,
        &format!("/dns4/localhost/tcp/{port}/tls/ws"),
    ]);
    assert_eq!(code, Some(0), "{lines:#?}");
    let (stage, _, reason) = failure(&[&format!("/ip4/127.0.0.1/tcp/{port}/ws")]);
    assert_eq!(stage, "websocket");
    assert!(reason.contains("dial it as /tls/ws"), "{reason}");
    let (stage, _, reason) = failure(&[&format!("/dns4/localhost/tcp/{port}/tls/ws")]);
    assert_eq!(stage, "tls");
    assert!(reason.contains("--tls-ca"), "{reason}");

    let plain = Program::node(&[]);
    let port = plain.socket().split(':').nth(1).expect("a port").to_owned();
    let (stage, _, reason) = failure(&[&format!("/dns4/localhost/tcp/{port}/tls/ws")]);
    assert_eq!(stage, "tls");
    assert!(reason.contains("dial it as /ws"), "{reason}");
}

#[test]
fn a_name_that_nobody_has_fails_at_resolve() {
    let (stage, _, reason) = failure(&["nobody.invalid:9000"]);
    assert_eq!(stage, "resolve");
    assert!(reason.contains("no host called nobody.invalid"), "{reason}");
}

#[test]
fn another_peer_than_the_address_names_fails_at_noise() {
    let (a, other) = (Program::node(&[]), Program::node(&[]));
    let address = a.address().replace(&a.id(), &other.id());
    let (stage, code, reason) = failure(&[&address]);
    assert_eq!((stage.as_str(), code), ("noise", json!("WRONG_PEER")));
    assert!(reason.contains(&a.id()), "{reason}");
}

#[test]
fn a_wrong_network_key_fails_at_round_1() {
    let (folder, _) = folder();
    let key = folder.path().join("key");
    let key = key.to_str().expect("a path");
    answer(&["key", "network", key]);
    let a = Program::node(&["--network-key", key]);
    let (stage, code, reason) = failure(&[&a.address()]);
    assert_eq!((stage.as_str(), code), ("handshake_1", json!("NETWORK")));
    assert!(reason.contains("--network-key"), "{reason}");
    let (lines, code) = check(&["--network-key", key, &a.address()]);
    assert_eq!(code, Some(0), "{lines:#?}");
}

#[test]
fn a_node_that_does_not_trust_us_fails_at_round_1() {
    let a = Program::node(&[]);
    let b = Program::node(&["--trust", &a.id()]);
    let (stage, code, _) = failure(&[&b.address()]);
    assert_eq!((stage.as_str(), code), ("handshake_1", json!("POLICY")));
}

#[test]
fn one_address_that_fails_makes_the_exit_code_1() {
    let a = Program::node(&[]);
    let (lines, code) = check(&[&a.address(), "nobody.invalid:9000"]);
    assert_eq!(code, Some(1));
    let ends: Vec<&Value> = lines
        .iter()
        .filter(|line| line["type"] == "check")
        .collect();
    assert_eq!(
        (&ends[0]["ok"], &ends[1]["ok"]),
        (&json!(true), &json!(false))
    );
}
