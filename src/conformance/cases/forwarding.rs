//! Publishes messages and waits until the peer has forwarded them to the observer's link.
//!
//! Entry: [`forwarded`], [`stays`].

use std::time::Duration;

use super::timeouts::ping;
use crate::conformance::case::{CaseContext, Observation, Run};
use crate::conformance::link::Link;
use crate::conformance::received::{OBSERVER_LOST, Received};
use crate::conformance::streams::PING;

const FORWARD_TIMEOUT: Duration = Duration::from_secs(20);

const FORWARD_ALL_TIMEOUT: Duration = Duration::from_secs(60);

/// From this number of messages on, the timeout is [`FORWARD_ALL_TIMEOUT`].
const MANY: usize = 10;

/// Publishes these messages, waits until the observer has received all, and checks that the link is still up.
pub(super) async fn forwarded(ctx: CaseContext, link: Link, all: Vec<Vec<u8>>) -> Run {
    let observer = ctx.runner.observer().await?;
    let ids = all.iter().map(|data| link.publish(data)).collect();
    forwarded_all(link, ids, observer).await
}

pub(super) async fn forwarded_all(
    link: Link,
    ids: Vec<[u8; 32]>,
    observer: Option<tokio::sync::watch::Receiver<Received>>,
) -> Run {
    let came = match observer {
        Some(mut observer) => {
            let within = if ids.len() >= MANY {
                FORWARD_ALL_TIMEOUT
            } else {
                FORWARD_TIMEOUT
            };
            let all_heard =
                |received: &Received| ids.iter().all(|id| received.messages.contains_key(id));
            let all = tokio::time::timeout(within, observer.wait_for(all_heard))
                .await
                .map(|received| received.is_ok());
            if all == Ok(false) && !link.conn.is_gone() {
                return Err(OBSERVER_LOST.to_owned());
            }
            if all != Ok(true) {
                let received = observer.borrow();
                let count = ids
                    .iter()
                    .filter(|id| received.messages.contains_key(*id))
                    .count();
                let gone = if link.conn.is_gone() {
                    "; the link is gone"
                } else {
                    ""
                };
                return Err(format!(
                    "{count} of {} were forwarded within {within:?}{gone}",
                    ids.len()
                ));
            }
            match ids.len() {
                1 => "forwarded".to_owned(),
                n => format!("all {n} forwarded"),
            }
        }
        None => "taken: the link stays".to_owned(),
    };
    stays(&link).await?;
    Ok(Observation::new(came).with(link))
}

/// Checks that the link is up and that its peer answers a ping.
pub(crate) async fn stays(link: &Link) -> Result<(), String> {
    // Long enough for a link that is being closed to be reported as closed.
    if link.conn.gone(Duration::from_millis(300)).await.is_some() {
        return Err("the link is closed".to_owned());
    }
    let stream = link.conn.open(PING).await;
    let stream = stream.map_err(|_| "the link is closed".to_owned())?;
    ping(stream).await?;
    match link.received.borrow().wrong.clone() {
        Some(wrong) => Err(format!("the peer sent {wrong}")),
        None => Ok(()),
    }
}
