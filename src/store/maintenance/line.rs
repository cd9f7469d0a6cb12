//! A line of an export.
//!
//! Entry type: [`Line`].

use serde::{Deserialize, Serialize};

/// A line of an export. An import reads the envelope and the network; the other fields are for people and programs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) room: String,
    pub(super) author: String,
    pub(super) instance: String,
    pub(super) first_seq: u64,
    pub(super) count: u64,
    pub(super) sent_at_ms: u64,
    pub(super) id: String,
    /// Network of the batch; exports of an earlier version lack it.
    #[serde(default)]
    pub(super) network: Option<String>,
    pub(super) envelope: String,
}
