//! Peers that keep others waiting: whoever does not go on is closed in time, and gets nothing.
//!
//! Entry: [`CASES`].

use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};

use super::super::case::{Case, How, Kind, Run, Seen, Stand};
use super::super::expectations;
use super::super::link::told;
use super::super::raw_peer::Conn;
use super::super::rpc;
use super::super::scripted_handshake::*;
use super::super::streams::{MESHSUB, PING, Unopened};
use crate::handshake::{PROTOCOL, Role};
use crate::identity::Identity;

const FRAME: Duration = Duration::from_secs(3);
const WHOLE: Duration = Duration::from_secs(10);
/// Four frames at this pace take more than 10 s, and each of them less than 3 s.
const PACE: Duration = Duration::from_millis(2_650);

const fn case(
    name: &'static str,
    spec: &'static str,
    expected: &'static str,
    run: fn(Stand) -> futures::future::BoxFuture<'static, Run>,
) -> Case {
    Case::new(Kind::Hostile, name, spec, expected, How::Free(run))
}

pub(super) const CASES: &[Case] = &[
    case(
        "always-just-in-time",
        "5 Time",
        "closed 10 s after the connection came up",
        |stand| just_in_time(stand).boxed(),
    ),
    case(
        "no-handshake",
        "5 Time",
        "closed after 3 s, whatever other streams there are; no gossip before that",
        |stand| no_handshake(stand).boxed(),
    ),
    case(
        "half-open",
        "5 Time",
        "a Hello (as listener: a Challenge), then silence: closed after 3 s; no gossip before that",
        |stand| half_open(stand).boxed(),
    ),
    case(
        "half-a-frame",
        "5 Time",
        "half a frame, then silence: closed after 3 s",
        |stand| half_a_frame(stand).boxed(),
    ),
    case(
        "no-pass",
        "5 Time",
        "all but the last frame: closed after 3 s",
        |stand| no_last_frame(stand).boxed(),
    ),
    case(
        "gossip-before-pass",
        "6",
        "a gossip stream is refused with na, or reset unread; the peer opens none",
        |stand| gossip_before_pass(stand).boxed(),
    ),
];

async fn just_in_time(stand: Stand) -> Run {
    let mut told = Err(String::new());
    // A busy machine may make one of our frames late.
    for _ in 0..3 {
        let (raw, mut conn) = stand.way.connect(Identity::generate()).await?;
        let plan = Plan {
            pace: PACE,
            ..Plan::honest(stand.party(&raw))
        };
        let shaken = shake(&mut conn, stand.way.role(), plan).await;
        if shaken.end == End::Passed {
            return Err("it passed after more than 10 s".to_owned());
        }
        told = expectations::late(&conn, conn.at, WHOLE).await;
        if told.is_ok() {
            break;
        }
    }
    told.map(Seen::came)
}

