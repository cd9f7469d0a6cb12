//! Tests of batches against the published vectors, and against changes of single bytes.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::identity::{Identity, NetworkKey};
use crate::model::MAX_ROOM_NAME_BYTES;
use crate::wire::envelope::{BODY_TAG, SIGNATURE_HEADER, bad_id, split};
use prost::{Message as _, encoding};

const NOW: u64 = 1_767_225_600_000;

static VECTORS: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../proto/vectors/batch.json")).unwrap()
});

fn vectors(part: &str) -> &'static [Value] {
    VECTORS[part].as_array().unwrap()
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field} in {case}"))
}

fn number(case: &Value, field: &str) -> u64 {
    case[field]
        .as_u64()
        .unwrap_or_else(|| panic!("no {field} in {case}"))
}

fn bytes(case: &Value, field: &str) -> Bytes {
    hex::decode(text(case, field)).unwrap().into()
}

fn array<const N: usize>(case: &Value, field: &str) -> [u8; N] {
    bytes(case, field)[..].try_into().unwrap()
}

fn lobby() -> RoomName {
    RoomName::new("lobby").unwrap()
}

fn author() -> Author {
    Author::new(Identity::from_seed(&[7; 32]), NetworkId::OPEN, [9; 16])
}

fn open(data: Bytes, room: &RoomName, now_ms: u64) -> Result<VerifiedBatch, BatchError> {
    super::open(data, NetworkId::OPEN, room, now_ms)
}

fn network(case: &Value) -> NetworkId {
    NetworkId::from_bytes(array(case, "network_id"))
}

fn seal_in_lobby(events: Vec<Event>) -> Result<Sealed, BatchError> {
    author().seal(&lobby(), 1, NOW, &[], events)
}

/// A batch of one chat message.
fn chat() -> Sealed {
    seal_in_lobby(vec![Event::new("chat", "hello")]).unwrap()
}

/// Returns the name of an error's kind in the vectors.
fn kind(error: &BatchError) -> String {
    let debug = format!("{error:?}");
    let name = debug.split(|c: char| !c.is_alphanumeric()).next();
    name.unwrap_or_default().to_owned()
}

fn assert_same(left: &VerifiedBatch, right: &VerifiedBatch) {
    assert_eq!(left.bytes(), right.bytes());
    assert_eq!(left.id(), right.id());
    assert_eq!(left.author_key(), right.author_key());
    assert_eq!(left.instance_id(), right.instance_id());
    assert_eq!(left.first_seq(), right.first_seq());
    assert_eq!(left.last_seq(), right.last_seq());
    assert_eq!(left.sent_at_ms(), right.sent_at_ms());
    assert_eq!(left.room(), right.room());
    assert_eq!(left.prev(), right.prev());
    assert_eq!(left.events(), right.events());
}

#[test]
fn the_published_inputs_give_the_published_bytes() {
    for case in vectors("batches") {
        let key = case["network_key"].as_str();
        let key = key.map(|_| NetworkKey::from_bytes(&array(case, "network_key")));
        let network_id = NetworkId::of(key.as_ref());
        assert_eq!(network_id, network(case));
        let identity = Identity::from_seed(&array(case, "seed"));
        let author = Author::new(identity.clone(), network_id, array(case, "instance_id"));
        let room = RoomName::new(text(case, "room")).unwrap();
        assert_eq!(room.topic(), text(case, "topic"));
        let events = case["events"].as_array().unwrap().iter();
        let events = events.map(|event| Event::new(text(event, "name"), bytes(event, "data")));
        let prev = case["prev"].as_array().unwrap().iter();
        let prev: Vec<BatchId> = prev
            .map(|id| hex::decode(id.as_str().unwrap()).unwrap())
            .map(|id| BatchId(id.try_into().unwrap()))
            .collect();
        let (first_seq, sent_at_ms) = (number(case, "first_seq"), number(case, "sent_at_ms"));
        let sealed = author
            .seal(&room, first_seq, sent_at_ms, &prev, events.collect())
            .unwrap();

        assert_eq!(sealed.bytes(), &bytes(case, "envelope"), "{case}");
        assert_eq!(sealed.id().to_string(), text(case, "id"));
        assert_eq!(identity.public_key_protobuf(), bytes(case, "author"));
        let parts = split(sealed.bytes()).unwrap();
        let body = &sealed.bytes()[parts.body];
        assert_eq!(body, &bytes(case, "body"));
        assert_eq!(sealed.bytes()[parts.signature], bytes(case, "signature"));
        let signed = signed_text(network_id, BodyHash::of(body));
        assert_eq!(signed[..], bytes(case, "signed_text"));

        let opened = super::open(sealed.bytes().clone(), network_id, &room, sent_at_ms).unwrap();
        assert_same(&opened, sealed.batch());
        assert_eq!(opened.prev(), prev);
    }
}

