//! Cases that an honest peer passes: connections, handshakes, links.
//!
//! Entry: [`CASES`].

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use prost::Message as _;

use super::forwarding::stays;
use super::{before_the_pass, links};
use crate::conformance::case::{Case, CaseContext, FrameKind, Kind, Observation, Procedure, Run};
use crate::conformance::frame::framed;
use crate::conformance::link::SUBSCRIBE_TIMEOUT;
use crate::conformance::raw_peer::Conn;
use crate::conformance::script::*;
use crate::conformance::scripted_handshake::run_handshake;
use crate::conformance::tag_mutation::TagMutation;
use crate::conformance::target::Mode;
use crate::handshake;
use crate::identity::Identity;
use crate::net::Stage;
use crate::wire::is_refusal;

const fn good(
    name: &'static str,
    spec: &'static str,
    expected: &'static str,
    procedure: Procedure,
) -> Case {
    Case::new(Kind::Good, name, spec, expected, procedure)
}

const fn dialling(case: Case) -> Case {
    Case {
        only: Some(Mode::Dial),
        ..case
    }
}

/// Longer than either side of a handshake waits.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// A protocol that no peer speaks.
const UNKNOWN_PROTOCOL: &str = "/diatribe/nothing/1.0.0";
const PASSES: &str = "the handshake passes all the same";

pub(super) const CASES: &[Case] = &[
    good(
        "tcp",
        "2",
        "a TCP connection",
        Procedure::Stages(&[Stage::Resolve, Stage::Tcp]),
    ),
    good(
        "websocket",
        "2",
        "the upgrade to WebSocket, with TLS where the address says so",
        Procedure::Stages(&[Stage::Tls, Stage::Websocket]),
    ),
    good(
        "noise",
        "2",
        "noise, and the peer that the address names",
        Procedure::Stages(&[Stage::Noise]),
    ),
    good("yamux", "2", "yamux", Procedure::Stages(&[Stage::Yamux])),
    good(
        "handshake-1",
        "5",
        "round 1 passes",
        Procedure::Stages(&[Stage::Handshake1]),
    ),
    good(
        "handshake-2",
        "5",
        "round 2 passes",
        Procedure::Stages(&[Stage::Handshake2]),
    ),
    good(
        "identify",
        "7 Identify",
        "an identify message that parses",
        Procedure::OwnConnections(|ctx| before_the_pass::identify(ctx).boxed()),
    ),
    good(
        "identify-without-addresses",
        "7 Identify",
        "before the pass: no listen addresses, no signed record of them",
        Procedure::OwnConnections(|ctx| before_the_pass::identify_without_addresses(ctx).boxed()),
    ),
    good(
        "ping",
        "7 Signs of life",
        "answered before the pass and after it",
        Procedure::OwnConnections(|ctx| before_the_pass::pings(ctx).boxed()),
    ),
    good(
        "gossip-stream",
        "6",
        "the peer opens a gossip stream soon after the pass",
        Procedure::OnLink(|_, link| links::gossip_stream(link).boxed()),
    ),
    good(
        "room",
        "8 Sending",
        "its first RPC says that it is in the room",
        Procedure::OnLink(|_, link| {
            async move {
                link.ready().await?;
                Ok(Observation::new("it is in the room").with(link))
            }
            .boxed()
        }),
    ),
    good(
        "frames-in-pieces",
        "4",
        "a frame that comes byte by byte is taken",
        Procedure::OwnConnections(|ctx| with(ctx, |script| script.in_pieces = true).boxed()),
    ),
    good(
        "frames-with-the-protocol-id",
        "2",
        "what comes together with its protocol id is taken; na, when the protocol is not spoken",
        Procedure::OwnConnections(|ctx| early(ctx).boxed()),
    ),
    good(
        "unknown-fields-in-hello",
        "4",
        PASSES,
        Procedure::HarmlessMutation(FrameKind::Hello, || {
            Mutation::Body(Box::new(|_, body| more_fields(body)))
        }),
    ),
    good(
        "unknown-fields-in-challenge",
        "4",
        PASSES,
        Procedure::HarmlessMutation(FrameKind::Challenge, || {
            Mutation::Body(Box::new(|_, body| more_fields(body)))
        }),
    ),
    good(
        "unknown-fields-in-core",
        "5 Messages and transcript",
        "hashed where they stand; it passes",
        Procedure::HarmlessMutation(FrameKind::Hello, || {
            Mutation::Core(Box::new(|core| more_fields(core.encode_to_vec())))
        }),
    ),
    good(
        "unknown-fields-in-core-of-challenge",
        "5 Messages and transcript",
        "hashed where they stand; it passes",
        Procedure::HarmlessMutation(FrameKind::Challenge, || {
            Mutation::Core(Box::new(|core| more_fields(core.encode_to_vec())))
        }),
    ),
    good(
        "tag-in-the-second-place",
        "5 check 7",
        "the Challenge names the second tag; it passes",
        Procedure::HarmlessMutation(FrameKind::Hello, || Mutation::Tags(TagMutation::Second)),
    ),
    good(
        "features-of-a-later-version",
        "12",
        PASSES,
        Procedure::HarmlessMutation(FrameKind::Hello, || {
            Mutation::Core(Box::new(|mut core| {
                // All but the bit by which a dialer announces a provisional link.
                core.features = !handshake::VISIT;
                core.encode_to_vec()
            }))
        }),
    ),
    good(
        "version-twice",
        "5 check 5",
        "the last one counts; it passes",
        Procedure::HarmlessMutation(FrameKind::Hello, || {
            Mutation::Core(Box::new(|core| {
                [vec![0x08, 0x02], core.encode_to_vec()].concat()
            }))
        }),
    ),
    dialling(good(
        "gossip-as-soon-as-it-may",
        "6",
        "a gossip stream of the dialer's is taken before its last Pass",
        Procedure::OwnConnections(|ctx| links::gossip_first(ctx).boxed()),
    )),
    Case {
        only: Some(Mode::Listen),
        ..good(
            "hello-before-pass",
            "5",
            "round 2's Hello that overtakes round 1's Pass is held, and taken up",
            Procedure::OwnConnections(|ctx| with(ctx, |script| script.overtake = true).boxed()),
        )
    },
    dialling(good(
        "second-connection",
        "7 Several connections",
        "it passes too; gossip goes on over the newer one",
        Procedure::OnLink(|ctx, link| links::second(ctx, link).boxed()),
    )),
    dialling(good(
        "same-identity-twice",
        "5 check 21",
        "Reject DUPLICATE_IDENTITY; the first link stays",
        Procedure::OnLink(|ctx, link| links::twin(ctx, link).boxed()),
    )),
    good(
        "reconnect",
        "7",
        "a link that was lost comes back under another instance",
        Procedure::OnLink(|ctx, link| links::reconnect(ctx, link).boxed()),
    ),
];

