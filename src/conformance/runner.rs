//! The run of all cases against one peer: what is first, what goes on at the same time, and what is
//! looked at after each.
//!
//! Entry: [`run`]. The rules it keeps: after every hostile case the peer must still take an honest
//! link, and nobody else may have heard of it; a case that could not be run is told as not run.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::case::{
    Case, CaseContext, Kind, Mode, Observation, Outcome, PeerFacts, Procedure, Run, Verdict,
};
use super::cases;
use super::cases::messages::stays;
use super::connector::Connector;
use super::expectations;
use super::link::{
    self, BUSY_RETRY_INTERVAL, BUSY_TIMEOUT, Link, LinkConfig, OBSERVER_LOST, Received, describe,
};
use super::preflight;
use super::scripted_handshake::{End, Script, run_handshake};
use crate::handshake::Role;
use crate::identity::{Identity, NetworkKey};
use crate::model::RoomName;
use crate::net::Address;
use crate::node::Probe;

/// How often a case, or a link for one, is tried that may have failed by chance.
pub(crate) const MAX_TRIES: usize = 3;
/// No case takes as long.
const CASE_TIMEOUT: Duration = Duration::from_secs(120);
/// An honest message reaches another link within this.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a link takes to be closed when it broke a rule.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is to be done about a peer that stays busy.
const NO_PLACE: &str = ", again and again: it has no place for one more link, or for one more connection from this address, \
                        which it should not count (diatribe node --exempt-loopback)";

/// What is to be done.
pub struct Options {
    /// Where the peer is.
    pub target: Target,
    /// The room that the peer is in.
    pub room: RoomName,
    /// Who makes the first link; all others have fresh keys.
    pub identity: Identity,
    /// The network.
    pub network: Option<NetworkKey>,
    /// How to dial.
    pub probe: Probe,
    /// Which cases.
    pub cases: Vec<&'static Case>,
}

/// Where the peer is.
pub enum Target {
    /// It listens here.
    Dial(Address),
    /// It keeps dialling these: the more, the faster; with two or more, messages are followed from
    /// one link to another.
    Listen(Vec<Multiaddr>),
}

/// What is told on the way.
pub enum Progress {
    /// Here the peer is to dial.
    Listening(Multiaddr),
    /// A case is over.
    Verdict(Verdict),
}

/// Who was tested.
#[derive(Clone, Debug, Default)]
pub struct PeerInfo {
    /// Its id, when it came so far.
    pub peer_id: Option<PeerId>,
    /// What program it says it is.
    pub agent: Option<String>,
}

/// What all cases share.
pub(crate) struct Runner {
    pub(crate) link_config: LinkConfig,
    pub(crate) facts: OnceLock<PeerFacts>,
    /// How the observer's link comes about; none: there is none.
    observing: Option<Arc<Connector>>,
    observer: tokio::sync::Mutex<Option<Link>>,
    /// How many links to observe by there were, and how many of them were seen to hear what another link says.
    observers: AtomicUsize,
    proven: AtomicUsize,
}

impl Runner {
    /// An honest link. A peer that was kept busy may have been too slow once: it is asked again.
    pub(crate) async fn link(&self, connector: &Connector) -> Result<Link, String> {
        let mut tries = 1;
        loop {
            match self.link_config.link(connector).await {
                Err(why) if tries < MAX_TRIES && !is_busy(&why) => tries += 1,
                made => return made,
            }
        }
    }

    /// What the observer's link hears, which is up; none when there can be none.
    pub(crate) async fn observer(&self) -> Result<Option<watch::Receiver<Received>>, String> {
        let Some(connector) = &self.observing else {
            return Ok(None);
        };
        let mut observer = self.observer.lock().await;
        if observer.as_ref().is_none_or(|link| link.conn.is_gone()) {
            *observer = None;
            let link = self.link(connector).await;
            let link = link.map_err(|e| format!("no second link to observe by: {e}"))?;
            link.ready().await?;
            *observer = Some(link);
            self.observers.fetch_add(1, Ordering::Relaxed);
        }
        Ok(observer.as_ref().map(|link| link.received.clone()))
    }

