//! Values that a peer must generate anew in every round, and values that it must keep while it runs.

use std::collections::HashSet;

use futures::FutureExt;

use crate::conformance::case::{Case, CaseContext, Kind, Observation, Procedure, Run};
use crate::conformance::envelope::now_ms;
use crate::conformance::script::{End, HandshakeTrace, Script, describe};
use crate::conformance::scripted_handshake::run_handshake;
use crate::identity::Identity;

/// Clocks of two machines that are synchronised differ by less; a machine that was just started may need minutes.
const MAX_CLOCK_SKEW_MS: u64 = 10 * 60 * 1000;

pub(super) const CASES: &[Case] = &[
    Case::new(
        Kind::Good,
        "fresh-values",
        "5 Messages and transcript",
        "nonces, secrets, encapsulated keys and tags are new in every round and on every connection; instance_id and \
         enc_key stay",
        Procedure::OwnConnections(|ctx| fresh(ctx).boxed()),
    ),
    Case::new(
        Kind::Good,
        "clock",
        "5 Messages and transcript",
        "clock_ms is the peer's Unix time in milliseconds, in each of its Cores",
        Procedure::OwnConnections(|ctx| clock(ctx).boxed()),
    ),
];

/// Runs two handshakes, one after the other: no fresh value of the second may occur in the first.
async fn fresh(ctx: CaseContext) -> Run {
    let role = ctx.connector.role();
    let (raw, mut conn) = ctx.connector.connect(Identity::generate()).await?;
    let first = run_handshake(&mut conn, role, Script::honest(ctx.party(&raw))).await;
    drop(conn);
    let (raw, mut conn) = ctx.connector.connect_again(raw).await?;
    let second = run_handshake(&mut conn, role, Script::honest(ctx.party(&raw))).await;
    let mut seen = HashSet::new();
    for (connection, trace) in [(1, passed(&first)?), (2, passed(&second)?)] {
        for (what, value) in &trace.fresh {
            if !seen.insert(value) {
                return Err(format!(
                    "a {what} on connection {connection} that it has used before"
                ));
            }
        }
    }
    let cores = || first.cores.iter().chain(&second.cores);
    let (Some(one), values) = (cores().next(), seen.len()) else {
        return Err("it has shown no Core".to_owned());
    };
    if cores().any(|core| core.instance_id != one.instance_id) {
        return Err("another instance_id on another connection".to_owned());
    }
    if cores().any(|core| core.enc_key != one.enc_key) {
        return Err("another enc_key on another connection".to_owned());
    }
    Ok(Observation::new(format!(
        "{values} values, no two of them alike"
    )))
}

async fn clock(ctx: CaseContext) -> Run {
    let (raw, mut conn) = ctx.connector.connect(Identity::generate()).await?;
    let trace = run_handshake(
        &mut conn,
        ctx.connector.role(),
        Script::honest(ctx.party(&raw)),
    )
    .await;
    let mut worst = 0;
    for core in &passed(&trace)?.cores {
        let apart = core.clock_ms.abs_diff(now_ms());
        if apart > MAX_CLOCK_SKEW_MS {
            return Err(format!(
                "clock_ms {} is {} s from this machine's clock: is one of the two clocks wrong?",
                core.clock_ms,
                apart / 1000
            ));
        }
        worst = worst.max(apart);
    }
    Ok(Observation::new(format!("{worst} ms apart at most")))
}

fn passed(trace: &HandshakeTrace) -> Result<&HandshakeTrace, String> {
    match trace.end {
        End::Passed => Ok(trace),
        _ => Err(describe(&trace.end)),
    }
}
