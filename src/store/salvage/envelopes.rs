//! Search for envelopes in bytes without an index.
//!
//! Entry point: [`envelopes`].

use crate::wire::envelope::{BODY_TAG, SIGNATURE_BYTES, SIGNATURE_HEADER};
use crate::wire::strict;

/// Returns the envelopes that follow each other in `bytes`: each is a body and a signature of 64 bytes. Other bytes
/// end the search.
pub(in crate::store) fn envelopes(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut envelopes = Vec::new();
    while bytes.first() == Some(&BODY_TAG)
        && let Some((length, at)) = length_prefix(bytes, 1)
        && let Some(end) = at.checked_add(length)
        && bytes.get(end..end.saturating_add(2)) == Some(&SIGNATURE_HEADER[..])
        && let Some((envelope, rest)) = bytes.split_at_checked(end + 2 + SIGNATURE_BYTES)
    {
        envelopes.push(envelope);
        bytes = rest;
    }
    envelopes
}

/// Reads a length in protobuf's encoding. Returns it and the offset behind it.
fn length_prefix(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut rest = bytes.get(at..)?;
    let length = strict::varint(&mut rest).ok()?;
    Some((usize::try_from(length).ok()?, bytes.len() - rest.len()))
}
