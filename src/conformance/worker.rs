//! Runs cases one after the other on one connector.
//!
//! Entry type: [`Worker`]. The rule it keeps: after every hostile case the peer must still accept an honest link, and must
//! not have forwarded the hostile message.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::case::{Case, CaseContext, Kind, Observation, Outcome, Procedure, Run, Verdict};
use super::cases::forwarding::stays;
use super::expectations;
use super::link::Link;
use super::linking::{BUSY_RETRY_INTERVAL, BUSY_TIMEOUT};
use super::observer::{FORWARD_TIMEOUT, MAX_TRIES, is_busy};
use super::received::{self, OBSERVER_LOST};
use super::script::{End, Script, describe};
use super::scripted_handshake::run_handshake;
use crate::handshake::Role;
use crate::identity::Identity;

/// Maximum duration of a case.
const CASE_TIMEOUT: Duration = Duration::from_secs(120);

/// The time in which a peer must close a link that broke a rule.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The advice about a peer that stays busy.
const NO_PLACE: &str = ", again and again: it has no place for one more link, or for one more connection from this address, \
                        which it should not count (diatribe node --exempt-loopback)";

/// The cases that no worker has taken yet.
pub(super) type Queue = Arc<Mutex<VecDeque<&'static Case>>>;

/// Takes cases from the queue and runs them, until the queue is empty.
pub(super) struct Worker {
    pub(super) ctx: CaseContext,
    pub(super) queue: Queue,
    /// An honest link that the next case can use.
    pub(super) spare: Option<Link>,
    pub(super) verdicts: mpsc::UnboundedSender<Verdict>,
}

impl Worker {
    pub(super) async fn run(mut self) {
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

    /// Takes the next case from the queue, preferring one that can use the spare link.
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

    /// Runs a case, and again if the observer's link was lost meanwhile.
    async fn case(&mut self, case: &'static Case) -> (Outcome, String) {
        let is_observed = case.kind == Kind::Hostile
            && matches!(case.procedure, Procedure::OnLink(_) | Procedure::Offence(_));
        if !is_observed {
            return self.attempt(case).await;
        }
        let runner = self.ctx.runner.clone();
        for _ in 0..MAX_TRIES {
            // If there is none, the case reports it.
            let _ = runner.observer().await;
            let before = runner.observer_count();
            let told = self.attempt(case).await;
            let is_blind = before != runner.observer_count();
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
                    // The peer needs the slot of the spare link.
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
            // A busy peer breaks no rule, but the case has shown nothing.
            Err(why) if is_busy(&why) => (Outcome::NotRun, format!("{why}{NO_PLACE}"), Vec::new()),
            Err(why) => (Outcome::Failed, why, Vec::new()),
        };
        let afterwards = match case.kind {
            Kind::Good => Ok(()),
            Kind::Hostile => match self.honest(&not_forwarded).await {
                // A peer may move or drop a link: the next one observes.
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

    /// Returns whether the failure may have a cause other than a fault of the peer: a busy machine, a moved link, or a
    /// dialling peer that looks for another peer at this address. A fault fails every time.
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
        // The observer's link must be up before the case starts.
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

    /// Checks that the peer accepts an honest link and forwards its message, and that it has not forwarded the case's
    /// messages.
    async fn honest(&mut self, not_forwarded: &[[u8; 32]]) -> Result<(), String> {
        let runner = self.ctx.runner.clone();
        let mut link = self.link().await?;
        link.ready().await?;
        if let Some(mut observer) = runner.observer().await? {
            let data = link.honest("chat", b"still here".to_vec())?;
            let id = link.publish(&data);
            received::await_message(&mut observer, id, FORWARD_TIMEOUT).await?;
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
