//! Addresses in redirect hints and contacts: a peer must not dial those that could attack somebody.
//!
//! Entry: [`CASES`]. The addresses are ports of the kit's own machine, where it notices every dial. A peer that follows
//! no hint and dials no contact passes.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use prost::Message;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::optional::{OVERLAY, absent, exchange};
use crate::conformance::case::{Case, CaseContext, Kind, Observation, Procedure, Run};
use crate::conformance::link::Link;
use crate::identity::Identity;
use crate::wire::ip_of;
use crate::wire::proto::overlay as proto;

/// The time in which the peer must not have dialled.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of times that a hint is repeated to a peer that is busy with a handover.
const MAX_TRIES: usize = 20;
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Number of offers of contacts. The interval is a little longer than the one at which a peer reads them: a peer that
/// reads two of them in a minute could dial twice in a minute.
const OFFERS: usize = 4;
const OFFER_INTERVAL: Duration = Duration::from_millis(2600);
/// Number of contacts that a peer reads from one offer.
const OFFERED: usize = 4;

const fn case(
    name: &'static str,
    expected: &'static str,
    run: fn(CaseContext, Link) -> BoxFuture<'static, Run>,
) -> Case {
    Case::new(
        Kind::Hostile,
        name,
        "9 Addresses",
        expected,
        Procedure::OnLink(run),
    )
}

const REFUSED: &str = "Redirected with UNSUITABLE, and nobody is dialled; or BUSY, or na";

pub(super) const CASES: &[Case] = &[
    case("hint-with-a-path", REFUSED, |_, link| {
        hint(link, |at| {
            let path = "/ HTTP/1.1\r\nX-Injected: yes\r\n";
            at.with(Protocol::Ws(path.into()))
        })
        .boxed()
    }),
    case("hint-with-a-path-over-tls", REFUSED, |_, link| {
        hint(link, |at| at.with(Protocol::Wss("/path".into()))).boxed()
    }),
    case("hint-to-a-name", REFUSED, |_, link| {
        hint(link, |at| {
            let port = at.iter().nth(1).into_iter();
            let name = Multiaddr::empty().with(Protocol::Dns("localhost".into()));
            port.fold(name, Multiaddr::with).with(root())
        })
        .boxed()
    }),
    case("hint-to-a-systems-port", REFUSED, |_, link| {
        hint(link, |at| {
            let ip = at.iter().next().into_iter();
            let ip = ip.fold(Multiaddr::empty(), Multiaddr::with);
            ip.with(Protocol::Tcp(22)).with(root())
        })
        .boxed()
    }),
    case("hint-to-another-peer", REFUSED, |_, link| {
        hint(link, |at| {
            at.with(root())
                .with(Protocol::P2p(Identity::generate().peer_id()))
        })
        .boxed()
    }),
    case(
        "contacts-with-a-path",
        "nobody is dialled, and nobody is told of them; or na",
        |_, link| contacts(link, 0, |at| at.with(Protocol::Ws("/path".into()))).boxed(),
    ),
    case(
        "contacts-at-one-address",
        "it is dialled once a minute at most, and nobody is told of them; or na",
        |_, link| contacts(link, 1, |at| at.with(root())).boxed(),
    ),
];

fn root() -> Protocol<'static> {
    Protocol::Ws("/".into())
}

/// Listens on a port of this machine; returns it with the address at which the peer would dial it.
async fn port(link: &Link) -> Result<(TcpListener, Multiaddr), String> {
    let ip = own_ip(&link.conn.remote);
    let listener = TcpListener::bind((ip, 0)).await;
    let listener = listener.map_err(|e| format!("nothing can be listened on here: {e}"))?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    Ok((listener, Multiaddr::from(ip).with(Protocol::Tcp(port))))
}

