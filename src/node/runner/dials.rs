//! The loop's part in dials: how each begins.
//!
//! The rule it keeps: every dial begins here, leaves from a port of its own, and is answered for.

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use super::Runner;
use crate::net::address::Address;
use crate::net::staggered_dial::stagger_dials;
use crate::node::error::ConnectError;
use crate::node::failure;
use crate::node::handle::LinkInfo;

impl Runner {
    /// Dials one of the addresses to keep dialling.
    pub(super) fn dial(&mut self, address: &Address) {
        let opts = dial_address(address);
        let connection_id = opts.connection_id();
        self.dialing.started(address, connection_id);
        if let Err(error) = self.start_dial(opts) {
            let (peer_id, at) = (address.peer_id(), address.multiaddr().clone());
            self.on_dial_failed(connection_id, peer_id, Some(at), failure::of_dial(&error));
        }
    }

    /// Every dial begins here: one that a behaviour asks the swarm for by itself is denied.
    fn start_dial(&mut self, opts: DialOpts) -> Result<(), DialError> {
        let sockets = &mut self.swarm.behaviour_mut().sockets;
        sockets.expect_dial(opts.connection_id());
        self.swarm.dial(opts)
    }

    /// Dials a peer at any of these addresses, one after the other in quick slots; none when that is impossible from the
    /// start.
    pub(super) fn dial_any(
        &mut self,
        peer_id: Option<PeerId>,
        mut addresses: Vec<Multiaddr>,
    ) -> Option<ConnectionId> {
        let Some(peer_id) = peer_id else {
            // Without an id each address is a dial of its own: the first will do.
            let address = (!addresses.is_empty()).then(|| addresses.swap_remove(0))?;
            return self.try_dial(dial_unknown(address));
        };
        stagger_dials(addresses, |addresses| {
            self.try_dial(dial_peer(peer_id, addresses))
        })
    }

    fn try_dial(&mut self, opts: DialOpts) -> Option<ConnectionId> {
        let (connection_id, peer_id) = (opts.connection_id(), opts.get_peer_id());
        match self.start_dial(opts) {
            Ok(()) => Some(connection_id),
            Err(error) => {
                tracing::debug!(?peer_id, %error, "a dial was refused at once");
                None
            }
        }
    }

    pub(super) fn on_connect(
        &mut self,
        address: &Address,
        reply: oneshot::Sender<Result<LinkInfo, ConnectError>>,
    ) {
        let linked = address
            .peer_id()
            .and_then(|peer_id| self.links.of(&peer_id));
        if let Some(link) = linked {
            let _ = reply.send(Ok(LinkInfo::of(link, self.clock.now())));
            return;
        }
        let opts = dial_address(address);
        let connection_id = opts.connection_id();
        match self.start_dial(opts) {
            Ok(()) => self.waiters.entry(connection_id).or_default().push(reply),
            Err(error) => {
                let _ = reply.send(Err(ConnectError::Stage(failure::of_dial(&error))));
            }
        }
    }
}

/// Dials leave from a port of their own: from the listening port, two nodes that dial each other at once
/// would meet in one TCP connection of which both are the dialer.
fn dial_address(address: &Address) -> DialOpts {
    let multiaddr = address.multiaddr().clone();
    match address.peer_id() {
        Some(peer_id) => dial_peer(peer_id, vec![multiaddr]),
        None => dial_unknown(multiaddr),
    }
}

fn dial_peer(peer_id: PeerId, addresses: Vec<Multiaddr>) -> DialOpts {
    DialOpts::peer_id(peer_id)
        .condition(PeerCondition::Always)
        .addresses(addresses)
        .allocate_new_port()
        .build()
}

fn dial_unknown(address: Multiaddr) -> DialOpts {
    DialOpts::unknown_peer_id()
        .address(address)
        .allocate_new_port()
        .build()
}
