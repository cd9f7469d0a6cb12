//! Every field of every frame is bound: a change of any is detected by the check that is meant to detect it, and the sender
//! learns only the code.

use proptest::prelude::*;
use prost::Message;

use super::pair::*;
use crate::handshake::{NetworkMismatch, Reason, RejectCode, Role};
use crate::wire::proto::handshake as proto;

/// The side that receives a frame.
fn receiver(number: usize) -> Role {
    match number {
        CHALLENGE_1 | PASS_1 | HELLO_2 | ANSWER_2 => Role::Dialer,
        _ => Role::Listener,
    }
}

/// Returns whether the peer is verified before the frame arrives, which is so for the last frame only.
fn was_verified_before(number: usize) -> bool {
    number == PASS_2
}

/// Runs a pair with one frame changed, and returns the side that received it.
fn run_with(number: usize, change: impl Fn(&mut proto::Frame) + 'static) -> (Pair, Role) {
    let pair = Pair::new()
        .with_frame(number, move |body| changed(body, &change))
        .run();
    (pair, receiver(number))
}

/// Checks that the receiver of frame `number` fails with `expected`, and sends its code if it is a server.
fn assert_found(
    name: &str,
    number: usize,
    expected: &Reason,
    change: impl Fn(&mut proto::Frame) + 'static,
) {
    let (mut pair, role) = run_with(number, change);
    let side = pair.side(role);
    assert_eq!(side.reason(), expected, "{name} in frame {number}");
    assert_eq!(
        side.verified.is_some(),
        was_verified_before(number),
        "{name}"
    );
    assert!(!side.passed, "{name}");
    let code = side.code();
    let server = matches!(number, HELLO_1 | ANSWER_1 | HELLO_2 | ANSWER_2);
    let other = if role == Role::Dialer {
        &pair.listener
    } else {
        &pair.dialer
    };
    if server {
        let told = Reason::RefusedByRemote(code.unwrap());
        assert_eq!(*other.reason(), told, "{name} in frame {number}");
    } else {
        assert!(
            other.failure.is_none(),
            "{name}: a client that refuses says nothing"
        );
    }
}

type CoreChange = fn(&mut proto::Core);

fn cut(bytes: &mut bytes::Bytes) {
    bytes.truncate(bytes.len() - 1);
}

/// Changes one bit in the middle: of tags, in the second of the two.
fn flip(bytes: &mut bytes::Bytes) {
    let mut changed = bytes.to_vec();
    changed[bytes.len() / 2] ^= 1;
    *bytes = changed.into();
}

/// Changes of a Core that its fields alone reveal.
const MALFORMED_CORES: &[(&str, CoreChange, Reason)] = &[
    ("a later version", |c| c.version = 3, Reason::Version(3)),
    ("the version before", |c| c.version = 1, Reason::Version(1)),
    ("no version", |c| c.version = 0, Reason::Version(0)),
    (
        "a later version with other lengths",
        |c| {
            c.version = 7;
            c.tags.clear();
            c.key = 9;
            cut(&mut c.public_key);
            cut(&mut c.nonce);
        },
        Reason::Version(7),
    ),
    (
        "a short public_key",
        |c| cut(&mut c.public_key),
        Reason::Length("public_key"),
    ),
    (
        "a short peer_id",
        |c| cut(&mut c.peer_id),
        Reason::Length("peer_id"),
    ),
    (
        "a short enc_key",
        |c| cut(&mut c.enc_key),
        Reason::Length("enc_key"),
    ),
    (
        "a short nonce",
        |c| cut(&mut c.nonce),
        Reason::Length("nonce"),
    ),
    (
        "a short instance_id",
        |c| cut(&mut c.instance_id),
        Reason::Length("instance_id"),
    ),
    ("a short prev", |c| cut(&mut c.prev), Reason::Length("prev")),
    ("no prev", |c| c.prev.clear(), Reason::Length("prev")),
    ("the other round", |c| c.round = 3 - c.round, Reason::Round),
    ("no round", |c| c.round = 0, Reason::Round),
    (
        "another round and another prev",
        |c| {
            c.round = 9;
            flip(&mut c.prev);
        },
        Reason::Round,
    ),
    ("another prev", |c| flip(&mut c.prev), Reason::Prev),
    (
        "another kind of key",
        |c| {
            let mut key = c.public_key.to_vec();
            key[1] = 2;
            c.public_key = key.into();
        },
        Reason::PublicKey,
    ),
    (
        "a throw-away key that claims the id",
        |c| c.public_key = stranger().public_key().to_protobuf().to_vec().into(),
        Reason::ClaimedId,
    ),
    (
        "another id",
        |c| c.peer_id = stranger().peer_id().to_bytes().into(),
        Reason::ClaimedId,
    ),
    (
        "another key and its id",
        |c| {
            c.public_key = stranger().public_key().to_protobuf().to_vec().into();
            c.peer_id = stranger().peer_id().to_bytes().into();
        },
        Reason::ConnectionId,
    ),
];

