//! The address book on disk: peers that were met, so that a node finds back after a restart.
//!
//! Entry functions: [`load`], [`save`]. The rule they keep: the file is written whole or not at all,
//! and one that cannot be read costs the book, not the node.

use std::fs;
use std::io;
use std::path::Path;

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use crate::overlay::Saved;

/// The file's name in the data directory.
const FILE: &str = "peers.json";
/// The largest file that is read: the book has 30 peers of 4 addresses.
const MAX_BYTES: u64 = 256 * 1024;

/// A peer as the file has it.
#[derive(Serialize, Deserialize)]
struct Row {
    peer_id: String,
    addresses: Vec<String>,
    #[serde(default)]
    proved: bool,
    #[serde(default)]
    anchor: bool,
}

/// The book of an earlier run; empty when there is none, or none that can be read.
pub(crate) fn load(directory: &Path) -> Vec<Saved<PeerId, Multiaddr>> {
    let path = directory.join(FILE);
    let rows = match read(&path) {
        Ok(rows) => rows,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the address book cannot be read and is begun anew");
            return Vec::new();
        }
    };
    rows.into_iter().filter_map(parse).collect()
}

fn read(path: &Path) -> io::Result<Vec<Row>> {
    if fs::metadata(path)?.len() > MAX_BYTES {
        return Err(io::Error::other("it is larger than any address book"));
    }
    serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)
}

fn parse(row: Row) -> Option<Saved<PeerId, Multiaddr>> {
    Some(Saved {
        id: row.peer_id.parse().ok()?,
        addresses: row
            .addresses
            .iter()
            .filter_map(|a| a.parse().ok())
            .collect(),
        proved: row.proved,
        anchor: row.anchor,
    })
}

/// Writes the book aside, then puts it in place.
pub(crate) fn save(directory: &Path, book: &[Saved<PeerId, Multiaddr>]) -> io::Result<()> {
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
    let aside = directory.join(format!("{FILE}.new"));
    fs::write(&aside, text)?;
    fs::rename(aside, directory.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_a_damaged_book_is_an_empty_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(load(folder.path()).is_empty());
        let book = vec![Saved {
            id: PeerId::random(),
            addresses: vec!["/ip4/192.0.2.1/tcp/9000/ws".parse().expect("a multiaddr")],
            proved: true,
            anchor: false,
        }];
        save(folder.path(), &book).expect("it can be written");
        assert_eq!(load(folder.path()), book);
        fs::write(folder.path().join(FILE), b"{").expect("it can be written");
        assert!(load(folder.path()).is_empty());
    }
}
