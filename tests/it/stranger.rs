//! A peer that does not pass the handshake receives nothing, delivers nothing, and is disconnected in time.

use std::time::Duration;

use diatribe::conformance::frame::framed;
use diatribe::conformance::streams::MESHSUB;
use diatribe::handshake::Role;
use diatribe::{Event, Identity, StageError};

use crate::cluster::{EVENT_TIMEOUT, Member, member};
use crate::raw_peer::{
    ANSWER_1, ANSWER_2, CHALLENGE_1, CHALLENGE_2, End, HELLO_1, HELLO_2, PASS_1, PASS_2, RawPeer,
    Up,
};

/// Timeout of a listener's first Hello, and of every later frame.
const FRAME: Duration = Duration::from_secs(3);
/// Timeout of the whole handshake.
const WHOLE: Duration = Duration::from_secs(10);
const TOLERANCE: Duration = Duration::from_millis(500);

fn assert_close(took: Duration, due: Duration) {
    assert!(
        took + TOLERANCE >= due && took <= due + TOLERANCE,
        "gone after {took:?} instead of {due:?}"
    );
}

/// Two linked honest nodes that talk, and are to be left alone.
pub(crate) async fn talkers() -> (Member, Member) {
    let (mut a, mut b) = (member().await, member().await);
    b.link(&mut a).await;
    (a, b)
}

/// Checks that nothing from the stranger has reached the application, and that the others still receive each other's
/// messages: each one's next message is the one sent now.
pub(crate) async fn untouched(a: &mut Member, b: &mut Member) {
    passes(b, a, "still here").await;
    passes(a, b, "so am I").await;
}

async fn passes(from: &Member, to: &mut Member, text: &str) {
    let sent = tokio::time::timeout(EVENT_TIMEOUT, from.say(text)).await;
    sent.expect("the link stands");
    assert_eq!(to.texts(1).await, [text]);
}

/// Returns all texts and refusals up to the message `last`.
async fn told_until(a: &mut Member, last: &str) -> (Vec<String>, Vec<StageError>) {
    let (mut said, mut refused) = (Vec::new(), Vec::new());
    while said.last().is_none_or(|text| text != last) {
        let told = a.next("message", |event| match event {
            Event::Message(message) => Some(Ok(String::from_utf8_lossy(&message.data).into())),
            Event::Refused { error, .. } => Some(Err(error.clone())),
            _ => None,
        });
        match told.await {
            Ok(text) => said.push(text),
            Err(error) => refused.push(error),
        }
    }
    (said, refused)
}

#[tokio::test]
async fn who_skips_the_handshake_is_refused_every_gossip_stream_and_gone_after_three_seconds() {
    for identify in [true, false] {
        let (mut a, mut b) = talkers().await;
        let mut raw = RawPeer::with(Identity::generate(), identify).await;
        let up = raw.dial(&a.address()).await;
        // At once, and then again and again while the connection is open.
        let mut refused = 0;
        let took = loop {
            assert!(
                raw.open(up, MESHSUB).await.is_none(),
                "a gossip stream was taken"
            );
            refused += 1;
            b.say("not for strangers").await;
            match tokio::time::timeout(FRAME / 6, raw.gone(up)).await {
                Ok(took) => break took,
                Err(_) => continue,
            }
        };
        assert!(refused >= 5, "{refused} tries");
        assert_close(took, FRAME);
        assert_eq!(raw.gossip_streams().len(), 0, "gossip left the node");
        b.say("the end").await;
        let (said, refusals) = told_until(&mut a, "the end").await;
        assert_eq!(said.len(), refused + 1);
        assert!(
            said[..refused]
                .iter()
                .all(|text| text == "not for strangers")
        );
        let codes: Vec<_> = refusals.iter().map(|error| error.code).collect();
        assert_eq!(codes, [Some("TIMEOUT")]);
        untouched(&mut a, &mut b).await;
    }
}

#[tokio::test]
async fn a_stranger_that_is_dialled_is_given_no_gossip_stream_either() {
    let a = member().await;
    let mut raw = RawPeer::new().await;
    let (up, dial) = raw.dialled_by(&a.node).await;
    assert!(raw.open(up, MESHSUB).await.is_none());
    assert_close(raw.gone(up).await, FRAME);
    assert_eq!(raw.gossip_streams().len(), 0);
    dial.await
        .expect("it answers")
        .expect_err("nobody proved anything");
}

/// Where a stranger stops: which side it is, and the frame that it keeps back.
const STOPS: [(Role, usize); 8] = [
    (Role::Dialer, HELLO_1),
    (Role::Dialer, ANSWER_1),
    (Role::Dialer, CHALLENGE_2),
    (Role::Dialer, PASS_2),
    (Role::Listener, CHALLENGE_1),
    (Role::Listener, PASS_1),
    (Role::Listener, HELLO_2),
    (Role::Listener, ANSWER_2),
];

#[tokio::test]
async fn who_stops_half_way_gets_nothing_and_is_gone_three_seconds_later() {
    let stops = STOPS.map(|(role, kept)| stop_before(role, kept));
    futures::future::join_all(stops).await;
}

async fn stop_before(role: Role, kept: usize) {
    let (mut a, mut b) = talkers().await;
    let mut raw = RawPeer::new().await;
    let up = connect(&a, &mut raw, role).await;
    let local = raw.local();
    let record = raw
        .handshake(up, role, local, |n, body| {
            (n != kept).then(|| framed(&body))
        })
        .await;
    assert!(
        matches!(record.end, End::Stopped),
        "{role:?} {kept}: {:?}",
        record.end
    );
    // A node that has the other's proof takes its gossip stream a moment before it says so; from
    // any other it takes none.
    if kept != PASS_2 {
        assert!(raw.open(up, MESHSUB).await.is_none(), "{role:?} {kept}");
    }
    b.say("not for strangers").await;
    assert_close(raw.gone(up).await, FRAME);
    assert_eq!(raw.gossip_streams().len(), 0, "{role:?} {kept}");
    assert_eq!(a.texts(1).await, ["not for strangers"]);
    untouched(&mut a, &mut b).await;
}

/// Makes a connection on which the raw peer has this role.
async fn connect(a: &Member, raw: &mut RawPeer, role: Role) -> Up {
    match role {
        Role::Dialer => raw.dial(&a.address()).await,
        Role::Listener => {
            let (up, _dial) = raw.dialled_by(&a.node).await;
            up
        }
    }
}

#[tokio::test]
async fn who_is_only_ever_just_in_time_is_gone_after_ten_seconds() {
    let mut a = member().await;
    let mut raw = RawPeer::new().await;
    // Hello, Answer, Challenge and Pass: the fourth would be sent after 11.2 s.
    raw.pace = Duration::from_millis(2800);
    let up = raw.dial(&a.address()).await;
    let local = raw.local();
    let record = raw
        .handshake(up, Role::Dialer, local, |_, body| Some(framed(&body)))
        .await;
    assert!(
        !matches!(record.end, End::Stopped | End::Failed(_)),
        "{:?}",
        record.end
    );
    assert_close(raw.gone(up).await, WHOLE);
    assert_eq!(raw.gossip_streams().len(), 0);
    let error = a.refused().await;
    assert_eq!(error.code, Some("TIMEOUT"), "{error}");
}
