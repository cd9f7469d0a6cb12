//! One dial of a probe: follows the connection through identify and handshake.
//!
//! Entry type: [`Attempt`]. The rule it keeps: it ends when both have succeeded, or at the first failure.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::swarm::{ConnectionId, Swarm, SwarmEvent};
use libp2p::{PeerId, identify};
use tokio::time::timeout;

use super::behaviour::{Behaviour, BehaviourEvent};
use super::report::{ProbeStep, Probed};
use super::stages::StageReporter;
use crate::handshake;
use crate::net::stage::{Stage, StageError};
use crate::node::failure;
use crate::node::identify_report::IdentifyReport;

/// Timeout for identify after the handshake: it was requested before.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(5);

/// A dial in progress.
pub(super) struct Attempt<F> {
    stages: StageReporter<F>,
    progress: Progress,
}

/// The progress of the connection.
#[derive(Default)]
struct Progress {
    connection: Option<(ConnectionId, PeerId)>,
    identified: Option<IdentifyReport>,
    round_1: Option<Instant>,
    round_2: Option<Instant>,
    clock_offset_ms: i64,
    /// The error of a peer without the handshake protocol: identify may explain it.
    not_spoken: Option<StageError>,
}

impl<F: FnMut(ProbeStep)> Attempt<F> {
    /// Creates the attempt of a dial that is about to start.
    pub(super) fn new(stages: StageReporter<F>) -> Attempt<F> {
        let progress = Progress::default();
        Attempt { stages, progress }
    }

    /// Drives the connection until it has succeeded or failed.
    pub(super) async fn run(&mut self, swarm: &mut Swarm<Behaviour>) -> Result<Probed, StageError> {
        loop {
            let event = match self.progress.round_2 {
                Some(_) => match timeout(IDENTIFY_TIMEOUT, swarm.next()).await {
                    Ok(event) => event,
                    Err(_) => {
                        let error =
                            StageError::new(Stage::Identify, "the peer does not say what it is");
                        return Err(self.stages.fail(error.with_code("TIMEOUT")));
                    }
                },
                None => poll_fn(|cx| self.poll(swarm, cx)).await,
            };
            let Some(event) = event else { continue };
            self.on_event(swarm, event)?;
            if let (Some((_, peer_id)), Some(identified), Some(one), Some(two)) = (
                self.progress.connection,
                &self.progress.identified,
                self.progress.round_1,
                self.progress.round_2,
            ) {
                let connected = self.stages.since();
                self.stages.pass(Stage::Identify, identified.at - connected);
                self.stages.pass(Stage::Handshake1, one - connected);
                self.stages.pass(Stage::Handshake2, two - one);
                let agent = identified.agent.clone();
                let clock_offset_ms = self.progress.clock_offset_ms;
                let can_dial_back = self.stages.can_dial_back();
                return Ok(Probed {
                    peer_id,
                    agent,
                    can_dial_back,
                    clock_offset_ms,
                });
            }
            if let (Some(error), Some(_)) = (&self.progress.not_spoken, &self.progress.identified) {
                let error = error.clone();
                return Err(self.fail_connected(error));
            }
        }
    }

    /// Polls the swarm, and reports the stages that ended meanwhile.
    fn poll(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<SwarmEvent<BehaviourEvent>>> {
        let event = swarm.poll_next_unpin(cx);
        // Noise has succeeded only when the peer id has been checked, at the end of the connection.
        self.stages.report_passed(Stage::Noise);
        if let (Some((connection_id, _)), None) = (self.progress.connection, self.progress.round_1)
        {
            let stage = swarm.behaviour().handshake.stage(connection_id);
            if stage == Some(handshake::Stage::Round2) {
                self.progress.round_1 = Some(Instant::now());
            }
        }
        event
    }

    fn on_event(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        event: SwarmEvent<BehaviourEvent>,
    ) -> Result<(), StageError> {
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                ..
            } => {
                self.stages.report_passed(Stage::Identify);
                self.stages.set_since(Instant::now());
                self.progress.connection = Some((connection_id, peer_id));
                Ok(())
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => {
                Err(self.stages.fail(failure::of_dial(&error)))
            }
            SwarmEvent::ConnectionClosed { cause, .. } => {
                let error = self.progress.not_spoken.take().unwrap_or_else(|| {
                    StageError::new(Stage::Handshake1, failure::of_close(cause.as_ref()))
                });
                Err(self.fail_connected(error))
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => {
                match event {
                    identify::Event::Received { info, .. } => {
                        self.progress.identified = Some(IdentifyReport::new(&info));
                    }
                    // The handshake fails as well, with a reason of this program.
                    identify::Event::Error { error, .. } => {
                        tracing::debug!(%error, "identify failed");
                    }
                    _ => {}
                }
                Ok(())
            }
            SwarmEvent::Behaviour(BehaviourEvent::Handshake(event)) => {
                self.on_handshake(swarm, event)
            }
            _ => Ok(()),
        }
    }

    fn on_handshake(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        event: handshake::Event,
    ) -> Result<(), StageError> {
        let handshake = &mut swarm.behaviour_mut().handshake;
        match event {
            handshake::Event::Authorize { connection_id, .. } => {
                handshake.decide(connection_id, Ok(()))
            }
            // A probe has no gate and no protocols behind one.
            handshake::Event::Verified(proof) => {
                self.progress.round_1.get_or_insert_with(Instant::now);
                self.progress.clock_offset_ms = proof.verified().clock_offset_ms();
                handshake.gate_open(proof.connection_id());
            }
            handshake::Event::Passed { .. } => {
                self.progress.round_1.get_or_insert_with(Instant::now);
                self.progress.round_2 = Some(Instant::now());
            }
            handshake::Event::Failed { failure, .. } => {
                let error = failure::of_handshake(&failure);
                if failure.reason == handshake::Reason::NotSpoken
                    && self.progress.identified.is_none()
                {
                    self.progress.not_spoken = Some(error);
                } else {
                    return Err(self.fail_connected(error));
                }
            }
        }
        Ok(())
    }

    /// Reports a failure of the established connection.
    fn fail_connected(&mut self, mut error: StageError) -> StageError {
        let connected = self.stages.since();
        if let Some(identified) = &self.progress.identified {
            self.stages.pass(Stage::Identify, identified.at - connected);
            error = identified.explain_handshake(error);
        }
        if let (Stage::Handshake2, Some(at)) = (error.stage, self.progress.round_1) {
            self.stages.pass(Stage::Handshake1, at - connected);
            self.stages.set_since(at);
        }
        self.stages.fail(error)
    }
}
