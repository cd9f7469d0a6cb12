//! Fuzz targets for the overlay's messages and its state machine.

use diatribe::Address;
use diatribe::clock::Time;
use diatribe::overlay::{
    Direction, ExchangeId, Input, MAX_FRAME, Options, Output, Overlay, PeerAddress, Remote,
    decode_request, decode_response, encode_request, encode_response,
};
use diatribe::wire::Source;
use libp2p::{Multiaddr, PeerId};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::case::{Case, QUICK, SLOW, fuzz};
use crate::seeds;

#[test]
fn a_message_of_the_overlay_is_read_or_refused() {
    fuzz!(
        "overlay messages",
        QUICK,
        seeds::of("overlay"),
        |case, seeds| {
            let bytes = case.bytes(seeds);
            let from = id(1);
            if let Ok(request) = decode_request(&bytes, &from) {
                assert!(encode_request(&request).len() <= MAX_FRAME);
            }
            if let Ok(response) = decode_response(&bytes, &from) {
                assert!(encode_response(&response).len() <= MAX_FRAME);
            }
        }
    );
}

#[test]
fn what_members_say_moves_the_overlay_within_its_bounds() {
    let options = Options::default();
    fuzz!(
        "overlay machine",
        SLOW,
        seeds::of("overlay"),
        |case, seeds| {
            let rng = StdRng::seed_from_u64(1);
            let own = id(0);
            let options = Options::default();
            let mut overlay = Overlay::new(Time::ZERO, own, options, rng, Vec::new());
            play(&mut overlay, case, seeds);
        }
    );
    // The bounds that `play` holds it to are those of the options.
    assert_eq!(options.max_links, MAX_LINKS);
}

const MAX_LINKS: usize = 5;

/// Five peers and their messages, all from one case.
fn play(overlay: &mut Overlay<PeerId, PeerAddress, StdRng>, case: &Case, seeds: &[Vec<u8>]) {
    let mut out = Vec::new();
    for n in 1..=5 {
        let up = Input::LinkUp {
            peer: id(n),
            direction: match n % 2 {
                0 => Direction::Outbound,
                _ => Direction::Inbound,
            },
            remote: Remote::at(Some(address(n).ip()), Some(address(n))),
            dial: None,
        };
        overlay.handle(Time::from_millis(1), up, &mut out);
    }
    let mut asked = Vec::new();
    for step in 0..20 {
        let now = Time::from_millis(2 + 700 * step);
        let bytes = case.nth(step as u16).bytes(seeds);
        let from = id((case.choice(1000) as u8).wrapping_add(step as u8) % 5 + 1);
        if let Ok(request) = decode_request(&bytes, &from) {
            let id = ExchangeId(1000 + step);
            overlay.handle(now, Input::Request { from, id, request }, &mut out);
        }
        if let Some((peer, id)) = asked.pop()
            && let Ok(response) = decode_response(&bytes, &peer)
        {
            let result = Ok(response);
            overlay.handle(
                now,
                Input::Response {
                    from: peer,
                    id,
                    result,
                },
                &mut out,
            );
        }
        overlay.handle(now, Input::Tick, &mut out);
        for output in out.drain(..) {
            match output {
                Output::Send { to, id, request } => {
                    assert!(encode_request(&request).len() <= MAX_FRAME);
                    asked.push((to, id));
                }
                Output::Respond { response, .. } => {
                    assert!(encode_response(&response).len() <= MAX_FRAME);
                }
                _ => {}
            }
        }
        assert!(overlay.links().len() <= MAX_LINKS + 1);
    }
}

fn id(n: u8) -> PeerId {
    diatribe::Identity::from_seed(&[n; 32]).peer_id()
}

fn address(n: u8) -> PeerAddress {
    let text = format!("/ip4/8.8.8.{n}/tcp/9000/ws");
    PeerAddress::from_text(&text, None).expect("an address")
}

#[test]
fn an_address_is_read_or_refused() {
    let texts = [
        "/ip4/127.0.0.1/tcp/9000/ws",
        "/ip6/2001:db8::1/tcp/443/tls/ws",
        "/ip6/::ffff:1.2.3.4/tcp/80/ws",
        "/dns4/example.org/tcp/443/wss",
        "/ip4/1.2.3.4/tcp/1/x-parity-ws/%2Fpath",
        "/ip4/1.2.3.4/udp/1/quic-v1/p2p-circuit",
        "/ip6/fe80::1%25eth0/tcp/1/ws",
        "[2001:db8::1]:9000",
        "localhost:9001",
        "wss://example.org:8443/chat?x=1",
        "9000",
    ];
    let multiaddrs = texts
        .iter()
        .filter_map(|text| text.parse::<Multiaddr>().ok());
    let mut seeds: Vec<Vec<u8>> = multiaddrs.map(|address| address.to_vec()).collect();
    seeds.extend(texts.map(|text| text.as_bytes().to_vec()));
    fuzz!("addresses", QUICK, seeds, |case, seeds| {
        let bytes = case.bytes(seeds);
        if let Ok(address) = Multiaddr::try_from(bytes.clone()) {
            let _ = Source::of(&address);
            if let Ok(read) = PeerAddress::parse(&address, None) {
                // A user may type every address that a peer may send, and it has one canonical form.
                let spelt = read.to_multiaddr();
                assert_eq!(PeerAddress::from_bytes(&spelt.to_vec(), None), Ok(read));
                assert!(Address::try_from(spelt).is_ok());
            }
            if let Ok(typed) = Address::try_from(address) {
                assert!(!typed.to_string().contains("x-parity"), "{typed}");
            }
        }
        if let Ok(text) = std::str::from_utf8(&bytes)
            && let Ok(address) = text.parse::<Address>()
        {
            // An accepted address is written in a form that is accepted.
            let again: Address = address.to_string().parse().expect("it is an address");
            assert_eq!(again.to_string(), address.to_string());
        }
    });
}
