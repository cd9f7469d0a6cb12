//! Identify and ping, which a peer answers before the handshake has passed.

use std::time::Duration;

use futures::AsyncReadExt;
use libp2p::Multiaddr;
use prost::Message as _;

use super::timeouts::ping;
use crate::conformance::case::{CaseContext, Observation, Run};
use crate::conformance::link::SUBSCRIBE_TIMEOUT;
use crate::conformance::raw_peer::Conn;
use crate::conformance::script::{End, Script, describe};
use crate::conformance::scripted_handshake::run_handshake;
use crate::conformance::streams::PING;
use crate::identity::Identity;

pub(super) async fn identify(ctx: CaseContext) -> Run {
    let (_raw, conn) = ctx.connector.connect(Identity::generate()).await?;
    let said = identified(&conn).await?;
    Ok(Observation::new(format!("{:.64}", said.agent)))
}

pub(super) async fn identify_without_addresses(ctx: CaseContext) -> Run {
    let (_raw, conn) = ctx.connector.connect(Identity::generate()).await?;
    let said = identified(&conn).await?;
    let first = said.listen_addresses.first();
    if let Some(address) = first.map(|bytes| Multiaddr::try_from(bytes.clone())) {
        let more = said.listen_addresses.len();
        return Err(match address {
            Ok(address) => format!("{more} addresses where it listens, {address} the first"),
            Err(_) => format!("{more} entries where it listens"),
        });
    }
    match said.signed_peer_record.is_empty() {
        true => Ok(Observation::new("no address")),
        false => Err("a signed record of where it listens".to_owned()),
    }
}

/// Requests the peer's identify message. Some peers serve one identify stream at a time, and libp2p's own was just
/// opened.
async fn identified(conn: &Conn) -> Result<Identified, String> {
    let mut came = Err(String::new());
    for _ in 0..5 {
        came = identified_once(conn).await;
        if came.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    came
}

async fn identified_once(conn: &Conn) -> Result<Identified, String> {
    let stream = conn.open("/ipfs/id/1.0.0").await;
    let stream = stream.map_err(|why| format!("no identify stream: {why:?}"))?;
    let mut bytes = Vec::new();
    let mut stream = stream.take(16_384);
    match tokio::time::timeout(SUBSCRIBE_TIMEOUT, stream.read_to_end(&mut bytes)).await {
        Ok(_) if bytes.is_empty() => return Err("an identify stream without a message".to_owned()),
        // A peer may reset the stream after its message.
        Ok(_) => {}
        Err(_) => return Err(format!("no identify message within {SUBSCRIBE_TIMEOUT:?}")),
    }
    Identified::decode_length_delimited(&bytes[..])
        .map_err(|e| format!("an identify message that does not parse: {e}"))
}

/// The fields of libp2p's Identify message that the cases check.
#[derive(Clone, PartialEq, prost::Message)]
struct Identified {
    #[prost(bytes = "vec", repeated, tag = "2")]
    listen_addresses: Vec<Vec<u8>>,
    #[prost(string, tag = "6")]
    agent: String,
    #[prost(bytes = "vec", tag = "8")]
    signed_peer_record: Vec<u8>,
}

pub(super) async fn pings(ctx: CaseContext) -> Run {
    let (raw, mut conn) = ctx.connector.connect(Identity::generate()).await?;
    let before = conn.open(PING).await;
    ping(before.map_err(|why| format!("no ping stream before the pass: {why:?}"))?).await?;
    let script = Script::honest(ctx.party(&raw));
    let trace = run_handshake(&mut conn, ctx.connector.role(), script).await;
    if trace.end != End::Passed {
        return Err(describe(&trace.end));
    }
    let after = conn.open(PING).await;
    ping(after.map_err(|why| format!("no ping stream on a link: {why:?}"))?).await?;
    Ok(Observation::new("answered both times"))
}
