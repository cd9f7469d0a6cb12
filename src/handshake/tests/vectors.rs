//! `proto/vectors/handshake.json`: with keys, nonces, secrets and ephemeral keys fixed, every byte
//! of a handshake is fixed. `DIATRIBE_REGENERATE=1` writes the file anew from its inputs.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use libp2p::Multiaddr;
use prost::Message;
use rand::{TryCryptoRng, TryRng};
use serde_json::{Map, Value, json};

use super::pair::*;
use crate::clock::Time;
use crate::handshake::crypto::{Keys, Secret};
use crate::handshake::message::{Frame, VERSION};
use crate::handshake::protocol::{RejectCode, Stage};
use crate::handshake::transcript::Transcript;
use crate::handshake::{Entropy, Local, Machine, PROTOCOL, Referrals, Refusal, Role, encode, tags};
use crate::identity::{Identity, NetworkKey};
use crate::wire::proto::{handshake as proto, overlay};

const ABOUT: &str = "Handshakes with everything fixed that is otherwise random. Bytes are in hex. \
    A frame is given as its body; on the stream the body's length stands before it as a varint. \
    hpke_ikm_*: the 32 bytes of which HPKE's DeriveKeyPair (RFC 9180 section 7.1.3) makes the \
    ephemeral key; enc is its public key. sealing_key follows from the seed as the identity \
    vectors say. Inputs are: seeds, instance ids, network keys, nonces, random_tag (the second tag \
    of a Hello whose sender has one network key), clock_ms_*, k_* and hpke_ikm_*; all else follows \
    from them. tag_key: HKDF of the network key that counts; tag: the one that the server finds in \
    tags, in the place that key names. two_keys: a handshake whose dialer has a newer network key \
    and the older one, which is all that the listener has. referrals: a Reject after the Answer of \
    round 1 of the second of the handshakes.";

/// The machine takes a nonce, as a client the random tag, k and HPKE's ikm, for each round in turn.
struct Script(VecDeque<Vec<u8>>);

impl TryRng for Script {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("the handshake draws bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("the handshake draws bytes")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.copy_from_slice(&self.0.pop_front().expect("the script has more"));
        Ok(())
    }
}

impl TryCryptoRng for Script {}

/// The randomness of one side, in the order in which the machine draws it.
#[derive(Clone, Copy)]
struct Draws {
    nonce: [u8; 32],
    random_tag: [u8; 16],
    k: [u8; 32],
    ikm: [u8; 32],
}

/// Unix times of the dialer and of the listener.
const CLOCKS_MS: (u64, u64) = (1_700_000_000_000, 1_700_000_000_250);

/// One handshake's inputs.
struct Case {
    name: &'static str,
    /// The key that counts.
    network: Option<NetworkKey>,
    /// The key that the dialer has beside it, which is newer.
    newer: Option<NetworkKey>,
    dialer_seed: [u8; 32],
    listener_seed: [u8; 32],
    dialer_instance: [u8; 16],
    listener_instance: [u8; 16],
    /// For each round its client's and its server's.
    draws: [(Draws, Draws); 2],
}

/// Bytes that are easy to recognise: `from`, `from` + 1, …
fn counting<const N: usize>(from: u8) -> [u8; N] {
    std::array::from_fn(|i| from.wrapping_add(i as u8))
}

fn draws(from: u8) -> Draws {
    Draws {
        nonce: counting(from),
        random_tag: counting(from.wrapping_add(0xc0)),
        k: counting(from.wrapping_add(0x40)),
        ikm: counting(from.wrapping_add(0x80)),
    }
}

