//! Tests of the address book.

use super::*;

fn address(text: &str) -> PeerAddress {
    PeerAddress::from_text(text, None).expect("an address")
}

#[test]
fn what_is_saved_is_loaded_and_a_damaged_book_is_an_empty_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert!(load(folder.path()).is_empty());
    let book = vec![Saved {
        id: PeerId::random(),
        addresses: vec![address("/ip4/8.8.8.8/tcp/9000/ws")],
        proved: true,
        anchor: false,
    }];
    save(folder.path(), &book).expect("it can be written");
    assert_eq!(load(folder.path()), book);
    let names = fs::read_dir(folder.path()).expect("a folder");
    assert_eq!(names.count(), 1, "nothing is left beside it");
    fs::write(folder.path().join(FILE), b"{").expect("it can be written");
    assert!(load(folder.path()).is_empty());
}

#[test]
fn of_a_file_that_others_could_have_filled_only_addresses_of_the_one_form_are_taken() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (own, other) = (PeerId::random(), PeerId::random());
    let addresses = [
        "/ip4/127.0.0.1/tcp/6379/x-parity-ws/%2F%20HTTP%2F1.1%0D%0ASET%20a%20b".to_owned(),
        "/dns/localhost/tcp/9000/ws".to_owned(),
        "/ip4/8.8.8.8/tcp/22/ws".to_owned(),
        format!("/ip4/8.8.8.8/tcp/9000/ws/p2p/{other}"),
        format!("/ip6/::ffff:8.8.8.8/tcp/443/wss/p2p/{own}"),
    ];
    let rows = serde_json::json!([
        { "peer_id": own.to_string(), "addresses": addresses, "proved": true, "anchor": true },
        { "peer_id": "nobody", "addresses": ["/ip4/8.8.8.8/tcp/9000/ws"] },
    ]);
    fs::write(folder.path().join(FILE), rows.to_string()).expect("it can be written");
    let loaded = load(folder.path());
    assert_eq!(loaded.len(), 1);
    assert_eq!(
        loaded[0].addresses,
        [address("/ip4/8.8.8.8/tcp/443/tls/ws")]
    );
}

#[cfg(unix)]
#[test]
fn the_book_is_for_this_user_alone_and_is_not_written_through_a_link() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, elsewhere) = (folder.path().join(FILE), folder.path().join("elsewhere"));
    fs::write(&elsewhere, "mine").expect("it can be written");
    symlink(&elsewhere, &path).expect("a link");
    save(folder.path(), &[]).expect("it can be written");
    assert_eq!(fs::read_to_string(&elsewhere).ok().as_deref(), Some("mine"));
    let metadata = fs::symlink_metadata(&path).expect("it is there");
    assert!(metadata.is_file());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}
