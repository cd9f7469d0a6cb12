//! `diatribe check` against everything that can stand behind an address.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

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
fn check(args: &[&str]) -> (Vec<Value>, Option<i32>) {
    let (_folder, data) = folder();
    let output = run(&[&["check", "--json", "--data-dir", &data], args].concat());
    let lines = text(&output.stdout).lines().map(parse).collect();
    (lines, output.status.code())
}

/// Where a check that must fail fails, with its code and reason.
fn failure(args: &[&str]) -> (String, Value, String) {
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
fn a_node_that_is_there_passes_every_stage_and_sees_a_link_come_and_go() {
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
    a.next("link_up");
    a.next("link_down");
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

#[test]
fn a_port_that_says_nothing_is_timed_out_at_the_websocket() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (stage, code, reason) = failure(&[&address]);
    assert_eq!((stage.as_str(), code), ("websocket", json!("TIMEOUT")));
    assert!(reason.contains("nothing answers"), "{reason}");
}

#[test]
fn a_web_server_fails_at_the_websocket() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a visitor");
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    });
    let (stage, _, reason) = failure(&[&address]);
    assert_eq!(stage, "websocket");
    assert!(reason.contains("not a WebSocket peer"), "{reason}");
}

#[test]
fn a_name_that_nobody_has_fails_at_resolve() {
    let (stage, _, reason) = failure(&["nobody.invalid:9000"]);
    assert_eq!(stage, "resolve");
    assert!(reason.contains("nobody.invalid"), "{reason}");
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

#[tokio::test]
async fn another_libp2p_program_fails_at_round_1() {
    use futures::StreamExt;
    use libp2p::swarm::SwarmEvent;
    use libp2p::{SwarmBuilder, identify, noise, yamux};

    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_other_transport(websocket)
        .expect("a transport")
        .with_behaviour(|key| {
            identify::Behaviour::new(identify::Config::new("/other/1.0.0".into(), key.public()))
        })
        .expect("a behaviour")
        .build();
    fn websocket(
        key: &libp2p::identity::Keypair,
    ) -> libp2p::core::transport::Boxed<(libp2p::PeerId, libp2p::core::muxing::StreamMuxerBox)>
    {
        use libp2p::Transport;
        let tcp = libp2p::tcp::tokio::Transport::new(libp2p::tcp::Config::new());
        libp2p_websocket::Config::new(tcp)
            .upgrade(libp2p::core::upgrade::Version::V1Lazy)
            .authenticate(noise::Config::new(key).expect("a key"))
            .multiplex(yamux::Config::default())
            .boxed()
    }
    swarm
        .listen_on("/ip4/127.0.0.1/tcp/0/ws".parse().expect("a multiaddr"))
        .expect("it listens");
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address.to_string();
        }
    };
    let other = tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let failed = tokio::task::spawn_blocking(move || failure(&[&address]));
    let (stage, _, reason) = failed.await.expect("the check ends");
    assert_eq!(stage, "handshake_1");
    assert!(reason.contains("does not speak"), "{reason}");
    other.abort();
}