fn cases() -> [Case; 3] {
    [
        Case {
            name: "open network",
            network: None,
            newer: None,
            dialer_seed: counting(0x00),
            listener_seed: counting(0x20),
            dialer_instance: counting(0xa0),
            listener_instance: counting(0xb0),
            draws: [(draws(0x01), draws(0x11)), (draws(0x21), draws(0x31))],
        },
        Case {
            name: "network with a key",
            network: Some(NetworkKey::from_bytes(&counting(0xe0))),
            newer: None,
            dialer_seed: counting(0x60),
            listener_seed: counting(0x40),
            dialer_instance: counting(0xc0),
            listener_instance: counting(0xd0),
            draws: [(draws(0x05), draws(0x15)), (draws(0x25), draws(0x35))],
        },
        Case {
            name: "a newer key and the older one",
            network: Some(NetworkKey::from_bytes(&counting(0xe0))),
            newer: Some(NetworkKey::from_bytes(&counting(0x70))),
            dialer_seed: counting(0x61),
            listener_seed: counting(0x41),
            dialer_instance: counting(0xc1),
            listener_instance: counting(0xd1),
            draws: [(draws(0x06), draws(0x16)), (draws(0x26), draws(0x36))],
        },
    ]
}

#[test]
fn every_byte_of_a_handshake_is_that_of_the_published_vectors() {
    let [open, closed, two_keys] = cases();
    let vectors = json!({
        "about": ABOUT,
        "protocol": PROTOCOL,
        "version": VERSION,
        "handshakes": [open.play(), closed.play()],
        "two_keys": two_keys.play(),
        "rejects": rejects(),
        "referrals": closed.refer(),
    });
    let path: PathBuf = [
        env!("CARGO_MANIFEST_DIR"),
        "proto",
        "vectors",
        "handshake.json",
    ]
    .iter()
    .collect();
    if std::env::var_os("DIATRIBE_REGENERATE").is_some() {
        let text = serde_json::to_string_pretty(&vectors).unwrap() + "\n";
        std::fs::write(&path, text).unwrap();
    }
    let published: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (found, expected) in pairs(&vectors["handshakes"], &published["handshakes"]) {
        for (found, expected) in pairs(&found["rounds"], &expected["rounds"]) {
            assert_eq!(found, expected);
        }
    }
    assert_eq!(vectors, published);
}

fn pairs<'a>(a: &'a Value, b: &'a Value) -> impl Iterator<Item = (&'a Value, &'a Value)> {
    a.as_array().unwrap().iter().zip(b.as_array().unwrap())
}

fn rejects() -> Value {
    let codes = [
        RejectCode::Auth,
        RejectCode::Version,
        RejectCode::Network,
        RejectCode::DuplicateIdentity,
        RejectCode::Busy,
        RejectCode::Policy,
    ];
    let frames = codes.map(|code| {
        let frame = encode::reject(code, None);
        json!({ "name": code.name(), "code": code.number(), "frame": hex::encode(frame) })
    });
    Value::Array(frames.into())
}

impl Case {
    fn run(&self, decision: Result<(), Refusal>) -> Pair {
        let [dialer, listener] = self.identities();
        let [(dialer_1, listener_1), (listener_2, dialer_2)] = self.draws;
        let dialing = self.machine(
            Role::Dialer,
            (&dialer, &listener),
            self.dialer_instance,
            [dialer_1, dialer_2],
        );
        let listening = self.machine(
            Role::Listener,
            (&listener, &dialer),
            self.listener_instance,
            [listener_1, listener_2],
        );
        let mut pair = Pair::of(dialing, listening);
        pair.listener.decision = decision;
        pair.run()
    }

    fn identities(&self) -> [Identity; 2] {
        [self.dialer_seed, self.listener_seed].map(|seed| Identity::from_seed(&seed))
    }