async fn no_handshake(stand: Stand) -> Run {
    let (raw, mut conn) = stand.way.connect(Identity::generate()).await?;
    let since = match stand.way.role() {
        Role::Dialer => conn.at,
        Role::Listener => {
            // From when its request begins to be sent.
            let plan = Plan::twisted(stand.party(&raw), CHALLENGE_1, Twist::Keep);
            let shaken = shake(&mut conn, Role::Listener, plan).await;
            if shaken.end != End::Kept {
                return Err(told(&shaken.end));
            }
            let since = shaken.left;
            return waited(&mut conn, since, shaken).await;
        }
    };
    let pings = async {
        while let Ok(stream) = conn.open(PING).await {
            let _ = ping(stream).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        std::future::pending::<()>().await
    };
    let came = tokio::select! {
        () = pings => Err("unreachable".to_owned()),
        came = expectations::late(&conn, since, FRAME) => came,
    };
    no_gossip(&mut conn)?;
    came.map(Seen::came)
}

async fn waited(conn: &mut Conn, since: Instant, shaken: Shaken) -> Run {
    let came = expectations::late(conn, since, FRAME).await?;
    drop(shaken);
    no_gossip(conn)?;
    Ok(Seen::came(came))
}

/// One ping, answered.
pub(super) async fn ping(mut stream: libp2p::swarm::Stream) -> Result<(), String> {
    let sent: [u8; 32] = rand::random();
    let mut came = [0; 32];
    let exchange = async {
        stream.write_all(&sent).await?;
        stream.flush().await?;
        stream.read_exact(&mut came).await
    };
    match tokio::time::timeout(Duration::from_secs(5), exchange).await {
        Ok(Ok(())) if came == sent => Ok(()),
        Ok(Ok(())) => Err("a ping came back with other bytes".to_owned()),
        Ok(Err(error)) => Err(format!("a ping was not answered: {error}")),
        Err(_) => Err("a ping was not answered within 5 s".to_owned()),
    }
}

fn no_gossip(conn: &mut Conn) -> Result<(), String> {
    while let Some(inbound) = conn.opened() {
        if inbound.protocol.as_ref() != PROTOCOL {
            return Err(format!("it opened {} before the pass", inbound.protocol));
        }
    }
    Ok(())
}

async fn stops(stand: Stand, dialer: usize, listener: usize, twist: Twist) -> Run {
    let (raw, mut conn) = stand.way.connect(Identity::generate()).await?;
    let role = stand.way.role();
    let frame = match role {
        Role::Dialer => dialer,
        Role::Listener => listener,
    };
    let plan = Plan::twisted(stand.party(&raw), frame, twist);
    let shaken = shake(&mut conn, role, plan).await;
    match shaken.end {
        End::Kept | End::Closed => {}
        end => return Err(told(&end)),
    }
    if let Some((said, _)) = shaken.gossip.iter().find(|(said, _)| *said < PASS_2) {
        return Err(format!(
            "it opened a gossip stream after {said} frames of the handshake"
        ));
    }
    let since = shaken.left;
    waited(&mut conn, since, shaken).await
}

async fn half_open(stand: Stand) -> Run {
    stops(stand, ANSWER_1, PASS_1, Twist::Keep).await
}

async fn no_last_frame(stand: Stand) -> Run {
    stops(stand, PASS_2, ANSWER_2, Twist::Keep).await
}

/// Half of our first frame, on a stream that stays open.
async fn half_a_frame(stand: Stand) -> Run {
    stops(stand, HELLO_1, CHALLENGE_1, Twist::Half).await
}

async fn gossip_before_pass(stand: Stand) -> Run {
    let (raw, mut conn) = stand.way.connect(Identity::generate()).await?;
    let mut came = refused(&conn, &stand).await?.to_owned();
    no_gossip(&mut conn)?;
    if conn.is_gone() {
        return Ok(Seen::came(format!("{came}, connection closed")));
    }
    // Half-way, while others talk.
    drop(conn);
    let (raw, mut conn) = stand.way.connect_again(raw).await?;
    let frame = match stand.way.role() {
        Role::Dialer => ANSWER_1,
        Role::Listener => PASS_1,
    };
    let plan = Plan::twisted(stand.party(&raw), frame, Twist::Keep);
    let shaken = shake(&mut conn, stand.way.role(), plan).await;
    if shaken.end != End::Kept {
        return Err(told(&shaken.end));
    }
    came = format!("{came}; half-way: {}", refused(&conn, &stand).await?);
    if !shaken.gossip.is_empty() {
        return Err("it opened a gossip stream before the pass".to_owned());
    }
    no_gossip(&mut conn)?;
    Ok(Seen::came(came))
}

/// How the peer gets rid of a gossip stream.
async fn refused(conn: &Conn, stand: &Stand) -> Result<&'static str, String> {
    let mut stream = match conn.open(MESHSUB).await {
        Err(Unopened::Refused) => return Ok("na"),
        Err(Unopened::Lost(_)) => return Ok("reset"),
        Ok(stream) => stream,
    };
    let subscribe = rpc::subscribe(&stand.kit.common.topic());
    if stream.write_all(&subscribe).await.is_err() || stream.flush().await.is_err() {
        return Ok("reset");
    }
    let mut byte = [0];
    match tokio::time::timeout(Duration::from_millis(1_500), stream.read(&mut byte)).await {
        Ok(Ok(0) | Err(_)) => Ok("reset"),
        Ok(Ok(_)) => Err("gossip came over a stream before the pass".to_owned()),
        Err(_) => Err("a gossip stream is taken before the pass".to_owned()),
    }
}
