//! Timeouts: a connection that makes no progress is closed in time and receives no gossip.
//!
//! Entry: [`CASES`].

use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};

use crate::conformance::case::{Case, CaseContext, Kind, Observation, Procedure, Run};
use crate::conformance::expectations;
use crate::conformance::raw_peer::Conn;
use crate::conformance::rpc;
use crate::conformance::script::*;
use crate::conformance::scripted_handshake::run_handshake;
use crate::conformance::streams::{MESHSUB, OpenError, PING};
use crate::handshake::{PROTOCOL, Role};
use crate::identity::Identity;

const FRAME_TIMEOUT: Duration = Duration::from_secs(3);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before each frame: four of them exceed the 10 s of a handshake, and none the 3 s of a frame.
const PACE: Duration = Duration::from_millis(2_650);

const fn case(
    name: &'static str,
    spec: &'static str,
    expected: &'static str,
    run: fn(CaseContext) -> futures::future::BoxFuture<'static, Run>,
) -> Case {
    Case::new(
        Kind::Hostile,
        name,
        spec,
        expected,
        Procedure::OwnConnections(run),
    )
}

pub(super) const CASES: &[Case] = &[
    case(
        "always-just-in-time",
        "5 Time",
        "closed 10 s after the connection came up",
        |ctx| just_in_time(ctx).boxed(),
    ),
    case(
        "no-handshake",
        "5 Time",
        "closed after 3 s, whatever other streams there are; no gossip before that",
        |ctx| no_handshake(ctx).boxed(),
    ),
    case(
        "half-open",
        "5 Time",
        "a Hello (as listener: a Challenge), then silence: closed after 3 s; no gossip before that",
        |ctx| half_open(ctx).boxed(),
    ),
    case(
        "half-a-frame",
        "5 Time",
        "half a frame, then silence: closed after 3 s",
        |ctx| half_a_frame(ctx).boxed(),
    ),
    case(
        "no-pass",
        "5 Time",
        "all but the last frame: closed after 3 s",
        |ctx| no_last_frame(ctx).boxed(),
    ),
    case(
        "gossip-before-pass",
        "6",
        "a gossip stream is refused with na, or reset unread; the peer opens none",
        |ctx| gossip_before_pass(ctx).boxed(),
    ),
];

async fn just_in_time(ctx: CaseContext) -> Run {
    let mut told = Err(String::new());
    // A busy machine may delay one of the kit's frames.
    for _ in 0..3 {
        let (raw, mut conn) = ctx.connector.connect(Identity::generate()).await?;
        let script = Script {
            pace: PACE,
            ..Script::honest(ctx.party(&raw))
        };
        let trace = run_handshake(&mut conn, ctx.connector.role(), script).await;
        if trace.end == End::Passed {
            return Err("it passed after more than 10 s".to_owned());
        }
        told = expectations::closed_by_timeout(&conn, conn.at, HANDSHAKE_TIMEOUT).await;
        if told.is_ok() {
            break;
        }
    }
    told.map(Observation::new)
}

async fn no_handshake(ctx: CaseContext) -> Run {
    let (raw, mut conn) = ctx.connector.connect(Identity::generate()).await?;
    let since = match ctx.connector.role() {
        Role::Dialer => conn.at,
        Role::Listener => {
            // The timeout starts when the peer begins to send its request.
            let script = Script::mutated(ctx.party(&raw), CHALLENGE_1, Mutation::Withhold);
            let trace = run_handshake(&mut conn, Role::Listener, script).await;
            if trace.end != End::Withheld {
                return Err(describe(&trace.end));
            }
            let since = trace.left;
            return waited(&mut conn, since, trace).await;
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
        came = expectations::closed_by_timeout(&conn, since, FRAME_TIMEOUT) => came,
    };
    no_gossip(&mut conn)?;
    came.map(Observation::new)
}

async fn waited(conn: &mut Conn, since: Instant, trace: HandshakeTrace) -> Run {
    let came = expectations::closed_by_timeout(conn, since, FRAME_TIMEOUT).await?;
    drop(trace);
    no_gossip(conn)?;
    Ok(Observation::new(came))
}

/// Sends a ping and checks the answer.
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

async fn stops(ctx: CaseContext, dialer: usize, listener: usize, mutation: Mutation) -> Run {
    let (raw, mut conn) = ctx.connector.connect(Identity::generate()).await?;
    let role = ctx.connector.role();
    let frame = match role {
        Role::Dialer => dialer,
        Role::Listener => listener,
    };
    let script = Script::mutated(ctx.party(&raw), frame, mutation);
    let trace = run_handshake(&mut conn, role, script).await;
    match trace.end {
        End::Withheld | End::Closed => {}
        end => return Err(describe(&end)),
    }
    if let Some((said, _)) = trace.gossip.iter().find(|(said, _)| *said < PASS_2) {
        return Err(format!(
            "it opened a gossip stream after {said} frames of the handshake"
        ));
    }
    let since = trace.left;
    waited(&mut conn, since, trace).await
}

async fn half_open(ctx: CaseContext) -> Run {
    stops(ctx, ANSWER_1, PASS_1, Mutation::Withhold).await
}

async fn no_last_frame(ctx: CaseContext) -> Run {
    stops(ctx, PASS_2, ANSWER_2, Mutation::Withhold).await
}

/// Sends half of the first frame, on a stream that stays open.
async fn half_a_frame(ctx: CaseContext) -> Run {
    stops(ctx, HELLO_1, CHALLENGE_1, Mutation::Truncate).await
}

async fn gossip_before_pass(ctx: CaseContext) -> Run {
    let (raw, mut conn) = ctx.connector.connect(Identity::generate()).await?;
    let mut came = refused(&conn, &ctx).await?.to_owned();
    no_gossip(&mut conn)?;
    if conn.is_gone() {
        return Ok(Observation::new(format!("{came}, connection closed")));
    }
    // Again in the middle of a handshake.
    drop(conn);
    let (raw, mut conn) = ctx.connector.connect_again(raw).await?;
    let frame = match ctx.connector.role() {
        Role::Dialer => ANSWER_1,
        Role::Listener => PASS_1,
    };
    let script = Script::mutated(ctx.party(&raw), frame, Mutation::Withhold);
    let trace = run_handshake(&mut conn, ctx.connector.role(), script).await;
    if trace.end != End::Withheld {
        return Err(describe(&trace.end));
    }
    came = format!("{came}; half-way: {}", refused(&conn, &ctx).await?);
    if !trace.gossip.is_empty() {
        return Err("it opened a gossip stream before the pass".to_owned());
    }
    no_gossip(&mut conn)?;
    Ok(Observation::new(came))
}

/// Opens a gossip stream and returns how the peer refuses it.
async fn refused(conn: &Conn, ctx: &CaseContext) -> Result<&'static str, String> {
    let mut stream = match conn.open(MESHSUB).await {
        Err(OpenError::Refused) => return Ok("na"),
        Err(OpenError::Lost(_)) => return Ok("reset"),
        Ok(stream) => stream,
    };
    let subscribe = rpc::subscribe(&ctx.runner.link_config.topic());
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
