//! The load: the events that the publishers send, and their rate.
//!
//! Entry function: [`send`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::failure::Failure;
use super::args::Rate;
use super::tally::Tally;
use crate::node::{Node, PendingBroadcast};

/// Maximum number of events in flight for each publisher: a fast sender need not wait for each answer, but must learn
/// of failures.
const MAX_UNANSWERED: usize = 1024;

/// Sends all events of the plan. Resolves when the nodes have acknowledged them.
pub(crate) async fn send(nodes: &[Node], tally: &Arc<Tally>, rate: Rate) -> Result<(), Failure> {
    let publishers = tally.plan().publishers.len();
    let begun = Instant::now();
    let sending: Vec<_> = (0..publishers)
        .map(|n| publish(nodes[n].clone(), n, tally.clone(), rate, begun))
        // Publishers are applications, and not made to take turns with the nodes' own tasks.
        .map(|publishing| tokio::spawn(tokio::task::unconstrained(publishing)))
        .collect();
    for task in sending {
        task.await.map_err(Failure::new)??;
    }
    Ok(())
}

/// Sends one publisher's share, paced from `begun` on.
pub(crate) async fn publish(
    node: Node,
    publisher: usize,
    tally: Arc<Tally>,
    rate: Rate,
    begun: Instant,
) -> Result<(), Failure> {
    let plan = tally.plan();
    let step = plan.publishers.len();
    let mut unanswered: VecDeque<PendingBroadcast> = VecDeque::new();
    let numbers = (0..plan.count).skip(publisher).step_by(step);
    for number in numbers {
        if let Rate::PerSecond(rate) = rate {
            let due = begun + Duration::from_secs_f64(number as f64 / rate.get() as f64);
            tokio::time::sleep_until(due.into()).await;
        }
        let room = plan.room(number).as_str();
        let sending = node.enqueue(room, "bench", plan.data(number)).await;
        unanswered.push_back(sending.map_err(Failure::new)?);
        while unanswered.len() > MAX_UNANSWERED {
            answered(&mut unanswered).await?;
        }
    }
    while !unanswered.is_empty() {
        answered(&mut unanswered).await?;
    }
    Ok(())
}

async fn answered(unanswered: &mut VecDeque<PendingBroadcast>) -> Result<(), Failure> {
    match unanswered.pop_front() {
        Some(sending) => sending.sent().await.map(drop).map_err(Failure::new),
        None => Ok(()),
    }
}
