//! Every documented form of an address leads to a link: IPv4, IPv6, names, TLS.

use std::path::PathBuf;

use diatribe::{Address, ConnectError, Stage};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use crate::cluster::{Member, builder, member, start};

fn port_of(address: &Multiaddr) -> u16 {
    address
        .iter()
        .find_map(|part| match part {
            Protocol::Tcp(port) => Some(port),
            _ => None,
        })
        .expect("the address has a port")
}

async fn dial(from: &Member, address: &str) -> Result<(), ConnectError> {
    let address: Address = address.parse().expect("an address");
    from.node.connect(address).await.map(drop)
}

fn stage(result: Result<(), ConnectError>) -> (Stage, String) {
    match result.expect_err("it cannot be reached") {
        ConnectError::Stage(error) => (error.stage, error.reason),
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn ipv6_with_brackets_and_a_name_with_a_port_are_dialled() {
    let listen = [
        "/ip6/::1/tcp/0/ws".parse().unwrap(),
        "/ip4/127.0.0.1/tcp/0/ws".parse().unwrap(),
    ];
    let a = start(builder().listen(listen)).await;
    let [v6, v4] = [0, 1].map(|i| port_of(&a.node.addresses()[i]));
    dial(&member().await, &format!("[::1]:{v6}"))
        .await
        .expect("IPv6 is dialled");
    dial(&member().await, &format!("localhost:{v4}"))
        .await
        .expect("a name is dialled");
    dial(&member().await, &format!("ws://127.0.0.1:{v4}/"))
        .await
        .expect("a URL is dialled");
}

/// A certificate for localhost that nobody knows, and its key, as PEM files.
pub(crate) fn self_signed(folder: &tempfile::TempDir) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
        .expect("a certificate can be made");
    let (cert, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&cert, made.cert.pem()).expect("a temporary file");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("a temporary file");
    (cert, key)
}

#[tokio::test]
async fn tls_is_spoken_by_both_forms_and_an_unknown_certificate_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (cert, key) = self_signed(&folder);
    let listen = ["/ip4/127.0.0.1/tcp/0/tls/ws".parse().unwrap()];
    let a = start(builder().listen(listen).tls(&cert, &key)).await;
    let port = port_of(&a.node.addresses()[0]);

    let trusting = start(builder().tls_ca(&cert)).await;
    dial(&trusting, &format!("/dns4/localhost/tcp/{port}/tls/ws"))
        .await
        .expect("/tls/ws is dialled");
    let trusting = start(builder().tls_ca(&cert)).await;
    dial(&trusting, &format!("/dns4/localhost/tcp/{port}/wss"))
        .await
        .expect("/wss is dialled");

    let (at, reason) =
        stage(dial(&member().await, &format!("/dns4/localhost/tcp/{port}/wss")).await);
    assert_eq!(at, Stage::Tls);
    assert!(reason.contains("--tls-ca"), "{reason}");
}

#[tokio::test]
async fn each_failure_names_its_stage() {
    let a = member().await;
    let (at, reason) = stage(dial(&a, "127.0.0.1:1").await);
    assert_eq!(at, Stage::Tcp);
    assert!(reason.contains("nothing listens there"), "{reason}");

    let (at, _) = stage(dial(&a, "no-such-host.invalid:9000").await);
    assert_eq!(at, Stage::Resolve);

    let b = member().await;
    let elsewhere = format!(
        "{}/p2p/{}",
        b.address().multiaddr(),
        libp2p::PeerId::random()
    );
    let (at, reason) = stage(dial(&a, &elsewhere).await);
    assert_eq!(at, Stage::Noise);
    assert!(reason.contains(&b.id().to_string()), "{reason}");

    let own = a.address().to_string();
    let (at, reason) = stage(dial(&a, &own).await);
    assert_eq!(at, Stage::Address);
    assert!(reason.contains("itself"), "{reason}");
}

#[tokio::test]
async fn a_port_in_use_and_a_missing_certificate_are_named_at_the_start() {
    let a = member().await;
    let taken = a.address().multiaddr().clone();
    let error = builder()
        .listen([taken])
        .start()
        .await
        .expect_err("the port is taken");
    assert!(
        error.to_string().contains("another program has the port"),
        "{error}"
    );

    let listen = ["/ip4/127.0.0.1/tcp/0/tls/ws".parse().unwrap()];
    let error = builder()
        .listen(listen)
        .start()
        .await
        .expect_err("no certificate");
    assert!(error.to_string().contains("--tls-cert"), "{error}");
}
