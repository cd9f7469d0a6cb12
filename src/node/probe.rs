//! A probe: one dial that reports the duration of each stage, and the stage that failed.
//!
//! Entry type: [`Probe`]. The rule it keeps: it runs the handshake like a node, and nothing else: it announces itself
//! as a visit, so that it takes no slot, and closes the connection as soon as the handshake has succeeded.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::poll_fn;
#[cfg(feature = "conformance")]
use libp2p::core::{muxing::StreamMuxerBox, transport::Boxed};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{Config as SwarmConfig, ConnectionId, NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{PeerId, identify};
use tokio::time::timeout;

use super::failure;
use super::identify::Identify;
use super::identify_report::{IdentifyReport, explain_silence};
use crate::clock::Clock;
use crate::handshake::{self, HandshakeLimit, HandshakeRateLimiter, Local};
use crate::identity::{Identity, NetworkKey};
use crate::net::address::Address;
use crate::net::backpressure::SendWindows;
use crate::net::stage::{Stage, StageError};
use crate::net::tls::{self, TlsFiles};
use crate::net::transport::{self, DialProgress};
use crate::overlay::{Reach, reach_of};

/// Timeout for identify after the handshake: it was requested before.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(5);
/// Delay before closing after the handshake: the last message is still in flight when this side has finished, and an
/// immediate close could overtake it, so that the peer would report a failure.
const CLOSE_DELAY: Duration = Duration::from_millis(250);
/// Timeout for the close of the connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Idle timeout of the connection: longer than the handshake may take.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The result of one stage.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ProbeStep {
    /// The stage. TLS is part of [`Stage::Websocket`] unless TLS itself failed.
    pub stage: Stage,
    /// The duration of the stage. Identify and the handshake run at the same time.
    pub took: Duration,
    /// Success, or the error of the stage.
    pub result: Result<(), StageError>,
}

/// The result of a successful probe.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Probed {
    /// The peer that answered.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::model::serialize::text")
    )]
    pub peer_id: PeerId,
    /// The peer's agent string: its own account, unverified.
    pub agent: String,
    /// Whether the peer could dial this machine, if a node listened here. None when the addresses do not decide it: a
    /// firewall may be in between.
    pub can_dial_back: Option<bool>,
    /// Difference between the peer's clock and this machine's, in milliseconds, by the peer's own account; negative
    /// when the peer's clock is behind.
    pub clock_offset_ms: i64,
}

/// Dials an address once, as a node would.
#[derive(Clone, Debug)]
pub struct Probe {
    identity: Identity,
    network: Option<NetworkKey>,
    tls: TlsFiles,
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: Identify,
    handshake: handshake::Behaviour,
}

impl Probe {
    /// Creates a probe with this identity.
    pub fn new(identity: Identity) -> Probe {
        Probe {
            identity,
            network: None,
            tls: TlsFiles::default(),
        }
    }

    /// Probes nodes of the private network with this key.
    #[must_use]
    pub fn network_key(mut self, key: NetworkKey) -> Probe {
        self.network = Some(key);
        self
    }

    /// Trusts this certificate (a PEM file) in addition to the public authorities.
    #[must_use]
    pub fn tls_ca(mut self, certificate: impl Into<PathBuf>) -> Probe {
        self.tls.authorities.push(certificate.into());
        self
    }

    /// Dials `address` and passes each stage to `tell` when it ends, in order, up to the first failure.
    ///
    /// Must be called inside a Tokio runtime.
    ///
    /// # Errors
    ///
    /// The error of the stage that failed, which `tell` has received as well.
    pub async fn dial(
        &self,
        address: &Address,
        mut tell: impl FnMut(ProbeStep),
    ) -> Result<Probed, StageError> {
        let passed = Passed::default();
        let mut swarm = self.swarm(&passed).inspect_err(|error| {
            tell(ProbeStep {
                stage: error.stage,
                took: Duration::ZERO,
                result: Err(error.clone()),
            });
        })?;
        let mut watch = StageReporter {
            tell,
            secure: address.is_secure(),
            since: Instant::now(),
            passed,
            reported: 0,
            last: None,
        };
        let multiaddr = address.multiaddr().clone();
        let dial = match address.peer_id() {
            Some(peer_id) => DialOpts::peer_id(peer_id)
                .addresses(vec![multiaddr])
                .build(),
            None => DialOpts::unknown_peer_id().address(multiaddr).build(),
        };
        if let Err(error) = swarm.dial(dial) {
            return Err(watch.fail(failure::of_dial(&error)));
        }
        let result = watch.connection(&mut swarm).await;
        if result.is_ok() {
            let _ = timeout(CLOSE_DELAY, wait_closed(&mut swarm)).await;
        }
        close(&mut swarm).await;
        result
    }

    #[cfg(feature = "conformance")]
    /// Builds the transport that a peer of this identity would dial with.
    pub(crate) fn transport(
        &self,
        identity: &Identity,
    ) -> Result<Boxed<(PeerId, StreamMuxerBox)>, StageError> {
        let tls = tls::load(&self.tls).map_err(|e| StageError::new(Stage::Tls, e))?;
        transport::build(identity.keypair(), tls, None, SendWindows::default()).map_err(|error| {
            StageError::new(Stage::Address, format!("nothing can be dialled: {error}"))
        })
    }

