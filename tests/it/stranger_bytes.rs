//! Connections that do not speak libp2p: they cost the node next to nothing, are closed in time, and keep nobody out.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use diatribe::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::cluster::{EVENT_TIMEOUT, builder, member, start};
use crate::reconnect::port_of;
use crate::stranger::{talkers, untouched};

/// How long a stranger may take from TCP to yamux.
const UPGRADE: Duration = Duration::from_secs(5);
/// The most memory that one hostile connection may cost.
const MEMORY: usize = 4 << 20;

async fn tcp(address: &Address) -> TcpStream {
    let port = port_of(address);
    TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("the node listens")
}

/// A socket from another loopback address than everybody else's.
pub(crate) async fn tcp_from(host: [u8; 4], address: &Address) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind((host, 0).into())
        .expect("all of 127.0.0.0/8 is loopback");
    let to: SocketAddr = ([127, 0, 0, 1], port_of(address)).into();
    socket.connect(to).await.expect("the node listens")
}

/// Reads until the node closes; how long that took.
async fn closed(stream: &mut TcpStream) -> Duration {
    let since = Instant::now();
    let mut buffer = vec![0; 4096];
    let end = async { while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {} };
    let ended = tokio::time::timeout(EVENT_TIMEOUT, end).await;
    ended.expect("the node closes the connection");
    since.elapsed()
}

const UPGRADE_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A connection that has become a websocket.
async fn websocket(address: &Address) -> TcpStream {
    let mut stream = tcp(address).await;
    stream.write_all(UPGRADE_REQUEST).await.expect("it listens");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.expect("the node answers"));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{answer:?}");
    stream
}

#[tokio::test]
async fn what_is_no_websocket_peer_is_gone_in_time_and_disturbs_nobody() {
    let (mut a, mut b) = talkers().await;
    let noise: Vec<u8> = (0..4096u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let endless = [
        b"GET / HTTP/1.1\r\n".as_slice(),
        &b"X: y\r\n".repeat(20_000),
    ]
    .concat();
    let openings: [(&str, &[u8]); 6] = [
        ("a browser", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("random bytes", &noise),
        (
            "TLS on a plain port",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ),
        ("headers without an end", &endless),
        ("half a request", b"GET / HT"),
        ("nothing", b""),
    ];
    let strangers = openings.map(|(what, bytes)| {
        let address = a.address();
        async move {
            let mut stream = tcp(&address).await;
            // The node may hang up in the middle of it.
            let _ = stream.write_all(bytes).await;
            (what, closed(&mut stream).await)
        }
    });
    let silent = async {
        let mut stream = websocket(&a.address()).await;
        ("a websocket that says nothing", closed(&mut stream).await)
    };
    let (ends, silent) = tokio::join!(futures::future::join_all(strangers), silent);
    for (what, took) in ends.into_iter().chain([silent]) {
        assert!(
            took < UPGRADE + Duration::from_millis(500),
            "{what}: {took:?}"
        );
    }
    untouched(&mut a, &mut b).await;
}

#[tokio::test]
async fn three_hundred_idle_sockets_of_one_address_keep_no_other_address_out() {
    // More than may be half-open in all.
    let victim = start(builder().exempt_loopback(false)).await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(tcp_from([127, 0, 0, 9], &victim.address()).await);
    }
    let honest = member().await;
    let since = Instant::now();
    honest
        .node
        .connect(victim.address())
        .await
        .expect("there is room");
    let took = since.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    drop(idle);
}

#[tokio::test]
async fn connections_without_a_handshake_of_one_address_keep_no_other_address_out() {
    let victim = start(builder().exempt_loopback(false)).await;
    // Four wait for their handshake, and no more are taken from there.
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut raw = crate::raw_peer::RawPeer::new().await;
        let up = raw.dial(&victim.address()).await;
        waiting.push((raw, up));
    }
    let late = member().await;
    let error = late.node.connect(victim.address()).await;
    error.expect_err("its address has no place left");
    for (raw, up) in &mut waiting {
        raw.gone(*up).await;
    }
    late.node
        .connect(victim.address())
        .await
        .expect("there is room again");
}

