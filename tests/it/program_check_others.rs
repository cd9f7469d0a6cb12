//! `diatribe check` against peers that speak libp2p and cannot be linked with all the same: without
//! noise, without yamux, without our handshake, with another version of it.

use diatribe::conformance::frame::framed;
use diatribe::conformance::streams::{Behaviour, InboundStream};
use diatribe::handshake::{RejectCode, Role};
use diatribe::wire::proto::handshake as proto;
use diatribe::{ConnectError, Identity, Stage};
use futures::{AsyncWriteExt, StreamExt};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::{
    InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo, Version,
};
use libp2p::swarm::{Config, Swarm, SwarmEvent};
use libp2p::{PeerId, Transport, noise, tcp, yamux};
use prost::Message;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cluster::member;
use crate::program_check::failure;
use crate::raw_peer::{CHALLENGE_1, RawPeer};

const NOISE: &str = "/noise";
const YAMUX: &str = "/yamux/1.0.0";
const TODAY: &str = "/diatribe/handshake/1.0.0";
const TOMORROW: &str = "/diatribe/handshake/2.0.0";

/// An upgrade under another name.
#[derive(Clone)]
struct Called<U>(U, &'static str);

impl<U> UpgradeInfo for Called<U> {
    type Info = &'static str;
    type InfoIter = std::iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(self.1)
    }
}

impl<C, U: InboundConnectionUpgrade<C>> InboundConnectionUpgrade<C> for Called<U> {
    type Output = U::Output;
    type Error = U::Error;
    type Future = U::Future;

    fn upgrade_inbound(self, socket: C, _: &'static str) -> U::Future {
        let info = self.0.protocol_info().into_iter().next();
        self.0.upgrade_inbound(socket, info.expect("one name"))
    }
}

impl<C, U: OutboundConnectionUpgrade<C>> OutboundConnectionUpgrade<C> for Called<U> {
    type Output = U::Output;
    type Error = U::Error;
    type Future = U::Future;

    fn upgrade_outbound(self, socket: C, _: &'static str) -> U::Future {
        let info = self.0.protocol_info().into_iter().next();
        self.0.upgrade_outbound(socket, info.expect("one name"))
    }
}

fn transport(
    identity: &Identity,
    security: &'static str,
    muxer: &'static str,
) -> Boxed<(PeerId, StreamMuxerBox)> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::new());
    let noise = noise::Config::new(identity.keypair()).expect("an Ed25519 key");
    libp2p_websocket::Config::new(tcp)
        .upgrade(Version::V1)
        .authenticate(Called(noise, security))
        .multiplex(Called(yamux::Config::default(), muxer))
        .boxed()
}

/// The parts of a peer.
struct Other {
    security: &'static str,
    muxer: &'static str,
    agent: Option<&'static str>,
    protocols: Vec<&'static str>,
}

impl Default for Other {
    fn default() -> Other {
        Other {
            security: NOISE,
            muxer: YAMUX,
            agent: Some("other/7"),
            protocols: vec!["/other/1.0.0"],
        }
    }
}

/// Such a peer as it runs.
struct Running {
    address: String,
    /// Streams of protocols that it has.
    streams: mpsc::UnboundedReceiver<InboundStream>,
    driver: JoinHandle<()>,
}

async fn run(other: Other) -> Running {
    let identity = Identity::generate();
    let (inbound, streams) = mpsc::unbounded_channel();
    let mut swarm = Swarm::new(
        transport(&identity, other.security, other.muxer),
        Behaviour::new(&identity, other.agent, &other.protocols, inbound),
        identity.peer_id(),
        Config::with_tokio_executor(),
    );
    let anywhere = "/ip4/127.0.0.1/tcp/0/ws".parse().expect("a multiaddr");
    swarm.listen_on(anywhere).expect("it listens");
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address.to_string();
        }
    };
    let driver = tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    Running {
        address,
        streams,
        driver,
    }
}

/// Where and why a check of such a peer fails.
async fn check(other: Other) -> (String, Value, String) {
    let mut other = run(other).await;
    let address = other.address;
    let checking = tokio::task::spawn_blocking(move || failure(&[&address]));
    let failed = checking.await.expect("the check ends");
    assert!(
        other.streams.try_recv().is_err(),
        "it speaks what it does not know"
    );
    other.driver.abort();
    failed
}

/// A node sends its first request before the peer has agreed to its protocol, unlike a check.
#[tokio::test]
async fn a_node_that_dials_a_peer_without_our_handshake_hears_that_it_is_none_of_us() {
    let other = run(Other::default()).await;
    let node = member().await.node;
    let address = other.address.parse().expect("a multiaddr");
    match node.connect(address).await {
        Err(ConnectError::Stage(error)) => {
            assert_eq!(
                (error.stage, error.code),
                (Stage::Handshake1, Some("NOT_SPOKEN"))
            );
            assert!(error.reason.contains(TODAY), "{}", error.reason);
        }
        other => panic!("{other:?}"),
    }
    other.driver.abort();
}