    fn swarm(&self, passed: &Passed) -> Result<Swarm<Behaviour>, StageError> {
        let system = |error: &dyn std::fmt::Display| {
            StageError::new(Stage::Address, format!("nothing can be dialled: {error}"))
        };
        let tls = tls::load(&self.tls).map_err(|e| StageError::new(Stage::Tls, e))?;
        let passed = passed.clone();
        let observer = Arc::new(move |seen| {
            let mut passed = passed.lock().unwrap_or_else(PoisonError::into_inner);
            match seen {
                DialProgress::Passed(stage) => passed.stages.push((stage, Instant::now())),
                DialProgress::Connected { local, remote } => passed.ends = Some((local, remote)),
            }
        });
        let transport = transport::build(
            self.identity.keypair(),
            tls,
            Some(observer),
            SendWindows::default(),
        )
        .map_err(|e: io::Error| system(&e))?;
        let local = Local::new(self.identity.clone(), self.network.clone(), rand::random());
        let local = Arc::new(local.with_features(handshake::VISIT));
        let behaviour = Behaviour {
            identify: Identify::new(&self.identity),
            handshake: handshake::Behaviour::new(
                local,
                Clock::start(),
                HandshakeRateLimiter::new(HandshakeLimit::default()),
            ),
        };
        let config = SwarmConfig::with_tokio_executor().with_idle_connection_timeout(IDLE_TIMEOUT);
        Ok(Swarm::new(
            transport,
            behaviour,
            self.identity.peer_id(),
            config,
        ))
    }
}

/// The progress reported by the transport.
type Passed = Arc<Mutex<TransportProgress>>;

#[derive(Default)]
struct TransportProgress {
    /// The successful stages, each with the time of its end.
    stages: Vec<(Stage, Instant)>,
    /// The local and the remote address of the socket.
    ends: Option<(IpAddr, IpAddr)>,
}

/// Returns whether a peer at `remote` can dial this machine, which it sees as `local` or as a router in between; none
/// when the addresses do not decide it.
fn can_dial_back(local: IpAddr, remote: IpAddr) -> Option<bool> {
    match (reach_of(local)?, reach_of(remote)?) {
        (Reach::Loopback, Reach::Loopback) => Some(true),
        // A router translates addresses in between, and accepts only connections it was configured for.
        (Reach::Private, Reach::Public) => Some(false),
        _ => None,
    }
}

/// Reports stages in order, each with its own duration.
struct StageReporter<F> {
    tell: F,
    /// Whether the address requires TLS.
    secure: bool,
    since: Instant,
    passed: Passed,
    reported: usize,
    last: Option<Stage>,
}

/// The progress of the connection.
#[derive(Default)]
struct Progress {
    connection: Option<(ConnectionId, PeerId)>,
    identified: Option<IdentifyReport>,
    round_1: Option<Instant>,
    round_2: Option<Instant>,
    clock_offset_ms: i64,
    /// The error of a peer without the handshake protocol: identify may explain_handshake it.
    not_spoken: Option<StageError>,
}

impl<F: FnMut(ProbeStep)> StageReporter<F> {
    /// Drives the connection until it has succeeded or failed.
    async fn connection(&mut self, swarm: &mut Swarm<Behaviour>) -> Result<Probed, StageError> {
        let mut progress = Progress::default();
        loop {
            let event = match progress.round_2 {
                Some(_) => match timeout(IDENTIFY_TIMEOUT, swarm.next()).await {
                    Ok(event) => event,
                    Err(_) => {
                        let error =
                            StageError::new(Stage::Identify, "the peer does not say what it is");
                        return Err(self.fail(error.with_code("TIMEOUT")));
                    }
                },
                None => poll_fn(|cx| self.poll(swarm, &mut progress, cx)).await,
            };
            let Some(event) = event else { continue };
            self.on_event(swarm, &mut progress, event)?;
            if let (Some((_, peer_id)), Some(identified), Some(one), Some(two)) = (
                progress.connection,
                &progress.identified,
                progress.round_1,
                progress.round_2,
            ) {
                let connected = self.since;
                self.pass(Stage::Identify, identified.at - connected);
                self.pass(Stage::Handshake1, one - connected);
                self.pass(Stage::Handshake2, two - one);
                let agent = identified.agent.clone();
                let clock_offset_ms = progress.clock_offset_ms;
                let passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
                let can_dial_back = passed
                    .ends
                    .and_then(|(local, remote)| can_dial_back(local, remote));
                return Ok(Probed {
                    peer_id,
                    agent,
                    can_dial_back,
                    clock_offset_ms,
                });
            }
            if let (Some(error), Some(_)) = (&progress.not_spoken, &progress.identified) {
                let error = error.clone();
                return Err(self.fail_connected(&progress, error));
            }
        }
    }

