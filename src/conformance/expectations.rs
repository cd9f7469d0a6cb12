//! Compares the peer's reaction with the contract.
//!
//! Entry: [`refused`], [`closed`]. The rule it keeps: a connection that was closed by a timeout was not closed by a
//! check.

use std::time::{Duration, Instant};

use super::case::{Expect, FrameKind};
use super::raw_peer::Conn;
use super::script::*;
use crate::handshake::Role;

/// Maximum time in which a check closes the connection. The first timeout of a handshake fires after 3 s.
const MAX_CHECK_TIME: Duration = Duration::from_millis(2_500);

/// Part of the message about a connection that was closed too late. On a busy machine a check may be that slow once.
pub(crate) const TIMED_OUT: &str = "a time-out did it, not the check";

/// Returns the number on the wire of a frame that the kit sends.
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

/// Checks that the peer refused the mutated frame of this number as expected.
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

/// Checks the peer's last frame before it closes the connection.
fn said(frame: usize, expect: Expect, trace: &HandshakeTrace) -> Result<String, String> {
    if let Some((said, _)) = trace.gossip.first() {
        return Err(format!(
            "it opened a gossip stream after {said} frames of the handshake, before the pass"
        ));
    }
    // Hello and Answer are requests: a server answers an invalid one with a Reject.
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

/// Checks that the connection is closed at once, and not by a timeout.
pub(crate) async fn closed(conn: &Conn, left: Instant) -> Result<String, String> {
    // After a Reject, the peer waits up to 500 ms for it to be sent.
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

/// Checks that the connection is closed by the timeout that is `due` after `since`.
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
