//! Reads the log of a node that need not run, and verifies envelopes that were kept outside of it.
//!
//! Entry functions: [`pages`], [`reopen`]. The rule it keeps: an envelope from a file is verified like one from a peer.

use bytes::Bytes;

use super::event::Message;
use super::history_stream::{HistoryQuery, messages_of_page};
use crate::gossip::{self, BatchError, VerifiedBatch};
use crate::identity::NetworkId;
use crate::store::{Archive, Cursor, LogError, Refused};

/// Returns the events of a log that match `query`, page by page, oldest first.
///
/// # Errors
///
/// Fails when the log does not say to which network it belongs; a page fails when the log cannot be read.
pub(crate) fn pages(
    archive: Archive,
    query: &HistoryQuery,
) -> Result<impl Iterator<Item = Result<Vec<Message>, LogError>>, LogError> {
    let query = query.to_log();
    let network = archive.network()?;
    let mut cursor = Some(Cursor::Start);
    Ok(std::iter::from_fn(move || {
        let page = archive.reader().page(&query, cursor.take()?);
        Some(page.map(|page| {
            cursor = page.next.clone();
            messages_of_page(network, page)
        }))
    }))
}

/// Verifies an envelope from outside the log of this network as if it had just been received.
///
/// # Errors
///
/// Returns why the envelope is not accepted.
pub(crate) fn reopen(
    bytes: &[u8],
    network: NetworkId,
    now_ms: u64,
) -> Result<VerifiedBatch, Refused> {
    let bytes = Bytes::copy_from_slice(bytes);
    let no_batch = || Refused::NoBatch("it is no batch of a room".to_owned());
    let room = gossip::room_of(&bytes).ok_or_else(no_batch)?;
    gossip::open(bytes, network, &room, now_ms).map_err(|error| match error {
        BatchError::Signature => Refused::OtherNetwork,
        error => Refused::NoBatch(error.to_string()),
    })
}
