//! Messages between parent and child: one JSON object a line.
//!
//! Entry types: [`Order`], [`Answer`]. The rule it keeps: both ends are the same program, so no other version reads
//! these lines.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::machine::Cost;
use super::super::one::NodePlan;
use super::super::tally::{Plan, Totals};

/// An order of the parent, in this sequence. The child ends when its stdin does.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Start the node.
    Start(NodePlan),
    /// Dial an address.
    Connect { address: String },
    /// Start to count the deliveries at node `node` and their cost.
    Load { node: usize, plan: Plan },
    /// Send this publisher's events.
    Send {
        /// Events a second of all publishers together; as many as there can be without.
        rate: Option<NonZeroU64>,
        /// When the first of all events is due, on the clock that all processes share.
        begun: Duration,
    },
    /// Report the deliveries.
    Report,
}

/// A report of the child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The node can be dialled.
    Online { peer_id: String, address: String },
    /// The dial that was ordered led to a link.
    Connected,
    /// The peers that the node is linked with now.
    Links(BTreeSet<String>),
    /// Deliveries are counted from now on.
    Ready,
    /// Number of deliveries until now.
    Came(u64),
    /// All that this publisher had to send is on its way.
    Sent,
    /// The complete result.
    Report(Box<Report>),
    /// It cannot go on.
    Failed(String),
}

/// The result of one node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) totals: Totals,
    pub(crate) cost: Cost,
    pub(crate) copies: u64,
}
