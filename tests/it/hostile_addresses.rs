//! Limits on the addresses that a lying linked peer can make a node dial.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use diatribe::conformance::frame::framed;
use diatribe::handshake::Role;
use diatribe::overlay::{NodeResponse, PROTOCOL, Refusal, Response, decode_response};
use diatribe::{ConnectError, Stage};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{Multiaddr, PeerId};
use prost::Message;
use tokio::sync::{Mutex, mpsc};

use crate::cluster::{EVENT_TIMEOUT, Member, builder, member, start};
use crate::raw_peer::{RawPeer, Up};

/// A contact as a lying peer encodes it.
#[derive(Clone, PartialEq, prost::Message)]
struct Contact {
    #[prost(bytes = "vec", tag = "1")]
    peer_id: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    addresses: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Shuffle {
    #[prost(message, repeated, tag = "1")]
    offered: Vec<Contact>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Redirect {
    #[prost(fixed64, tag = "1")]
    nonce: u64,
    #[prost(message, optional, tag = "3")]
    to: Option<Contact>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(message, optional, tag = "1")]
    shuffle: Option<Shuffle>,
    #[prost(message, optional, tag = "3")]
    redirect: Option<Redirect>,
}

fn contact(id: PeerId, addresses: &[String]) -> Contact {
    let bytes = |text: &String| text.parse::<Multiaddr>().expect("a multiaddr").to_vec();
    Contact {
        peer_id: id.to_bytes(),
        addresses: addresses.iter().map(bytes).collect(),
    }
}

fn shuffle(offered: Vec<Contact>) -> Request {
    Request {
        shuffle: Some(Shuffle { offered }),
        redirect: None,
    }
}

fn redirect(to: Contact) -> Request {
    let (nonce, to) = (rand::random(), Some(to));
    Request {
        shuffle: None,
        redirect: Some(Redirect { nonce, to }),
    }
}

/// Pause between two offers of contacts.
const OFFER_INTERVAL: Duration = Duration::from_millis(100);

/// A port of this machine that counts and reports connections, and closes them.
struct Watched {
    at: SocketAddr,
    came: Arc<AtomicUsize>,
    told: Mutex<mpsc::UnboundedReceiver<()>>,
}

impl Watched {
    fn open() -> Watched {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let (came, (teller, told)) = (Arc::new(AtomicUsize::new(0)), mpsc::unbounded_channel());
        let counted = came.clone();
        std::thread::spawn(move || {
            for _ in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                if teller.send(()).is_err() {
                    return;
                }
            }
        });
        Watched {
            at,
            came,
            told: Mutex::new(told),
        }
    }

    fn address(&self) -> String {
        format!("/ip4/127.0.0.1/tcp/{}/ws", self.at.port())
    }

    fn came(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }
}

/// A node that seeks links, and a peer of our own making that is linked with it.
async fn linked() -> (Member, RawPeer, Up) {
    let node = start(builder().fixed_links(false)).await;
    let (raw, up) = linked_with(&node).await;
    (node, raw, up)
}

async fn linked_with(node: &Member) -> (RawPeer, Up) {
    let mut raw = RawPeer::new().await;
    let up = raw.dial(&node.address()).await;
    raw.pass(up, Role::Dialer).await;
    (raw, up)
}

async fn ask(raw: &RawPeer, up: Up, request: &Request) -> NodeResponse {
    let asked = async {
        let mut stream = raw.open(up, PROTOCOL).await.expect("the link stands");
        stream
            .write_all(&framed(&request.encode_to_vec()))
            .await
            .expect("it is taken");
        stream.close().await.expect("it is half-closed");
        let mut answer = Vec::new();
        stream
            .take(1 << 16)
            .read_to_end(&mut answer)
            .await
            .expect("an answer");
        let mut body = &answer[..];
        prost::encoding::decode_varint(&mut body).expect("a length");
        decode_response(body, &up.peer).expect("a response")
    };
    tokio::time::timeout(EVENT_TIMEOUT, asked)
        .await
        .expect("an answer in time")
}

/// Offers contacts until one of them, with the address of `witness`, is dialled: then all earlier offers have been
/// read.
async fn offer_until_dialled(
    raw: &RawPeer,
    up: Up,
    witness: &Watched,
    also: &dyn Fn() -> Vec<Contact>,
) {
    let begun = Instant::now();
    let mut told = witness.told.lock().await;
    let mut dialled = told.try_recv().is_ok();
    while !dialled {
        assert!(begun.elapsed() < EVENT_TIMEOUT * 2, "no contact is dialled");
        let mut offered = also();
        offered.truncate(3);
        offered.push(contact(PeerId::random(), &[witness.address()]));
        ask(raw, up, &shuffle(offered)).await;
        // The interval between offers: a node may not read one that follows another at once.
        let next = tokio::time::timeout(OFFER_INTERVAL, told.recv()).await;
        dialled = next.is_ok();
    }
}

