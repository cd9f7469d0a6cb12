//! The colours of lines for people, and the short form of a PeerId.

use libp2p::PeerId;

/// Number of characters of a PeerId that people see: its end, because all begin alike.
pub(crate) const SHORT: usize = 8;

/// Colour of details.
pub(super) const DIM: &str = "2";
/// Colour of success.
pub(super) const GREEN: &str = "32";
/// Colour of warnings.
pub(super) const YELLOW: &str = "33";
/// Colour of errors.
pub(super) const RED: &str = "31";

/// Returns the end of a PeerId, as people see it.
pub(crate) fn short(peer_id: &PeerId) -> String {
    let text = peer_id.to_string();
    text[text.len().saturating_sub(SHORT)..].to_owned()
}
