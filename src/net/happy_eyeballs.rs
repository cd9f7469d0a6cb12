//! Connection attempts to several addresses of one peer, so that an unresponsive address does not delay the others (RFC
//! 8305, "Happy Eyeballs").
//!
//! Entry functions: [`interleave_families`], [`race`]. The rules they keep: an attempt begins when the one before it
//! has failed or [`ATTEMPT_DELAY`] has passed; the first success wins; and the error lists every failed address.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep_until};

/// Delay between the starts of two attempts: the Connection Attempt Delay recommended in RFC 8305, section 5.
pub(super) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Maximum number of addresses that are tried for one name: the owner of the name chooses how many it has.
pub(super) const MAX_ADDRESSES: usize = 16;

/// Returns the addresses in the order of their attempts: IPv6 and IPv4 alternate, IPv6 first, and within a family the
/// order of the system is kept (RFC 8305, section 4). Returns at most [`MAX_ADDRESSES`].
pub(super) fn interleave_families<A>(addresses: Vec<A>, is_ipv6: impl Fn(&A) -> bool) -> Vec<A> {
    let (v6, v4): (Vec<A>, Vec<A>) = addresses.into_iter().partition(is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut ordered = Vec::new();
    loop {
        let pair = [v6.next(), v4.next()];
        if pair.iter().all(Option::is_none) {
            ordered.truncate(MAX_ADDRESSES);
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

/// Tries the addresses in order, each [`ATTEMPT_DELAY`] after the one before, or as soon as that one has failed.
/// Returns the result of the first success.
///
/// # Errors
///
/// Every address with its error.
pub(super) async fn race<T, E, F>(
    addresses: Vec<SocketAddr>,
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<T, Vec<(SocketAddr, E)>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut failed = Vec::new();
    let begin = |address| {
        let attempt = attempt(address);
        async move { (address, attempt.await) }
    };
    let mut next_at = Instant::now();
    loop {
        if next_at <= Instant::now() || running.is_empty() {
            match waiting.next() {
                Some(address) => {
                    running.push(begin(address));
                    next_at = Instant::now() + ATTEMPT_DELAY;
                }
                None if running.is_empty() => return Err(failed),
                None => {}
            }
        }
        let is_next = waiting.len() > 0;
        tokio::select! {
            Some((address, outcome)) = running.next() => match outcome {
                Ok(won) => return Ok(won),
                Err(error) => {
                    failed.push((address, error));
                    next_at = Instant::now();
                }
            },
            () = sleep_until(next_at), if is_next => {}
        }
    }
}

#[cfg(test)]
mod tests;
