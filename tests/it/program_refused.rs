//! The program's messages when something is refused: a peer, an option, a file, a port.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::program_support::{PASSPHRASE, Program, answer, complaint, file, folder, run, text};

#[test]
fn a_wrong_network_key_is_named_on_both_sides() {
    let (folder, path) = folder();
    let key = folder.path().join("key");
    let key = key.to_str().expect("a path");
    answer(&["key", "network", key]);
    let mut a = Program::node(&["--network-key", key]);
    let mut b = Program::node(&["--dial", &a.address()]);
    for (program, peer) in [(&mut a, None), (&mut b, Some(path))] {
        let refused = program.next("refused");
        assert_eq!(
            (&refused["code"], &refused["stage"]),
            (&json!("NETWORK"), &json!("handshake_1"))
        );
        assert!(
            refused["reason"].to_string().contains("--network-key"),
            "{peer:?}: {refused}"
        );
    }
    let mut c = Program::node(&["--network-key", key, "--dial", &a.address()]);
    c.next("link_up");
}

#[test]
fn only_trusted_peers_are_linked_with() {
    let (folder, data) = folder();
    let friend = answer(&["id", "--data-dir", &data]);
    let list = file(
        &folder,
        "friends",
        &format!("# friends\n{friend} # the first\n"),
    );
    let mut a = Program::node(&["--trust", &format!("@{list}")]);
    let mut stranger = Program::node(&["--dial", &a.address()]);
    assert_eq!(stranger.next("refused")["code"], "POLICY");
    let refused = a.next("refused");
    assert_eq!(
        (&refused["code"], &refused["peer_id"]),
        (&json!("POLICY"), &json!(stranger.id()))
    );
    let mut friend = Program::node_in(&["--data-dir", &data, "--dial", &a.address()]);
    friend.next("link_up");
}

#[test]
fn a_denied_peer_is_refused() {
    let (_folder, data) = folder();
    let foe = answer(&["id", "--data-dir", &data]);
    let mut a = Program::node(&["--deny", &foe]);
    let mut foe = Program::node_in(&["--data-dir", &data, "--dial", &a.address()]);
    assert_eq!(foe.next("refused")["code"], "POLICY");
    assert_eq!(a.next("refused")["code"], "POLICY");
}

#[test]
fn another_peer_than_the_address_names_is_refused() {
    let (a, other) = (Program::node(&[]), Program::node(&[]));
    let address = a.address().replace(&a.id(), &other.id());
    let mut b = Program::node(&["--dial", &address]);
    let refused = b.next("refused");
    assert_eq!(refused["code"], "WRONG_PEER");
    assert!(refused["reason"].to_string().contains(&a.id()));
}

#[test]
fn the_same_identity_twice_is_named() {
    let (folder, _) = folder();
    let passphrase = file(&folder, "passphrase", PASSPHRASE);
    let mut a = Program::node(&[]);
    let _first = Program::node(&["--passphrase-file", &passphrase, "--dial", &a.address()]);
    a.next("link_up");
    let mut second = Program::node(&["--passphrase-file", &passphrase, "--dial", &a.address()]);
    let refused = second.next("refused");
    assert_eq!(refused["code"], "DUPLICATE_IDENTITY");
    assert_eq!(a.next("refused")["code"], "DUPLICATE_IDENTITY");
}

#[test]
fn an_http_request_and_random_bytes_leave_others_untouched() {
    let (mut a, mut b) = Program::pair();
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        &[0xff, 0, 0x13, 0x37, 0x0a][..],
    ] {
        let mut stream = TcpStream::connect(a.socket()).expect("the port is open");
        stream.write_all(bytes).expect("it is taken");
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("it is open");
        // It is closed from the other side.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    b.say("hello");
    assert_eq!(a.texts(1), ["hello"]);
}

