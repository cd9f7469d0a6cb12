//! How many strangers may begin a handshake: token buckets, one for each source and one for all.
//!
//! Entry type: [`HandshakeRateLimiter`]. The rule it keeps: a Hello past its source's or the node's rate is
//! answered with BUSY before it costs a key operation.

use std::collections::HashMap;

use libp2p::core::ConnectedPoint;

use crate::clock::Time;
use crate::wire::{Source, is_loopback};

/// Hellos a second in all: at about 0.3 ms of key operations each, 1.5 % of a core.
const PER_SECOND_IN_ALL: f64 = 50.0;
/// Hellos in all that may come at once.
const BURST_IN_ALL: f64 = 50.0;
/// Sources remembered at once. The node's own rate fills it in half a minute at most, in which
/// time a source's bucket is full again and can be forgotten.
const MAX_SOURCES: usize = 1024;

/// What one source may do.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeLimit {
    /// Hellos a second from one source.
    pub per_second: f64,
    /// Hellos that one source may send at once.
    pub burst: f64,
    /// Whether loopback addresses are not counted, neither for themselves nor for all.
    pub exempt_loopback: bool,
}

impl Default for HandshakeLimit {
    fn default() -> Self {
        HandshakeLimit {
            per_second: 1.0,
            burst: 5.0,
            exempt_loopback: false,
        }
    }
}

/// Counts the Hellos of strangers.
#[derive(Debug)]
pub struct HandshakeRateLimiter {
    limit: HandshakeLimit,
    all: Bucket,
    sources: HashMap<Source, Bucket>,
}

impl HandshakeRateLimiter {
    /// Full buckets.
    pub fn new(limit: HandshakeLimit) -> HandshakeRateLimiter {
        HandshakeRateLimiter {
            limit,
            all: Bucket::full(BURST_IN_ALL, Time::ZERO),
            sources: HashMap::new(),
        }
    }

    /// Whether the peer at `endpoint` may begin a handshake now.
    pub fn admit(&mut self, now: Time, endpoint: &ConnectedPoint) -> bool {
        let address = endpoint.get_remote_address();
        if self.limit.exempt_loopback && is_loopback(address) {
            return true;
        }
        let limit = self.limit;
        let source = Source::of(address);
        if self.sources.len() >= MAX_SOURCES {
            self.sources
                .retain(|_, b| !b.is_full(now, limit.per_second, limit.burst));
        }
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source) {
            return false;
        }
        let bucket = self
            .sources
            .entry(source)
            .or_insert_with(|| Bucket::full(limit.burst, now));
        if !bucket.take(now, limit.per_second, limit.burst) {
            tracing::info!(%source, "BUSY: over {} handshakes a second from one address; raise it with --per-address-limit", limit.per_second);
            return false;
        }
        self.all.take(now, PER_SECOND_IN_ALL, BURST_IN_ALL)
    }
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Time,
}

impl Bucket {
    fn full(burst: f64, now: Time) -> Bucket {
        Bucket {
            tokens: burst,
            at: now,
        }
    }

    fn refill(&mut self, now: Time, rate: f64, burst: f64) {
        self.tokens = (self.tokens + (now - self.at).as_secs_f64() * rate).min(burst);
        self.at = now;
    }

    fn is_full(&self, now: Time, rate: f64, burst: f64) -> bool {
        self.tokens + (now - self.at).as_secs_f64() * rate >= burst
    }

    fn take(&mut self, now: Time, rate: f64, burst: f64) -> bool {
        self.refill(now, rate, burst);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> ConnectedPoint {
        ConnectedPoint::Listener {
            local_addr: "/ip4/127.0.0.1/tcp/1/ws".parse().unwrap(),
            send_back_addr: address.parse().unwrap(),
        }
    }

    fn admitted(
        limiter: &mut HandshakeRateLimiter,
        now: Time,
        address: &str,
        tries: usize,
    ) -> usize {
        (0..tries)
            .filter(|_| limiter.admit(now, &from(address)))
            .count()
    }

    #[test]
    fn one_source_gets_its_burst_then_its_rate() {
        let mut limiter = HandshakeRateLimiter::new(HandshakeLimit::default());
        assert_eq!(
            admitted(&mut limiter, Time::ZERO, "/ip4/192.0.2.1/tcp/5", 20),
            5
        );
        assert_eq!(
            admitted(
                &mut limiter,
                Time::from_millis(3000),
                "/ip4/192.0.2.1/tcp/6",
                20
            ),
            3
        );
        assert_eq!(
            admitted(
                &mut limiter,
                Time::from_millis(3000),
                "/ip4/192.0.2.2/tcp/5",
                20
            ),
            5
        );
    }

    #[test]
    fn many_sources_share_the_nodes_rate_and_its_memory_is_bounded() {
        let mut limiter = HandshakeRateLimiter::new(HandshakeLimit::default());
        let passed: usize = (0..60_000u32)
            .map(|i| {
                let ip = std::net::Ipv4Addr::from(0x0a00_0000 + i);
                admitted(&mut limiter, Time::ZERO, &format!("/ip4/{ip}/tcp/1"), 1)
            })
            .sum();
        assert_eq!(passed, 50);
        assert!(limiter.sources.len() <= MAX_SOURCES);
    }

    #[test]
    fn loopback_is_exempt_only_when_asked_for() {
        let limit = HandshakeLimit {
            exempt_loopback: true,
            ..HandshakeLimit::default()
        };
        assert_eq!(
            admitted(
                &mut HandshakeRateLimiter::new(limit),
                Time::ZERO,
                "/ip6/::1/tcp/5",
                500
            ),
            500
        );
        let mut strict = HandshakeRateLimiter::new(HandshakeLimit::default());
        assert_eq!(admitted(&mut strict, Time::ZERO, "/ip6/::1/tcp/5", 500), 5);
    }
}
