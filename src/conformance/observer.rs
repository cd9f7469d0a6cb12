//! The state that all cases share: the configuration of links, the facts about the peer, and the observer's link.
//!
//! Entry type: [`Runner`]. The rule it keeps: before a hostile case runs, the observer's link has received an honest message,
//! so that a missing message means that the peer did not forward it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use super::connector::Connector;
use super::link::Link;
use super::link_config::LinkConfig;
use super::received::{self, Received};

/// Maximum number of attempts for a case or a link that may have failed by chance.
pub(crate) const MAX_TRIES: usize = 3;

/// The time in which the peer must forward an honest message.
pub(super) const FORWARD_TIMEOUT: Duration = Duration::from_secs(20);

/// Facts about the peer under test.
pub(crate) struct PeerFacts {
    /// The Core that it sent on the first link.
    pub(crate) peer: crate::wire::proto::handshake::Core,
}

/// State shared by all cases of a run.
pub(crate) struct Runner {
    pub(crate) link_config: LinkConfig,
    pub(crate) facts: OnceLock<PeerFacts>,
    /// The connector of the observer's link. None: there is no observer.
    observing: Option<Arc<Connector>>,
    observer: tokio::sync::Mutex<Option<Link>>,
    /// Number of observer's links so far, and the number of the last one that has received another link's message.
    observers: AtomicUsize,
    proven: AtomicUsize,
}

impl Runner {
    pub(super) fn new(link_config: LinkConfig, observing: Option<Arc<Connector>>) -> Runner {
        Runner {
            link_config,
            facts: OnceLock::new(),
            observing,
            observer: tokio::sync::Mutex::new(None),
            observers: AtomicUsize::new(0),
            proven: AtomicUsize::new(0),
        }
    }

    /// Number of observer's links so far: it grows when one was lost and replaced.
    pub(super) fn observer_count(&self) -> usize {
        self.observers.load(Ordering::Relaxed)
    }

    /// Creates an honest link. A peer under load may have been too slow once, so it is tried again.
    pub(crate) async fn link(&self, connector: &Connector) -> Result<Link, String> {
        let mut tries = 1;
        loop {
            match self.link_config.link(connector).await {
                Err(why) if tries < MAX_TRIES && !is_busy(&why) => tries += 1,
                made => return made,
            }
        }
    }

    /// Returns what the observer's link has received, and replaces that link if it is gone. None if there is no
    /// observer.
    pub(crate) async fn observer(&self) -> Result<Option<watch::Receiver<Received>>, String> {
        let Some(connector) = &self.observing else {
            return Ok(None);
        };
        let mut observer = self.observer.lock().await;
        if observer.as_ref().is_none_or(|link| link.conn.is_gone()) {
            *observer = None;
            let link = self.link(connector).await;
            let link = link.map_err(|e| format!("no second link to observe by: {e}"))?;
            link.ready().await?;
            *observer = Some(link);
            self.observers.fetch_add(1, Ordering::Relaxed);
        }
        Ok(observer.as_ref().map(|link| link.received.clone()))
    }

    /// Makes sure that the peer forwards messages of `link` to the observer: a message that does not arrive afterwards
    /// was not forwarded.
    pub(super) async fn proven_observer(&self, link: &mut Link) -> Result<(), String> {
        let Some(mut observer) = self.observer().await? else {
            return Ok(());
        };
        let number = self.observer_count();
        if self.proven.load(Ordering::Relaxed) >= number {
            return Ok(());
        }
        link.ready().await?;
        let marker = link.honest("chat", b"is anybody observing?".to_vec())?;
        let id = link.publish(&marker);
        received::await_message(&mut observer, id, FORWARD_TIMEOUT).await?;
        self.proven.fetch_max(number, Ordering::Relaxed);
        Ok(())
    }
}

pub(super) fn is_busy(why: &str) -> bool {
    why.contains("Reject BUSY")
}
