//! Tests of identities, keys and passphrases against the published vectors.

mod files;

use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::Signer as _;
use proptest::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha512};

use super::*;

const VECTORS: &str = include_str!("../../proto/vectors/identity.json");

/// Another spelling of the neutral point: y = p + 1 for y = 1.
const NEUTRAL_MISSPELT: [u8; 32] = {
    let mut bytes = [0xff; 32];
    bytes[0] = 0xee;
    bytes[31] = 0x7f;
    bytes
};

fn vectors(part: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(VECTORS).unwrap();
    all[part].as_array().unwrap().clone()
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field} in {case}"))
}

fn bytes(case: &Value, field: &str) -> Vec<u8> {
    hex::decode(text(case, field)).unwrap()
}

/// An identity that needs no randomness.
fn fixed() -> Identity {
    Identity::from_seed(&[7; 32])
}

fn assert_is(identity: &Identity, case: &Value) {
    assert_eq!(
        identity.signing_key().as_bytes().as_slice(),
        bytes(case, "seed")
    );
    assert_eq!(
        identity.public_key().as_bytes().as_slice(),
        bytes(case, "public_key")
    );
    assert_eq!(
        identity.public_key_protobuf(),
        bytes(case, "public_key_protobuf")
    );
    assert_eq!(identity.peer_id().to_base58(), text(case, "peer_id"));
    assert_eq!(identity.peer_id().to_bytes(), bytes(case, "peer_id_bytes"));
    assert_eq!(
        identity.sealing_public().as_slice(),
        bytes(case, "x25519_public_key")
    );
    // The libraries for signatures and for connections agree on the public key.
    assert_eq!(identity.keypair().public().to_peer_id(), identity.peer_id());
    let encoded = identity.keypair().to_protobuf_encoding().unwrap();
    assert_eq!(encoded, bytes(case, "private_key_protobuf"));
}

#[test]
fn a_passphrase_and_a_salt_give_the_published_identity() {
    for case in vectors("passphrases") {
        let (passphrase, salt) = (text(&case, "passphrase"), text(&case, "salt"));
        assert_eq!(passphrase.as_bytes(), bytes(&case, "passphrase_utf8"));
        assert_eq!(salt.as_bytes(), bytes(&case, "salt_utf8"));
        assert_is(&Identity::from_passphrase(passphrase, salt).unwrap(), &case);
    }
}

#[test]
fn a_seed_gives_the_published_identity() {
    for case in vectors("seeds") {
        let seed: [u8; 32] = bytes(&case, "seed").try_into().unwrap();
        assert_is(&Identity::from_seed(&seed), &case);
    }
}

#[test]
fn a_network_key_that_was_made_up_is_told_from_a_random_one() {
    let hex = |text: &str| hex::decode(text).unwrap();
    let made_up = [
        b"correct horse battery staple 123".to_vec(),
        "Öl und Käse, Brötchen und Tee".as_bytes().to_vec(),
        vec![7; 32],
        hex(&"deadbeef".repeat(8)),
        hex(&"0123456789abcdef".repeat(4)),
        (0..32).collect(),
        (0..32).map(|n: u8| 255 - 3 * n).collect(),
        hex("3141592653589793238462643383279502884197169399375105820974944592"),
        // Sixteen random bytes, and as many zeros.
        hex("a1b2f39c0d5e77681f2e3d4c5b6a798800000000000000000000000000000000"),
    ];
    for bytes in made_up {
        let key: [u8; 32] = bytes[..].try_into().expect("32 bytes");
        let weakness = NetworkKey::from_bytes(&key).weakness();
        assert!(weakness.is_some(), "{bytes:02x?}");
    }
    for _ in 0..5000 {
        let key = NetworkKey::generate();
        assert_eq!(key.weakness(), None, "{:02x?}", key.as_bytes());
    }
}

#[test]
fn a_network_key_gives_the_published_network_id() {
    for case in vectors("networks") {
        let key = case["network_key"]
            .as_str()
            .map(|key| NetworkKey::parse(key.as_bytes()).unwrap());
        assert_eq!(
            network_id(key.as_ref()).as_slice(),
            bytes(&case, "network_id")
        );
    }
}

