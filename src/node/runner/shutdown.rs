//! Shutdown: neighbours fetch announced batches, peers are notified, connections close, and the log is closed.
//!
//! Entry: [`Runner::shut_down`]. The rule it keeps: each step has a timeout, and up to the close of the log they stay within the
//! two seconds in which a program should end.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Runner;
use super::channels::IngestChannels;
use crate::node::ingest::SyncCommand;

/// Maximum time for neighbours to fetch large batches that were announced to them.
const UPLOAD_TIMEOUT: Duration = Duration::from_millis(700);
/// Maximum time for the overlay's leave messages to be sent.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(100);
/// Maximum time for connections to close.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1000);
/// Maximum time for the log to close: the next process to open it needs it free.
const CLOSE_LOG_TIMEOUT: Duration = Duration::from_secs(5);

impl Runner {
    /// Stops the node.
    pub(super) async fn shut_down(mut self) {
        self.drain_uploads().await;
        let saving = self.overlay.save_book();
        if let Some(overlay) = self.network.overlay() {
            overlay.stop();
            let leaving = async {
                loop {
                    self.network.next().await;
                }
            };
            let _ = timeout(LEAVE_TIMEOUT, leaving).await;
        }
        self.network.close_all();
        let _ = timeout(CLOSE_TIMEOUT, self.network.all_closed()).await;
        if let Some(saving) = saving {
            let _ = timeout(CLOSE_TIMEOUT, saving).await;
        }
        // The ingest task ends when its receivers here are dropped.
        let IngestChannels {
            task,
            network_requests,
            verdicts,
            ..
        } = self.channels.ingest;
        drop((network_requests, verdicts));
        let _ = timeout(CLOSE_LOG_TIMEOUT, task).await;
        self.bus.close();
    }

    /// Runs the loop until the neighbours have fetched the batches that were announced to them, within a timeout.
    async fn drain_uploads(&mut self) {
        let (reply, all_confirmed) = oneshot::channel();
        self.sync.send(SyncCommand::AllConfirmed(reply));
        let mut drained = std::pin::pin!(timeout(UPLOAD_TIMEOUT, all_confirmed));
        self.is_stopping = true;
        loop {
            tokio::select! {
                _ = &mut drained => return,
                event = self.next() => self.on_loop_event(event),
            }
        }
    }
}