/// Changes that only a Hello can have.
const MALFORMED_HELLOS: &[(&str, CoreChange, Reason)] = &[
    ("short tags", |c| cut(&mut c.tags), Reason::Length("tags")),
    ("no tags", |c| c.tags.clear(), Reason::Length("tags")),
    ("a key", |c| c.key = 1, Reason::Misplaced("key")),
    (
        "short tags and another round",
        |c| {
            cut(&mut c.tags);
            c.round = 3;
        },
        Reason::Length("tags"),
    ),
    (
        "a short nonce and no tag that fits",
        |c| {
            cut(&mut c.nonce);
            c.tags = vec![7; 32].into();
        },
        Reason::Length("nonce"),
    ),
    ("no tag that fits", |c| c.tags = vec![7; 32].into(), OPEN),
    (
        "no tag that fits and another round",
        |c| {
            c.tags = vec![7; 32].into();
            c.round = 3;
        },
        OPEN,
    ),
    ("a tag of another nonce", |c| flip(&mut c.nonce), OPEN),
];

/// Both sides are on the open network here.
const OPEN: Reason = Reason::Network(NetworkMismatch::NodeIsOpen);

/// Changes that only a Challenge can have.
const MALFORMED_CHALLENGES: &[(&str, CoreChange, Reason)] = &[
    (
        "tags",
        |c| c.tags = vec![7; 32].into(),
        Reason::Misplaced("tags"),
    ),
    ("no key", |c| c.key = 0, Reason::NetworkKeyChoice(0)),
    ("a third key", |c| c.key = 3, Reason::NetworkKeyChoice(3)),
    (
        "a key that was not offered",
        |c| c.key = 2,
        Reason::NetworkKeyChoice(2),
    ),
    (
        "a key that was not offered, and another round",
        |c| {
            c.key = 2;
            c.round = 3;
        },
        Reason::NetworkKeyChoice(2),
    ),
];

#[test]
fn every_field_of_an_introduction_is_checked_in_the_stated_order() {
    for number in [HELLO_1, CHALLENGE_1, HELLO_2, CHALLENGE_2] {
        let own = match number {
            HELLO_1 | HELLO_2 => MALFORMED_HELLOS,
            _ => MALFORMED_CHALLENGES,
        };
        for (name, change, expected) in MALFORMED_CORES.iter().chain(own) {
            assert_found(name, number, expected, move |frame| {
                change_core(frame, change)
            });
        }
    }
}

#[test]
fn only_version_and_network_are_told_apart_from_auth() {
    for (_, change, expected) in MALFORMED_CORES.iter().chain(MALFORMED_HELLOS) {
        let (pair, _) = run_with(HELLO_1, move |frame| change_core(frame, change));
        let code = match expected {
            Reason::Version(_) => RejectCode::Version,
            Reason::Network(_) => RejectCode::Network,
            _ => RejectCode::Auth,
        };
        assert_eq!(pair.dialer.code(), Some(code));
    }
}

#[test]
fn a_later_version_is_named_whatever_its_fields_are_and_broken_encoding_is_not() {
    for (more, code) in [
        // Field 2 as text, and a key of another length.
        (&[0x12, 0x01, b'x', 0x22, 0x00][..], RejectCode::Version),
        // A group, field 2^29, a value in two bytes where one does, a length past the end.
        (&[0x9b, 0x06, 0x9c, 0x06], RejectCode::Auth),
        (&[0x80, 0x80, 0x80, 0x80, 0x10, 0x00], RejectCode::Auth),
        (&[0x10, 0x81, 0x00], RejectCode::Auth),
        (&[0x12, 0x02, b'x'], RejectCode::Auth),
    ] {
        let core = [&[0x08, 0x03], more].concat();
        let (pair, _) = run_with(HELLO_1, move |frame| match &mut frame.kind {
            Some(proto::frame::Kind::Hello(hello)) => hello.core = core.clone().into(),
            other => panic!("{other:?} is no Hello"),
        });
        assert_eq!(pair.dialer.code(), Some(code), "{more:02x?}");
    }
}