    /// Polls the swarm, and reports the stages that ended meanwhile.
    fn poll(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        progress: &mut Progress,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<SwarmEvent<BehaviourEvent>>> {
        let event = swarm.poll_next_unpin(cx);
        // Noise has succeeded only when the peer id has been checked, at the end of the connection.
        self.report_passed(Stage::Noise);
        if let (Some((connection_id, _)), None) = (progress.connection, progress.round_1) {
            let stage = swarm.behaviour().handshake.stage(connection_id);
            if stage == Some(handshake::Stage::Round2) {
                progress.round_1 = Some(Instant::now());
            }
        }
        event
    }

    fn on_event(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        progress: &mut Progress,
        event: SwarmEvent<BehaviourEvent>,
    ) -> Result<(), StageError> {
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                ..
            } => {
                self.report_passed(Stage::Identify);
                self.since = Instant::now();
                progress.connection = Some((connection_id, peer_id));
                Ok(())
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => {
                Err(self.fail(failure::of_dial(&error)))
            }
            SwarmEvent::ConnectionClosed { cause, .. } => {
                let error = progress.not_spoken.take().unwrap_or_else(|| {
                    StageError::new(Stage::Handshake1, failure::of_close(cause.as_ref()))
                });
                Err(self.fail_connected(progress, error))
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => {
                match event {
                    identify::Event::Received { info, .. } => {
                        progress.identified = Some(IdentifyReport::new(&info));
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
                self.on_handshake(swarm, progress, event)
            }
            _ => Ok(()),
        }
    }

    fn on_handshake(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        progress: &mut Progress,
        event: handshake::Event,
    ) -> Result<(), StageError> {
        let handshake = &mut swarm.behaviour_mut().handshake;
        match event {
            handshake::Event::Authorize { connection_id, .. } => {
                handshake.decide(connection_id, Ok(()))
            }
            // A probe has no gate and no protocols behind one.
            handshake::Event::Verified(proof) => {
                progress.round_1.get_or_insert_with(Instant::now);
                progress.clock_offset_ms = proof.verified().clock_offset_ms();
                handshake.gate_open(proof.connection_id());
            }
            handshake::Event::Passed { .. } => {
                progress.round_1.get_or_insert_with(Instant::now);
                progress.round_2 = Some(Instant::now());
            }
            handshake::Event::Failed { failure, .. } => {
                let error = failure::of_handshake(&failure);
                if failure.reason == handshake::Reason::NotSpoken && progress.identified.is_none() {
                    progress.not_spoken = Some(error);
                } else {
                    return Err(self.fail_connected(progress, error));
                }
            }
        }
        Ok(())
    }

    /// Reports the transport's stages before `end` that have succeeded and are not reported yet.
    fn report_passed(&mut self, end: Stage) {
        loop {
            let next = {
                let passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
                passed.stages.get(self.reported).copied()
            };
            let Some((stage, at)) = next.filter(|(stage, _)| *stage < end) else {
                return;
            };
            self.reported += 1;
            let took = at.saturating_duration_since(self.since);
            self.since = at;
            self.pass(stage, took);
        }
    }

    fn pass(&mut self, stage: Stage, took: Duration) {
        self.last = Some(stage);
        (self.tell)(ProbeStep {
            stage,
            took,
            result: Ok(()),
        });
    }

    /// Reports a failure of the established connection.
    fn fail_connected(&mut self, progress: &Progress, mut error: StageError) -> StageError {
        let connected = self.since;
        if let Some(identified) = &progress.identified {
            self.pass(Stage::Identify, identified.at - connected);
            error = identified.explain_handshake(error);
        }
        if let (Stage::Handshake2, Some(at)) = (error.stage, progress.round_1) {
            self.pass(Stage::Handshake1, at - connected);
            self.since = at;
        }
        self.fail(error)
    }

    fn fail(&mut self, mut error: StageError) -> StageError {
        self.report_passed(error.stage);
        // A timeout over several stages names the last of them, but the one after the last success took the time.
        if let (Some("TIMEOUT"), Some(last)) = (error.code, self.last) {
            error.stage = match last {
                Stage::Resolve => Stage::Tcp,
                Stage::Tcp => error.stage.min(Stage::Websocket),
                Stage::Websocket => error.stage.max(Stage::Noise),
                Stage::Noise => error.stage.max(Stage::Yamux),
                _ => error.stage,
            };
            error.reason = explain_silence(error.stage, self.secure, error.reason);
        }
        (self.tell)(ProbeStep {
            stage: error.stage,
            took: self.since.elapsed(),
            result: Err(error.clone()),
        });
        error
    }
}

/// Closes the connection, so that the peer learns of it at once.
async fn close(swarm: &mut Swarm<Behaviour>) {
    let peers: Vec<PeerId> = swarm.connected_peers().copied().collect();
    for peer in peers {
        // An error means that the connection is closed already.
        let _ = swarm.disconnect_peer_id(peer);
    }
    // A peer that does not answer the close notices it by itself.
    let _ = timeout(CLOSE_TIMEOUT, wait_closed(swarm)).await;
}

async fn wait_closed(swarm: &mut Swarm<Behaviour>) {
    while swarm.connected_peers().next().is_some() {
        swarm.next().await;
    }
}
