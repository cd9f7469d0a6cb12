//! Options of the overlay, with the reasons for their defaults.
//!
//! Entry type: [`Options`]. The rule it keeps: the targets follow from the two limits that a person may set.

use std::time::Duration;

/// Maximum number of addresses of one peer that are kept, named or dialled: commonly one of each IP version. Each address more
/// would be one more that a peer can make others dial.
pub(crate) const MAX_ADDRESSES: usize = 2;
/// Maximum number of this node's own addresses. Each link gets those in its scope.
pub(crate) const MAX_LISTENS: usize = 16;
/// Maximum number of contacts in one response.
pub(crate) const MAX_CONTACTS: usize = 8;
/// Maximum number of contacts that are read from one offer: fewer than from a response, since they were not asked for.
pub(crate) const MAX_OFFERED: usize = 4;
/// Maximum number of contacts for a peer that is refused for want of room.
pub(crate) const MAX_REFERRALS: usize = 4;
/// Maximum number of links that a peer may name as its own.
pub(crate) const MAX_NAMED_LINKS: usize = 8;
/// Maximum number of further links that a handover tries to move when one refuses.
pub(crate) const MAX_RETRIES: usize = 3;

/// The parameters of the overlay.
#[derive(Clone, Debug)]
pub struct Options {
    /// Maximum number of links; one more is allowed during a handover.
    pub max_links: usize,
    /// Minimum number of links: below it the node dials urgently, and reports that it searches.
    pub min_links: usize,
    /// Number of links below which the node dials. One below `max_links`, so that there is room for newcomers.
    pub wanted_links: usize,
    /// Maximum number of dials in flight while there is no link at all. With links it is one, and two below `min_links`.
    pub max_dials: usize,
    /// Length of a round of upkeep: 100 one-way delays of 50 ms.
    pub round: Duration,
    /// Probability of a shuffle in a round.
    pub shuffle: f64,
    /// Probability of a flip in a round.
    pub flip: f64,
    /// Probability of an anchor swap in a round.
    pub anchor_swap: f64,
    /// Probability that a node with one link fewer than `max_links` dials for it in a round. A guess: high enough that mean
    /// degrees get near 5 in some ten rounds, low enough to cost little.
    pub top_up: f64,
    /// Timeout of a handover at its coordinator: the time that a connection and both handshake rounds may take on a slow
    /// machine.
    pub coordinator_timeout: Duration,
    /// Timeout of a handover at the moved node and the receiver: longer than the coordinator's by more than any message takes,
    /// so that the coordinator's message arrives first.
    pub participant_timeout: Duration,
    /// Timeout for the Join on a provisional link beyond the limit.
    pub provisional_timeout: Duration,
    /// Time for which the place of a verified peer is reserved until its link is up: the rest of the handshake.
    pub admit_timeout: Duration,
    /// Timeout of a dial.
    pub connect_timeout: Duration,
    /// First back-off after a failed dial; doubled for each further one.
    pub backoff: Duration,
    /// Maximum back-off for an entry node that failed, and for the next search when there is no peer left to dial.
    pub max_backoff: Duration,
    /// Maximum back-off after BUSY: the node is alive, and places become free quickly.
    pub max_busy_backoff: Duration,
    /// Maximum number of verified peers that are kept (HyParView's passive view has 30 as well).
    pub max_verified: usize,
    /// Number of contacts of which the verified peers are a sample. Earlier ones are forgotten bit by bit, since ever more of
    /// them are gone.
    pub verified_memory: usize,
    /// Maximum number of anchors among the verified peers.
    pub max_anchors: usize,
    /// Maximum number of peers known by hearsay.
    pub max_hearsay: usize,
    /// Burst of the rate limit for dials to addresses that others have named: hints, contacts, and peers' own announcements.
    pub dial_burst: u32,
    /// Rate limit for such dials, per minute. With 24 newcomers get in no faster (simulated: one join a second through one node).
    pub dials_per_minute: f64,
    /// Minimum time between two such dials to the same address.
    pub dial_pause: Duration,
    /// Whether a proxy on this machine or network forwards connections to this node. The source address of an inbound connection
    /// then proves nothing, and all inbound connections count as public.
    pub behind_proxy: bool,
    /// Time for which a peer that failed in a handover gets no other.
    pub penalty: Duration,
    /// Time for which a peer may revoke a link through which this node has joined: longer than the two handovers by which it may
    /// look for room, one after the other, and the newcomer's leave. After that the link is confirmed.
    pub granted_after: Duration,
    /// Timeout of one answer in a handover: a round trip on a line with seconds of other traffic before it.
    pub answer_timeout: Duration,
    /// Time that a handover without progress gets while newcomers wait: a connection and a handshake at 200 ms each way.
    pub contended_timeout: Duration,
    /// Time that a provisional link gets for its handshake, and then for its Join, while other newcomers wait.
    pub contended_provisional: (Duration, Duration),
    /// Time without use after which a link counts as idle when its peer has never answered.
    pub first_after: Duration,
    /// Time without use after which any other link counts as idle. A quiet link with an honest node brings contacts about every
    /// 25 s.
    pub idle_after: Duration,
    /// Number of inbound links that one network (an IPv4 /24, an IPv6 /64) keeps while peers of other networks wait.
    pub network_links: usize,
    /// Number of links of its own choice that a full node wants.
    pub own_links: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            max_links: 5,
            min_links: 2,
            wanted_links: 4,
            max_dials: 3,
            round: Duration::from_secs(5),
            shuffle: 0.5,
            flip: 0.1,
            anchor_swap: 0.05,
            top_up: 0.2,
            coordinator_timeout: Duration::from_secs(8),
            participant_timeout: Duration::from_secs(12),
            provisional_timeout: Duration::from_secs(2),
            admit_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(15),
            backoff: Duration::from_millis(250),
            max_backoff: Duration::from_secs(60),
            max_busy_backoff: Duration::from_secs(2),
            max_verified: 30,
            verified_memory: 1000,
            max_anchors: 8,
            max_hearsay: 24,
            dial_burst: 8,
            dials_per_minute: 12.0,
            dial_pause: Duration::from_secs(60),
            behind_proxy: false,
            penalty: Duration::from_secs(60),
            granted_after: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(2),
            contended_timeout: Duration::from_secs(4),
            contended_provisional: (Duration::from_secs(3), Duration::from_secs(1)),
            first_after: Duration::from_secs(10),
            idle_after: Duration::from_secs(60),
            network_links: 2,
            own_links: 1,
        }
    }
}

impl Options {
    /// Returns options for other limits than 5 and 2. The targets follow from them.
    pub fn with_links(max_links: usize, min_links: usize) -> Options {
        let max_links = max_links.max(2);
        Options {
            max_links,
            min_links: min_links.clamp(1, max_links),
            wanted_links: (max_links - 1).max(min_links.min(max_links)),
            network_links: (max_links * 2 / 5).max(1),
            ..Options::default()
        }
    }
}
