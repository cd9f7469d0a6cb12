//! Tests of two network keys, referrals of a full node, and clocks.

use prost::Message;

use super::pair::*;
use crate::handshake::protocol::Stage;
use crate::handshake::tags::{Between, KeySlot, NetworkKeys, tag};
use crate::handshake::{
    Local, MAX_FRAME, MAX_REFERRALS, NetworkMismatch, Reason, Referrals, Refusal, RejectCode,
};
use crate::identity::NetworkKey;
use crate::wire::proto::handshake as proto;

fn key(byte: u8) -> NetworkKey {
    NetworkKey::from_bytes(&[byte; 32])
}

/// A dialer with these keys, the newer first, and a listener with those.
fn pair(dialers: [Option<u8>; 2], listeners: [Option<u8>; 2]) -> Pair {
    let local = |identity, instance, [newer, older]: [Option<u8>; 2]| {
        let local = Local::new(identity, newer.map(key), instance);
        match older {
            Some(older) => local.with_older_network_key(key(older)),
            None => local,
        }
    };
    Pair::of_locals(
        local(dialer(), DIALER_INSTANCE, dialers),
        local(listener(), LISTENER_INSTANCE, listeners),
    )
}

fn core(body: &[u8]) -> proto::Core {
    let core = match proto::Frame::decode(body).unwrap().kind.unwrap() {
        proto::frame::Kind::Hello(hello) => hello.core,
        proto::frame::Kind::Challenge(challenge) => challenge.core,
        other => panic!("{other:?} has no core"),
    };
    proto::Core::decode(core).unwrap()
}

/// Which tag the server took in each round.
fn chosen(pair: &Pair) -> [u32; 2] {
    [CHALLENGE_1, CHALLENGE_2].map(|number| core(&pair.frames[number]).key)
}

#[test]
fn two_nodes_with_a_key_in_common_pass_whichever_is_newer_to_each() {
    for (dialers, listeners, keys) in [
        ([Some(1), None], [Some(1), None], [1, 1]),
        ([None, None], [None, None], [1, 1]),
        // One of the two has moved on to key 2.
        ([Some(2), Some(1)], [Some(1), None], [2, 1]),
        ([Some(1), None], [Some(2), Some(1)], [1, 2]),
        // Both have; the newer counts.
        ([Some(2), Some(1)], [Some(2), Some(1)], [1, 1]),
        // One is a key behind.
        ([Some(3), Some(2)], [Some(2), Some(1)], [2, 1]),
        // They hold the same two and disagree which is newer: each server takes its own newer one.
        ([Some(2), Some(1)], [Some(1), Some(2)], [2, 2]),
        // The open network's key is one like any other.
        ([None, Some(1)], [Some(1), None], [2, 1]),
    ] {
        let pair = pair(dialers, listeners).run();
        assert!(pair.both_passed(), "{dialers:?} {listeners:?}");
        assert_eq!(chosen(&pair), keys, "{dialers:?} {listeners:?}");
    }
}

#[test]
fn no_key_in_common_is_named() {
    for (dialers, listeners, mismatch) in [
        (
            [Some(3), Some(4)],
            [Some(1), Some(2)],
            NetworkMismatch::KeysDiffer,
        ),
        (
            [None, None],
            [Some(1), Some(2)],
            NetworkMismatch::PeerIsOpen,
        ),
        (
            [Some(1), Some(2)],
            [None, None],
            NetworkMismatch::NodeIsOpen,
        ),
    ] {
        let pair = pair(dialers, listeners).run();
        assert_eq!(*pair.listener.reason(), Reason::Network(mismatch));
        assert_eq!(pair.dialer.code(), Some(RejectCode::Network));
    }
}

#[test]
fn a_challenge_that_chooses_another_key_than_the_server_has_is_found_out() {
    // The dialer has offered both; the listener's is the older one.
    let pair = pair([Some(2), Some(1)], [Some(1), None])
        .with_frame(CHALLENGE_1, |body| {
            changed(body, |frame| change_core(frame, |core| core.key = 1))
        })
        .run();
    assert_eq!(*pair.dialer.reason(), Reason::Signature);
}

/// The two tags of round 1's Hello.
fn tags_of(seed: u64) -> [Vec<u8>; 2] {
    let tags = core(&Pair::of(dialing(seed), listening(1)).run().frames[HELLO_1]).tags;
    [tags[..16].to_vec(), tags[16..].to_vec()]
}

#[test]
fn a_hello_has_nothing_that_is_the_same_in_the_next() {
    let seen: std::collections::HashSet<Vec<u8>> = (2..52).flat_map(tags_of).collect();
    assert_eq!(seen.len(), 100);
}

