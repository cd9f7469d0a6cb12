//! Refusals of peers that have proved their key, and referrals to other nodes.
//!
//! Entry types: [`Refusal`], [`Referrals`]. The rule it keeps: to the handshake, referrals are opaque bytes of a bounded
//! length; the overlay encodes and decodes them.

use bytes::Bytes;

use super::protocol::RejectCode;

/// Maximum size of the referrals in a Reject, in bytes. With the code and the proof they fit into
/// [`MAX_FRAME`](super::MAX_FRAME), and 4 contacts with 2 addresses each fit into them.
pub const MAX_REFERRALS: usize = 768;

/// Other nodes that a full node names to a peer: an encoded `Contacts` of `proto/overlay.proto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrals(Bytes);

impl Referrals {
    /// Returns referrals of 1 to [`MAX_REFERRALS`] bytes; none for any other length.
    pub fn new(bytes: impl Into<Bytes>) -> Option<Referrals> {
        let bytes = bytes.into();
        (1..=MAX_REFERRALS)
            .contains(&bytes.len())
            .then_some(Referrals(bytes))
    }

    /// Returns the encoded `Contacts`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The refusal of a peer that has proved its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Code that the peer receives.
    pub code: RejectCode,
    /// Other nodes to try. They are sent only with BUSY and in round 1, where the refused peer is the dialer.
    pub referrals: Option<Referrals>,
}

impl From<RejectCode> for Refusal {
    fn from(code: RejectCode) -> Refusal {
        Refusal {
            code,
            referrals: None,
        }
    }
}

/// A Reject of the peer, unchecked.
#[derive(Debug)]
pub(super) struct Rejection {
    pub(super) code: RejectCode,
    pub(super) referrals: Bytes,
    pub(super) proof: Bytes,
}