/// Set to make the test below the victim itself.
const BE_THE_VICTIM: &str = "DIATRIBE_TEST_VICTIM";

/// A node in a process of its own, so that its memory can be measured.
struct Victim {
    process: Child,
    address: Address,
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Victim {
    fn start() -> Victim {
        let mut process = Command::new(std::env::current_exe().expect("this test binary"))
            .args([
                "--ignored",
                "--exact",
                "stranger_bytes::the_victim_of_another_test",
                "--nocapture",
            ])
            .env(BE_THE_VICTIM, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test binary runs");
        let stdout = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut lines = stdout.lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.strip_prefix("victim ").map(str::to_owned));
        let address = address.expect("the victim tells its address");
        Victim {
            process,
            address: address.parse().expect("an address"),
        }
    }

    /// Bytes of memory that it really uses.
    fn memory(&self) -> usize {
        let statm = format!("/proc/{}/statm", self.process.id());
        let statm = std::fs::read_to_string(statm).expect("Linux tells");
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
        pages
            .map(|pages: usize| pages * 4096)
            .expect("a number of pages")
    }
}

/// Started by [`Victim::start`] as a process of its own: a node that runs until its stdin ends.
#[tokio::test]
#[ignore = "is a process that other tests start"]
async fn the_victim_of_another_test() {
    assert!(
        std::env::var_os(BE_THE_VICTIM).is_some(),
        "no test by itself: Victim::start runs it"
    );
    let a = member().await;
    println!("\nvictim {}", a.address());
    let mut end = Vec::new();
    let _ = tokio::io::stdin().read_to_end(&mut end).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_websocket_frame_over_the_limit_is_not_waited_for_nor_kept() {
    let victim = Victim::start();
    // Everything that is loaded once is loaded before the measurement.
    let mut honest = member().await;
    honest
        .node
        .connect(victim.address.clone())
        .await
        .expect("the link comes up");
    closed(&mut websocket_with(&victim.address, 16).await).await;
    let before = victim.memory();
    for claimed in [2 << 20, 64 << 20, 1 << 40, u64::MAX >> 1] {
        let mut stream = websocket_with(&victim.address, claimed).await;
        let chunk = vec![0x55; 64 << 10];
        let since = Instant::now();
        let mut sent = 0;
        while sent < 64 << 20 && stream.write_all(&chunk).await.is_ok() {
            sent += chunk.len();
        }
        closed(&mut stream).await;
        let took = since.elapsed();
        assert!(
            took < Duration::from_millis(500),
            "{claimed}: closed after {took:?}"
        );
        assert!(sent < 64 << 20, "{claimed}: it read on");
    }
    let grown = victim.memory().saturating_sub(before);
    assert!(grown <= MEMORY, "{grown} bytes more");
    honest.link_up(honest.node.peers().await[0].peer_id).await;
}

/// A websocket on which a binary frame of `claimed` bytes begins.
async fn websocket_with(address: &Address, claimed: u64) -> TcpStream {
    let mut stream = websocket(address).await;
    let mut header = vec![0x82, 0x80 | 127];
    header.extend(claimed.to_be_bytes());
    header.extend([1, 2, 3, 4]);
    stream.write_all(&header).await.expect("it listens");
    stream
}

/// Frames within the limit that never end their message.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_message_in_endless_fragments_is_not_kept_either() {
    let victim = Victim::start();
    let mut warm = websocket(&victim.address).await;
    warm.write_all(&[0x82, 0x81, 0, 0, 0, 0, 1])
        .await
        .expect("it listens");
    closed(&mut warm).await;
    let before = victim.memory();
    let mut stream = websocket(&victim.address).await;
    let mut fragment = vec![0x02, 0x80 | 127];
    fragment.extend((512u64 << 10).to_be_bytes());
    fragment.extend([0; 4]);
    fragment.resize(fragment.len() + (512 << 10), 0x13);
    let mut sent = 0;
    while sent < 64 << 20 && stream.write_all(&fragment).await.is_ok() {
        sent += fragment.len();
        fragment[0] = 0x00;
    }
    assert!(sent < 64 << 20, "it read on");
    let grown = victim.memory().saturating_sub(before);
    assert!(grown <= MEMORY, "{grown} bytes more");
}