#[test]
fn what_is_right_though_unusual_is_accepted() {
    for case in vectors("accepted") {
        let room = RoomName::new(text(case, "room")).unwrap();
        let (data, now_ms) = (bytes(case, "envelope"), number(case, "now_ms"));
        let opened = super::open(data.clone(), network(case), &room, now_ms);
        let opened = opened.unwrap_or_else(|error| panic!("{}: {error}", text(case, "comment")));
        assert_eq!(opened.id().to_string(), text(case, "id"));
        assert_eq!(opened.prev().len() as u64, number(case, "prev_count"));
        // prost reads the same fields.
        let body = data.slice(split(&data).unwrap().body);
        let batch = proto::Batch::decode(body).unwrap();
        assert_eq!(batch.first_seq, opened.first_seq());
        assert_eq!(batch.sent_at_ms, opened.sent_at_ms());
        let events: Vec<Event> = batch.events.into_iter().map(Event::from).collect();
        assert_eq!(events, opened.events());
    }
}

#[test]
fn what_is_wrong_is_refused_for_what_it_is() {
    for case in vectors("refused") {
        let room = RoomName::new(text(case, "room")).unwrap();
        let comment = text(case, "comment");
        let now_ms = number(case, "now_ms");
        let error =
            super::open(bytes(case, "envelope"), network(case), &room, now_ms).expect_err(comment);
        assert_eq!(kind(&error), text(case, "error"), "{comment}: {error}");
        assert_eq!(error.is_offence(), text(case, "error") != "Ahead");
    }
}

#[test]
fn data_has_the_published_ids() {
    for case in vectors("ids") {
        let data = match case["data_bytes"].as_u64() {
            None => bytes(case, "data"),
            Some(len) => {
                let body = vec![0x78; len as usize - 1 - 3 - 2 - 64];
                let mut data = vec![BODY_TAG];
                encoding::encode_varint(body.len() as u64, &mut data);
                [&data[..], &body, &SIGNATURE_HEADER, &[0; 64]]
                    .concat()
                    .into()
            }
        };
        let topic = text(case, "topic");
        let room = RoomName::from_topic(topic);
        let good = room.and_then(|room| MessageId::of(room.as_str(), &data));
        assert_eq!(
            good.is_some(),
            case["is_envelope"].as_bool().unwrap(),
            "{case}"
        );
        let id = good.map_or_else(|| bad_id(topic, &data), |id| *id.as_bytes());
        assert_eq!(
            hex::encode(id),
            text(case, "id"),
            "{}",
            text(case, "comment")
        );
    }
}

#[test]
fn a_batch_of_one_network_is_none_of_another() {
    let key = NetworkKey::from_bytes(&[0x42; 32]);
    let private = NetworkId::of(Some(&key));
    let in_network = |network| {
        let author = Author::new(Identity::from_seed(&[7; 32]), network, [9; 16]);
        let events = vec![Event::new("chat", "hello")];
        let sealed = author.seal(&lobby(), 1, NOW, &[], events).unwrap();
        sealed.bytes().clone()
    };
    for (of, other) in [(NetworkId::OPEN, private), (private, NetworkId::OPEN)] {
        let data = in_network(of);
        assert!(super::open(data.clone(), of, &lobby(), NOW).is_ok());
        let error = super::open(data, other, &lobby(), NOW).unwrap_err();
        assert_eq!(error, BatchError::Signature);
        assert!(error.is_offence());
    }
}

