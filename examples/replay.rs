//! Prints the history of a room from a data directory, oldest first. Every signature is verified again. The node that
//! writes the log may run meanwhile.
//!
//! ```sh
//! cargo run --example replay -- DATA_DIR [ROOM]  # the directory of `diatribe node --data-dir`; the room is `lobby`
//! ```

use std::path::PathBuf;

use diatribe::store::{Archive, Query};
use diatribe::{DEFAULT_ROOM, RoomName, gossip};

/// Accepts messages of any date: they were accepted when they arrived.
const ANY_TIME_MS: u64 = u64::MAX / 2;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory: PathBuf = arguments
        .next()
        .ok_or("usage: replay DATA_DIR [ROOM]")?
        .into();
    let room: RoomName = arguments
        .next()
        .as_deref()
        .unwrap_or(DEFAULT_ROOM)
        .parse()?;

    let archive = Archive::open(&directory)?;
    let network = archive.network()?;
    let query = Query {
        room: Some(room.clone()),
        ..Query::default()
    };
    for page in archive.reader().history(query) {
        for stored in page? {
            let batch = gossip::open(stored.record.bytes, network, &room, ANY_TIME_MS)?;
            for (seq, event) in batch.numbered_events() {
                let text = String::from_utf8_lossy(&event.data);
                println!("{} {} #{seq}: {text}", batch.sent_at_ms(), batch.author());
            }
        }
    }
    Ok(())
}
