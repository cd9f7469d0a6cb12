//! A node that is a process of its own, as its parent orders.
//!
//! Entry function: [`run`]. The rule it keeps: it ends when its orders do.

use std::io::BufRead;
use std::num::NonZeroU64;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::super::super::failure::Failure;
use super::super::args::Rate;
use super::super::machine::{self, Meter};
use super::super::one::address_of;
use super::super::tally::Tally;
use super::super::{load, report};
use super::ipc::{Answer, Order, Report};
use crate::net::Address;
use crate::node::{Event, Events, Node};

/// Orders that wait: each but the first few waits for an answer.
const MAX_WAITING: usize = 16;
/// Interval between reports of the number of deliveries.
const REPORT_INTERVAL: Duration = Duration::from_millis(50);
/// For telling the peers that the node ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(1500);

/// Carries out the orders until stdin ends.
pub(crate) async fn run() -> Result<ExitCode, Failure> {
    let mut orders = orders()?;
    if let Err(failure) = serve(&mut orders).await {
        tell(&Answer::Failed(failure.to_string()))?;
        return Err(failure);
    }
    Ok(ExitCode::SUCCESS)
}

/// The counters since the last order to count.
struct Counting {
    tally: Arc<Tally>,
    meter: Meter,
    copies: u64,
}

impl Counting {
    /// Returns the result. The cost excludes computing it.
    fn report(&self, node: &Node) -> Report {
        let cost = self.meter.stop();
        Report {
            copies: node.message_copies() - self.copies,
            totals: self.tally.totals(),
            cost,
        }
    }
}

async fn serve(orders: &mut mpsc::Receiver<Result<Order, Failure>>) -> Result<(), Failure> {
    let plan = match orders.recv().await.transpose()? {
        Some(Order::Start(plan)) => plan,
        None => return Ok(()),
        Some(_) => return Err(Failure::new("the first order must be to start a node")),
    };
    let (node, events) = plan.start().await?;
    tell(&Answer::Online {
        peer_id: node.peer_id().to_string(),
        address: address_of(&node)?.to_string(),
    })?;
    let counted = Arc::new(OnceLock::new());
    let bell = Arc::new(Notify::new());
    tokio::spawn(read(events, counted.clone(), bell.clone()));
    tokio::spawn(tell_links(node.clone(), bell));

    let mut counting = None;
    while let Some(order) = orders.recv().await.transpose()? {
        match order {
            Order::Start(_) => return Err(Failure::new("the node is started already")),
            Order::Connect { address } => {
                let address: Address = address.parse().map_err(Failure::new)?;
                node.connect(address).await.map_err(Failure::new)?;
                tell(&Answer::Connected)?;
            }
            Order::Load { node: n, plan } => {
                let tally = Arc::new(Tally::new(plan, n..n + 1));
                if counted.set(tally.clone()).is_err() {
                    return Err(Failure::new("the node counts already"));
                }
                tokio::spawn(tell_progress(tally.clone()));
                counting = Some((
                    n,
                    Counting {
                        tally,
                        copies: node.message_copies(),
                        meter: Meter::start(),
                    },
                ));
                tell(&Answer::Ready)?;
            }
            Order::Send { rate, begun } => {
                let (n, counting) = counting.as_ref().ok_or_else(nothing_to_do)?;
                send(&node, *n, &counting.tally, rate, begun);
            }
            Order::Report => {
                let (_, counting) = counting.as_ref().ok_or_else(nothing_to_do)?;
                tell(&Answer::Report(Box::new(counting.report(&node))))?;
            }
        }
    }
    // The parent may have ended.
    let _ = timeout(SHUTDOWN_TIMEOUT, node.shutdown()).await;
    Ok(())
}

/// Starts to send the events of publisher `n`, whose schedule began at `begun` on the machine's clock, and reports the end.
fn send(node: &Node, n: usize, tally: &Arc<Tally>, rate: Option<NonZeroU64>, begun: Duration) {
    let rate = rate.map_or(Rate::Max, Rate::PerSecond);
    let since = machine::monotonic().saturating_sub(begun);
    let now = Instant::now();
    let begun = now.checked_sub(since).unwrap_or(now);
    let sending = load::publish(node.clone(), n, tally.clone(), rate, begun);
    // As in one process: a publisher is an application.
    tokio::spawn(tokio::task::unconstrained(async {
        let answer = match sending.await {
            Ok(()) => Answer::Sent,
            Err(failure) => Answer::Failed(failure.to_string()),
        };
        drop(tell(&answer));
    }));
}

fn nothing_to_do() -> Failure {
    Failure::new("the node was not told which events there are")
}

/// Starts a thread that reads the orders: a read of stdin in Tokio would keep the runtime from ending.
fn orders() -> Result<mpsc::Receiver<Result<Order, Failure>>, Failure> {
    let (sender, orders) = mpsc::channel(MAX_WAITING);
    thread::Builder::new()
        .spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                let order = serde_json::from_str(&line)
                    .map_err(|e| Failure::new(format!("not an order of `diatribe bench`: {e}")));
                if sender.blocking_send(order).is_err() {
                    return;
                }
            }
        })
        .map_err(|e| Failure::new(format!("orders cannot be read: {e}")))?;
    Ok(orders)
}

async fn read(mut events: Events, counted: Arc<OnceLock<Arc<Tally>>>, bell: Arc<Notify>) {
    while let Some(event) = events.next().await {
        match (event, counted.get()) {
            (Event::Message(message), Some(tally)) => tally.came(0, &message),
            (Event::Missed { events, .. }, Some(tally)) => tally.missed(0, events),
            (Event::LinkUp { .. } | Event::LinkDown { .. }, _) => bell.notify_one(),
            (Event::Error { reason }, _) => tracing::error!(reason, "the node complains"),
            _ => {}
        }
    }
}

/// Reports the links after each change.
async fn tell_links(node: Node, bell: Arc<Notify>) {
    loop {
        bell.notified().await;
        let peers = node.peers().await;
        let peers = peers.iter().map(|link| link.peer_id.to_string()).collect();
        if tell(&Answer::Links(peers)).is_err() {
            return;
        }
    }
}

async fn tell_progress(tally: Arc<Tally>) {
    let mut told = 0;
    while told < tally.expected() {
        tokio::time::sleep(REPORT_INTERVAL).await;
        let now = tally.delivered();
        if now > told && tell(&Answer::Came(now)).is_err() {
            return;
        }
        told = now;
    }
}

fn tell(answer: &Answer) -> Result<(), Failure> {
    report::json(answer)
}