/// Returns the address of this machine on the route to the peer, as the system reports it.
fn own_ip(remote: &Multiaddr) -> IpAddr {
    let towards = |ip: IpAddr| {
        let any: IpAddr = match ip {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        // Nothing is sent: the system only chooses where it would be sent from.
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((ip, 9)).ok()?;
        socket.local_addr().ok().map(|at| at.ip())
    };
    let own = ip_of(remote).and_then(towards);
    own.unwrap_or(Ipv4Addr::LOCALHOST.into())
}

/// Returns a contact that nobody knows, with a valid PeerId.
fn contact(address: &Multiaddr) -> proto::Contact {
    proto::Contact {
        peer_id: Identity::generate().peer_id().to_bytes().into(),
        addresses: vec![address.to_vec().into()],
    }
}

async fn ask(link: &Link, kind: proto::request::Kind) -> Result<Option<proto::Response>, String> {
    let request = proto::Request { kind: Some(kind) };
    let body = exchange(link, OVERLAY, &request.encode_to_vec()).await?;
    let response = body.map(|body| proto::Response::decode(&body[..]));
    response
        .transpose()
        .map_err(|e| format!("a response that does not parse: {e}"))
}

/// Sends a redirect hint to an address that is made of the kit's own IP address and port.
async fn hint(link: Link, address: fn(Multiaddr) -> Multiaddr) -> Run {
    let (listener, at) = port(&link).await?;
    let mut refusal = proto::redirected::Refusal::Busy;
    for _ in 0..MAX_TRIES {
        let redirect = proto::Redirect {
            nonce: rand::random(),
            role: proto::redirect::Role::Dial.into(),
            to: Some(contact(&address(at.clone()))),
        };
        let response = ask(&link, proto::request::Kind::Redirect(redirect)).await?;
        let Some(response) = response else {
            return Ok(absent(link));
        };
        refusal = match response.kind {
            Some(proto::response::Kind::Redirected(answer)) => answer.refusal(),
            _ => return Err("another response than Redirected".to_owned()),
        };
        if refusal != proto::redirected::Refusal::Busy {
            break;
        }
        sleep(RETRY_INTERVAL).await;
    }
    if timeout(DIAL_TIMEOUT, listener.accept()).await.is_ok() {
        return Err("it dials the address".to_owned());
    }
    match refusal {
        proto::redirected::Refusal::Unsuitable | proto::redirected::Refusal::Busy => {
            Ok(Observation::new(refusal.as_str_name()).with(link))
        }
        other => Err(format!("Redirected with {}", other.as_str_name())),
    }
}

/// Offers contacts that do not exist, all at one address that is made of the kit's own.
async fn contacts(link: Link, most: usize, address: fn(Multiaddr) -> Multiaddr) -> Run {
    let (listener, at) = port(&link).await?;
    let address = address(at);
    let (mut fakes, mut dials) = (Vec::<Bytes>::new(), 0);
    for _ in 0..OFFERS {
        let until = Instant::now() + OFFER_INTERVAL;
        let offered: Vec<_> = (0..OFFERED).map(|_| contact(&address)).collect();
        fakes.extend(offered.iter().map(|contact| contact.peer_id.clone()));
        let shuffle = proto::Shuffle { offered };
        let response = ask(&link, proto::request::Kind::Shuffle(shuffle)).await?;
        let Some(response) = response else {
            return Ok(absent(link));
        };
        let told = match response.kind {
            Some(proto::response::Kind::Contacts(told)) => told.contacts,
            _ => return Err("another response than Contacts".to_owned()),
        };
        if told.iter().any(|contact| fakes.contains(&contact.peer_id)) {
            return Err("it tells of peers that it has only heard of".to_owned());
        }
        // Each connection is dropped at once, so that the peer could dial the next contact.
        while let Ok(came) = timeout_at(until, listener.accept()).await {
            dials += usize::from(came.is_ok());
        }
    }
    match dials <= most {
        true => Ok(Observation::new(format!("{dials} dials")).with(link)),
        false => Err(format!("{dials} dials to one address")),
    }
}