    /// The Reject of a listener that has no room, with referrals to two others.
    fn refer(&self) -> Value {
        let contact = |n: u8| overlay::Contact {
            peer_id: Identity::from_seed(&counting(n))
                .peer_id()
                .to_bytes()
                .into(),
            addresses: vec![
                format!("/ip4/198.51.100.{n}/tcp/9000/ws")
                    .parse::<Multiaddr>()
                    .unwrap()
                    .to_vec()
                    .into(),
            ],
        };
        let contacts = overlay::Contacts {
            contacts: vec![contact(0x81), contact(0x82)],
        };
        let referrals = Referrals::new(contacts.encode_to_vec()).unwrap();
        let pair = self.run(Err(Refusal {
            code: RejectCode::Busy,
            referrals: Some(referrals.clone()),
        }));
        let failure = pair.dialer.failure.as_ref().unwrap();
        assert_eq!(failure.referrals.as_ref(), Some(&referrals));
        let proto::frame::Kind::Reject(reject) = kind(&pair.frames[PASS_1]) else {
            panic!("no reject")
        };
        json!({
            "handshake": self.name,
            "referrals": hex::encode(&reject.referrals),
            "proof": hex::encode(&reject.proof),
            "frame": hex::encode(&pair.frames[PASS_1]),
        })
    }

    fn play(&self) -> Value {
        let pair = self.run(Ok(()));
        assert!(pair.both_passed());
        let [dialer, listener] = self.identities();
        let (first, end) = self.round(Stage::Round1, &dialer, &listener, &[0; 32], &pair.frames);
        let (second, _) = self.round(Stage::Round2, &listener, &dialer, &end, &pair.frames);
        json!({
            "name": self.name,
            "network_key": self.network.as_ref().map(|key| hex::encode(key.as_bytes())),
            "newer_network_key": self.newer.as_ref().map(|key| hex::encode(key.as_bytes())),
            "tag_key": hex::encode(&tags::tag_key(&self.network_key())[..]),
            "dialer": side(&dialer, &self.dialer_seed, &self.dialer_instance),
            "listener": side(&listener, &self.listener_seed, &self.listener_instance),
            "rounds": [first, second],
        })
    }

    fn machine(
        &self,
        role: Role,
        (own, remote): (&Identity, &Identity),
        instance: [u8; 16],
        rounds: [Draws; 2],
    ) -> Machine {
        let local = match (role, &self.network, &self.newer) {
            (Role::Dialer, Some(key), Some(newer)) => {
                Local::new(own.clone(), Some(newer.clone()), instance)
                    .with_older_network_key(key.clone())
            }
            _ => Local::new(own.clone(), self.network.clone(), instance),
        };
        // A side with two keys needs no random tag.
        let has_two = role == Role::Dialer && self.newer.is_some();
        let client_in = match role {
            Role::Dialer => 0,
            Role::Listener => 1,
        };
        let script = rounds.into_iter().enumerate().flat_map(|(round, draws)| {
            let tag = (round == client_in && !has_two).then(|| draws.random_tag.to_vec());
            let others = [draws.k.to_vec(), draws.ikm.to_vec()];
            [draws.nonce.to_vec()].into_iter().chain(tag).chain(others)
        });
        let entropy: Entropy = Box::new(Script(script.collect()));
        let mut machine =
            Machine::new(Arc::new(local), role, remote.peer_id(), Time::ZERO, entropy);
        machine.set_clock(match role {
            Role::Dialer => CLOCKS_MS.0,
            Role::Listener => CLOCKS_MS.1,
        });
        machine
    }

    /// The key that counts, as it is hashed.
    fn network_key(&self) -> [u8; 32] {
        self.network.as_ref().map_or([0; 32], |key| *key.as_bytes())
    }

