//! The facts that a stranger learns of a node before it has passed the handshake: its key and its program, and nothing
//! about its addresses, its links, or its network.

use std::collections::HashSet;

use diatribe::handshake::Role;
use diatribe::wire::proto::handshake as proto;
use diatribe::{Identity, NetworkKey};
use futures::AsyncReadExt;
use libp2p::swarm::Stream;
use prost::Message;

use crate::cluster::{Member, builder, start};
use crate::raw_peer::{RawPeer, Up, patiently};

const IDENTIFY: &str = "/ipfs/id/1.0.0";

/// libp2p's Identify, as much of it as there is.
#[derive(Clone, PartialEq, prost::Message)]
struct Said {
    #[prost(bytes = "vec", tag = "1")]
    public_key: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    listen_addresses: Vec<Vec<u8>>,
    #[prost(string, repeated, tag = "3")]
    protocols: Vec<String>,
    #[prost(bytes = "vec", tag = "4")]
    observed_address: Vec<u8>,
    #[prost(string, tag = "5")]
    protocol_version: String,
    #[prost(string, tag = "6")]
    agent: String,
    #[prost(bytes = "vec", tag = "8")]
    signed_peer_record: Vec<u8>,
}

async fn read(mut stream: Stream) -> Said {
    let mut bytes = Vec::new();
    let all = patiently("identify message", async {
        stream.read_to_end(&mut bytes).await.ok()
    });
    all.await;
    Said::decode_length_delimited(&bytes[..]).expect("an identify message")
}

/// Reads a node's identify message and checks that it has no address.
async fn learns_no_address(raw: &RawPeer, up: Up, node: &Member) {
    let stream = raw.open(up, IDENTIFY).await.expect("every peer answers");
    let said = read(stream).await;
    assert_eq!(said.listen_addresses, [[0; 0]; 0], "{said:?}");
    assert_eq!(said.observed_address, [0; 0], "{said:?}");
    assert_eq!(said.signed_peer_record, [0; 0], "{said:?}");
    assert_eq!(said.public_key.len(), 36);
    assert!(said.agent.starts_with("diatribe/"), "{said:?}");
    let allowed = ["/ipfs/", "/diatribe/handshake/"];
    let told = |name: &String| !allowed.iter().any(|begin| name.starts_with(begin));
    assert!(!said.protocols.iter().any(told), "{said:?}");
    // Nor by any other way through the same message.
    let shown = node.address().multiaddr().to_vec();
    let bytes = said.encode_to_vec();
    assert!(!bytes.windows(shown.len()).any(|part| part == shown));
}

/// A node that listens on every interface and announces an address, as one behind a router does.
async fn node_with_addresses() -> Member {
    let everywhere = "/ip4/0.0.0.0/tcp/0/ws".parse().expect("a multiaddr");
    let announced = "/ip4/198.51.100.7/tcp/443/ws".parse().expect("a multiaddr");
    start(builder().listen([everywhere]).announce([announced])).await
}

#[tokio::test]
async fn a_stranger_that_dials_is_told_no_address() {
    let node = node_with_addresses().await;
    let mut raw = RawPeer::with(Identity::generate(), false).await;
    let up = raw.dial(&node.address()).await;
    learns_no_address(&raw, up, &node).await;
    // Nor after the pass: where nodes are, the overlay tells.
    let up = raw.dial(&node.address()).await;
    raw.pass(up, Role::Dialer).await;
    let said = read(raw.open(up, IDENTIFY).await.expect("it answers")).await;
    assert_eq!(said.listen_addresses, [[0; 0]; 0], "{said:?}");
}

#[tokio::test]
async fn a_stranger_that_is_dialled_is_told_no_address() {
    let node = node_with_addresses().await;
    let mut raw = RawPeer::with(Identity::generate(), false).await;
    let (up, dial) = raw.dialled_by(&node.node).await;
    learns_no_address(&raw, up, &node).await;
    dial.abort();
}

/// Returns the Hello that a node with this network key sends to a stranger that it dials.
async fn hello_of(identity: &Identity, key: u8) -> proto::Core {
    let key = NetworkKey::from_bytes(&[key; 32]);
    let node = start(builder().identity(identity.clone()).network_key(key)).await;
    let mut raw = RawPeer::new().await;
    let (_, dial) = raw.dialled_by(&node.node).await;
    let (_reply, hello) = raw.request().await.expect("the node begins");
    dial.abort();
    let frame = proto::Frame::decode(&hello[..]).expect("a frame");
    let Some(proto::frame::Kind::Hello(hello)) = frame.kind else {
        panic!("no Hello: {frame:?}")
    };
    proto::Core::decode(hello.core).expect("a core")
}

#[tokio::test]
async fn a_hello_does_not_tell_which_network_a_node_belongs_to() {
    let identity = Identity::generate();
    let mut tags = HashSet::new();
    for key in [1, 1, 2] {
        let core = hello_of(&identity, key).await;
        assert_eq!(core.tags.len(), 32);
        assert!(tags.insert(core.tags[..16].to_vec()), "the same tag again");
        assert!(tags.insert(core.tags[16..].to_vec()), "the same tag again");
        // Everything else belongs to the identity, to the process, or to this Hello.
        let known = proto::Core {
            version: core.version,
            round: 1,
            public_key: core.public_key.clone(),
            peer_id: identity.peer_id().to_bytes().into(),
            enc_key: core.enc_key.clone(),
            nonce: core.nonce.clone(),
            instance_id: core.instance_id.clone(),
            features: core.features,
            prev: vec![0; 32].into(),
            tags: core.tags.clone(),
            key: 0,
            clock_ms: core.clock_ms,
        };
        assert_eq!(core, known);
    }
}