#[test]
fn a_tag_is_for_one_client_one_server_and_one_hello() {
    let right = Between {
        client: b"client",
        server: b"server",
        nonce: &[1; 32],
    };
    let others = [
        Between {
            client: b"cliens",
            ..right
        },
        Between {
            server: b"serves",
            ..right
        },
        Between {
            nonce: &[2; 32],
            ..right
        },
        Between {
            client: b"server",
            server: b"client",
            ..right
        },
    ];
    let keys = NetworkKeys::new(Some(key(9)));
    let random = &mut entropy(1);
    let tags = keys.tags(right, random);
    assert_eq!(tags[..16], tag(&[9; 32], right));
    assert_eq!(
        keys.common(&tags, right),
        Ok((KeySlot::Newer, KeySlot::Newer))
    );
    for other in others {
        assert!(keys.common(&tags, other).is_err());
        assert_ne!(keys.tags(other, random)[..16], tags[..16]);
    }
    assert!(NetworkKeys::new(Some(key(8))).common(&tags, right).is_err());
    // All 16 bytes count.
    for at in 0..16 {
        let mut tags = tags;
        tags[at] ^= 1;
        assert!(keys.common(&tags, right).is_err(), "byte {at}");
    }
}

fn busy(referrals: &Referrals) -> Result<(), Refusal> {
    Err(Refusal {
        code: RejectCode::Busy,
        referrals: Some(referrals.clone()),
    })
}

fn referrals(len: usize) -> Referrals {
    Referrals::new(vec![0x5a; len]).unwrap()
}

#[test]
fn referrals_come_with_busy_and_are_proved() {
    for len in [1, 300, MAX_REFERRALS] {
        let mut pair = Pair::on_networks(network(7), network(7));
        pair.listener.decision = busy(&referrals(len));
        let pair = pair.run();
        let failure = pair.dialer.failure.as_ref().unwrap();
        assert_eq!(failure.reason, Reason::RefusedByRemote(RejectCode::Busy));
        assert_eq!(failure.referrals, Some(referrals(len)));
        assert!(pair.frames[PASS_1].len() <= MAX_FRAME);
    }
}

#[test]
fn bytes_that_are_too_many_or_none_are_no_referrals() {
    assert_eq!(Referrals::new(vec![]), None);
    assert_eq!(Referrals::new(vec![1; MAX_REFERRALS + 1]), None);
}

/// Returns the dialer's failure after a Reject with referrals that is changed on its way.
fn told(change: impl Fn(&mut proto::Reject) + 'static) -> Option<Referrals> {
    let mut pair = Pair::on_networks(network(7), network(7)).with_frame(PASS_1, move |body| {
        changed(body, |frame| match frame.kind.as_mut() {
            Some(proto::frame::Kind::Reject(reject)) => change(reject),
            other => panic!("{other:?}"),
        })
    });
    pair.listener.decision = busy(&referrals(200));
    let failure = pair.run().dialer.failure.unwrap();
    assert!(matches!(failure.reason, Reason::RefusedByRemote(_)));
    failure.referrals
}

#[test]
fn referrals_without_their_proof_are_passed_over() {
    assert!(told(|_| ()).is_some());
    let changes: [fn(&mut proto::Reject); 6] = [
        |reject| reject.referrals = vec![0x5b; 200].into(),
        |reject| reject.referrals = vec![0x5a; 199].into(),
        |reject| reject.proof.clear(),
        |reject| reject.proof.truncate(31),
        |reject| reject.proof = vec![7; 32].into(),
        |reject| reject.code = RejectCode::Policy.number(),
    ];
    for change in changes {
        assert_eq!(told(change), None);
    }
}

#[test]
fn referrals_are_not_sent_with_another_code_nor_in_round_2_nor_before_a_proof() {
    let mut pair = Pair::new();
    pair.listener.decision = Err(Refusal {
        code: RejectCode::Policy,
        referrals: Some(referrals(9)),
    });
    assert_eq!(pair.run().frames[PASS_1], [0x2a, 0x02, 0x08, 0x06]);

    let mut pair = Pair::new();
    pair.dialer.decision = busy(&referrals(9));
    let pair = pair.run();
    assert_eq!(pair.frames[PASS_2], [0x2a, 0x02, 0x08, 0x05]);
    let failure = pair.listener.failure.as_ref().unwrap();
    assert_eq!((failure.stage, &failure.referrals), (Stage::Round2, &None));

    // A Reject in answer to a Hello: there is no key to prove it with.
    let pair = Pair::new()
        .with_frame(CHALLENGE_1, |_| {
            let reject = proto::Reject {
                code: RejectCode::Busy.number(),
                referrals: vec![0x5a; 9].into(),
                proof: vec![0; 32].into(),
            };
            let kind = Some(proto::frame::Kind::Reject(reject));
            proto::Frame { kind }.encode_to_vec()
        })
        .run();
    assert_eq!(pair.dialer.failure.unwrap().referrals, None);
}

#[test]
fn each_side_learns_how_far_the_others_clock_is_from_its_own() {
    let mut pair = Pair::new();
    pair.dialer.machine.set_clock(1_700_000_000_000);
    pair.listener.machine.set_clock(1_700_000_090_000);
    let pair = pair.run();
    assert!(pair.both_passed());
    let offset = |side: &Side| side.verified.as_ref().unwrap().clock_offset_ms();
    assert_eq!(offset(&pair.dialer), 90_000);
    assert_eq!(offset(&pair.listener), -90_000);
}
