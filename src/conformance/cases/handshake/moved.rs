//! Frames that are right, in another place: replayed, reflected, relayed, exchanged.

use futures::FutureExt;

use super::super::super::case::{Case, Expect, Mode, Run, Seen, Stand, Which};
use super::super::super::expectations;
use super::super::super::frame::framed;
use super::super::super::link::told;
use super::super::super::round::{self, Party};
use super::super::super::scripted_handshake::{
    self, ANSWER_1, CHALLENGE_1, End, HELLO_1, Plan, Twist, ask, shake,
};
use super::{AUTH, first_round, free};
use crate::handshake::{RejectCode, Role};
use crate::identity::Identity;

pub(super) const CASES: &[Case] = &[
    free(
        "replay",
        "5",
        "a fresh nonce, and the frames of an old handshake do not pass",
        None,
        |stand| replay(stand).boxed(),
    ),
    free(
        "reflection",
        "5 checks 7 and 8",
        "its own Hello of round 1 comes back: Reject NETWORK; its own Challenge: closed without a word",
        None,
        |stand| reflection(stand).boxed(),
    ),
    free(
        "relay",
        "5 check 7",
        "what another identity says on its own connection does not pass on this one",
        None,
        |stand| relay(stand).boxed(),
    ),
    free(
        "crossed-connections",
        "5 check 15",
        "Reject AUTH: the Answer of one connection does not pass on another",
        Some(Mode::Dial),
        |stand| crossed(stand).boxed(),
    ),
];

/// The first frame of the peer's own is what it gets in round 2: the tags of its Hello are for the other direction, its
/// Challenge is one of round 1.
async fn reflection(stand: Stand) -> Run {
    let role = stand.way.role();
    let (again, expect) = match role {
        Role::Dialer => (CHALLENGE_1, AUTH),
        Role::Listener => (HELLO_1, Expect::Code(RejectCode::Network)),
    };
    let (raw, mut conn) = stand.way.connect(Identity::generate()).await?;
    let frame = expectations::number(Which::Second, role);
    let twist = Twist::Body(Box::new(move |frames, body| {
        frames.get(again).cloned().unwrap_or(body)
    }));
    let shaken = shake(
        &mut conn,
        role,
        Plan::twisted(stand.party(&raw), frame, twist),
    )
    .await;
    expectations::twisted(&conn, frame, expect, &shaken)
        .await
        .map(Seen::came)
}

async fn replay(stand: Stand) -> Run {
    let role = stand.way.role();
    let (raw, mut conn) = stand.way.connect(Identity::generate()).await?;
    let recorded = shake(&mut conn, role, Plan::honest(stand.party(&raw))).await;
    if recorded.end != End::Passed {
        return Err(format!(
            "there is nothing to replay: {}",
            told(&recorded.end)
        ));
    }
    drop(conn);
    let (raw, mut conn) = stand.way.connect_again(raw).await?;
    match role {
        Role::Dialer => {
            let challenge = ask(&conn, &framed(&recorded.frames[HELLO_1])).await;
            let challenge = challenge.map_err(|end| told(&end))?;
            if challenge == recorded.frames[CHALLENGE_1] {
                return Err("the same Challenge as before: its nonce is not fresh".to_owned());
            }
            let left = std::time::Instant::now();
            match ask(&conn, &framed(&recorded.frames[ANSWER_1])).await {
                Err(End::Rejected(code)) if code == RejectCode::Auth.number() => {
                    let closed = expectations::closed(&conn, left).await?;
                    Ok(Seen::came(format!("Reject AUTH, {closed}")))
                }
                Err(end) => Err(told(&end)),
                Ok(_) => Err("it passes a recorded Answer".to_owned()),
            }
        }
        Role::Listener => {
            let old = recorded.frames[CHALLENGE_1].clone();
            let hello = recorded.frames[HELLO_1].clone();
            let twist = Twist::Body(Box::new(move |_, _| old.clone()));
            let plan = Plan::twisted(stand.party(&raw), CHALLENGE_1, twist);
            let shaken = shake(&mut conn, role, plan).await;
            if shaken.frames.first() == Some(&hello) {
                return Err("the same Hello as before: its nonce is not fresh".to_owned());
            }
            expectations::twisted(&conn, CHALLENGE_1, AUTH, &shaken)
                .await
                .map(Seen::came)
        }
    }
}

/// All that another identity would say on a connection of its own.
async fn relay(stand: Stand) -> Run {
    let (raw, mut conn) = stand.way.connect(Identity::generate()).await?;
    let role = stand.way.role();
    let other = Identity::generate();
    let party = Party {
        noise_id: other.peer_id(),
        identity: other,
        relays: true,
        ..stand.party(&raw)
    };
    let frame = expectations::number(Which::First, role);
    let plan = Plan::twisted(party, frame, Twist::None);
    let shaken = shake(&mut conn, role, plan).await;
    // Its tags are for another connection: who sees that first names the network.
    expectations::twisted(&conn, frame, Expect::Code(RejectCode::Network), &shaken)
        .await
        .map(Seen::came)
}

/// Two handshakes at once, whose Answers change places.
async fn crossed(stand: Stand) -> Run {
    let (mut raws, mut conns, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    let identity = Identity::generate();
    for _ in 0..2 {
        let (mut raw, conn) = stand.way.connect(identity.clone()).await?;
        raw.instance_id = [7; 16];
        let round = first_round(stand.party(&raw), conn.peer);
        let (state, hello) = round.hello(&round::honest);
        let challenge = ask(&conn, &framed(&hello))
            .await
            .map_err(|end| told(&end))?;
        asked.push(
            scripted_handshake::answered(&round, &state, &challenge)
                .map_err(|end| told(&end))?
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
            Err(end) => return Err(told(&end)),
            Ok(_) => return Err("it passes the Answer of another connection".to_owned()),
        }
    }
    Ok(Seen::came("Reject AUTH on both"))
}
