//! Rate limiter for handshakes that strangers begin: a token bucket for each source and one for all.
//!
//! Entry type: [`HandshakeRateLimiter`]. The rule it keeps: a Hello over the limit of its source or of the node is
//! answered with BUSY before it costs a key operation.

use libp2p::core::ConnectedPoint;

use crate::clock::Time;
use crate::rate_limit::{Rate, SourceBuckets, TokenBucket};
use crate::wire::{Source, is_loopback};

/// Rate of all sources together: at about 0.3 ms of key operations for each Hello, 1.5 % of a core.
const RATE_IN_ALL: Rate = Rate {
    burst: 50.0,
    per_second: 50.0,
};
/// Maximum number of sources that are remembered. At the rate of all sources together they take 20 seconds to fill, and a
/// source's bucket is full again, and can be forgotten, long before that.
const MAX_SOURCES: usize = 1024;

/// Limit on the handshakes that one source may begin.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeLimit {
    /// Maximum rate of Hellos from one source, in Hellos per second.
    pub per_second: f64,
    /// Maximum number of Hellos that one source may send at once.
    pub burst: f64,
    /// Whether loopback addresses are exempt from all limits.
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

/// Limits the rate of handshakes by source address and in all.
#[derive(Debug)]
pub struct HandshakeRateLimiter {
    limit: HandshakeLimit,
    all: TokenBucket,
    sources: SourceBuckets<Source>,
}

impl HandshakeRateLimiter {
    /// Returns a limiter with full buckets.
    pub fn new(limit: HandshakeLimit) -> HandshakeRateLimiter {
        let per_source = Rate {
            burst: limit.burst,
            per_second: limit.per_second,
        };
        HandshakeRateLimiter {
            limit,
            all: TokenBucket::new(RATE_IN_ALL, Time::ZERO),
            sources: SourceBuckets::new(per_source, MAX_SOURCES),
        }
    }

    /// Returns whether the peer at `endpoint` may begin a handshake at `now`, and counts it if it may. A source for which
    /// there is no room is refused.
    pub fn admit(&mut self, now: Time, endpoint: &ConnectedPoint) -> bool {
        let address = endpoint.get_remote_address();
        if self.limit.exempt_loopback && is_loopback(address) {
            return true;
        }
        let source = Source::of(address);
        let Some(bucket) = self.sources.bucket_of(now, source) else {
            return false;
        };
        if !bucket.try_take(now) {
            tracing::info!(%source, "BUSY: over {} handshakes a second from one address; raise it with --per-address-limit", self.limit.per_second);
            return false;
        }
        self.all.try_take(now)
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