#[test]
fn weak_foreign_and_misspelt_public_keys_are_refused() {
    for case in vectors("refused_public_keys") {
        let key = PublicKey::from_protobuf(&bytes(&case, "public_key_protobuf"));
        let error = key.expect_err(text(&case, "comment"));
        if text(&case, "comment").starts_with("of small order:") {
            assert_eq!(error, PublicKeyError::Weak, "{case}");
        }
    }
}

#[test]
fn signatures_are_judged_strictly() {
    for case in vectors("signatures") {
        let encoded = [vec![8, 1, 0x12, 0x20], bytes(&case, "public_key")].concat();
        let key = PublicKey::from_protobuf(&encoded).unwrap();
        let verdict = key.verify(&bytes(&case, "message"), &bytes(&case, "signature"));
        assert_eq!(
            verdict,
            case["valid"].as_bool().unwrap(),
            "{}",
            text(&case, "comment")
        );
    }
}

#[test]
fn what_an_identity_signs_its_public_key_verifies() {
    let identity = Identity::generate();
    let key = PublicKey::from_protobuf(&identity.public_key_protobuf()).unwrap();
    assert!(key.verify(b"text", &identity.sign(b"text")));
    assert!(!key.verify(b"another", &identity.sign(b"text")));
    assert_eq!(key, *identity.public_key());
    assert_ne!(identity.peer_id(), Identity::generate().peer_id());
}

#[test]
fn secrets_are_not_printed() {
    let identity = fixed();
    let printed = format!("{identity:?} {:?}", NetworkKey::from_bytes(&[7; 32]));
    assert_eq!(
        printed,
        format!("Identity({:?}) NetworkKey(…)", identity.peer_id())
    );
}

#[test]
fn passphrases_lose_what_editors_add_and_are_composed() {
    assert_eq!(
        passphrase_from_bytes(b"two words\r\n").unwrap().as_str(),
        "two words"
    );
    assert_eq!(
        passphrase_from_bytes(b"\xef\xbb\xbftwo words\n\r\n\n")
            .unwrap()
            .as_str(),
        "two words"
    );
    assert_eq!(
        passphrase_from_bytes("e\u{301}".as_bytes())
            .unwrap()
            .as_str(),
        "\u{e9}"
    );
    // U+FB2C becomes three characters in NFC: the longest growth there is.
    assert_eq!(
        passphrase_from_bytes("\u{fb2c}".as_bytes()).unwrap().len(),
        6
    );
}

#[test]
fn passphrases_that_are_none_are_refused() {
    let of = |bytes: &[u8]| passphrase_from_bytes(bytes).unwrap_err();
    assert!(matches!(of(b""), PassphraseError::Empty));
    assert!(matches!(of(b"\n"), PassphraseError::Empty));
    assert!(matches!(of(b"\xff\xfe"), PassphraseError::NotUtf8));
    assert!(matches!(
        of(&[b'a'; MAX_PASSPHRASE_BYTES + 1]),
        PassphraseError::TooLong
    ));
    assert!(matches!(
        Identity::from_passphrase("", "salt"),
        Err(PassphraseError::Empty)
    ));
}

#[test]
fn generated_passphrases_have_seven_words_and_never_repeat() {
    let made: Vec<_> = (0..20).map(|_| generate_passphrase()).collect();
    for passphrase in &made {
        assert_eq!(passphrase.split(' ').count(), 7, "{}", passphrase.as_str());
    }
    let different: std::collections::HashSet<_> = made.iter().map(|made| made.as_str()).collect();
    assert_eq!(different.len(), made.len());
}

#[test]
fn the_word_list_gives_eleven_bits_a_word() {
    let words: std::collections::HashSet<_> = include_str!("words.txt").lines().collect();
    assert_eq!(words.len(), 2048);
    assert!(
        words
            .iter()
            .all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()))
    );
}

#[test]
fn network_keys_are_read_in_every_usual_form() {
    let key: [u8; 32] = std::array::from_fn(|i| i as u8 ^ 0x5c);
    let hex = hex::encode(key);
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key);
    let text_forms = [
        hex.clone(),
        format!("{hex}\n"),
        format!("\u{feff}{hex}\n\r\n\n"),
        format!("{}\r\n", hex.to_uppercase()),
        format!("/key/swarm/psk/1.0.0/\n/base16/\n{hex}\n"),
        format!("/key/swarm/psk/1.0.0/\r\n/base16/\r\n{hex}"),
        format!("/key/swarm/psk/1.0.0/\n/base64/\n{base64}\n"),
    ];
    let binary = [b"/key/swarm/psk/1.0.0/\n/bin/\n", key.as_slice()].concat();
    let forms = text_forms
        .into_iter()
        .map(String::into_bytes)
        .chain([key.to_vec(), binary]);
    for form in forms {
        let shown = String::from_utf8_lossy(&form).into_owned();
        assert_eq!(
            NetworkKey::parse(&form).expect(&shown).as_bytes(),
            &key,
            "{shown}"
        );
    }
}

