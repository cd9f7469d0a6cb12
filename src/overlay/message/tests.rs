//! Messages and their bytes.

use libp2p::Multiaddr;

use super::*;

fn address(text: &str) -> PeerAddress {
    PeerAddress::from_text(text, None).expect("an address")
}

fn contact() -> NodeContact {
    Contact {
        id: PeerId::random(),
        addresses: vec![address("/ip4/10.0.0.1/tcp/9000/ws")].into(),
    }
}

#[test]
fn every_message_survives_its_bytes() {
    let terms = Terms {
        nonce: 7,
        links: vec![PeerId::random()],
        dialable: true,
        addresses: contact().addresses,
    };
    for request in [
        Request::Shuffle {
            offered: vec![contact()],
        },
        Request::Join {
            terms: terms.clone(),
            need: 2,
        },
        Request::Redirect {
            nonce: 1,
            role: Role::Expect,
            to: contact(),
        },
        Request::Attach { nonce: u64::MAX },
        Request::Report {
            nonce: 3,
            linked: true,
        },
        Request::Cancel {
            nonce: 4,
            keep: true,
            contacts: vec![contact()],
        },
        Request::ProposeHandover { pair: true },
        Request::DropRedundantLink {
            links: vec![PeerId::random()],
        },
        Request::Leave { contacts: vec![] },
    ] {
        let from = PeerId::random();
        assert_eq!(
            decode_request(&encode_request(&request), &from),
            Ok(request)
        );
    }
    for response in [
        Response::Contacts(vec![contact(), contact()]),
        Response::Joined {
            answer: Answer::Pending,
            contacts: vec![contact()],
        },
        Response::Redirected {
            refusal: Some(Refusal::TooMany),
            addresses: contact().addresses,
        },
        Response::Redirected {
            refusal: None,
            addresses: Arc::new([]),
        },
        Response::Done { ok: true },
        Response::HandoverReply(Some(terms)),
        Response::HandoverReply(None),
    ] {
        let from = PeerId::random();
        assert_eq!(
            decode_response(&encode_response(&response), &from),
            Ok(response)
        );
    }
}

#[test]
fn a_hint_without_a_peer_id_is_no_message() {
    let decode = |body: &[u8]| decode_request(body, &PeerId::random());
    for peer_id in [Bytes::new(), Bytes::from_static(b"nobody")] {
        let to = pb::Contact {
            peer_id,
            addresses: addresses_out(&contact().addresses),
        };
        let redirect = pb::Redirect {
            nonce: 1,
            role: 0,
            to: Some(to),
        };
        let kind = Some(pb::request::Kind::Redirect(redirect));
        let body = pb::Request { kind }.encode_to_vec();
        assert_eq!(decode(&body), Err(MessageError::NoPeerId));
    }
    assert_eq!(decode(b"\xff\xff"), Err(MessageError::Malformed));
    assert_eq!(decode(b""), Err(MessageError::Malformed));
}

#[test]
fn the_largest_answer_fits_in_a_frame() {
    let address = address("/ip6/2606:4700::1/tcp/65535/tls/ws");
    let contact = || Contact {
        id: PeerId::random(),
        addresses: vec![address; MAX_ADDRESSES].into(),
    };
    let contacts = (0..MAX_CONTACTS).map(|_| contact()).collect();
    let body = encode_response(&Response::Joined {
        answer: Answer::Accepted,
        contacts,
    });
    assert!(body.len() <= MAX_FRAME, "{} bytes", body.len());
}

/// A contact with these addresses, as somebody sent it.
fn read(from: &PeerId, id: &PeerId, addresses: &[&str]) -> Vec<String> {
    let bytes = |text: &&str| text.parse::<Multiaddr>().expect("a multiaddr").to_vec();
    let contact = pb::Contact {
        peer_id: id.to_bytes().into(),
        addresses: addresses.iter().map(|text| bytes(text).into()).collect(),
    };
    let offered = vec![contact];
    let kind = Some(pb::request::Kind::Shuffle(pb::Shuffle { offered }));
    let body = pb::Request { kind }.encode_to_vec();
    match decode_request(&body, from) {
        Ok(Request::Shuffle { offered }) => {
            let addresses = offered.iter().flat_map(|contact| contact.addresses.iter());
            addresses.map(ToString::to_string).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_a_contacts_addresses_the_first_two_count_that_are_of_the_one_form() {
    let (from, id) = (PeerId::random(), PeerId::random());
    let own = format!("/ip6/::ffff:8.8.8.8/tcp/443/wss/p2p/{id}");
    let others = format!("/ip4/8.8.4.4/tcp/9000/ws/p2p/{from}");
    let injected = "/ip4/8.8.8.8/tcp/6379/x-parity-ws/%2F%0D%0ASET%20a%20b%0D%0A";
    let addresses = [
        injected,
        "/dns4/localhost/tcp/9000/ws",
        "/ip4/8.8.8.8/tcp/22/ws",
        &others,
        &own,
        "/ip4/10.0.0.1/tcp/9000/ws",
        "/ip4/8.8.8.8/tcp/9000/ws",
    ];
    let read = read(&from, &id, &addresses);
    assert_eq!(
        read,
        ["/ip4/8.8.8.8/tcp/443/tls/ws", "/ip4/10.0.0.1/tcp/9000/ws"]
    );
}