#[tokio::test]
async fn a_peer_without_noise_fails_at_noise() {
    let other = Other {
        security: "/rot13/1.0.0",
        ..Other::default()
    };
    let (stage, code, reason) = check(other).await;
    assert_eq!((&*stage, code), ("noise", json!("NOT_SPOKEN")));
    assert!(reason.contains("offers no noise (/noise):"), "{reason}");
    assert!(reason.contains("Dial a diatribe node"), "{reason}");
}

#[tokio::test]
async fn another_encryption_is_named() {
    for security in ["/plaintext/2.0.0", "/tls/1.0.0"] {
        let other = Other {
            security,
            ..Other::default()
        };
        let (stage, code, reason) = check(other).await;
        assert_eq!((&*stage, code), ("noise", json!("NOT_SPOKEN")));
        assert!(reason.contains(&format!("but {security}")), "{reason}");
    }
}

#[tokio::test]
async fn a_peer_without_yamux_fails_at_yamux() {
    for (muxer, said) in [
        ("/mplex/6.7.0", "but /mplex/6.7.0"),
        ("/braid/1.0.0", "offers no yamux (/yamux/1.0.0):"),
    ] {
        let other = Other {
            muxer,
            ..Other::default()
        };
        let (stage, code, reason) = check(other).await;
        assert_eq!((&*stage, code), ("yamux", json!("NOT_SPOKEN")));
        assert!(reason.contains(said), "{reason}");
    }
}

#[tokio::test]
async fn a_peer_without_our_handshake_is_named_by_its_own_account() {
    let (stage, code, reason) = check(Other::default()).await;
    assert_eq!((&*stage, code), ("handshake_1", json!("NOT_SPOKEN")));
    assert!(reason.contains(TODAY), "{reason}");
    assert!(reason.contains("`other/7` by its own account"), "{reason}");
}

#[tokio::test]
async fn a_peer_without_our_handshake_that_does_not_say_who_it_is_is_told_all_the_same() {
    let other = Other {
        agent: None,
        ..Other::default()
    };
    let (stage, code, reason) = check(other).await;
    assert_eq!((&*stage, code), ("handshake_1", json!("NOT_SPOKEN")));
    assert!(reason.contains("does not speak"), "{reason}");
}

#[tokio::test]
async fn a_peer_that_has_only_another_version_of_our_handshake_is_told_with_both_versions() {
    let other = Other {
        agent: Some("diatribe/9.0.0"),
        protocols: vec![TOMORROW],
        ..Other::default()
    };
    let (stage, code, reason) = check(other).await;
    assert_eq!((&*stage, code), ("handshake_1", json!("VERSION")));
    for said in [TODAY, TOMORROW, "diatribe/9.0.0", "Update"] {
        assert!(reason.contains(said), "{said}: {reason}");
    }
}

#[tokio::test]
async fn a_peer_that_rejects_our_version_is_told_as_such() {
    let mut raw = RawPeer::new().await;
    let address = raw.address.to_string();
    let checking = tokio::task::spawn_blocking(move || failure(&[&address]));
    raw.connected().await;
    let (mut stream, _hello) = raw.request().await.expect("a Hello");
    let code = RejectCode::Version.number();
    let kind = Some(proto::frame::Kind::Reject(proto::Reject {
        code,
        ..Default::default()
    }));
    let reject = framed(&proto::Frame { kind }.encode_to_vec());
    stream.write_all(&reject).await.expect("it is read");
    stream.close().await.expect("it is read");
    let (stage, code, reason) = checking.await.expect("the check ends");
    assert_eq!((&*stage, code), ("handshake_1", json!("VERSION")));
    assert!(reason.contains("update whichever"), "{reason}");
}

#[tokio::test]
async fn a_peer_whose_introduction_is_of_version_3_is_told_with_its_version() {
    let mut raw = RawPeer::new().await;
    let address = raw.address.to_string();
    let checking = tokio::task::spawn_blocking(move || failure(&[&address]));
    let up = raw.connected().await;
    let local = raw.local();
    raw.handshake(up, Role::Listener, local, |number, body| {
        Some(framed(&match number {
            CHALLENGE_1 => of_version_3(&body),
            _ => body,
        }))
    })
    .await;
    let (stage, code, reason) = checking.await.expect("the check ends");
    assert_eq!((&*stage, code), ("handshake_1", json!("VERSION")));
    assert!(
        reason.contains("version 3 of the handshake, this node version 2"),
        "{reason}"
    );
}

fn of_version_3(frame: &[u8]) -> Vec<u8> {
    let mut frame = proto::Frame::decode(frame).expect("an honest frame");
    let Some(proto::frame::Kind::Challenge(challenge)) = &mut frame.kind else {
        panic!("not a Challenge: {frame:?}")
    };
    let mut core = proto::Core::decode(challenge.core.clone()).expect("an honest core");
    core.version = 3;
    challenge.core = core.encode_to_vec().into();
    frame.encode_to_vec()
}