#[test]
fn a_port_in_use_is_named() {
    let a = Program::node(&[]);
    let (_folder, data) = folder();
    let error = complaint(&["node", "--data-dir", &data, "--listen", &a.socket()], 1);
    assert!(error.contains("another program has the port"), "{error}");
    let output = run(&[
        "node",
        "--json",
        "--data-dir",
        &data,
        "--listen",
        &a.socket(),
    ]);
    let line = crate::program_support::parse(text(&output.stdout).trim_end());
    assert_eq!(line["type"], "error");
}

#[test]
fn a_data_directory_belongs_to_one_node_at_a_time() {
    let (_folder, data) = folder();
    let first = Program::node_in(&["--data-dir", &data]);
    let error = complaint(&["node", "--data-dir", &data, "--listen", "127.0.0.1:0"], 1);
    assert!(
        error.contains("another node") && error.contains("--data-dir"),
        "{error}"
    );
    drop(first);
    Program::node_in(&["--data-dir", &data]);
}

/// The bytes that an address with a path would send to a Redis server.
const INJECTED: &str =
    "/ip4/127.0.0.1/tcp/6379/x-parity-ws/%2F%20HTTP%2F1.1%0D%0ASET%20a%20b%0D%0A";

#[test]
fn a_path_is_not_dialled_by_check_either() {
    let (_folder, data) = folder();
    let said = complaint(&["check", "--data-dir", &data, INJECTED], 2);
    assert!(said.contains("a path cannot be dialled"), "{said}");
}

#[test]
fn an_option_that_makes_no_sense_is_a_usage_error_that_says_what_would() {
    let (_folder, data) = folder();
    for (args, named) in [
        (&["--listen", "/ip4/127.0.0.1/tcp/0"][..], "/ws"),
        (&["--listen", "localhost:9000"], "neither"),
        (&["--dial", "localhost"], "localhost:9000"),
        (&["--room", "a/b"], "'/'"),
        (&["--trust", "alice"], "12D3KooW"),
        (
            &["--announce", "/ip4/0.0.0.0/tcp/9000/ws"],
            "where to listen",
        ),
        (&["--dial", INJECTED], "a path cannot be dialled"),
        (
            &["--entry", "ws://127.0.0.1:6379/a"],
            "a path cannot be dialled",
        ),
        (&["--announce", INJECTED], "a path cannot be dialled"),
        (&["--announce", "8.8.8.8:81"], "only 80, 443"),
        (&["--announce", "192.0.2.1:9000"], "no address of a machine"),
        (&["--listen", INJECTED], "a path cannot be listened on"),
        (&["--salt", "s"], "passphrase"),
        (&["--tls-cert", "c.pem"], "--tls-key"),
        (&["--passphrase", "--passphrase-stdin"], "one of"),
        (&["--per-address-limit", "0"], "per-address-limit"),
        (&["--frobnicate"], "--frobnicate"),
    ] {
        let mut all = vec!["node", "--data-dir", &data];
        all.extend(args);
        let error = complaint(&all, 2);
        assert!(error.contains(named), "{args:?}: {error}");
    }
}

#[test]
fn a_file_that_is_missing_or_wrong_is_named() {
    let (folder, data) = folder();
    let list = file(&folder, "friends", "# friends\n\nalice\n");
    let key = file(&folder, "key", "abc\n");
    for (args, named) in [
        (&["--network-key", "/nowhere/key"][..], "/nowhere/key"),
        (&["--network-key", &key], &key),
        (&["--trust", &format!("@{list}")], "line 3"),
        (&["--deny", "@/nowhere/foes"], "/nowhere/foes"),
        (&["--passphrase-file", "/nowhere/p"], "/nowhere/p"),
        (&["--tls-ca", "/nowhere/ca"], "/nowhere/ca"),
    ] {
        let mut all = vec!["node", "--listen", "127.0.0.1:0", "--data-dir", &data];
        all.extend(args);
        let error = complaint(&all, 1);
        assert!(error.contains(named), "{args:?}: {error}");
    }
}
