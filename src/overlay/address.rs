//! What the overlay must know of an address, and what it makes of a list of them.
//!
//! Entry types: [`Address`], [`Remote`]. The rule kept here: over a link only addresses of its own scope or of a wider one
//! are named, so that nobody is told to dial into a network which whoever says so is not in.

use std::fmt::Debug;
use std::hash::Hash;

use super::options::MAX_ADDRESSES;
use super::scope::Reach;

/// What the overlay must know of an address. The simulation brings its own.
pub trait Address: Clone + Eq + Hash + Debug {
    /// What one owner commonly has for itself: an IPv4 address, or an IPv6 /64.
    type Host: Copy + Eq + Hash + Debug;

    /// Its scope.
    fn reach(&self) -> Reach;

    /// Whose it is, as far as the address tells.
    fn host(&self) -> Self::Host;

    /// The network that a host belongs to, as those that share a node's places are counted: an IPv4 /24, or an IPv6 /64.
    fn network(host: Self::Host) -> Self::Host;
}

/// The other end of a connection, as its socket has it, whatever was typed to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote<A: Address> {
    /// Where the connection really comes from or leads to.
    pub host: A::Host,
    /// Its scope: what the peer may name over the connection.
    pub reach: Reach,
    /// Where the peer was dialled, if it can be dialled there again by others, too. None if it has dialled us, and where
    /// only a name leads.
    pub address: Option<A>,
}

/// Of a peer's addresses the first two that a link of this scope may name, those of its own scope first: the network that
/// carries this link most likely carries the next one.
pub(crate) fn in_scope<A: Address>(link: Option<Reach>, addresses: &[A]) -> Vec<A> {
    // Without a link there is nothing to go by: only what is public may be named.
    let link = link.unwrap_or(Reach::Public);
    let fits = |address: &&A| address.reach() >= link;
    let mut allowed: Vec<A> = addresses.iter().filter(fits).cloned().collect();
    allowed.sort_by_key(Address::reach);
    allowed.truncate(MAX_ADDRESSES);
    allowed
}
