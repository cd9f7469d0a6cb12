//! Addresses as the overlay sees them: their scope, their host and their network.
//!
//! Entry types: [`Address`], [`Remote`]. The rule it keeps: over a link only addresses of its own scope or of a wider one are
//! named, so that no peer can make this node dial into a network that the peer is not in.

use std::fmt::Debug;
use std::hash::Hash;

use super::options::MAX_ADDRESSES;
use super::scope::Reach;

/// The name of a node: a `PeerId` in the program, a number in the simulation.
pub trait NodeId: Copy + Ord + Hash + Debug {}

impl<T: Copy + Ord + Hash + Debug> NodeId for T {}

/// An address as the overlay sees it. The simulation brings its own.
pub trait Address: Clone + Eq + Hash + Debug {
    /// One owner's address block: an IPv4 address, or an IPv6 /64.
    type Host: Copy + Eq + Hash + Debug;

    /// Returns the scope.
    fn reach(&self) -> Reach;

    /// Returns the host at this address.
    fn host(&self) -> Self::Host;

    /// Returns the network of a host, by which a node's places are shared out: an IPv4 /24, or an IPv6 /64.
    fn network(host: Self::Host) -> Self::Host;
}

/// The other end of a connection, by its socket, whichever name or address was dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote<A: Address> {
    /// The host at the other end of the socket.
    pub host: A::Host,
    /// The scope of the connection: the peer may name addresses of this scope or a wider one over it.
    pub reach: Reach,
    /// The address at which the peer was dialled, if others can dial it there, too. None if the peer has dialled this node, or
    /// was dialled by a name.
    pub address: Option<A>,
}

/// Returns the first two of a peer's addresses that a link of this scope may name, those of its own scope first: the network
/// that carries this link most likely carries the next one.
pub(crate) fn in_scope<A: Address>(link: Option<Reach>, addresses: &[A]) -> Vec<A> {
    // Without a link only public addresses may be named.
    let link = link.unwrap_or(Reach::Public);
    let fits = |address: &&A| address.reach() >= link;
    let mut allowed: Vec<A> = addresses.iter().filter(fits).cloned().collect();
    allowed.sort_by_key(Address::reach);
    allowed.truncate(MAX_ADDRESSES);
    allowed
}
