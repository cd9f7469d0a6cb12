//! Supervises the tasks and threads of a node: when one of them panics, the whole node stops and reports why.
//!
//! Entry type: [`Supervisor`]. The rule it keeps: no part of a node ends unnoticed. A node that has lost a task looks
//! alive to a process supervisor, but neither sends nor receives.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::command::Command;
use super::event::{Event, EventBus};

/// Timeout for the remaining tasks to close the links and the log after one has failed. Longer than an ordinary
/// shutdown takes, because others may wait for the failed task.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// A node stopped because one of its tasks panicked, which is a fault of the program.
///
/// Everything acknowledged before is in the log. Start the node again, and report the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the node has stopped because its task `{task}` failed: {message}; what was acknowledged is in the log: \
     start the node again, and report this as a fault of the program"
)]
#[non_exhaustive]
pub struct NodeFailure {
    /// Name of the task.
    pub task: &'static str,
    /// Text of the panic.
    pub message: String,
}

/// Starts the tasks of one node and stops the node when one of them panics. Clones share the state.
#[derive(Clone, Debug)]
pub(crate) struct Supervisor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: Handle,
    bus: EventBus,
    /// Weak, because a node stops when the application has dropped its last handle.
    commands: mpsc::WeakSender<Command>,
    failure: OnceLock<NodeFailure>,
}

impl Supervisor {
    /// Creates a supervisor of the node that receives `commands` and reports on `bus`. Must be called inside a Tokio
    /// runtime.
    pub(crate) fn new(bus: EventBus, commands: &mpsc::Sender<Command>) -> Supervisor {
        Supervisor(Arc::new(Inner {
            runtime: Handle::current(),
            bus,
            commands: commands.downgrade(),
            failure: OnceLock::new(),
        }))
    }

    /// Spawns `task`; a panic in it stops the node. The handle resolves in either case.
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let supervisor = self.clone();
        self.0.runtime.spawn(async move {
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                supervisor.fail(name, panic_message(&*panic));
            }
        })
    }

    /// Stops the node because the task or thread `name` has failed. Only the first failure counts.
    pub(crate) fn fail(&self, name: &'static str, message: String) {
        let failure = NodeFailure {
            task: name,
            message,
        };
        let reason = failure.to_string();
        if self.0.failure.set(failure).is_err() {
            return;
        }
        self.0.bus.emit_as(None, Event::Error { reason });
        let (bus, commands) = (self.0.bus.clone(), self.0.commands.clone());
        self.0.runtime.spawn(async move {
            let _ = tokio::time::timeout(STOP_TIMEOUT, shut_down(commands)).await;
            // The loop closes the bus when it ends, but the loop itself may have failed.
            bus.close();
        });
    }

    /// Returns why the node stopped by itself, if it did.
    pub(crate) fn failure(&self) -> Option<NodeFailure> {
        self.0.failure.get().cloned()
    }
}

/// Asks the loop to close the links and notify the peers. Returns when it has, or is gone.
async fn shut_down(commands: mpsc::WeakSender<Command>) {
    let Some(commands) = commands.upgrade() else {
        return;
    };
    let (reply, done) = oneshot::channel();
    if commands.send(Command::Shutdown { reply }).await.is_ok() {
        let _ = done.await;
    }
}

/// Returns the text of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "it panicked without a message".to_owned()
    }
}

#[cfg(test)]
mod tests;
