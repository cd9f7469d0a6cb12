//! A refusal of a peer that has proved its key, and whom it may ask instead.
//!
//! Entry types: [`Refusal`], [`Referrals`]. The rule it keeps: referrals are bytes of a bounded length to the
//! handshake; what stands in them is the overlay's affair.

use bytes::Bytes;

use super::reason::RejectCode;

/// Maximum number of bytes of the referrals in a Reject: with the code and the proof they fit a frame of
/// [`MAX_FRAME`](super::MAX_FRAME), and 4 contacts with 2 addresses each fit them.
pub const MAX_REFERRALS: usize = 768;

/// Other nodes that a node without room names to a peer: an encoded `Contacts` of `proto/overlay.proto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrals(Bytes);

impl Referrals {
    /// Takes 1 to [`MAX_REFERRALS`] bytes; any other number is none.
    pub fn new(bytes: impl Into<Bytes>) -> Option<Referrals> {
        let bytes = bytes.into();
        (1..=MAX_REFERRALS)
            .contains(&bytes.len())
            .then_some(Referrals(bytes))
    }

    /// The encoded `Contacts`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Why this node refuses a peer that has proved its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the peer is told.
    pub code: RejectCode,
    /// Whom it may ask instead. They are sent with BUSY and in round 1 alone, where the refused peer is the dialer.
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

/// A Reject as it arrived.
#[derive(Debug)]
pub(super) struct Rejection {
    pub(super) code: RejectCode,
    pub(super) referrals: Bytes,
    pub(super) proof: Bytes,
}