#[test]
fn a_body_that_was_hashed_for_its_id_is_opened_with_that_hash() {
    let data = chat().bytes().clone();
    let id = MessageId::of("lobby", &data);
    let opened = open_as(id, data, NetworkId::OPEN, &lobby(), NOW).unwrap();
    assert_same(&opened, chat().batch());
}

#[test]
fn the_largest_event_fits_and_a_larger_one_is_refused_with_the_limit() {
    let room = RoomName::new(&"x".repeat(MAX_ROOM_NAME_BYTES)).unwrap();
    let largest = Event::new("n".repeat(MAX_EVENT_NAME), vec![1; MAX_EVENT_DATA]);
    // With the largest possible fields around it.
    let prev: Vec<BatchId> = (0..4).map(|n| BatchId([n; 32])).collect();
    let sealed = author()
        .seal(&room, MAX_SEQ, u64::MAX, &prev, vec![largest])
        .unwrap();
    assert!(sealed.bytes().len() <= MAX_MESSAGE);
    assert_same(
        &open(sealed.bytes().clone(), &room, u64::MAX).unwrap(),
        sealed.batch(),
    );

    let error = seal_in_lobby(vec![Event::new("", vec![1; MAX_EVENT_DATA + 1])]).unwrap_err();
    assert_eq!(error, BatchError::EventTooLarge(MAX_EVENT_DATA + 1));
    assert!(error.to_string().contains("1048576"), "{error}");
    let error = seal_in_lobby(vec![Event::new("n".repeat(257), "")]).unwrap_err();
    assert_eq!(error, BatchError::NameTooLong(257));
}

#[test]
fn nothing_is_sealed_that_would_not_be_opened() {
    assert_eq!(seal_in_lobby(vec![]).unwrap_err(), BatchError::NoEvents);
    let many = vec![Event::new("", ""); MAX_EVENTS + 1];
    assert_eq!(seal_in_lobby(many).unwrap_err(), BatchError::TooManyEvents);
    let error = author().seal(
        &lobby(),
        1,
        NOW,
        &[BatchId([1; 32]); 5],
        vec![Event::new("", "")],
    );
    assert_eq!(error.unwrap_err(), BatchError::TooManyPrev);
    let large = vec![Event::new("", vec![0; MAX_EVENT_DATA]); 2];
    assert!(matches!(
        seal_in_lobby(large).unwrap_err(),
        BatchError::TooLarge(_)
    ));
    for first_seq in [0, MAX_SEQ, u64::MAX] {
        let events = vec![Event::new("", ""); 2];
        let error = author()
            .seal(&lobby(), first_seq, NOW, &[], events)
            .unwrap_err();
        assert_eq!(error, BatchError::Numbering(first_seq));
    }
}

#[test]
fn a_message_over_the_limit_is_refused_unread() {
    let error = open(vec![0x0a; MAX_MESSAGE + 1].into(), &lobby(), NOW).unwrap_err();
    assert_eq!(error, BatchError::TooLarge(MAX_MESSAGE + 1));
}

#[test]
fn an_events_data_is_not_copied_when_opened() {
    let sealed = chat();
    let opened = open(sealed.bytes().clone(), &lobby(), NOW).unwrap();
    let within = sealed.bytes().as_ptr_range();
    assert!(within.contains(&opened.events()[0].data.as_ptr()));
}

#[test]
fn events_have_the_numbers_from_the_first_on() {
    let events = vec![Event::new("a", ""), Event::new("b", "")];
    let sealed = author().seal(&lobby(), 7, NOW, &[], events).unwrap();
    let batch = VerifiedBatch::from(sealed);
    let numbered: Vec<_> = batch
        .numbered_events()
        .map(|(seq, e)| (seq, &e.name[..]))
        .collect();
    assert_eq!(numbered, [(7, "a"), (8, "b")]);
    assert_eq!(batch.last_seq(), 8);
    assert_eq!(batch.author(), author().identity().peer_id());
}

/// Events as applications might send them.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let data = prop::collection::vec(any::<u8>(), 0..300);
    let event = ("[a-zà-ö]{0,20}", data).prop_map(|(name, data)| Event::new(name, data));
    prop::collection::vec(event, 1..10)
}

