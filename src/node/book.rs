//! The address book on disk: known peers, for the bootstrap after a restart.
//!
//! Entry functions: [`load`], [`save`]. The rule they keep: the file is written atomically, and an unreadable file
//! costs the book, not the node.

use std::fs;
use std::io;
use std::path::Path;

use libp2p::PeerId;
use serde::{Deserialize, Serialize};

use crate::identity;
use crate::overlay::{PeerAddress, Saved};

/// The file's name in the data directory.
const FILE: &str = "peers.json";
/// Maximum size of a file that is read: the book has 30 peers with 2 addresses each.
const MAX_BYTES: u64 = 256 * 1024;

/// A peer in the file.
#[derive(Serialize, Deserialize)]
struct Row {
    peer_id: String,
    addresses: Vec<String>,
    #[serde(default)]
    proved: bool,
    #[serde(default)]
    anchor: bool,
}

/// Loads the book of an earlier run; empty when there is none, or it cannot be read.
pub(crate) fn load(directory: &Path) -> Vec<Saved<PeerId, PeerAddress>> {
    let path = directory.join(FILE);
    let rows = match read(&path) {
        Ok(rows) => rows,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the address book cannot be read and is begun anew");
            return Vec::new();
        }
    };
    rows.into_iter()
        .filter_map(|row| parse(&path, row))
        .collect()
}

fn read(path: &Path) -> io::Result<Vec<Row>> {
    if fs::metadata(path)?.len() > MAX_BYTES {
        return Err(io::Error::other("it is larger than any address book"));
    }
    serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)
}

/// Parses a row, without addresses that no node writes and another program may have added.
fn parse(path: &Path, row: Row) -> Option<Saved<PeerId, PeerAddress>> {
    let path = path.display();
    let Ok(id) = row.peer_id.parse() else {
        tracing::warn!(%path, peer_id = ?row.peer_id, "passed over: it is no PeerId");
        return None;
    };
    let mut addresses = Vec::new();
    for text in &row.addresses {
        match PeerAddress::from_text(text, Some(&id)) {
            Ok(address) => addresses.push(address),
            Err(reason) => {
                tracing::warn!(%path, peer_id = %id, address = ?text, %reason, "an address is passed over")
            }
        }
    }
    Some(Saved {
        id,
        addresses,
        proved: row.proved,
        anchor: row.anchor,
    })
}

/// Writes the book to a temporary file, readable by this user alone, then renames it.
pub(crate) fn save(directory: &Path, book: &[Saved<PeerId, PeerAddress>]) -> io::Result<()> {
    let rows: Vec<Row> = book
        .iter()
        .map(|saved| Row {
            peer_id: saved.id.to_string(),
            addresses: saved.addresses.iter().map(ToString::to_string).collect(),
            proved: saved.proved,
            anchor: saved.anchor,
        })
        .collect();
    let text = serde_json::to_vec_pretty(&rows).map_err(io::Error::other)?;
    identity::write_private(&directory.join(FILE), &text).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
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
}
