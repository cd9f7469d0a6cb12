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
mod tests;
