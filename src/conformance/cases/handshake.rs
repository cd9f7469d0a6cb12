//! Handshakes that must not pass: one frame of ours is wrong, all the rest fits it.
//!
//! Entry: [`CASES`]. The rule it keeps: a peer that lacks the one check goes on, and is caught.

use bytes::Bytes;
use curve25519_dalek::constants::EIGHT_TORSION;
use futures::FutureExt;
use libp2p::PeerId;
use prost::Message;

use super::super::case::{Case, Expect, Facts, How, Kind, Mode, Run, Seen, Stand, Which};
use super::super::forge::Forgery;
use super::super::frame::framed;
use super::super::judge;
use super::super::link::told;
use super::super::script::{self, Party, Round};
use super::super::shake::{self, ANSWER_1, CHALLENGE_1, End, HELLO_1, Plan, Twist, ask, shake};
use crate::handshake::{RejectCode, Role, Stage};
use crate::identity::Identity;
use crate::wire::proto::handshake as proto;

const AUTH: Expect = Expect::Code(RejectCode::Auth);
const REJECT_AUTH: &str = "a server: Reject AUTH, then closed; a client: closed without a word";
const CLOSED: &str = "closed at once, without a Reject";

const fn twist(
    name: &'static str,
    spec: &'static str,
    expected: &'static str,
    which: Which,
    make: fn(&Facts) -> Twist,
    expect: Expect,
) -> Case {
    Case {
        name,
        kind: Kind::Hostile,
        spec,
        expected,
        only: None,
        how: How::Twist(which, make, expect),
    }
}

const fn free(
    name: &'static str,
    spec: &'static str,
    expected: &'static str,
    only: Option<Mode>,
    run: fn(Stand) -> futures::future::BoxFuture<'static, Run>,
) -> Case {
    Case {
        name,
        kind: Kind::Hostile,
        spec,
        expected,
        only,
        how: How::Free(run),
    }
}

/// A frame of ours whose Core is changed, and then used as it is.
fn core(change: impl Fn(&mut proto::Core) + Send + Sync + 'static) -> Twist {
    Twist::Core(Box::new(move |mut core| {
        change(&mut core);
        core.encode_to_vec()
    }))
}

