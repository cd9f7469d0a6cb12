//! Connections from outside that become no link: strangers, refused peers, and visitors that only look.
//!
//! The rule it keeps: they take no place and disturb no link, and they are reported within a rate limit.

use std::io;

use libp2p::swarm::ListenError;
use libp2p::{Multiaddr, PeerId};

use super::Connections;
use crate::clock::Time;
use crate::net::limits;
use crate::net::stage::StageError;
use crate::node::event::{Cause, Event, Kind};
use crate::node::failure;
use crate::node::runner::network::Network;

impl Connections {
    /// Reports a connection from outside that failed before its handshake. `overlay_is_dialing` says whether it may be the
    /// other end of a dial of the overlay.
    pub(in crate::node::runner) fn on_inbound_failed(
        &self,
        now: Time,
        failure: (Option<PeerId>, Multiaddr, &ListenError),
        overlay_is_dialing: bool,
    ) {
        let (peer_id, address, error) = failure;
        let Some(error) = failure::of_incoming(error) else {
            return;
        };
        let may_lead_to_self = overlay_is_dialing || self.dials.may_lead_to_self(now);
        // Before noise it may be any program: health checks connect every few seconds.
        if error.is_of_stranger() {
            let event = Event::Refused {
                peer_id,
                address,
                error,
            };
            self.bus.emit_as(Some(Kind::Stranger), event);
        } else if error.code == Some(failure::OWN_ID) && may_lead_to_self {
            // It is the other end of a dial of this node, which reports the failure.
            tracing::debug!(%address, %error, "a connection of this node with itself");
        } else {
            self.report_refused(peer_id, address, error);
        }
    }

    /// Reports a refused connection.
    pub(in crate::node::runner) fn report_refused(
        &self,
        peer_id: Option<PeerId>,
        address: Multiaddr,
        error: StageError,
    ) {
        self.bus.emit(Event::Refused {
            peer_id,
            address,
            error,
        });
    }

    /// Closes a connection that lost its place, and logs refusals within a rate limit.
    pub(in crate::node::runner) fn on_limits(
        &mut self,
        network: &mut Network,
        event: &limits::Event,
    ) {
        match event {
            limits::Event::Evicted(connection_id) => self.on_evicted(network, *connection_id),
            limits::Event::Refused(refused) => {
                let cause = Cause::Address(refused.source());
                if self.bus.may_log(Kind::OverCap, Some(cause)) {
                    tracing::warn!("a connection was refused: {refused}");
                }
            }
            limits::Event::Full(full) => {
                if self.bus.may_log(Kind::OverCap, None) {
                    tracing::warn!("{full}");
                }
            }
        }
    }

    /// Logs an error of the system while a connection was accepted. While its cause lasts, it repeats ten times a second.
    pub(in crate::node::runner) fn on_listener_error(&self, error: io::Error) {
        if self.bus.may_log(Kind::ListenerError, None) {
            let reason = failure::of_listener(error);
            tracing::warn!(
                "no connection can be taken at the moment; the listener goes on: {reason}"
            );
        }
    }
}