#[test]
fn this_nodes_own_values_are_not_taken_from_a_peer() {
    assert_found("our instance", HELLO_1, &Reason::OwnInstance, |frame| {
        change_core(frame, |core| {
            core.instance_id = LISTENER_INSTANCE.to_vec().into()
        });
    });
    assert_found("our instance", CHALLENGE_1, &Reason::OwnInstance, |frame| {
        change_core(frame, |core| {
            core.instance_id = DIALER_INSTANCE.to_vec().into()
        });
    });
    for number in [CHALLENGE_1, CHALLENGE_2] {
        let mut nonce = Default::default();
        let pair = Pair::new()
            .through(move |n, body| {
                Some(
                    match proto::Frame::decode(&body[..]).unwrap().kind.unwrap() {
                        proto::frame::Kind::Hello(hello) => {
                            nonce = proto::Core::decode(hello.core).unwrap().nonce;
                            body
                        }
                        _ if n == number => changed(&body, |frame| {
                            change_core(frame, |core| core.nonce = nonce.clone());
                        }),
                        _ => body,
                    },
                )
            })
            .run();
        let side = if number == CHALLENGE_1 {
            &pair.dialer
        } else {
            &pair.listener
        };
        assert_eq!(*side.reason(), Reason::OwnNonce);
    }
}

#[test]
fn a_peer_cannot_change_its_instance_or_its_sealing_key_between_the_rounds() {
    for number in [HELLO_2, CHALLENGE_2] {
        assert_found(
            "another instance",
            number,
            &Reason::InstanceChanged,
            |frame| {
                change_core(frame, |core| flip(&mut core.instance_id));
            },
        );
        assert_found(
            "another sealing key",
            number,
            &Reason::SealingKeyChanged,
            |frame| {
                change_core(frame, |core| flip(&mut core.enc_key));
            },
        );
    }
}

#[test]
fn what_only_the_signature_binds_is_found_by_the_signature() {
    let changes: [(&str, CoreChange); 4] = [
        ("another clock", |core| core.clock_ms ^= 1),
        ("a feature", |core| core.features = 1),
        ("another instance", |core| flip(&mut core.instance_id)),
        ("another sealing key", |core| flip(&mut core.enc_key)),
    ];
    for (name, change) in changes {
        // The reader of the Challenge detects it.
        assert_found(name, CHALLENGE_1, &Reason::Signature, move |f| {
            change_core(f, change)
        });
        // The server cannot detect it in a Hello; its Challenge then does not fit the client's Hello.
        let (pair, _) = run_with(HELLO_1, move |frame| change_core(frame, change));
        assert_eq!(*pair.dialer.reason(), Reason::Signature, "{name}");
        assert!(
            pair.listener.verified.is_none() && pair.listener.authorized.is_empty(),
            "{name}"
        );
    }
}

#[test]
fn unknown_fields_are_ignored_but_bound() {
    // The same field on both sides of the wire passes: a later version may add one.
    let unknown = [0xfa, 0x01, 0x01, 0x2a];
    let with_unknown = move |frame: &mut proto::Frame| match frame.kind.as_mut().unwrap() {
        proto::frame::Kind::Hello(hello) => {
            hello.core = [&hello.core[..], &unknown].concat().into();
        }
        other => panic!("{other:?}"),
    };
    let (pair, _) = run_with(HELLO_1, with_unknown);
    // The server accepts it, and the client notices that its Hello was altered.
    assert!(pair.listener.failure.is_none());
    assert_eq!(*pair.dialer.reason(), Reason::Signature);
    // Around the Core nothing is hashed, and nothing is read either.
    let pair = Pair::new()
        .with_frame(HELLO_1, move |body| [body, &unknown[..]].concat())
        .run();
    assert!(pair.both_passed());
}

#[test]
fn every_field_of_a_challenge_is_checked() {
    fn challenge(frame: &mut proto::Frame) -> &mut proto::Challenge {
        match frame.kind.as_mut().unwrap() {
            proto::frame::Kind::Challenge(challenge) => challenge,
            other => panic!("{other:?}"),
        }
    }
    for n in [CHALLENGE_1, CHALLENGE_2] {
        assert_found("enc", n, &Reason::Signature, |f| {
            flip(&mut challenge(f).enc)
        });
        assert_found("sealed", n, &Reason::Signature, |f| {
            flip(&mut challenge(f).ciphertext)
        });
        assert_found("signature", n, &Reason::Signature, |f| {
            flip(&mut challenge(f).signature)
        });
        assert_found("short", n, &Reason::Length("enc"), |f| {
            cut(&mut challenge(f).enc)
        });
        let length = Reason::Length("ciphertext");
        assert_found("short", n, &length, |f| cut(&mut challenge(f).ciphertext));
        let length = Reason::Length("signature");
        assert_found("short", n, &length, |f| cut(&mut challenge(f).signature));
    }
}