    /// [`Runner::observer`], once it is certain that the peer forwards to it what `link` says: what is not heard from then on
    /// was not forwarded.
    async fn proven_observer(&self, link: &mut Link) -> Result<(), String> {
        let Some(mut observer) = self.observer().await? else {
            return Ok(());
        };
        let number = self.observers.load(Ordering::Relaxed);
        if self.proven.load(Ordering::Relaxed) >= number {
            return Ok(());
        }
        link.ready().await?;
        let marker = link.honest("chat", b"is anybody observing?".to_vec())?;
        let id = link.publish(&marker);
        link::await_message(&mut observer, id, FORWARD_TIMEOUT).await?;
        self.proven.fetch_max(number, Ordering::Relaxed);
        Ok(())
    }
}

/// Runs the cases and tells each as it ends.
///
/// Must be called inside a Tokio runtime.
pub async fn run(options: Options, mut report: impl FnMut(Progress)) -> Result<PeerInfo, String> {
    let mode = options.target.mode();
    let listening = |address| report(Progress::Listening(address));
    let (connectors, _line) = Connector::all(&options.target, &options.probe, listening).await?;
    let link_config = LinkConfig {
        room: options.room.clone(),
        network: options.network.clone(),
    };
    let (observing, working) = match (mode, &connectors[..]) {
        // One lane, or none to spare.
        (Mode::Listen, [only]) => (None, vec![only.clone()]),
        (_, [first, others @ ..]) => (Some(first.clone()), others.to_vec()),
        (_, []) => return Err("there is nothing to listen on".to_owned()),
    };
    let runner = Arc::new(Runner {
        link_config,
        facts: OnceLock::new(),
        observing,
        observer: tokio::sync::Mutex::new(None),
        observers: AtomicUsize::new(0),
        proven: AtomicUsize::new(0),
    });
    let (stages, rest): (Vec<_>, Vec<_>) = options
        .cases
        .iter()
        .copied()
        .filter(|case| case.only.is_none_or(|only| only == mode))
        .partition(|case| matches!(case.procedure, Procedure::Stages(_)));
    let first = preflight::run(&options, &runner, working.first(), &stages, &mut report).await;
    let (tested, link) = match first {
        Ok(first) => first,
        Err((tested, why)) => {
            for case in rest {
                report(Progress::Verdict(not_run(
                    case,
                    format!("there is no link: {why}"),
                )));
            }
            return Ok(tested);
        }
    };
    let observed = runner.clone();
    // A failure is told by the cases that need it.
    tokio::spawn(async move { observed.observer().await.map(drop) });
    let mut queue: VecDeque<&'static Case> = rest.into_iter().collect();
    // What waits for time-outs begins first.
    queue
        .make_contiguous()
        .sort_by_key(|case| case.spec != cases::SLOW);
    let queue = Arc::new(Mutex::new(queue));
    let (verdicts, mut ended) = mpsc::unbounded_channel();
    let mut spare = Some(link);
    let workers: Vec<_> = working
        .into_iter()
        .map(|connector| {
            let worker = Worker {
                ctx: CaseContext {
                    runner: runner.clone(),
                    connector,
                },
                queue: queue.clone(),
                spare: spare.take(),
                verdicts: verdicts.clone(),
            };
            tokio::spawn(worker.run())
        })
        .collect();
    drop(verdicts);
    while let Some(verdict) = ended.recv().await {
        report(Progress::Verdict(verdict));
    }
    for worker in workers {
        // One that has failed leaves its cases to the others.
        let _ = worker.await;
    }
    let left = std::mem::take(&mut *queue.lock().unwrap_or_else(PoisonError::into_inner));
    for case in left {
        report(Progress::Verdict(not_run(
            case,
            "the kit ended before".to_owned(),
        )));
    }
    Ok(tested)
}

impl Target {
    pub(crate) fn mode(&self) -> Mode {
        match self {
            Target::Dial(_) => Mode::Dial,
            Target::Listen(_) => Mode::Listen,
        }
    }
}

fn is_busy(why: &str) -> bool {
    why.contains("Reject BUSY")
}

pub(crate) fn not_run(case: &'static Case, why: String) -> Verdict {
    Verdict {
        case,
        outcome: Outcome::NotRun,
        actual: why,
        took: Duration::ZERO,
    }
}

