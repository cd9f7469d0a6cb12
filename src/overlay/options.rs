//! What can be set of the overlay, with the reasons for what is set.
//!
//! Entry type: [`Options`].

use std::time::Duration;

/// Addresses of one peer that are kept, told or tried: commonly one of each IP version. Each more would be one more place
/// at which a peer can have others dial.
pub(crate) const MAX_ADDRESSES: usize = 2;
/// Addresses of our own from which those are chosen that a link is told: its scope decides.
pub(crate) const MAX_LISTENS: usize = 16;
/// Contacts in one answer.
pub(crate) const MAX_CONTACTS: usize = 8;
/// Contacts that are read from one offer: fewer than in an answer, since nobody has asked.
pub(crate) const MAX_OFFERED: usize = 4;
/// Contacts that a peer gets when it is refused for want of room.
pub(crate) const MAX_REFERRALS: usize = 4;
/// Links that a peer may name as its own.
pub(crate) const MAX_NAMED_LINKS: usize = 8;
/// Further candidates that a handover tries when one refuses.
pub(crate) const MAX_RETRIES: usize = 3;

/// The numbers that shape the overlay.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most links, but for the one more while a handover runs.
    pub max_links: usize,
    /// Below this a node is in distress: it seeks fast, and says so.
    pub min_links: usize,
    /// Below this it seeks: the hard target. One below `max_links`, so that there is room to give.
    pub wanted_links: usize,
    /// Dials in flight while there is no link at all. Otherwise one; two below `min_links`.
    pub max_dials: usize,
    /// The length of a round of upkeep: 100 one-way delays of 50 ms.
    pub round: Duration,
    /// How likely a shuffle is in a round.
    pub shuffle: f64,
    /// How likely a flip is in a round.
    pub flip: f64,
    /// How likely an anchor swap is in a round.
    pub anchor_swap: f64,
    /// How likely a node with one link fewer than `max_links` looks for it in a round. A guess: high
    /// enough that mean degrees settle near 5 in some ten rounds, low enough to cost little.
    pub top_up: f64,
    /// How long the giver of a link waits for a handover: as long as a connection and both handshake
    /// rounds may take on a slow machine.
    pub give_timeout: Duration,
    /// How long the two others wait: longer than the giver by more than any message takes, so that
    /// the giver's word, whichever it is, arrives first.
    pub lock_timeout: Duration,
    /// How long the sixth link may take to say what it wants.
    pub visit_timeout: Duration,
    /// How long a proved peer's place is held until its link is up: the rest of the handshake.
    pub admit_timeout: Duration,
    /// How long a dial may take until it counts as failed.
    pub connect_timeout: Duration,
    /// First wait after a failed dial; doubled for each further one.
    pub backoff: Duration,
    /// Longest wait before an entry node that failed is dialled again, or before looking anew when
    /// nobody is left to dial.
    pub max_backoff: Duration,
    /// Longest wait after BUSY: the node is alive, and places come free quickly.
    pub max_busy_backoff: Duration,
    /// Peers in the address book (HyParView's passive view has 30 as well).
    pub book: usize,
    /// Of how many peers that were met the book is a sample; those met before are forgotten bit by bit, since ever more of
    /// them are gone.
    pub book_memory: usize,
    /// Of these, anchors.
    pub anchors: usize,
    /// Peers known by hearsay.
    pub pool: usize,
    /// Addresses dialled at once on the word of others: hints, contacts, and what peers say of themselves.
    pub dial_burst: u32,
    /// Addresses dialled in a minute on the word of others. With 24 newcomers get in no faster (simulated: one
    /// join a second through one node).
    pub dials_per_minute: f64,
    /// How long the same address is not dialled again on the word of others.
    pub dial_pause: Duration,
    /// Whether something on this machine or beside it, such as a proxy, hands connections of strangers on to this node: then
    /// the address that a connection comes from is no proof of being near, and all that come count as public.
    pub behind_proxy: bool,
    /// How long a peer whose handover failed gets no other.
    pub penalty: Duration,
    /// How long a peer that let us in may take it back: longer than both moves by which it may look for room, one after the
    /// other, and the visitor's leave. After that its link is as good as any other.
    pub granted_after: Duration,
    /// How long one answer in a handover may take: a round trip, on a line with seconds of other
    /// traffic before it.
    pub answer_timeout: Duration,
    /// How long a handover may take while others wait for the place: a connection and a handshake
    /// at 200 ms each way.
    pub contended_timeout: Duration,
    /// How long a visitor may take to pass its handshake, and then to join, while others wait.
    pub contended_visit: (Duration, Duration),
    /// How long a link may take until it has brought something, before it counts as idle. One that
    /// has answered has `idle_after`.
    pub first_after: Duration,
    /// How long a link that has brought something may bring nothing before it counts as idle. A
    /// quiet link of an honest node brings contacts about every 25 s.
    pub idle_after: Duration,
    /// Links that came by themselves which one network (an IPv4 /24, an IPv6 /64) keeps while
    /// peers of others wait.
    pub network_links: usize,
    /// Links of the node's own choice that it sees to have, though it is full.
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
            give_timeout: Duration::from_secs(8),
            lock_timeout: Duration::from_secs(12),
            visit_timeout: Duration::from_secs(2),
            admit_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(15),
            backoff: Duration::from_millis(250),
            max_backoff: Duration::from_secs(60),
            max_busy_backoff: Duration::from_secs(2),
            book: 30,
            book_memory: 1000,
            anchors: 8,
            pool: 24,
            dial_burst: 8,
            dials_per_minute: 12.0,
            dial_pause: Duration::from_secs(60),
            behind_proxy: false,
            penalty: Duration::from_secs(60),
            granted_after: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(2),
            contended_timeout: Duration::from_secs(4),
            contended_visit: (Duration::from_secs(3), Duration::from_secs(1)),
            first_after: Duration::from_secs(10),
            idle_after: Duration::from_secs(60),
            network_links: 2,
            own_links: 1,
        }
    }
}

impl Options {
    /// Options for other limits than 5 and 2. The targets follow.
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
