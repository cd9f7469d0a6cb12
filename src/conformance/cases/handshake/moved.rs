//! Valid frames in the wrong place: replayed, reflected, relayed, exchanged.

use futures::FutureExt;

use super::{AUTH, first_round, free};
use crate::conformance::case::{Case, CaseContext, Expect, FrameKind, Observation, Run};
use crate::conformance::expectations;
use crate::conformance::frame::framed;
use crate::conformance::round::{self, Party};
use crate::conformance::script::{ANSWER_1, CHALLENGE_1, End, HELLO_1, Mutation, Script, describe};
use crate::conformance::scripted_handshake::{self, ask, run_handshake};
use crate::conformance::target::Mode;
use crate::handshake::{RejectCode, Role};
use crate::identity::Identity;

pub(super) const CASES: &[Case] = &[
    free(
        "replay",
        "5",
        "a fresh nonce, and the frames of an old handshake do not pass",
        None,
        |ctx| replay(ctx).boxed(),
    ),
    free(
        "reflection",
        "5 checks 7 and 8",
        "its own Hello of round 1 comes back: Reject NETWORK; its own Challenge: closed without a word",
        None,
        |ctx| reflection(ctx).boxed(),
    ),
    free(
        "relay",
        "5 check 7",
        "what another identity says on its own connection does not pass on this one",
        None,
        |ctx| relay(ctx).boxed(),
    ),
    free(
        "crossed-connections",
        "5 check 15",
        "Reject AUTH: the Answer of one connection does not pass on another",
        Some(Mode::Dial),
        |ctx| crossed(ctx).boxed(),
    ),
];

/// Sends the peer's own first frame back in round 2: the tags of its Hello are for the other direction, its Challenge
/// is one of round 1.
async fn reflection(ctx: CaseContext) -> Run {
    let role = ctx.connector.role();
    let (again, expect) = match role {
        Role::Dialer => (CHALLENGE_1, AUTH),
        Role::Listener => (HELLO_1, Expect::Code(RejectCode::Network)),
    };
    let (raw, mut conn) = ctx.connector.connect(Identity::generate()).await?;
    let frame = expectations::frame_number(FrameKind::FirstOfRound2, role);
    let mutation = Mutation::Body(Box::new(move |frames, body| {
        frames.get(again).cloned().unwrap_or(body)
    }));
    let trace = run_handshake(
        &mut conn,
        role,
        Script::mutated(ctx.party(&raw), frame, mutation),
    )
    .await;
    expectations::refused(&conn, frame, expect, &trace)
        .await
        .map(Observation::new)
}

async fn replay(ctx: CaseContext) -> Run {
    let role = ctx.connector.role();
    let (raw, mut conn) = ctx.connector.connect(Identity::generate()).await?;
    let recorded = run_handshake(&mut conn, role, Script::honest(ctx.party(&raw))).await;
    if recorded.end != End::Passed {
        return Err(format!(
            "there is nothing to replay: {}",
            describe(&recorded.end)
        ));
    }
    drop(conn);
    let (raw, mut conn) = ctx.connector.connect_again(raw).await?;
    match role {
        Role::Dialer => {
            let challenge = ask(&conn, &framed(&recorded.frames[HELLO_1])).await;
            let challenge = challenge.map_err(|end| describe(&end))?;
            if challenge == recorded.frames[CHALLENGE_1] {
                return Err("the same Challenge as before: its nonce is not fresh".to_owned());
            }
            let left = std::time::Instant::now();
            match ask(&conn, &framed(&recorded.frames[ANSWER_1])).await {
                Err(End::Rejected(code)) if code == RejectCode::Auth.number() => {
                    let closed = expectations::closed(&conn, left).await?;
                    Ok(Observation::new(format!("Reject AUTH, {closed}")))
                }
                Err(end) => Err(describe(&end)),
                Ok(_) => Err("it passes a recorded Answer".to_owned()),
            }
        }
        Role::Listener => {
            let old = recorded.frames[CHALLENGE_1].clone();
            let hello = recorded.frames[HELLO_1].clone();
            let mutation = Mutation::Body(Box::new(move |_, _| old.clone()));
            let script = Script::mutated(ctx.party(&raw), CHALLENGE_1, mutation);
            let trace = run_handshake(&mut conn, role, script).await;
            if trace.frames.first() == Some(&hello) {
                return Err("the same Hello as before: its nonce is not fresh".to_owned());
            }
            expectations::refused(&conn, CHALLENGE_1, AUTH, &trace)
                .await
                .map(Observation::new)
        }
    }
}

/// Relays everything that another identity would send on its own connection.
async fn relay(ctx: CaseContext) -> Run {
    let (raw, mut conn) = ctx.connector.connect(Identity::generate()).await?;
    let role = ctx.connector.role();
    let other = Identity::generate();
    let party = Party {
        noise_id: other.peer_id(),
        identity: other,
        relays: true,
        ..ctx.party(&raw)
    };
    let frame = expectations::frame_number(FrameKind::FirstOfRound1, role);
    let script = Script::mutated(party, frame, Mutation::None);
    let trace = run_handshake(&mut conn, role, script).await;
    // The tags are for another connection: the side that notices this first rejects with NETWORK.
    expectations::refused(&conn, frame, Expect::Code(RejectCode::Network), &trace)
        .await
        .map(Observation::new)
}

/// Runs two handshakes at once and exchanges their Answers.
async fn crossed(ctx: CaseContext) -> Run {
    let (mut raws, mut conns, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    let identity = Identity::generate();
    for _ in 0..2 {
        let (mut raw, conn) = ctx.connector.connect(identity.clone()).await?;
        raw.instance_id = [7; 16];
        let round = first_round(ctx.party(&raw), conn.peer);
        let (state, hello) = round.hello(&round::honest);
        let challenge = ask(&conn, &framed(&hello))
            .await
            .map_err(|end| describe(&end))?;
        asked.push(
            scripted_handshake::answered(&round, &state, &challenge)
                .map_err(|end| describe(&end))?
                .1,
        );
        raws.push(raw);
        conns.push(conn);
    }
    asked.reverse();
    for (conn, answer) in conns.iter().zip(&asked) {
        let left = std::time::Instant::now();
        match ask(conn, &framed(answer)).await {
            Err(End::Rejected(code)) if code == RejectCode::Auth.number() => {
                expectations::closed(conn, left).await?;
            }
            Err(end) => return Err(describe(&end)),
            Ok(_) => return Err("it passes the Answer of another connection".to_owned()),
        }
    }
    Ok(Observation::new("Reject AUTH on both"))
}