#[test]
fn every_field_of_an_answer_and_of_a_pass_is_checked() {
    fn answer(frame: &mut proto::Frame) -> &mut proto::Answer {
        match frame.kind.as_mut().unwrap() {
            proto::frame::Kind::Answer(answer) => answer,
            other => panic!("{other:?}"),
        }
    }
    fn pass(frame: &mut proto::Frame) -> &mut bytes::Bytes {
        match frame.kind.as_mut().unwrap() {
            proto::frame::Kind::Pass(pass) => &mut pass.confirm,
            other => panic!("{other:?}"),
        }
    }
    for n in [ANSWER_1, ANSWER_2] {
        assert_found("enc", n, &Reason::Signature, |f| flip(&mut answer(f).enc));
        assert_found("sealed", n, &Reason::Signature, |f| {
            flip(&mut answer(f).ciphertext)
        });
        assert_found("signature", n, &Reason::Signature, |f| {
            flip(&mut answer(f).signature)
        });
        assert_found("confirm", n, &Reason::Confirm, |f| {
            flip(&mut answer(f).confirm)
        });
        assert_found("short", n, &Reason::Length("enc"), |f| {
            cut(&mut answer(f).enc)
        });
        let length = Reason::Length("ciphertext");
        assert_found("short", n, &length, |f| cut(&mut answer(f).ciphertext));
        assert_found("short", n, &Reason::Length("signature"), |f| {
            cut(&mut answer(f).signature)
        });
        assert_found("short", n, &Reason::Length("confirm"), |f| {
            cut(&mut answer(f).confirm)
        });
    }
    for n in [PASS_1, PASS_2] {
        assert_found("pass", n, &Reason::Pass, |f| flip(pass(f)));
        assert_found("short", n, &Reason::Length("confirm"), |f| cut(pass(f)));
    }
}

#[test]
fn the_frames_of_another_connection_of_the_same_two_nodes_are_refused() {
    // Two connections of one pair at once: the frames of one mean nothing on the other.
    let one = Pair::of(dialing(1), listening(2)).run();
    for number in 1..FRAMES {
        let crossing = one.frames[number].clone();
        let mut other = Pair::of(dialing(3), listening(4))
            .with_frame(number, move |_| crossing.clone())
            .run();
        let side = other.side(receiver(number));
        assert!(side.failure.is_some(), "frame {number}");
        assert_eq!(side.verified.is_some(), was_verified_before(number));
    }
}

#[test]
fn a_nonce_that_is_this_nodes_own_is_refused_by_a_server_too() {
    // With the same randomness on both sides their nonces are the same.
    let pair = Pair::of(dialing(1), listening(1)).run();
    assert_eq!(*pair.listener.reason(), Reason::OwnNonce);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// No bit of an honest frame is without meaning: none is in a field that protobuf ignores,
    /// and so whichever is flipped, its receiver does not pass.
    #[test]
    fn any_flipped_bit_is_refused(number in 0..FRAMES, at: prop::sample::Index) {
        let pair = Pair::new().with_frame(number, move |body| {
            let mut body = body.to_vec();
            let bit = at.index(body.len() * 8);
            body[bit / 8] ^= 1 << (bit % 8);
            body
        });
        let mut pair = pair.run();
        let other_passed = {
            let (dialer, listener) = (pair.dialer.passed, pair.listener.passed);
            dialer && listener
        };
        prop_assert!(!other_passed);
        let side = pair.side(receiver(number));
        prop_assert!(!side.passed);
        prop_assert_eq!(side.verified.is_some(), was_verified_before(number));
        // The server of round 1 may accept a changed Hello, because it knows nothing yet. The client refuses the Challenge
        // that answers it.
        prop_assert!(pair.dialer.failure.is_some() || pair.listener.failure.is_some());
        if number < ANSWER_2 {
            prop_assert!(pair.dialer.verified.is_none() && pair.listener.verified.is_none());
        }
    }
}
