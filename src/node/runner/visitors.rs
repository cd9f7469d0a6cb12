//! The loop's part in those who knock and do not stay: strangers, and peers that only look.
//!
//! The rule it keeps: neither takes a place or disturbs a link, and what is told of them is told at a bounded rate.

use std::io;
use std::time::Duration;

use libp2p::core::ConnectedPoint;
use libp2p::{Multiaddr, PeerId};

use super::Runner;
use crate::handshake::{self, Refusal, VerifiedConnection};
use crate::net::limits;
use crate::net::stage::StageError;
use crate::node::event::{Cause, Event, Kind};
use crate::node::failure;

/// A visitor has seen what it came for as soon as the handshake has passed. It closes a quarter of a second later, so that
/// its last word arrives; who stays longer than this is sent away.
const VISIT_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether a peer that dialled this node has come to look, and not to stay.
pub(super) fn is_visit(proof: &VerifiedConnection) -> bool {
    !proof.is_dialer() && proof.verified().features() & handshake::VISIT != 0
}

impl Runner {
    /// A connection from outside came to nothing before its handshake.
    pub(super) fn on_visitor_failed(
        &mut self,
        peer_id: Option<PeerId>,
        address: Multiaddr,
        error: StageError,
    ) {
        // Whoever has not even come to noise may be any program: a health check comes every few seconds.
        if error.is_of_stranger() {
            let event = Event::Refused {
                peer_id,
                address,
                error,
            };
            self.bus.emit_as(Some(Kind::Stranger), event);
        } else if error.code == Some(failure::OWN_ID) && self.may_lead_to_self() {
            // It is the other end of a dial of our own, which tells it.
            tracing::debug!(%address, %error, "a connection of this node with itself");
        } else {
            self.refused(peer_id, address, error);
        }
    }

    /// Whether a connection that this node has with itself may be a dial of its own.
    fn may_lead_to_self(&self) -> bool {
        let now = self.clock.now();
        self.dialing.may_lead_to_self(now)
            || !self.waiters.is_empty()
            || !self.overlay_dials.is_empty()
    }

    pub(super) fn refused(
        &mut self,
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

    /// Closes a connection that lost its place, and logs refusals at a bounded rate.
    pub(super) fn on_limits(&mut self, event: &limits::Event) {
        match event {
            limits::Event::Evicted(connection_id) => self.on_evicted(*connection_id),
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

    /// The system gives this node no connection at the moment. That comes again ten times a second for as long as its cause
    /// lasts.
    pub(super) fn on_listener_error(&self, error: io::Error) {
        if self.bus.may_log(Kind::ListenerError, None) {
            let reason = failure::of_listener(error);
            tracing::warn!(
                "no connection can be taken at the moment; the listener goes on: {reason}"
            );
        }
    }

    /// Whether a peer that proved its key, only to look, may do so. It takes no place, and its identity may be that of a link,
    /// since it does not become one.
    pub(super) fn judge_visit(&self, peer_id: &PeerId) -> Result<(), Refusal> {
        let ruling = self.admission.check(self.clock.now(), peer_id);
        ruling.map_err(Refusal::from)
    }

    /// Somebody has looked whether this node can be linked with (`diatribe check`). It closes the connection by itself;
    /// until then it keeps its place among those without a link.
    pub(super) fn on_visit(&mut self, proof: &VerifiedConnection, endpoint: &ConnectedPoint) {
        let until = self.clock.now() + VISIT_TIMEOUT;
        self.ending.push((until, proof.connection_id()));
        self.bus.emit(Event::Visit {
            peer_id: proof.verified().peer_id(),
            address: endpoint.get_remote_address().clone(),
        });
    }
}