proptest! {
    #[test]
    fn what_is_sealed_opens_as_it_was(
        events in events(), seed: [u8; 32], instance_id: [u8; 16],
        first_seq in 1..MAX_SEQ - 10, sent_at_ms in 0..NOW,
    ) {
        let identity = Identity::from_seed(&seed);
        let author = Author::new(identity, NetworkId::OPEN, instance_id);
        let sealed = author.seal(&lobby(), first_seq, sent_at_ms, &[], events.clone()).unwrap();
        let opened = open(sealed.bytes().clone(), &lobby(), NOW).unwrap();
        assert_same(&opened, sealed.batch());
        prop_assert_eq!(opened.events(), &events[..]);
        prop_assert_eq!(Some(opened.id()), MessageId::of("lobby", sealed.bytes()).map(BatchId::from));
    }

    #[test]
    fn any_changed_byte_is_refused(at: prop::sample::Index, change in 1..=u8::MAX) {
        let mut data = chat().bytes().to_vec();
        let at = at.index(data.len());
        data[at] ^= change;
        prop_assert!(open(data.into(), &lobby(), NOW).is_err());
    }

    #[test]
    fn any_cut_or_lengthened_message_is_refused(
        at: prop::sample::Index, more in prop::collection::vec(any::<u8>(), 1..100),
    ) {
        let data = chat().bytes().clone();
        prop_assert!(open(data.slice(..at.index(data.len())), &lobby(), NOW).is_err());
        prop_assert!(open([&data[..], &more].concat().into(), &lobby(), NOW).is_err());
        prop_assert!(open([&more, &data[..]].concat().into(), &lobby(), NOW).is_err());
    }

    #[test]
    fn another_spelling_of_the_same_envelope_is_refused(padding in 1usize..8) {
        let sealed = chat();
        let body = split(sealed.bytes()).unwrap().body;
        let mut length = Vec::new();
        encoding::encode_varint(body.len() as u64, &mut length);
        let last = length.len() - 1;
        length[last] |= 0x80;
        length.extend(std::iter::repeat_n(0x80, padding - 1));
        length.push(0);
        let respelt = [&[BODY_TAG], &length[..], &sealed.bytes()[body.start..]].concat();
        // A lenient parser reads the same message, this one refuses it.
        let lenient = proto::Envelope::decode(&respelt[..]).unwrap();
        prop_assert_eq!(lenient.body, sealed.bytes().slice(body));
        let error = open(respelt.into(), &lobby(), NOW).unwrap_err();
        prop_assert!(matches!(error, BatchError::NotAnEnvelope(_)), "{}", error);
    }

    /// prost reads every accepted body, and reads the same fields.
    #[test]
    fn a_body_that_is_read_is_what_the_library_reads(body in prop::collection::vec(any::<u8>(), 1..60)) {
        let body = Bytes::from([&body[..], &[0x32, 0x00]].concat());
        if let Ok(read) = Body::read(&body) {
            let batch = proto::Batch::decode(body.clone()).unwrap();
            prop_assert_eq!(batch.author, read.author);
            prop_assert_eq!(batch.first_seq, read.first_seq);
            prop_assert_eq!(batch.room, read.room);
            let events: Vec<Event> = batch.events.into_iter().map(Event::from).collect();
            prop_assert_eq!(events, read.events);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(open(data.into(), &lobby(), NOW).is_err());
    }

    #[test]
    fn arbitrary_bodies_in_a_right_envelope_never_panic(
        body in prop::collection::vec(any::<u8>(), 1..400), signature: [u8; 32],
    ) {
        let mut data = vec![BODY_TAG];
        encoding::encode_varint(body.len() as u64, &mut data);
        data.extend([&body[..], &SIGNATURE_HEADER, &signature, &signature].concat());
        prop_assert!(open(data.into(), &lobby(), NOW).is_err());
    }

    #[test]
    fn an_event_adds_to_a_batch_what_it_says(events in events()) {
        let sealed = |events| seal_in_lobby(events).unwrap().bytes().clone();
        let body_len = |bytes: Bytes| split(&bytes).unwrap().body.len();
        let one_more = [events.clone(), vec![events[0].clone()]].concat();
        let added = body_len(sealed(one_more)) - body_len(sealed(events.clone()));
        prop_assert_eq!(added, events[0].len_in_batch());
    }
}
