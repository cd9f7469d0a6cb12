//! What a peer must make anew in every round, and what it must keep as long as it runs.

use std::collections::HashSet;

use futures::FutureExt;

use super::super::super::case::{Case, How, Kind, Run, Seen, Stand};
use super::super::super::link::{now_ms, told};
use super::super::super::scripted_handshake::{End, Plan, Shaken, shake};
use crate::identity::Identity;

/// Clocks of two machines that are kept right differ by less; a machine that was just started may need minutes.
const CLOCKS_MS: u64 = 10 * 60 * 1000;

pub(super) const CASES: &[Case] = &[
    Case::new(
        Kind::Good,
        "fresh-values",
        "5 What a side makes",
        "nonces, secrets, encapsulated keys and tags are new in every round and on every connection; instance_id and \
         enc_key stay",
        How::Free(|stand| fresh(stand).boxed()),
    ),
    Case::new(
        Kind::Good,
        "clock",
        "5 What a side makes",
        "clock_ms is the peer's Unix time in milliseconds, in each of its Cores",
        How::Free(|stand| clock(stand).boxed()),
    ),
];

/// Two handshakes, one after the other: what is new in the second may not have been in the first.
async fn fresh(stand: Stand) -> Run {
    let role = stand.way.role();
    let (raw, mut conn) = stand.way.connect(Identity::generate()).await?;
    let first = shake(&mut conn, role, Plan::honest(stand.party(&raw))).await;
    drop(conn);
    let (raw, mut conn) = stand.way.connect_again(raw).await?;
    let second = shake(&mut conn, role, Plan::honest(stand.party(&raw))).await;
    let mut seen = HashSet::new();
    for (connection, shaken) in [(1, passed(&first)?), (2, passed(&second)?)] {
        for (what, value) in &shaken.fresh {
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
    Ok(Seen::came(format!("{values} values, no two of them alike")))
}

async fn clock(stand: Stand) -> Run {
    let (raw, mut conn) = stand.way.connect(Identity::generate()).await?;
    let shaken = shake(&mut conn, stand.way.role(), Plan::honest(stand.party(&raw))).await;
    let mut worst = 0;
    for core in &passed(&shaken)?.cores {
        let apart = core.clock_ms.abs_diff(now_ms());
        if apart > CLOCKS_MS {
            return Err(format!(
                "clock_ms {} is {} s from this machine's clock: is one of the two clocks wrong?",
                core.clock_ms,
                apart / 1000
            ));
        }
        worst = worst.max(apart);
    }
    Ok(Seen::came(format!("{worst} ms apart at most")))
}

fn passed(shaken: &Shaken) -> Result<&Shaken, String> {
    match shaken.end {
        End::Passed => Ok(shaken),
        _ => Err(told(&shaken.end)),
    }
}
