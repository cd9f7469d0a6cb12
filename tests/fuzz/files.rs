//! Fuzz targets for files from elsewhere: keys, passphrases, and logs to import.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;

use diatribe::gossip::{self, VerifiedBatch};
use diatribe::identity::NetworkId;
use diatribe::store::{self, Log, RetentionPolicy};
use diatribe::{Identity, NetworkKey, identity};

use crate::case::{QUICK, SLOW, fuzz};
use crate::seeds;

const NOW_MS: u64 = 1_900_000_000_000;

#[test]
fn a_key_is_read_or_refused() {
    let mut seeds = seeds::of("identity");
    let hex: Vec<u8> = hex::encode([7; 32]).into_bytes();
    seeds.push([b"/key/swarm/psk/1.0.0/\n/base16/\n", &hex[..], b"\n"].concat());
    seeds.push([&hex[..], b"\n"].concat());
    seeds.push([b"\xef\xbb\xbf", &hex[..], b"\n\n"].concat());
    fuzz!("keys", QUICK, seeds, |case, seeds| {
        let bytes = case.bytes(seeds);
        let _ = NetworkKey::parse(&bytes);
        let _ = identity::passphrase_from_bytes(&bytes);
        let _ = identity::PublicKey::from_protobuf(&bytes);
    });
}

#[test]
fn a_key_file_is_read_or_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    let key = Identity::from_seed(&[1; 32])
        .signing_key()
        .to_keypair_bytes();
    let mut seeds = seeds::of("identity");
    seeds.push([&[8, 1, 0x12, 0x40][..], &key].concat());
    let path = &path;
    fuzz!("key files", SLOW, seeds, |case, seeds| {
        fs::write(path, case.bytes(seeds)).expect("a file");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its owner's");
        let _ = identity::load(path);
    });
}

#[test]
fn a_log_from_elsewhere_is_taken_in_or_refused() {
    let line = |envelope: &[u8]| {
        use base64::Engine as _;
        let envelope = base64::engine::general_purpose::STANDARD.encode(envelope);
        format!("{{\"envelope\":\"{envelope}\"}}\n").into_bytes()
    };
    let mut seeds: Vec<Vec<u8>> = seeds::of("batch").iter().map(|bytes| line(bytes)).collect();
    seeds.push(seeds.concat());
    fuzz!("log imports", SLOW / 4, seeds, |case, seeds| {
        let verify = |bytes: &[u8]| -> Result<VerifiedBatch, String> {
            let bytes = bytes::Bytes::copy_from_slice(bytes);
            let room = gossip::room_of(&bytes).ok_or("no room")?;
            gossip::open(bytes, NetworkId::OPEN, &room, NOW_MS).map_err(|error| error.to_string())
        };
        let mut input = Cursor::new(case.bytes(seeds));
        let log = Log::ephemeral(RetentionPolicy::default()).expect("a log in memory");
        let _ = store::import(log, NOW_MS, &mut input, verify);
    });
}
