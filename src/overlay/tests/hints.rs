//! Redirect hints: the dials that they can cause, and those that they cannot.

use std::time::Duration;

use super::*;

#[test]
fn a_hint_of_an_unlinked_peer_is_refused() {
    let mut node = Node::linked(3);
    node.ask(99, hint(1, contact(50)));
    assert_eq!(node.outcomes(), [HintOutcome::NotALink]);
    assert_eq!(node.dials(), []);
}

#[test]
fn a_public_link_cannot_name_a_private_or_loopback_address_or_a_name() {
    let mut node = Node::linked(3);
    for addresses in [
        vec![Place(Reach::Private, 50)],
        vec![Place(Reach::Loopback, 50)],
        // Of a name nothing is left when it is read.
        vec![],
    ] {
        let to = Contact {
            id: 50,
            addresses: addresses.into(),
        };
        let answer = node.ask(1, hint(1, to));
        let refusal = Some(Refusal::Unsuitable);
        assert_eq!(
            answer,
            Response::Redirected {
                refusal,
                addresses: vec![].into()
            }
        );
    }
    assert_eq!(node.outcomes(), [HintOutcome::Scope; 3]);
    assert!(!node.overlay.is_in_handover());
    assert_eq!(node.dials(), []);
}

#[test]
fn a_loopback_link_may_name_its_neighbours_on_the_machine() {
    let mut node = Node::new();
    node.link(1, Place(Reach::Loopback, 1));
    let to = Contact {
        id: 50,
        addresses: vec![Place(Reach::Loopback, 50)].into(),
    };
    node.ask(1, hint(1, to));
    assert_eq!(node.dials().len(), 1);
}

#[test]
fn a_hint_to_the_node_itself_or_to_a_linked_peer_is_refused() {
    let mut node = Node::linked(3);
    node.ask(1, hint(1, contact(ME)));
    node.ask(1, hint(2, contact(2)));
    assert_eq!(
        node.outcomes(),
        [HintOutcome::Ourselves, HintOutcome::AlreadyLinked]
    );
    assert_eq!(node.dials(), []);
}

#[test]
fn a_hint_where_another_peer_answers_is_reported_and_frees_the_node() {
    let mut node = Node::linked(3);
    node.ask(1, hint(1, contact(50)));
    let dials = node.dials();
    node.feed(Input::DialFailed {
        dial: dials[0].0,
        error: DialError::WrongPeer,
    });
    assert_eq!(node.outcomes(), [HintOutcome::WrongPeer]);
    assert!(!node.overlay.is_in_handover());
    let sent: Vec<_> = node
        .sent()
        .into_iter()
        .map(|(to, _, request)| (to, request))
        .collect();
    assert_eq!(
        sent,
        [(
            1,
            Request::Report {
                nonce: 1,
                linked: false
            }
        )]
    );
}

#[test]
fn one_address_is_dialled_once_a_minute() {
    let mut node = Node::linked(4);
    for (after, dials) in [(0, 1), (20, 0), (30, 0), (20, 1)] {
        node.wait(Duration::from_secs(after));
        node.ask(1, hint(after, contact(50)));
        let dialled = node.dials();
        assert_eq!(dialled.len(), dials);
        for (dial, _) in dialled {
            node.feed(Input::DialFailed {
                dial,
                error: DialError::Failed,
            });
        }
        node.out.clear();
    }
}

#[test]
fn ten_thousand_hostile_hints_cause_no_more_dials_than_the_rate() {
    let mut node = Node::linked(4);
    let mut dialled = 0;
    for n in 0..10_000 {
        let from = 1 + n % 4;
        node.ask(from, hint(u64::from(n), contact(10_000 + n)));
        for (dial, _) in node.dials() {
            dialled += 1;
            node.feed(Input::DialFailed {
                dial,
                error: DialError::Failed,
            });
        }
        node.out.clear();
        node.wait(Duration::from_millis(30));
    }
    // 300 seconds: 8 at once and 12 a minute.
    assert!(dialled <= 8 + 60, "{dialled}");
    assert!(dialled >= 60, "{dialled}");
}
