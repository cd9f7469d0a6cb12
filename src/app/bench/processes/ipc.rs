//! What parent and child say to each other: one JSON object a line.
//!
//! Entry types: [`Order`], [`Answer`]. The rule it keeps: both ends are the same program, so that
//! nothing here need be understood by another version.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::machine::Cost;
use super::super::one::NodePlan;
use super::super::tally::{Plan, Totals};

/// What the parent wants, in this order. The end of the orders is the end of the child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Start the node.
    Start(NodePlan),
    /// Dial.
    Connect { address: String },
    /// Begin to count what comes to node `node`, and what it costs.
    Load { node: usize, plan: Plan },
    /// Send what is this publisher's.
    Send {
        /// Events a second of all publishers together; as many as there can be without.
        rate: Option<NonZeroU64>,
        /// When the first of all events is due, on the clock that all processes share.
        begun: Duration,
    },
    /// Tell what came.
    Report,
}

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The node can be dialled.
    Online { peer_id: String, address: String },
    /// The dial that was ordered led to a link.
    Connected,
    /// With whom the node is linked now.
    Links(BTreeSet<String>),
    /// Whatever comes from now on is counted.
    Ready,
    /// So many events have come so far.
    Came(u64),
    /// All that this publisher had to send is on its way.
    Sent,
    /// What came in all.
    Report(Box<Report>),
    /// It cannot go on.
    Failed(String),
}

/// What came to one node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) totals: Totals,
    pub(crate) cost: Cost,
    pub(crate) copies: u64,
}
