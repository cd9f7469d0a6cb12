//! Signals that end the program, or make it read its files again.
//!
//! Entry types: [`Signals`], [`Reloads`]. The rule they keep: a signal that arrives before somebody waits for it is not
//! lost.

use std::io;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Receives SIGINT and SIGTERM, which end a program; on other systems Ctrl-C.
pub(crate) struct Signals {
    #[cfg(unix)]
    terminate: Signal,
    #[cfg(unix)]
    interrupt: Signal,
}

/// Receives SIGHUP, which asks a program to read its files again; other systems have no such signal.
pub(crate) struct Reloads {
    #[cfg(unix)]
    hang_up: Signal,
}

#[cfg(unix)]
impl Signals {
    /// Takes the signals from now on.
    pub(crate) fn listen() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(unix)]
impl Reloads {
    /// Takes the signal from now on.
    pub(crate) fn listen() -> io::Result<Reloads> {
        Ok(Reloads {
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal. Several in the meantime count as one.
    pub(crate) async fn next(&mut self) {
        if self.hang_up.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    /// Takes the signals from now on.
    pub(crate) fn listen() -> io::Result<Signals> {
        Ok(Signals {})
    }

    /// Waits for one.
    pub(crate) async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
impl Reloads {
    /// Receives nothing on this system.
    pub(crate) fn listen() -> io::Result<Reloads> {
        Ok(Reloads {})
    }

    /// Waits for ever.
    pub(crate) async fn next(&mut self) {
        std::future::pending().await
    }
}
