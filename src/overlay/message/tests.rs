//! Messages and their bytes.

use super::*;

fn contact() -> NodeContact {
    Contact {
        id: PeerId::random(),
        addresses: vec!["/ip4/10.0.0.1/tcp/9000/ws".parse().expect("an address")].into(),
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
        Request::Take { pair: true },
        Request::Thin {
            links: vec![PeerId::random()],
        },
        Request::Leave { contacts: vec![] },
    ] {
        assert_eq!(decode_request(&encode_request(&request)), Ok(request));
    }
    for response in [
        Response::Contacts(vec![contact(), contact()]),
        Response::Joined {
            answer: Answer::Room,
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
        Response::Taken(Some(terms)),
        Response::Taken(None),
    ] {
        assert_eq!(decode_response(&encode_response(&response)), Ok(response));
    }
}

#[test]
fn a_hint_without_a_peer_id_is_no_message() {
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
        assert_eq!(decode_request(&body), Err(MessageError::NoPeerId));
    }
    assert_eq!(decode_request(b"\xff\xff"), Err(MessageError::Malformed));
    assert_eq!(decode_request(b""), Err(MessageError::Malformed));
}

#[test]
fn the_largest_answer_fits_in_a_frame() {
    let address: Multiaddr = "/ip6/2001:db8::1/tcp/65535/tls/ws"
        .parse()
        .expect("an address");
    let contact = || Contact {
        id: PeerId::random(),
        addresses: vec![address.clone(); MAX_ADDRESSES].into(),
    };
    let contacts = (0..MAX_CONTACTS).map(|_| contact()).collect();
    let body = encode_response(&Response::Joined {
        answer: Answer::Taken,
        contacts,
    });
    assert!(body.len() <= MAX_FRAME, "{} bytes", body.len());
}
