//! Keys under which anyone can sign, or which open to anyone, prove nothing.

use std::sync::Arc;

use libp2p::PeerId;

use super::pair::*;
use crate::clock::Time;
use crate::handshake::tags::{Between, NetworkKeys};
use crate::handshake::{Input, Local, Machine, Output, Reason, RejectCode, Role};

/// The points of small order of edwards25519 in their canonical encodings, the one of order 1
/// first. From the torsion subgroup of the curve (RFC 8032 §5.1; curve25519-dalek lists the same).
const SMALL_ORDER: [&str; 8] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
];

/// The same points in other spellings: y not reduced, or a sign for x = 0.
const SMALL_ORDER_MISSPELT: [&str; 6] = [
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

/// The points of small order of curve25519 (RFC 7748 §7): every shared secret with them is zero.
const SMALL_ORDER_X25519: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// Returns the listener's failure for a Hello with this key, on a connection that noise authenticated with it.
fn refusal(key: &str) -> Reason {
    let mut public_key = vec![0x08, 0x01, 0x12, 0x20];
    public_key.extend(hex::decode(key).unwrap());
    let peer_id = [&[0x00, 0x24], &public_key[..]].concat();
    let local = Arc::new(Local::new(listener(), None, LISTENER_INSTANCE));
    let remote = PeerId::from_bytes(&peer_id).unwrap();
    let mut machine = Machine::new(local, Role::Listener, remote, Time::ZERO, entropy(1));
    let (client, server) = (remote.to_bytes(), listener().peer_id().to_bytes());
    let hello = changed(&Pair::new().run().frames[HELLO_1], |frame| {
        change_core(frame, |core| {
            let nonce = core.nonce[..].try_into().unwrap();
            let between = Between {
                client: &client,
                server: &server,
                nonce: &nonce,
            };
            let tags = NetworkKeys::new(None).tags(between, &mut entropy(2));
            core.tags = tags.to_vec().into();
            core.public_key = public_key.into();
            core.peer_id = peer_id.into();
        });
    });
    let mut out = Vec::new();
    machine.handle(Time::ZERO, Input::Request(hello), &mut out);
    match &out[..] {
        [Output::SendResponse(_), Output::CloseAfterResponse(failure)] => {
            assert_eq!(failure.code, Some(RejectCode::Auth));
            failure.reason.clone()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_of_small_order_is_refused_before_anything_is_signed_for_it() {
    for key in SMALL_ORDER {
        assert_eq!(refusal(key), Reason::WeakKey, "{key}");
    }
}

#[test]
fn a_misspelt_key_is_refused() {
    for key in SMALL_ORDER_MISSPELT {
        assert_eq!(refusal(key), Reason::PublicKey, "{key}");
    }
    // Not on the curve at all.
    let off = "0200000000000000000000000000000000000000000000000000000000000000";
    assert_eq!(refusal(off), Reason::PublicKey);
}

#[test]
fn nothing_is_sealed_to_a_weak_key() {
    for key in SMALL_ORDER_X25519 {
        let key = hex::decode(key).unwrap();
        let pair = Pair::new()
            .with_frame(HELLO_1, move |body| {
                changed(body, |frame| {
                    change_core(frame, |core| core.enc_key = key.clone().into())
                })
            })
            .run();
        assert_eq!(*pair.listener.reason(), Reason::WeakSealingKey);
        assert_eq!(
            *pair.dialer.reason(),
            Reason::RefusedByRemote(RejectCode::Auth)
        );
    }
}
