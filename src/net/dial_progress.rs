//! The progress of a dial, as the layers of the transport report it.

use std::net::IpAddr;
use std::sync::Arc;

use super::stage::Stage;

/// A step of a dial that the transport reports.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DialProgress {
    /// A stage succeeded.
    Passed(Stage),
    /// TCP is connected, between these addresses.
    Connected { local: IpAddr, remote: IpAddr },
}

/// Receives the progress of each dial.
pub(crate) type DialObserver = Arc<dyn Fn(DialProgress) + Send + Sync>;