/// Addresses of this listener that are not of the one form.
fn odd_addresses(victim: &Watched) -> Vec<String> {
    let port = victim.at.port();
    vec![
        format!("/ip4/127.0.0.1/tcp/{port}/x-parity-ws/%2F%20HTTP%2F1.1%0D%0ASET%20a%20b%0D%0A"),
        format!("/ip4/127.0.0.1/tcp/{port}/x-parity-ws/%2Fpath"),
        format!("/ip4/127.0.0.1/tcp/{port}/tls/x-parity-ws/%2Fpath"),
        format!("/ip4/127.0.0.1/tcp/{port}/x-parity-wss/%2Fpath"),
        format!("/dns4/localhost/tcp/{port}/ws"),
        format!("/ip4/127.0.0.1/tcp/{port}/tls/sni/localhost/ws"),
        format!("/ip4/127.0.0.1/tcp/{port}/ws/p2p/{}", PeerId::random()),
        format!("/ip6/64:ff9b::7f00:1/tcp/{port}/ws"),
        "/ip4/127.0.0.1/tcp/22/ws".to_owned(),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_with_a_path_a_name_or_a_systems_port_is_dialled_on_nobodys_word() {
    let (_node, raw, up) = linked().await;
    let (victim, witness) = (Watched::open(), Watched::open());
    let odd = odd_addresses(&victim);
    for address in &odd {
        let to = contact(PeerId::random(), std::slice::from_ref(address));
        let answer = ask(&raw, up, &redirect(to)).await;
        let Response::Redirected { refusal, .. } = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(refusal, Some(Refusal::Unsuitable), "{address}");
    }
    let contacts = || {
        let at = rand::random_range(0..odd.len());
        let two = [odd[at].clone(), odd[(at + 1) % odd.len()].clone()];
        (0..3).map(|_| contact(PeerId::random(), &two)).collect()
    };
    offer_until_dialled(&raw, up, &witness, &contacts).await;
    offer_until_dialled(&raw, up, &Watched::open(), &contacts).await;
    assert_eq!(victim.came(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_peers_at_one_address_have_it_dialled_once_a_minute_by_whoever_hears_of_them() {
    let begun = Instant::now();
    let (node, raw, up) = linked().await;
    let other = start(builder().fixed_links(false)).await;
    let linked = other.node.connect(node.address()).await;
    linked.expect("the two are linked");
    let (asker, at) = linked_with(&node).await;
    let victim = Watched::open();
    let fakes = std::sync::Mutex::new(Vec::new());
    let contacts = || {
        let make = |_| {
            let id = PeerId::random();
            fakes.lock().expect("no panic").push(id);
            contact(id, &[victim.address()])
        };
        (0..3).map(make).collect()
    };
    for _ in 0..3 {
        offer_until_dialled(&raw, up, &Watched::open(), &contacts).await;
        let answer = ask(&asker, at, &shuffle(vec![])).await;
        let Response::Contacts(told) = answer else {
            panic!("{answer:?}");
        };
        let fakes = fakes.lock().expect("no panic");
        assert!(
            told.iter().all(|contact| !fakes.contains(&contact.id)),
            "{told:?}"
        );
    }
    // Dialled by the node that received the contact, and never by the other.
    let minutes = begun.elapsed().as_secs() as usize / 60;
    assert!(victim.came() <= 1 + minutes, "{} dials", victim.came());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_announces_an_address_dials_nobody_on_this_machine_on_a_visitors_word() {
    let announce = ["/ip4/8.8.8.8/tcp/443/tls/ws".parse().expect("a multiaddr")];
    let node = start(builder().fixed_links(false).announce(announce)).await;
    let (raw, up) = linked_with(&node).await;
    let victim = Watched::open();
    let to = contact(PeerId::random(), &[victim.address()]);
    let answer = ask(&raw, up, &redirect(to)).await;
    let unsuitable = matches!(
        answer,
        Response::Redirected {
            refusal: Some(Refusal::Unsuitable),
            ..
        }
    );
    assert!(unsuitable, "{answer:?}");
    assert_eq!(victim.came(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_server_that_sends_us_elsewhere_is_not_followed() {
    use std::io::{Read, Write};
    let victim = Watched::open();
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = server.local_addr().expect("an address");
    let location = format!("ws://127.0.0.1:{}/", victim.at.port());
    std::thread::spawn(move || {
        for socket in server.incoming() {
            let mut socket = socket.expect("a connection");
            let _ = socket.read(&mut [0; 4096]);
            let answer =
                format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
            socket.write_all(answer.as_bytes()).expect("it is read");
        }
    });
    let node = member().await;
    let address = at.to_string().parse().expect("an address");
    match node.node.connect(address).await {
        Err(ConnectError::Stage(error)) => {
            assert_eq!(error.stage, Stage::Websocket);
            assert!(error.reason.contains("redirect"), "{}", error.reason);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(victim.came(), 0);
}