/// Takes one case after the other.
struct Worker {
    ctx: CaseContext,
    queue: Arc<Mutex<VecDeque<&'static Case>>>,
    /// A good link, for the next case that needs one.
    spare: Option<Link>,
    verdicts: mpsc::UnboundedSender<Verdict>,
}

impl Worker {
    async fn run(mut self) {
        while let Some(case) = self.next() {
            let begin = Instant::now();
            let (outcome, actual) = match timeout(CASE_TIMEOUT, self.case(case)).await {
                Ok(told) => told,
                Err(_) => (Outcome::Failed, format!("no end within {CASE_TIMEOUT:?}")),
            };
            let verdict = Verdict {
                case,
                outcome,
                actual,
                took: begin.elapsed(),
            };
            if self.verdicts.send(verdict).is_err() {
                return;
            }
        }
    }

    /// With a link at hand, a case that needs one.
    fn next(&mut self) -> Option<&'static Case> {
        self.spare = self.spare.take().filter(|link| !link.conn.is_gone());
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let on_link =
            |case: &&Case| matches!(case.procedure, Procedure::OnLink(_) | Procedure::Offence(_));
        let at = match self.spare {
            Some(_) => queue.iter().position(on_link).unwrap_or(0),
            None => 0,
        };
        queue.remove(at)
    }

    /// Runs a case, and again when the link was lost by which it would have been found out.
    async fn case(&mut self, case: &'static Case) -> (Outcome, String) {
        let is_observed = case.kind == Kind::Hostile
            && matches!(case.procedure, Procedure::OnLink(_) | Procedure::Offence(_));
        if !is_observed {
            return self.attempt(case).await;
        }
        let runner = self.ctx.runner.clone();
        for _ in 0..MAX_TRIES {
            // Without one the case says so itself.
            let _ = runner.observer().await;
            let before = runner.observers.load(Ordering::Relaxed);
            let told = self.attempt(case).await;
            let is_blind = before != runner.observers.load(Ordering::Relaxed);
            if !is_blind || told.0 != Outcome::Passed {
                return told;
            }
        }
        (Outcome::NotRun, format!("{OBSERVER_LOST}, again and again"))
    }

    async fn attempt(&mut self, case: &'static Case) -> (Outcome, String) {
        let until = Instant::now() + BUSY_TIMEOUT;
        let mut tries = 1;
        let seen = loop {
            let link = match case.procedure {
                Procedure::OnLink(_) | Procedure::Offence(_) => match self.link().await {
                    Ok(link) => Some(link),
                    Err(why) => {
                        return (Outcome::NotRun, format!("there is no link for it: {why}"));
                    }
                },
                _ => {
                    // Its place is needed.
                    self.spare = None;
                    None
                }
            };
            match self.once(case, link).await {
                Err(why) if is_busy(&why) && Instant::now() < until => {
                    sleep(BUSY_RETRY_INTERVAL).await;
                }
                Err(why) if tries < MAX_TRIES && self.may_be_chance(&why) => tries += 1,
                seen => break seen,
            }
        };
        let (mut outcome, mut actual, not_forwarded) = match seen {
            Ok(seen) => {
                self.spare = seen.link;
                let outcome = match seen.absent {
                    true => Outcome::Absent,
                    false => Outcome::Passed,
                };
                (outcome, seen.actual, seen.not_forwarded)
            }
            // This is no fault, and shows nothing.
            Err(why) if is_busy(&why) => (Outcome::NotRun, format!("{why}{NO_PLACE}"), Vec::new()),
            Err(why) => (Outcome::Failed, why, Vec::new()),
        };
        let afterwards = match case.kind {
            Kind::Good => Ok(()),
            Kind::Hostile => match self.honest(&not_forwarded).await {
                // Peers may move or drop a link: the next one observes.
                Err(why) if why == OBSERVER_LOST => self.honest(&not_forwarded).await,
                afterwards => afterwards,
            },
        };
        if let Err(why) = afterwards {
            actual = match outcome {
                Outcome::Failed => format!("{actual}; and afterwards {why}"),
                _ => format!("afterwards {why}"),
            };
            outcome = match outcome {
                Outcome::Failed => outcome,
                _ if is_busy(&why) => Outcome::NotRun,
                _ => Outcome::Failed,
            };
        }
        (outcome, actual)
    }

    /// Whether a case may have failed for something that is no fault of the peer's: a busy machine, a
    /// link that was moved, or a peer that dials and looks for somebody whom it has met at this
    /// address, and hangs up on anybody else. A fault fails every time.
    fn may_be_chance(&self, why: &str) -> bool {
        self.ctx.connector.role() == Role::Listener
            || why.contains(expectations::TIMED_OUT)
            || why == OBSERVER_LOST
    }

    async fn link(&mut self) -> Result<Link, String> {
        match self.spare.take() {
            Some(link) => Ok(link),
            None => self.ctx.runner.link(&self.ctx.connector).await,
        }
    }

    async fn once(&self, case: &'static Case, mut link: Option<Link>) -> Run {
        let CaseContext { runner, connector } = &self.ctx;
        let role = connector.role();
        // Whoever observes must be there before there is something to observe.
        if case.kind == Kind::Hostile
            && let Some(link) = &mut link
        {
            runner.proven_observer(link).await?;
        }
        match (&case.procedure, link) {
            (Procedure::MutatedHandshake(which, make, expect), _) => {
                let facts = runner.facts.get().ok_or("nothing is known of the peer")?;
                let (raw, mut conn) = connector.connect(Identity::generate()).await?;
                let frame = expectations::frame_number(*which, role);
                let script = Script::mutated(runner.link_config.party(&raw), frame, make(facts));
                let trace = run_handshake(&mut conn, role, script).await;
                expectations::refused(&conn, frame, *expect, &trace)
                    .await
                    .map(Observation::new)
            }
            (Procedure::HarmlessMutation(which, make), _) => {
                let (raw, mut conn) = connector.connect(Identity::generate()).await?;
                let script = Script {
                    mutation: (expectations::frame_number(*which, role), make()),
                    ..Script::honest(runner.link_config.party(&raw))
                };
                let trace = run_handshake(&mut conn, role, script).await;
                if trace.end != End::Passed {
                    return Err(describe(&trace.end));
                }
                let link = runner.link_config.linked(raw, conn, trace).await?;
                stays(&link).await?;
                Ok(Observation::new("it passes").with(link))
            }
            (Procedure::Offence(make), Some(mut link)) => {
                link.ready().await?;
                let data = make(&mut link)?;
                let begin = Instant::now();
                let id = link.publish(&data);
                if link.conn.gone(CLOSE_TIMEOUT).await.is_none() {
                    let received = match runner.observer().await? {
                        Some(received) if received.borrow().messages.contains_key(&id) => {
                            "it is forwarded, and the link stays"
                        }
                        _ => "the link stays",
                    };
                    return Err(received.to_owned());
                }
                Ok(Observation {
                    actual: format!("closed after {} ms", begin.elapsed().as_millis()),
                    not_forwarded: vec![id],
                    ..Observation::default()
                })
            }
            (Procedure::OnLink(run), Some(link)) => run(self.ctx.clone(), link).await,
            (Procedure::OwnConnections(run), _) => run(self.ctx.clone()).await,
            _ => Err("it cannot be run here".to_owned()),
        }
    }

    /// The peer takes an honest link, what it says there comes through, and what was said before
    /// did not.
    async fn honest(&mut self, not_forwarded: &[[u8; 32]]) -> Result<(), String> {
        let runner = self.ctx.runner.clone();
        let mut link = self.link().await?;
        link.ready().await?;
        if let Some(mut observer) = runner.observer().await? {
            let data = link.honest("chat", b"still here".to_vec())?;
            let id = link.publish(&data);
            link::await_message(&mut observer, id, FORWARD_TIMEOUT).await?;
            let received = observer.borrow();
            if not_forwarded
                .iter()
                .any(|id| received.messages.contains_key(id))
            {
                return Err("it turns out that it was forwarded".to_owned());
            }
            if let Some(wrong) = &received.wrong {
                return Err(format!("the peer sent {wrong}"));
            }
        }
        self.spare = Some(link);
        Ok(())
    }
}
