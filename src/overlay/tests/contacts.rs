//! Contacts: the dials that they can cause, and the peers that a node passes on.

use std::time::Duration;

use super::*;

/// The host at which the attacker places all invented peers.
const VICTIM: u32 = 77;
/// Ids from here on are invented.
const FAKES: u32 = 10_000;

/// Returns an invented peer at this host.
fn fake(id: u32, host: u32) -> Contact<u32, Place> {
    Contact {
        id,
        addresses: vec![public(host)].into(),
    }
}

fn shuffle(offered: Vec<Contact<u32, Place>>) -> Request<u32, Place> {
    Request::Shuffle { offered }
}

/// Returns the peers that a response names.
fn named(answer: &Response<u32, Place>) -> Vec<u32> {
    match answer {
        Response::Contacts(contacts) | Response::Joined { contacts, .. } => {
            contacts.iter().map(|contact| contact.id).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Lets peer 1 name invented peers for this number of seconds, each at the host that `host` returns, by every message that
/// carries contacts. Every dial fails. Returns the hosts that were dialled.
fn attack(node: &mut Node, seconds: u32, host: impl Fn(u32) -> u32) -> Vec<u32> {
    let (mut next, mut dialled) = (FAKES, Vec::new());
    let mut four = || {
        next += 4;
        (next..next + 4)
            .map(|id| fake(id, host(id)))
            .collect::<Vec<_>>()
    };
    for _ in 0..seconds * 4 {
        node.ask(1, shuffle(four()));
        node.ask(1, Request::Leave { contacts: four() });
        let (nonce, keep, contacts) = (0, true, four());
        node.ask(
            1,
            Request::Cancel {
                nonce,
                keep,
                contacts,
            },
        );
        for (dial, to) in node.dials() {
            dialled.push(to);
            let error = DialError::Failed;
            node.feed(Input::DialFailed { dial, error });
        }
        node.out.clear();
        node.wait(Duration::from_millis(250));
    }
    dialled
}

#[test]
fn ten_thousand_fakes_at_one_address_have_it_dialled_once_a_minute() {
    let mut node = Node::linked(1);
    // 300 s, in which 14,400 are named.
    let dialled = attack(&mut node, 300, |_| VICTIM);
    assert!(dialled.iter().all(|to| *to == VICTIM));
    assert!((2..=5).contains(&dialled.len()), "{}", dialled.len());
}

#[test]
fn fakes_at_as_many_addresses_cause_no_more_dials_than_the_rate_limit() {
    let mut node = Node::linked(1);
    let dialled = attack(&mut node, 300, |id| id);
    // 8 at once and 12 a minute.
    assert!((60..=8 + 60).contains(&dialled.len()), "{}", dialled.len());
}

#[test]
fn of_one_host_two_ports_a_minute_are_dialled_but_on_this_machine_all() {
    for (reach, most) in [(Reach::Public, 2), (Reach::Loopback, 6)] {
        let mut budget = super::super::dial_rate_limit::DialRateLimiter::new(&Options::default());
        let now = Time::from_millis(1000);
        let granted = |port| budget.grant(now, &[Port(reach, port)]).len();
        assert_eq!((0..6).map(granted).sum::<usize>(), most);
    }
}

/// An address of the one host that there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Port(Reach, u16);

impl Address for Port {
    type Host = ();

    fn reach(&self) -> Reach {
        self.0
    }

    fn host(&self) {}

    fn network(host: Self::Host) -> Self::Host {
        host
    }
}

#[test]
fn hints_and_contacts_share_one_rate_limit() {
    let mut node = Node::linked(4);
    let mut hinted = 0;
    for n in 0..20 {
        node.ask(2, hint(u64::from(n), fake(FAKES + n, 500 + n)));
        hinted += node.dials().len();
        node.ask(
            2,
            Request::Cancel {
                nonce: u64::from(n),
                keep: true,
                contacts: vec![],
            },
        );
        node.overlay.slot.clear();
        node.overlay.dialer.forget_dials();
    }
    assert_eq!(hinted, 8);
    // Nothing is left for contacts in the next five seconds.
    node.feed(Input::LinkDown { peer: 3 });
    node.feed(Input::LinkDown { peer: 4 });
    node.dials();
    node.overlay.core.peers = super::super::peer_store::PeerStore::new();
    node.ask(1, shuffle(vec![fake(FAKES, 900)]));
    node.wait(Duration::from_secs(4));
    assert_eq!(node.dials(), []);
    node.wait(Duration::from_secs(3));
    assert_eq!(node.dials().len(), 1);
}

#[test]
fn a_contact_that_answers_at_its_address_does_not_count_against_the_rate_limit() {
    let mut node = Node::linked(1);
    node.overlay.core.peers = super::super::peer_store::PeerStore::new();
    let mut dialled = 0;
    for n in 0..200 {
        let offered = (0..4).map(|k| contact(FAKES + n * 4 + k)).collect();
        node.ask(1, shuffle(offered));
        for (dial, to) in node.dials() {
            dialled += 1;
            let (remote, referrals) = (remote(&public(to)), vec![]);
            let error = DialError::Busy { remote, referrals };
            node.feed(Input::DialFailed { dial, error });
        }
        node.wait(Duration::from_millis(250));
    }
    // In 50 s, with 4 new contacts every 2.5 s.
    assert!(dialled > 8 + 10 + 5, "{dialled}");
}

#[test]
fn referrals_count_against_the_rate_limit() {
    let mut node = Node::new();
    node.feed(Input::Entries(vec![None]));
    let (entry, _) = node.dials()[0];
    let remote = remote(&public(1));
    let referrals = (0..8).map(|n| fake(FAKES + n, VICTIM)).collect();
    let error = DialError::Busy { remote, referrals };
    node.feed(Input::DialFailed { dial: entry, error });
    let mut victims = 0;
    for _ in 0..200 {
        for (dial, to) in node.dials() {
            victims += usize::from(to == VICTIM);
            let error = DialError::Failed;
            node.feed(Input::DialFailed { dial, error });
        }
        node.wait(Duration::from_millis(250));
    }
    assert_eq!(victims, 1, "in 50 s");
}

#[test]
fn hearsay_is_passed_on_to_nobody() {
    let mut node = Node::linked(4);
    let offered = (0..4).map(|n| fake(FAKES + n, VICTIM)).collect();
    node.ask(1, shuffle(offered));
    node.meet(50);
    node.out.clear();
    let found = named(&node.ask(2, shuffle(vec![])));
    assert!(found.contains(&50), "whom we have dialled: {found:?}");
    assert!(found.contains(&3), "a link, of its own host: {found:?}");
    assert!(found.iter().all(|id| *id < FAKES), "{found:?}");
    node.link(5, public(5));
    let found = named(&node.ask(5, join(5, 55, 0)));
    assert!(
        !found.is_empty() && found.iter().all(|id| *id < FAKES),
        "{found:?}"
    );
}

#[test]
fn a_peer_that_claims_another_host_is_passed_on_to_nobody_and_dialled_within_the_rate_limit() {
    let mut node = Node::linked(2);
    node.link(3, public(3));
    let Request::Join { mut terms, need } = join(3, 33, 0) else {
        unreachable!()
    };
    terms.addresses = vec![public(VICTIM), public(VICTIM + 1)].into();
    node.ask(3, Request::Join { terms, need });
    let found = named(&node.ask(1, shuffle(vec![])));
    assert_eq!(found, [2]);
    assert!(node.overlay.saved_peers().iter().all(|saved| saved.id != 3));
    for peer in 1..=3 {
        node.feed(Input::LinkDown { peer });
    }
    let mut victims = 0;
    for _ in 0..400 {
        for (dial, to) in node.dials() {
            victims += usize::from(to == VICTIM);
            let error = DialError::Failed;
            node.feed(Input::DialFailed { dial, error });
        }
        node.wait(Duration::from_millis(100));
    }
    assert!(victims <= 1, "{victims} in 40 s");
}

#[test]
fn a_link_gets_two_of_our_addresses_at_most_those_of_its_own_scope_first() {
    let mut node = Node::new();
    let own = |reach, n| Place(reach, n);
    node.feed(Input::Addresses {
        addresses: vec![
            own(Reach::Public, 1),
            own(Reach::Public, 2),
            own(Reach::Private, 3),
            own(Reach::Loopback, 4),
        ],
        dialable: true,
    });
    for (peer, reach, named) in [
        (11, Reach::Loopback, [4, 3]),
        (12, Reach::Private, [3, 1]),
        (13, Reach::Public, [1, 2]),
    ] {
        node.link(peer, Place(reach, peer));
        node.ask(peer, join(peer, u64::from(peer), 0));
        let Response::HandoverReply(Some(terms)) =
            node.ask(peer, Request::ProposeHandover { pair: false })
        else {
            panic!("not taken by {peer}");
        };
        let found: Vec<u32> = terms.addresses.iter().map(|place| place.1).collect();
        assert_eq!(found, named);
        node.overlay.slot.clear();
    }
}

#[test]
fn behind_a_proxy_a_connection_from_this_machine_is_no_proof_of_being_near() {
    let near = || Contact {
        id: 50,
        addresses: vec![Place(Reach::Loopback, 50)].into(),
    };
    for (behind_proxy, dials) in [(false, 1), (true, 0)] {
        let mut node = Node::new();
        node.overlay.core.options.behind_proxy = behind_proxy;
        node.link(1, Place(Reach::Loopback, 1));
        node.ask(1, hint(1, near()));
        assert_eq!(node.dials().len(), dials);
    }
    // Where we have dialled ourselves we know where we are.
    let mut node = Node::new();
    node.overlay.core.options.behind_proxy = true;
    let up = Input::LinkUp {
        peer: 1,
        direction: Direction::Outbound,
        remote: remote(&Place(Reach::Loopback, 1)),
        dial: None,
    };
    node.feed(up);
    node.overlay.slot.clear();
    node.ask(1, hint(1, near()));
    assert_eq!(node.dials().len(), 1);
}
