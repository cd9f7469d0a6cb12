//! The program on machines with unusual names and addresses: no name server, one that appears later, a name with a
//! silent address, and link-local addresses.
//!
//! The machines are namespaces of this one, which takes root on Linux. These tests are ignored, and run with `cargo
//! test --test it namespace -- --ignored`.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::machine::Machine;

/// A name server of the test's own, on this machine's loopback, where no other one listens.
const NAME_SERVER: &str = "127.0.77.53";
/// An interface with no machine at its other end, with addresses, and neighbours that never answer.
const CABLE: &str = "ip link add v0 type veth peer name v1 && ip link set v0 up && ip link set v1 up && \
     ip addr add 10.9.0.1/24 dev v0 && ip -6 addr add fd00:9::1/64 dev v0 nodad && \
     ip -6 neigh add fd00:9::99 lladdr 02:00:00:00:00:99 dev v0 nud permanent && \
     ip neigh add 10.9.0.99 lladdr 02:00:00:00:00:99 dev v0 nud permanent";

/// The line with which a check ends.
fn end(lines: &[Value]) -> &Value {
    let end = lines.last().expect("a check says something");
    assert_eq!(end["type"], "check", "{lines:#?}");
    end
}

fn reason(lines: &[Value]) -> String {
    let end = end(lines);
    assert_eq!(end["ok"], false, "{lines:#?}");
    end["reason"].as_str().expect("a reason").to_owned()
}

#[test]
#[ignore = "needs namespaces: run with --ignored as root on Linux"]
fn without_a_name_server_everything_works_but_names_that_only_one_knows() {
    let machine = Machine::new("true");
    let listen = ["--listen", "127.0.0.1:9000"];
    let mut later = vec!["--dial", "later.test:9001"];
    later.extend(listen);
    let mut node = machine.node("a", &later);
    // The first attempt fails and reports the reason.
    let refused = node.next("refused");
    assert_eq!(refused["stage"], "resolve", "{refused}");
    for address in ["127.0.0.1:9000", "9000", "localhost:9000"] {
        let lines = machine.check(&[address]);
        assert_eq!(end(&lines)["ok"], true, "{address}: {lines:#?}");
    }
    let said = reason(&machine.check(&["nobody.test:9000"]));
    assert!(said.contains("nobody.test"), "{said}");
    // The hosts file is read anew for each lookup.
    let _other = machine.node("b", &["--listen", "127.0.0.1:9001"]);
    machine.add_host("127.0.0.1 later.test");
    node.next("link_up");
    let demo = machine
        .diatribe(&["demo", "--json", "--nodes", "3"])
        .output();
    let demo = demo.expect("the program runs");
    assert!(demo.status.success(), "{demo:?}");
}

/// Answers every question for an IPv4 address of `name` with 127.0.0.1, and says of everything else that it is not there.
fn name_server(name: &'static str) -> std::io::Result<()> {
    let socket = UdpSocket::bind((NAME_SERVER, 53))?;
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((n, asker)) = socket.recv_from(&mut packet) {
            let query = &packet[..n];
            let mut asked = Vec::new();
            let mut at = 12;
            while query[at] != 0 {
                let label = &query[at + 1..at + 1 + usize::from(query[at])];
                asked.push(String::from_utf8_lossy(label).into_owned());
                at += 1 + label.len();
            }
            let question = &query[12..at + 5];
            let is_known = asked.join(".") == name && query[at + 1..at + 3] == [0, 1];
            let mut answer = query[..2].to_vec();
            // A response; for a missing record without an error: the name has other records.
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_known), 0, 0, 0, 0]);
            answer.extend(question);
            if is_known {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            // A resolver that is gone will ask again.
            let _ = socket.send_to(&answer, asker);
        }
    });
    Ok(())
}

#[test]
#[ignore = "needs namespaces: run with --ignored as root on Linux"]
fn a_name_server_that_is_configured_while_the_node_runs_is_asked() {
    // The name server listens where the test runs; so must the program.
    let machine = Machine::new_on_this_network();
    let mut other = machine.node("b", &["--listen", "127.0.0.1:0"]);
    let port = other
        .socket()
        .rsplit_once(':')
        .expect("a port")
        .1
        .to_owned();
    let dial = format!("served.test:{port}");
    let mut node = machine.node("a", &["--listen", "127.0.0.1:0", "--dial", &dial]);
    assert_eq!(node.next("refused")["stage"], "resolve");
    name_server("served.test").expect("port 53 of an address of loopback is free");
    machine.set_name_server(NAME_SERVER);
    node.next("link_up");
    other.next("link_up");
}

