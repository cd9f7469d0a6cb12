//! Whether what came is what the contract says.
//!
//! Entry: [`twisted`], [`closed`]. The rule kept here: a connection that a time-out has closed was
//! not closed by a check.

use std::time::{Duration, Instant};

use super::case::{Expect, FrameKind};
use super::raw_peer::Conn;
use super::script::*;
use crate::handshake::Role;

/// A check closes within this; the first time-out of a handshake comes after 3 s.
const MAX_CHECK_TIME: Duration = Duration::from_millis(2_500);

/// How a connection is told that was closed too late: on a busy machine a check may be as slow once.
pub(crate) const TIMED_OUT: &str = "a time-out did it, not the check";

/// The number of a frame of ours.
pub(crate) fn frame_number(which: FrameKind, role: Role) -> usize {
    match (which, role) {
        (FrameKind::Hello | FrameKind::FirstOfRound1, Role::Dialer) => HELLO_1,
        (FrameKind::Challenge | FrameKind::FirstOfRound1, Role::Listener) => CHALLENGE_1,
        (FrameKind::Answer, Role::Dialer) => ANSWER_1,
        (FrameKind::Pass, Role::Listener) => PASS_1,
        (FrameKind::Hello | FrameKind::FirstOfRound2, Role::Listener) => HELLO_2,
        (FrameKind::Challenge | FrameKind::FirstOfRound2, Role::Dialer) => CHALLENGE_2,
        (FrameKind::Answer, Role::Listener) => ANSWER_2,
        (FrameKind::Pass, Role::Dialer) => PASS_2,
    }
}

/// Judges what followed the twisted frame of this number.
pub(crate) fn refused<'a>(
    conn: &'a Conn,
    frame: usize,
    expect: Expect,
    trace: &HandshakeTrace,
) -> impl Future<Output = Result<String, String>> + Send + use<'a> {
    let said = said(frame, expect, trace);
    let left = trace.left;
    async move {
        let said = said?;
        Ok(format!("{said}{}", closed(conn, left).await?))
    }
}

/// What the peer said, before it closes.
fn said(frame: usize, expect: Expect, trace: &HandshakeTrace) -> Result<String, String> {
    if let Some((said, _)) = trace.gossip.first() {
        return Err(format!(
            "it opened a gossip stream after {said} frames of the handshake, before the pass"
        ));
    }
    // Hello and Answer are requests: what a server finds in them, it answers.
    let is_request = frame.is_multiple_of(2);
    match (&trace.end, expect) {
        (End::Rejected(code), Expect::Code(due)) if is_request && *code == due.number() => {
            Ok(format!("Reject {}, ", code_name(*code)))
        }
        (End::Closed, Expect::Code(due)) if is_request => Err(format!(
            "closed without a word, where Reject {} was due",
            due.name()
        )),
        (End::Closed, _) => Ok(String::new()),
        (End::Passed, _) if frame == PASS_2 => Ok(String::new()),
        (end, _) => Err(describe(end)),
    }
}

/// The connection must end now.
pub(crate) async fn closed(conn: &Conn, left: Instant) -> Result<String, String> {
    // Whoever sent a Reject gives it 500 ms to leave.
    match conn.gone(MAX_CHECK_TIME + Duration::from_secs(4)).await {
        Some(took) => {
            let took = (conn.at + took).saturating_duration_since(left);
            match took <= MAX_CHECK_TIME {
                true => Ok(format!("closed after {} ms", took.as_millis())),
                false => Err(format!(
                    "closed only after {:.1} s: {TIMED_OUT}",
                    took.as_secs_f64()
                )),
            }
        }
        None => Err("the connection stays".to_owned()),
    }
}

/// The connection must end when a time-out says so.
pub(crate) async fn closed_by_timeout(
    conn: &Conn,
    since: Instant,
    due: Duration,
) -> Result<String, String> {
    let (early, slack) = (Duration::from_millis(700), Duration::from_secs(2));
    let within = (since + due + slack + slack).saturating_duration_since(Instant::now());
    let Some(took) = conn.gone(within).await else {
        return Err(format!("the connection stays; due after {due:?}"));
    };
    let took = (conn.at + took).saturating_duration_since(since);
    let told = format!("closed after {:.1} s", took.as_secs_f64());
    match took + early >= due && took <= due + slack {
        true => Ok(told),
        false => Err(format!("{told}; due after {due:?}")),
    }
}