    /// One round's inputs, frames and every value between them; and its T_end.
    fn round(
        &self,
        stage: Stage,
        client: &Identity,
        server: &Identity,
        prev: &[u8; 32],
        frames: &[Vec<u8>],
    ) -> (Value, [u8; 32]) {
        let at = 4 * (usize::from(stage.number()) - 1);
        let [hello, challenge, answer, pass] = [0, 1, 2, 3].map(|n| &frames[at + n]);
        let (drawn_by_client, drawn_by_server) = self.draws[at / 4];
        let hello_core = match kind(hello) {
            proto::frame::Kind::Hello(hello) => hello.core,
            other => panic!("{other:?}"),
        };
        let Ok(Frame::Challenge(theirs)) = Frame::decode(challenge.clone()) else {
            panic!("no challenge")
        };
        let Ok(Frame::Answer(ours)) = Frame::decode(answer.clone()) else {
            panic!("no answer")
        };
        let theirs = (theirs.proof().unwrap(), theirs.core);
        let (ours, confirm) = ours.parse().unwrap();

        let ids = (client.peer_id().to_bytes(), server.peer_id().to_bytes());
        let t0 = Transcript::start(stage, &ids.0, &ids.1, prev);
        let t1 = t0.hello(&hello_core);
        let t2 = t1.challenge(&theirs.1);
        let t3 = t2.challenge_sealed(&theirs.0.enc, &theirs.0.ciphertext);
        let t4 = t3.challenge_signed(&theirs.0.signature);
        let t5 = t4.answer_sealed(&ours.enc, &ours.ciphertext);
        let (k_server, k_client) = (
            Secret::new(drawn_by_server.k),
            Secret::new(drawn_by_client.k),
        );
        let keys = Keys::derive(t5, &k_server, &k_client, &self.network_key());
        let end = t5.end(&ours.signature, &confirm);
        assert_eq!(confirm, keys.confirm(&t5.to_confirm(&ours.signature)));
        assert_eq!(encode::pass(&keys.pass(end)), *pass);

        let roles = match stage {
            Stage::Round1 => ("dialer", "listener"),
            Stage::Round2 => ("listener", "dialer"),
        };
        let mut round = Map::new();
        round.insert("round".into(), stage.number().into());
        round.insert("client".into(), roles.0.into());
        round.insert("server".into(), roles.1.into());
        let (said, chosen) = (core(&hello_core), core(&theirs.1));
        round.insert("key".into(), chosen.key.into());
        round.insert("clock_ms_client".into(), said.clock_ms.into());
        round.insert("clock_ms_server".into(), chosen.clock_ms.into());
        let mut put = |name: &str, bytes: &[u8]| {
            round.insert(name.to_owned(), hex::encode(bytes).into());
        };
        let between = tags::Between {
            client: &ids.0,
            server: &ids.1,
            nonce: &drawn_by_client.nonce,
        };
        let tag = tags::tag(&self.network_key(), between);
        let at = 16 * (chosen.key as usize - 1);
        assert_eq!(said.tags[at..at + 16], tag);
        put("tags", &said.tags);
        put("tag", &tag);
        if said.tags[16..] == drawn_by_client.random_tag {
            put("random_tag", &drawn_by_client.random_tag);
        }
        put("nonce_client", &drawn_by_client.nonce);
        put("nonce_server", &drawn_by_server.nonce);
        put("k_client", &drawn_by_client.k);
        put("k_server", &drawn_by_server.k);
        put("hpke_ikm_client", &drawn_by_client.ikm);
        put("hpke_ikm_server", &drawn_by_server.ikm);
        put("prev", prev);
        put("hello", hello);
        put("challenge", challenge);
        put("answer", answer);
        put("pass", pass);
        let transcripts = [t0, t1, t2, t3, t4, t5, end];
        for (name, t) in ["T0", "T1", "T2", "T3", "T4", "T5", "T_end"]
            .iter()
            .zip(transcripts)
        {
            put(name, t.as_bytes());
        }
        put("K", keys.as_bytes());
        put("confirm", &confirm);
        put("pass_confirm", &keys.pass(end));
        (Value::Object(round), *end.as_bytes())
    }
}

fn side(identity: &Identity, seed: &[u8; 32], instance: &[u8; 16]) -> Value {
    json!({
        "seed": hex::encode(seed),
        "public_key": hex::encode(identity.public_key().to_protobuf()),
        "peer_id": identity.peer_id().to_string(),
        "peer_id_bytes": hex::encode(identity.peer_id().to_bytes()),
        "sealing_key": hex::encode(identity.sealing_public()),
        "instance_id": hex::encode(instance),
    })
}

fn core(bytes: &[u8]) -> proto::Core {
    proto::Core::decode(bytes).unwrap()
}

fn kind(body: &[u8]) -> proto::frame::Kind {
    proto::Frame::decode(body).unwrap().kind.unwrap()
}