#[test]
fn what_is_no_network_key_is_refused() {
    let digits = "ab".repeat(32);
    for wrong in [
        String::new(),
        "secret".into(),
        "ab".repeat(16),
        "ab".repeat(31),
        format!(" {digits}"),
        "zz".repeat(32),
        "00".repeat(32),
        "\0".repeat(32),
        format!("/key/swarm/psk/1.0.0/\n{digits}\n"),
        format!("/key/swarm/psk/1.0.0/\n/base64/\n{digits}\n"),
    ] {
        let error = NetworkKey::parse(wrong.as_bytes()).expect_err(&wrong);
        assert!(
            error.to_string().contains("diatribe key network"),
            "{error}"
        );
    }
}

proptest! {
    /// Every kind of wrong R and S, for which the equation holds where it can.
    #[test]
    fn a_signature_is_judged_as_the_librarys_strict_verification_does(
        seed: [u8; 32],
        message: [u8; 20],
        r in prop_oneof![
            2 => Just(None),
            1 => any::<[u8; 32]>().prop_map(Some),
            8 => (0..8usize).prop_map(|n| Some(EIGHT_TORSION[n].compress().to_bytes())),
            1 => Just(Some(NEUTRAL_MISSPELT)),
        ],
        flipped in proptest::option::of(0..512usize),
    ) {
        let signing = SigningKey::from_bytes(&seed);
        let mut signature = signing.sign(&message).to_bytes();
        if let Some(r) = r {
            let hash = Sha512::new()
                .chain_update(r)
                .chain_update(signing.verifying_key().as_bytes())
                .chain_update(message)
                .finalize();
            let challenge = Scalar::from_bytes_mod_order_wide(&hash.into());
            signature[..32].copy_from_slice(&r);
            signature[32..].copy_from_slice((challenge * signing.to_scalar()).as_bytes());
        }
        if let Some(bit) = flipped {
            signature[bit / 8] ^= 1 << (bit % 8);
        }
        let strictly = signing.verifying_key().verify_strict(&message, &signature.into());
        let key = PublicKey::of(&signing);
        prop_assert_eq!(key.verify(&message, &signature), strictly.is_ok());
    }
    #[test]
    fn arbitrary_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = PublicKey::from_protobuf(&bytes);
        let _ = NetworkKey::parse(&bytes);
        let _ = NetworkKey::parse(&[b"/key/swarm/psk/1.0.0/\n/base64/\n", &bytes[..]].concat());
        let _ = passphrase_from_bytes(&bytes);
        prop_assert!(!fixed().public_key().verify(b"text", &bytes));
    }

    #[test]
    fn public_keys_survive_their_encoding(seed in any::<[u8; 32]>()) {
        let identity = Identity::from_seed(&seed);
        let key = PublicKey::from_protobuf(&identity.public_key_protobuf()).unwrap();
        prop_assert_eq!(key.to_protobuf().to_vec(), identity.public_key_protobuf());
        prop_assert_eq!(key.peer_id(), identity.peer_id());
    }
}

#[test]
fn a_key_is_read_the_same_however_often_and_among_however_many() {
    let identities: Vec<Identity> = (0..40).map(|_| Identity::generate()).collect();
    let forth_and_back = identities.iter().chain(identities.iter().rev());
    for identity in forth_and_back.clone().chain(forth_and_back) {
        let mut encoded = identity.public_key_protobuf();
        let key = PublicKey::from_protobuf(&encoded).unwrap();
        assert_eq!(&key, identity.public_key());
        assert_eq!(key.peer_id(), identity.peer_id());
        // The prefix is checked for a cached key too.
        encoded[1] = 2;
        assert_eq!(
            PublicKey::from_protobuf(&encoded),
            Err(PublicKeyError::NotEd25519)
        );
    }
}
