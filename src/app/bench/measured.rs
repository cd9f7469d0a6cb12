//! A broadcast run, in this process or in several: its plan, its timeout and its measurements.
//!
//! Entry type: [`Measured`].

use std::time::Duration;

use libp2p::PeerId;
use tempfile::TempDir;

use super::super::failure::Failure;
use super::args::LoadArgs;
use super::machine::Cost;
use super::tally::{Plan, Totals};
use crate::model::RoomName;

/// Timeout without any delivery, after which missing events count as lost: several rounds of anti-entropy.
pub(crate) const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// The measurements of a run.
pub(crate) struct Measured {
    pub(crate) totals: Totals,
    /// When the first event was sent, on the clock of [`machine::monotonic`](super::machine::monotonic).
    pub(crate) begun: Duration,
    pub(crate) cost: Cost,
    /// Gossipsub's messages over all links, every copy counted.
    pub(crate) copies: u64,
}

/// Returns the events that a run sends.
pub(crate) fn plan(args: &LoadArgs, rooms: Vec<RoomName>, publishers: Vec<PeerId>) -> Plan {
    Plan {
        count: args.count.get(),
        size: args.size,
        rooms,
        publishers,
    }
}

/// Creates the folder of the logs, unless they are in memory.
///
/// # Errors
///
/// Returns the reason why there is no such folder.
pub(crate) fn folders(args: &LoadArgs) -> Result<Option<TempDir>, Failure> {
    match args.ephemeral {
        true => Ok(None),
        false => TempDir::with_prefix("diatribe-bench-")
            .map(Some)
            .map_err(|e| Failure::new(format!("there is no place for the logs: {e}"))),
    }
}
