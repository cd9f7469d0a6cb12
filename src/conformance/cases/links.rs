//! Links with an honest peer: gossip streams, a second connection, a second instance, and reconnecting.

use std::time::Duration;

use super::forwarding::{forwarded, stays};
use crate::conformance::case::{CaseContext, Observation, Run};
use crate::conformance::link::{Link, SUBSCRIBE_TIMEOUT};
use crate::conformance::script::{End, Script, describe};
use crate::conformance::scripted_handshake::run_handshake;
use crate::handshake::{RejectCode, Role};
use crate::identity::Identity;

pub(super) async fn gossip_stream(link: Link) -> Run {
    match link
        .until(SUBSCRIBE_TIMEOUT, |received| received.streams > 0)
        .await
    {
        true => {
            let took = link.passed.elapsed().as_millis();
            Ok(Observation::new(format!("at most {took} ms after the pass")).with(link))
        }
        false => Err(format!("none within {SUBSCRIBE_TIMEOUT:?}")),
    }
}

pub(super) async fn gossip_first(ctx: CaseContext) -> Run {
    let (raw, mut conn) = ctx.connector.connect(Identity::generate()).await?;
    let script = Script {
        gossip_first: true,
        ..Script::honest(ctx.party(&raw))
    };
    let trace = run_handshake(&mut conn, Role::Dialer, script).await;
    if trace.end != End::Passed {
        return Err(describe(&trace.end));
    }
    let mut link = ctx.runner.link_config.linked(raw, conn, trace).await?;
    link.ready().await?;
    let data = link.honest("chat", b"as soon as I may".to_vec())?;
    forwarded(ctx, link, vec![data]).await
}

pub(super) async fn second(ctx: CaseContext, link: Link) -> Run {
    let old = link;
    let (mut raw, mut conn) = ctx.connector.connect(old.raw.identity.clone()).await?;
    raw.instance_id = old.raw.instance_id;
    let script = Script::honest(ctx.party(&raw));
    let trace = run_handshake(&mut conn, Role::Dialer, script).await;
    if trace.end != End::Passed {
        return Err(describe(&trace.end));
    }
    let mut link = ctx.runner.link_config.linked(raw, conn, trace).await?;
    // Either side closes the older connection 2 s later.
    let gone = old.conn.gone(Duration::from_secs(4)).await.is_some();
    drop(old);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let data = link.honest("chat", b"over the newer one".to_vec())?;
    let mut seen = forwarded(ctx, link, vec![data]).await?;
    let who = if gone {
        "the peer closed the older one"
    } else {
        "the older one was left to us to close"
    };
    seen.actual = format!("{}; {who}", seen.actual);
    // The subscriptions were sent on the older connection, so other cases cannot use this link.
    seen.link = None;
    Ok(seen)
}

pub(super) async fn twin(ctx: CaseContext, link: Link) -> Run {
    let (raw, mut conn) = ctx.connector.connect(link.raw.identity.clone()).await?;
    let script = Script::honest(ctx.party(&raw));
    let trace = run_handshake(&mut conn, Role::Dialer, script).await;
    match trace.end {
        End::Rejected(code) if code == RejectCode::DuplicateIdentity.number() => {}
        end => return Err(describe(&end)),
    }
    stays(&link).await?;
    Ok(Observation::new("Reject DUPLICATE_IDENTITY").with(link))
}

pub(super) async fn reconnect(ctx: CaseContext, link: Link) -> Run {
    let identity = link.raw.identity.clone();
    drop(link);
    let until = std::time::Instant::now() + SUBSCRIBE_TIMEOUT;
    loop {
        let (raw, mut conn) = ctx.connector.connect(identity.clone()).await?;
        let script = Script::honest(ctx.party(&raw));
        let trace = run_handshake(&mut conn, ctx.connector.role(), script).await;
        match &trace.end {
            End::Passed => {
                let mut link = ctx.runner.link_config.linked(raw, conn, trace).await?;
                link.ready().await?;
                let data = link.honest("chat", b"again".to_vec())?;
                return forwarded(ctx, link, vec![data]).await;
            }
            // The peer may not have noticed the end of the old link yet, or its slots may be taken.
            End::Rejected(4 | 5) if std::time::Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            end => return Err(describe(end)),
        }
    }
}