/// Appends an unknown field of each wire type.
fn more_fields(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend([
        0xa0, 0x1f, 0x07, 0xaa, 0x1f, 0x02, 9, 9, 0xad, 0x1f, 1, 2, 3, 4,
    ]);
    bytes
}

/// Runs an honest handshake that differs in how its frames are sent.
async fn with(ctx: CaseContext, change: fn(&mut Script)) -> Run {
    let (raw, mut conn) = ctx.connector.connect(Identity::generate()).await?;
    let mut script = Script::honest(ctx.party(&raw));
    change(&mut script);
    let trace = run_handshake(&mut conn, ctx.connector.role(), script).await;
    match trace.end {
        End::Passed => {
            let link = ctx.runner.link_config.linked(raw, conn, trace).await?;
            stays(&link).await?;
            Ok(Observation::new("it passes").with(link))
        }
        end => Err(describe(&end)),
    }
}

/// Runs a handshake that sends each request together with its protocol negotiation, after a stream for an unknown
/// protocol.
async fn early(ctx: CaseContext) -> Run {
    let (raw, mut conn) = ctx.connector.connect_early(Identity::generate()).await?;
    refused(&conn).await?;
    let script = Script::honest(ctx.party(&raw));
    // Sending may also wait for the peer here.
    let playing = run_handshake(&mut conn, ctx.connector.role(), script);
    let trace = tokio::time::timeout(HANDSHAKE_TIMEOUT, playing).await;
    let trace =
        trace.map_err(|_| format!("the handshake did not end within {HANDSHAKE_TIMEOUT:?}"))?;
    if trace.end != End::Passed {
        return Err(describe(&trace.end));
    }
    let link = ctx.runner.link_config.linked(raw, conn, trace).await?;
    stays(&link).await?;
    Ok(Observation::new("na, and a link"))
}

async fn refused(conn: &Conn) -> Result<(), String> {
    let stream = conn.open(UNKNOWN_PROTOCOL).await;
    let mut stream = stream.map_err(|why| format!("no stream: {why:?}"))?;
    let answered = async {
        // A peer that has answered `na` may reset the stream.
        if stream.write_all(&framed(b"early")).await.is_ok() {
            let _ = stream.close().await;
        }
        stream.read(&mut [0]).await
    };
    match tokio::time::timeout(SUBSCRIBE_TIMEOUT, answered).await {
        Ok(Err(error)) if is_refusal(&error) => Ok(()),
        Ok(Err(error)) => Err(format!("no na to a protocol that nobody speaks: {error}")),
        Ok(Ok(_)) => Err("a protocol that nobody speaks is agreed to".to_owned()),
        Err(_) => Err(format!(
            "no na to a protocol that nobody speaks within {SUBSCRIBE_TIMEOUT:?}"
        )),
    }
}