#[test]
#[ignore = "needs namespaces: run with --ignored as root on Linux"]
fn an_address_of_a_name_that_is_silent_holds_up_the_other_for_a_quarter_of_a_second() {
    let machine = Machine::new(CABLE);
    machine.add_host("fd00:9::99 peer.test");
    machine.add_host("10.9.0.1 peer.test");
    let _node = machine.node("a", &["--listen", "10.9.0.1:9000"]);
    let begun = Instant::now();
    let lines = machine.check(&["peer.test:9000"]);
    assert_eq!(end(&lines)["ok"], true, "{lines:#?}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{lines:#?}");
    let tcp = lines.iter().find(|line| line["stage"] == "tcp");
    let ms = tcp.expect("a stage")["ms"].as_f64().expect("a number");
    assert!((250.0..1500.0).contains(&ms), "{lines:#?}");
}

#[test]
#[ignore = "needs namespaces: run with --ignored as root on Linux"]
fn of_several_addresses_each_says_why_it_failed() {
    let machine = Machine::new(CABLE);
    machine.add_host("fd00:9::99 peer.test");
    machine.add_host("10.9.0.1 peer.test");
    let said = reason(&machine.check(&["peer.test:9000"]));
    for part in [
        "[fd00:9::99]:9000: no answer in time",
        "10.9.0.1:9000: Connection refused",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let begun = Instant::now();
    machine.add_host("10.9.0.99 silent.test");
    let lines = machine.check(&["silent.test:9000"]);
    assert_eq!(end(&lines)["code"], json!("TIMEOUT"), "{lines:#?}");
    assert!(reason(&lines).contains("10.9.0.99:9000"), "{lines:#?}");
    assert!(begun.elapsed() < Duration::from_secs(12));
}

#[test]
#[ignore = "needs namespaces: run with --ignored as root on Linux"]
fn on_a_machine_without_ipv6_the_error_of_ipv4_is_the_one_that_is_shown() {
    let machine = Machine::new("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6");
    machine.add_host("2001:db8::1 peer.test");
    machine.add_host("127.0.0.1 peer.test");
    let said = reason(&machine.check(&["peer.test:9000"]));
    assert!(
        said.contains("127.0.0.1:9000: Connection refused"),
        "{said}"
    );
    assert!(!said.contains("2001:db8"), "{said}");
}

#[test]
#[ignore = "needs namespaces: run with --ignored as root on Linux"]
fn two_machines_on_a_cable_find_each_other_by_link_local_addresses() {
    let b = Machine::new("true");
    let make = format!(
        "ip link add v0 type veth peer name v1 netns {} && ip link set v0 up && ip -6 addr add fe80::1/64 dev v0 nodad",
        b.pid()
    );
    let a = Machine::new(&make);
    b.sh("ip link set v1 up && ip -6 addr add fe80::2/64 dev v1 nodad");
    let mut there = b.node("b", &["--listen", "[fe80::2%v1]:9000"]);
    assert!(
        there
            .address()
            .starts_with("/ip6zone/v1/ip6/fe80::2/tcp/9000/ws/p2p/"),
        "{}",
        there.address()
    );
    for address in ["[fe80::2%v0]:9000", "/ip6zone/v0/ip6/fe80::2/tcp/9000/ws"] {
        let lines = a.check(&[address]);
        assert_eq!(end(&lines)["ok"], true, "{address}: {lines:#?}");
        there.next("visit");
    }
    let mut here = a.node("a", &["--listen", "9000", "--dial", "fe80::2%v0:9000"]);
    here.next("link_up");
    there.next("link_up");
    here.say("over the cable");
    assert_eq!(there.texts(1), ["over the cable"]);
    let said = reason(&a.check(&["[fe80::2%none]:9000"]));
    assert!(said.contains("no network interface `none`"), "{said}");
}

#[test]
#[ignore = "needs namespaces: run with --ignored as root on Linux"]
fn a_check_says_that_a_peer_on_the_internet_cannot_dial_a_private_address_back() {
    let there = Machine::new("true");
    let make = format!(
        "ip link add v0 type veth peer name v1 netns {} && ip link set v0 up && ip addr add 10.9.0.2/24 dev v0 && \
         ip route add 8.8.4.4/32 via 10.9.0.1",
        there.pid()
    );
    let here = Machine::new(&make);
    there
        .sh("ip link set v1 up && ip addr add 10.9.0.1/24 dev v1 && ip addr add 8.8.4.4/32 dev lo");
    let _node = there.node("a", &["--listen", "0.0.0.0:9000"]);
    for (address, expected) in [
        ("8.8.4.4:9000", json!(false)),
        // On one network there may be a firewall in between.
        ("10.9.0.1:9000", Value::Null),
    ] {
        let lines = here.check(&[address]);
        assert_eq!(end(&lines)["ok"], true, "{lines:#?}");
        assert_eq!(end(&lines)["can_dial_back"], expected, "{address}");
    }
}