fn bytes(change: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Twist {
    Twist::Bytes(Box::new(change))
}

fn body(change: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Twist {
    Twist::Body(Box::new(move |_, body| change(&body)))
}

/// A key that is no use: its PublicKey message and the id that belongs to it.
fn set_key(core: &mut proto::Core, key: &[u8; 32]) {
    let message = [&[0x08, 0x01, 0x12, 0x20][..], key].concat();
    core.peer_id = [&[0x00, 0x24][..], &message].concat().into();
    core.public_key = message.into();
}

fn small_order() -> [u8; 32] {
    let [_, point, ..] = EIGHT_TORSION;
    point.compress().to_bytes()
}

/// y = p + 3, which is y = 3 in a spelling that is not the least.
fn not_canonical() -> [u8; 32] {
    let mut key = [0xff; 32];
    key[0] = 0xf0;
    key[31] = 0x7f;
    key
}

/// Another length of one field inside the Frame's one message.
fn with_message(body: &[u8], change: impl Fn(&mut proto::frame::Kind)) -> Vec<u8> {
    match proto::Frame::decode(body) {
        Ok(proto::Frame {
            kind: Some(mut kind),
        }) => {
            change(&mut kind);
            proto::Frame { kind: Some(kind) }.encode_to_vec()
        }
        _ => body.to_vec(),
    }
}

pub(super) const CASES: &[Case] = &[
    twist(
        "oversized-frame",
        "5 check 1",
        CLOSED,
        Which::Hello,
        |_| bytes(|_| framed(&[0x0a; 1025])),
        Expect::Closed,
    ),
    twist(
        "oversized-challenge",
        "5 check 1",
        CLOSED,
        Which::Challenge,
        |_| bytes(|_| framed(&[0x0a; 1025])),
        Expect::Closed,
    ),
    twist(
        "endless-varint",
        "4",
        "closed as soon as the length can only grow past the limit",
        Which::Hello,
        |_| Twist::Endless(vec![0xff]),
        Expect::Closed,
    ),
    twist(
        "endless-frame",
        "4",
        "closed as soon as the length is over the limit",
        Which::Hello,
        |_| Twist::Endless([&[0xff, 0xff, 0xff, 0xff, 0x07][..], &[0x0a; 100]].concat()),
        Expect::Closed,
    ),
    twist(
        "empty-frame",
        "5 check 1",
        CLOSED,
        Which::Hello,
        |_| bytes(|_| vec![0]),
        Expect::Closed,
    ),
    twist(
        "truncated-frame",
        "5 check 1",
        CLOSED,
        Which::Hello,
        |_| {
            bytes(|body| {
                let all = framed(body);
                all[..all.len() / 2].to_vec()
            })
        },
        Expect::Closed,
    ),
    twist(
        "length-not-minimal",
        "4",
        CLOSED,
        Which::Hello,
        |_| bytes(|_| vec![0x85, 0x00, 1, 2, 3, 4, 5]),
        Expect::Closed,
    ),
    twist(
        "two-frames",
        "5 check 1",
        CLOSED,
        Which::Hello,
        |_| bytes(|body| [framed(body), framed(body)].concat()),
        Expect::Closed,
    ),
    twist(
        "no-protobuf",
        "5 check 2",
        REJECT_AUTH,
        Which::Hello,
        |_| body(|_| vec![0xff; 40]),
        AUTH,
    ),
    twist(
        "no-kind",
        "5 check 2",
        REJECT_AUTH,
        Which::Hello,
        |_| body(|_| vec![0x7a, 0x01, 0x00]),
        AUTH,
    ),
    twist(
        "wrong-kind",
        "5 check 3",
        CLOSED,
        Which::Hello,
        |_| {
            body(|_| {
                proto::Frame {
                    kind: Some(proto::frame::Kind::Pass(proto::Pass {
                        confirm: Bytes::from_static(&[7; 32]),
                    })),
                }
                .encode_to_vec()
            })
        },
        Expect::Closed,
    ),
    free(
        "hello-twice",
        "5 check 3",
        CLOSED,
        Some(Mode::Dial),
        |stand| hello_twice(stand).boxed(),
    ),
    free(
        "hello-after-pass",
        "5 check 3",
        "the connection is closed",
        None,
        |stand| hello_after_pass(stand).boxed(),
    ),
    twist(
        "version-2",
        "5 check 5",
        "a server: Reject VERSION, then closed; a client: closed",
        Which::Hello,
        |_| core(|core| core.version = 2),
        Expect::Code(RejectCode::Version),
    ),
    twist(
        "version-2-challenge",
        "5 check 5",
        "closed without a word",
        Which::Challenge,
        |_| core(|core| core.version = 2),
        Expect::Code(RejectCode::Version),
    ),
    twist(
        "version-absent",
        "5 check 5",
        "Reject VERSION, then closed",
        Which::Hello,
        |_| core(|core| core.version = 0),
        Expect::Code(RejectCode::Version),
    ),
    twist(
        "version-2-of-another-shape",
        "5 check 5",
        "Reject VERSION, whatever the other fields are",
        Which::Hello,
        |_| {
            Twist::Core(Box::new(|_| {
                vec![0x08, 0x02, 0x1a, 0x01, 0x07, 0x20, 0x05, 0x2d, 1, 2, 3, 4]
            }))
        },
        Expect::Code(RejectCode::Version),
    ),
    twist(
        "core-that-cannot-be-scanned",
        "5 check 5",
        REJECT_AUTH,
        Which::Hello,
        |_| Twist::Core(Box::new(|_| vec![0x08, 0x01, 0x1a, 0x40, 0x07])),
        AUTH,
    ),
    twist(
        "short-nonce",
        "5 check 6",
        REJECT_AUTH,
        Which::Hello,
        |_| core(|core| core.nonce.truncate(31)),
        AUTH,
    ),
    twist(
        "long-instance-id",
        "5 check 6",
        REJECT_AUTH,
        Which::Hello,
        |_| core(|core| core.instance_id = Bytes::from_static(&[9; 17])),
        AUTH,
    ),
    twist(
        "short-signature-challenge",
        "5 check 6",
        REJECT_AUTH,
        Which::Challenge,
        |_| {
            body(|body| {
                with_message(body, |kind| {
                    if let proto::frame::Kind::Challenge(c) = kind {
                        c.signature.truncate(63)
                    }
                })
            })
        },
        AUTH,
    ),
    twist(
        "wrong-network",
        "5 check 7",
        "a server: Reject NETWORK, then closed; a client: closed",
        Which::Hello,
        |_| core(|core| core.network_id = Bytes::from_static(&[0x77; 32])),
        Expect::Code(RejectCode::Network),
    ),
    twist(
        "wrong-network-challenge",
        "5 check 7",
        "closed without a word",
        Which::Challenge,
        |_| core(|core| core.network_id = Bytes::from_static(&[0x77; 32])),
        Expect::Code(RejectCode::Network),
    ),
    twist(
        "wrong-round",
        "5 check 8",
        REJECT_AUTH,
        Which::Hello,
        |_| core(|core| core.round = 3 - core.round),
        AUTH,
    ),
    twist(
        "wrong-prev",
        "5 check 8",
        REJECT_AUTH,
        Which::Hello,
        |_| core(|core| core.prev = Bytes::from_static(&[0x55; 32])),
        AUTH,
    ),
    twist(
        "prev-not-of-round-1",
        "5 check 8",
        REJECT_AUTH,
        Which::Second,
        |_| core(|core| core.prev = Bytes::from_static(&[0; 32])),
        AUTH,
    ),
    twist(
        "small-order-key",
        "5 check 9",
        REJECT_AUTH,
        Which::Hello,
        |_| core(|core| set_key(core, &small_order())),
        AUTH,
    ),
    twist(
        "key-not-canonical",
        "5 check 9",
        REJECT_AUTH,
        Which::Hello,
        |_| core(|core| set_key(core, &not_canonical())),
        AUTH,
    ),
    twist(
        "wrong-id",
        "5 check 10",
        REJECT_AUTH,
        Which::Hello,
        |_| core(|core| set_key(core, Identity::generate().public_key().as_bytes())),
        AUTH,
    ),
    twist(
        "wrong-id-challenge",
        "5 check 10",
        REJECT_AUTH,
        Which::Challenge,
        |_| core(|core| set_key(core, Identity::generate().public_key().as_bytes())),
        AUTH,
    ),
    twist(
        "peer-id-of-another-key",
        "5 check 10",
        REJECT_AUTH,
        Which::Hello,
        |_| core(|core| core.peer_id = Identity::generate().peer_id().to_bytes().into()),
        AUTH,
    ),
    twist(
        "id-of-the-peer-itself",
        "5 check 10",
        REJECT_AUTH,
        Which::Hello,
        |facts| {
            let own = facts.peer.clone();
            core(move |core| {
                core.public_key = own.public_key.clone();
                core.peer_id = own.peer_id.clone();
            })
        },
        AUTH,
    ),
    free(
        "nonce-sent-back",
        "5 check 11",
        REJECT_AUTH,
        None,
        |stand| nonce_sent_back(stand).boxed(),
    ),
    twist(
        "instance-of-the-peer-itself",
        "5 check 11",
        REJECT_AUTH,
        Which::First,
        |facts| {
            let own = facts.peer.instance_id.clone();
            core(move |core| core.instance_id = own.clone())
        },
        AUTH,
    ),
    twist(
        "instance-changes",
        "5 check 12",
        REJECT_AUTH,
        Which::Second,
        |_| core(|core| core.instance_id = Bytes::from_static(&[0x33; 16])),
        AUTH,
    ),
    twist(
        "sealing-key-changes",
        "5 check 12",
        REJECT_AUTH,
        Which::Second,
        |_| core(|core| core.enc_key = Identity::generate().sealing_public().to_vec().into()),
        AUTH,
    ),
    twist(
        "small-order-sealing-key",
        "5 check 13",
        REJECT_AUTH,
        Which::Hello,
        |_| core(|core| core.enc_key = Bytes::from_static(&[0; 32])),
        AUTH,
    ),
    Case {
        // As dialer we show a key in round 1 already: only a listener's first is a Challenge.
        only: Some(Mode::Listen),
        ..twist(
            "small-order-sealing-key-challenge",
            "5 check 18",
            "closed without a word",
            Which::Challenge,
            |_| core(|core| core.enc_key = Bytes::from_static(&[0; 32])),
            AUTH,
        )
    },
    twist(
        "short-answer",
        "5 check 14",
        REJECT_AUTH,
        Which::Answer,
        |_| {
            body(|body| {
                with_message(body, |kind| {
                    if let proto::frame::Kind::Answer(a) = kind {
                        a.confirm.truncate(31)
                    }
                })
            })
        },
        AUTH,
    ),
    twist(
        "signed-by-another-key",
        "5 check 15",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::SignedByOther),
        AUTH,
    ),
    twist(
        "challenge-signed-by-another-key",
        "5 check 15",
        REJECT_AUTH,
        Which::Challenge,
        |_| Twist::Proof(Forgery::SignedByOther),
        AUTH,
    ),
    twist(
        "signed-as-the-other-role",
        "5 check 15",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::SignedAsOtherRole),
        AUTH,
    ),
    twist(
        "signed-without-a-label",
        "5 check 15",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::SignedBare),
        AUTH,
    ),
    twist(
        "cofactored-signature",
        "3 rule 4",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::Cofactored),
        AUTH,
    ),
    twist(
        "challenge-with-cofactored-signature",
        "3 rule 4",
        REJECT_AUTH,
        Which::Challenge,
        |_| Twist::Proof(Forgery::Cofactored),
        AUTH,
    ),
    twist(
        "signature-s-not-reduced",
        "3 rule 1",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::Malleable),
        AUTH,
    ),
    twist(
        "signature-r-of-small-order",
        "3 rule 3",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::SmallOrderR),
        AUTH,
    ),
    twist(
        "sealed-to-another-key",
        "5 check 16",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::SealedToOther),
        AUTH,
    ),
    twist(
        "sealed-as-the-other-role",
        "5 check 16",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::SealedAsOtherRole),
        AUTH,
    ),
    twist(
        "sealed-bound-to-nothing",
        "5 check 16",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::SealedUnbound),
        AUTH,
    ),
    twist(
        "sealed-garbage",
        "5 check 16",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::SealedGarbage),
        AUTH,
    ),
    twist(
        "sealed-with-small-order-enc",
        "5 check 16",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::SmallOrderEnc),
        AUTH,
    ),
    twist(
        "wrong-nonce",
        "5 check 17",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::Nonce),
        AUTH,
    ),
    twist(
        "wrong-nonce-challenge",
        "5 check 17",
        REJECT_AUTH,
        Which::Challenge,
        |_| Twist::Proof(Forgery::Nonce),
        AUTH,
    ),
    twist(
        "wrong-confirm",
        "5 check 19",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::Confirm),
        AUTH,
    ),
    twist(
        "wrong-pass",
        "5 check 23",
        "closed without a word",
        Which::Pass,
        |_| {
            body(|body| {
                let mut body = body.to_vec();
                if let Some(last) = body.last_mut() {
                    *last ^= 1;
                }
                body
            })
        },
        Expect::Closed,
    ),
    free(
        "network-id-without-the-key",
        "5 check 19",
        "Reject AUTH: who has the id alone has no key",
        None,
        |stand| network_id_only(stand).boxed(),
    ),
    free(
        "replay",
        "5",
        "a fresh nonce, and the frames of an old handshake do not pass",
        None,
        |stand| replay(stand).boxed(),
    ),
    twist(
        "reflection",
        "5 check 8",
        REJECT_AUTH,
        Which::Second,
        |_| {
            Twist::Body(Box::new(|frames, body| {
                // Its own first frame of the same kind comes back.
                frames
                    .get(if frames.len() == 4 {
                        HELLO_1
                    } else {
                        CHALLENGE_1
                    })
                    .cloned()
                    .unwrap_or(body)
            }))
        },
        AUTH,
    ),
    free(
        "relay",
        "5 check 10",
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

/// A Hello that was answered comes once more instead of the Answer.
async fn hello_twice(stand: Stand) -> Run {
    let (raw, conn) = stand.way.connect(Identity::generate()).await?;
    let round = first_round(stand.party(&raw), conn.peer);
    let (_, hello) = round.hello(&script::honest);
    ask(&conn, &framed(&hello))
        .await
        .map_err(|end| told(&end))?;
    let left = std::time::Instant::now();
    match ask(&conn, &framed(&hello)).await {
        Err(End::Closed) => judge::closed(&conn, left).await.map(Seen::came),
        Err(end) => Err(told(&end)),
        Ok(_) => Err("it answers a second Hello".to_owned()),
    }
}

async fn hello_after_pass(stand: Stand) -> Run {
    let link = stand.kit.common.link(&stand.way).await?;
    link.ready().await?;
    let round = first_round(stand.party(&link.raw), link.conn.peer);
    let (_, hello) = round.hello(&script::honest);
    let left = std::time::Instant::now();
    match ask(&link.conn, &framed(&hello)).await {
        Err(End::Closed) => judge::closed(&link.conn, left).await.map(Seen::came),
        // js and others negotiate for the whole node; what counts is that the link ends.
        Err(End::Wrong(_)) => judge::closed(&link.conn, left).await.map(Seen::came),
        Err(end) => Err(told(&end)),
        Ok(_) => Err("it answers a Hello after the pass".to_owned()),
    }
}

fn first_round(party: Party, remote: PeerId) -> Round {
    Round {
        party,
        remote,
        stage: Stage::Round1,
        prev: [0; 32],
    }
}

/// Our Challenge carries the nonce of the Hello that it answers, as if it were ours.
async fn nonce_sent_back(stand: Stand) -> Run {
    let (raw, mut conn) = stand.way.connect(Identity::generate()).await?;
    let role = stand.way.role();
    let frame = judge::number(Which::Challenge, role);
    let plan = Plan::twisted(stand.party(&raw), frame, Twist::NonceBack);
    let shaken = shake(&mut conn, role, plan).await;
    judge::twisted(&conn, frame, AUTH, &shaken)
        .await
        .map(Seen::came)
}

/// Knows the network's public id and not its key: on the open network the key that counts is zeros.
async fn network_id_only(stand: Stand) -> Run {
    let (raw, mut conn) = stand.way.connect(Identity::generate()).await?;
    let role = stand.way.role();
    let frame = judge::number(Which::Answer, role);
    let forgery = match stand.kit.common.network {
        Some(_) => Forgery::NoNetworkKey,
        None => Forgery::OtherNetworkKey,
    };
    let plan = Plan::twisted(stand.party(&raw), frame, Twist::Proof(forgery));
    let shaken = shake(&mut conn, role, plan).await;
    judge::twisted(&conn, frame, AUTH, &shaken)
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
                    let closed = judge::closed(&conn, left).await?;
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
            judge::twisted(&conn, CHALLENGE_1, AUTH, &shaken)
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
        ..stand.party(&raw)
    };
    let frame = judge::number(Which::First, role);
    let plan = Plan::twisted(party, frame, Twist::None);
    let shaken = shake(&mut conn, role, plan).await;
    judge::twisted(&conn, frame, AUTH, &shaken)
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
        let (state, hello) = round.hello(&script::honest);
        let challenge = ask(&conn, &framed(&hello))
            .await
            .map_err(|end| told(&end))?;
        asked.push(
            shake::answered(&round, &state, &challenge)
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
                judge::closed(conn, left).await?;
            }
            Err(end) => return Err(told(&end)),
            Ok(_) => return Err("it passes the Answer of another connection".to_owned()),
        }
    }
    Ok(Seen::came("Reject AUTH on both"))
}
