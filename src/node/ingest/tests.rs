//! What the keeper tells whom and when, and of what it says nothing.

use futures::FutureExt;
use libp2p::gossipsub;

use super::*;
use crate::gossip::{Author, Event as Said};
use crate::identity::{Identity, NetworkId};
use crate::node::event::Events;
use crate::node::inbox::{self, Incoming, Verdict};
use crate::store::{Log, RetentionPolicy};

const ROOM: &str = "lobby";

fn sealed(identity: &Identity, instance_id: [u8; 16], n: u64, text: &'static str) -> Bytes {
    let event = Said {
        name: "chat".to_owned(),
        data: Bytes::from_static(text.as_bytes()),
    };
    sealed_at(
        identity,
        instance_id,
        n,
        event,
        Clock::start().unix_millis(),
    )
}

fn sealed_at(identity: &Identity, instance_id: [u8; 16], n: u64, event: Said, now: u64) -> Bytes {
    let room = ROOM.parse().unwrap();
    let author = Author::new(identity.clone(), NetworkId::OPEN, instance_id);
    let sealed = author.seal(&room, n, now, &[], vec![event]).unwrap();
    VerifiedBatch::from(sealed).bytes().clone()
}

/// A keeper, and the other ends of its channels.
struct Kept {
    keeper: Keeper,
    events: Events,
    incoming: mpsc::Sender<Incoming>,
    verdicts: mpsc::Receiver<Verdict>,
    _notes: mpsc::UnboundedSender<Note>,
    _wishes: mpsc::Receiver<Wish>,
}

impl Kept {
    fn new(own: Own) -> Kept {
        let clock = Clock::start();
        let bus = EventBus::new(clock);
        let log = Log::ephemeral(RetentionPolicy::default()).unwrap();
        let (notify, notices) = notice_channel();
        let writer = Writer::start(log, clock, notify).unwrap();
        let (incoming, incoming_in) = mpsc::channel(inbox::MAX_WAITING);
        let (verdicts_out, verdicts) = mpsc::channel(inbox::MAX_WAITING);
        let (_notes, notes) = mpsc::unbounded_channel();
        let (wishes, _wishes) = mpsc::channel(MAX_WISHES);
        let ends = Ends {
            inbox: Inbox::new(clock.into(), own.network, incoming_in, verdicts_out),
            notes,
            wishes,
            notices,
            send_windows: SendWindows::default(),
            ids: Arc::default(),
            confirmed_by: 0,
        };
        let (store, keep) = (Store::new(writer, clock), RetentionPolicy::default());
        let events = bus.subscribe();
        Kept {
            keeper: Keeper::new(own, clock, bus, store, keep, ends).unwrap(),
            events,
            incoming,
            verdicts,
            _notes,
            _wishes,
        }
    }

    /// What the application has been told and has not read.
    fn told(&mut self) -> Vec<Bytes> {
        let next = || self.events.next().now_or_never().flatten();
        let messages = std::iter::from_fn(next).filter_map(|event| match event {
            Event::Message(message) => Some(message.data),
            _ => None,
        });
        messages.collect()
    }

    /// A neighbour hands on batches with these numbers.
    fn hand_on(&self, author: &Identity, numbers: impl IntoIterator<Item = u64>) {
        for n in numbers {
            self.hand_on_one(sealed(author, [7; 16], n, "said"));
        }
    }

    /// A neighbour hands on this batch.
    fn hand_on_one(&self, data: Bytes) {
        let message = Incoming {
            from: PeerId::random(),
            message_id: gossipsub::MessageId::new(b"any"),
            hashed: None,
            room: ROOM.parse().unwrap(),
            data,
        };
        self.incoming.try_send(message).ok().unwrap();
    }

    fn verdicts(&mut self) -> usize {
        std::iter::from_fn(|| self.verdicts.try_recv().ok()).count()
    }
}

#[tokio::test]
async fn a_single_message_is_handed_to_the_application_before_the_neighbours() {
    let mut kept = Kept::new(own(PeerId::random()));
    let author = Identity::generate();
    kept.hand_on(&author, [1]);
    while kept.told().is_empty() {
        assert!(kept.keeper.step().await);
    }
    assert_eq!(kept.verdicts(), 1);
    // It tells of the first a little before it has done with it.
    while kept.keeper.writer.is_busy() {
        tokio::task::yield_now().await;
    }
    kept.hand_on(&author, [2]);
    loop {
        let mut step = Box::pin(kept.keeper.step());
        if futures::poll!(&mut step).is_ready() {
            // It was something else that was due.
            continue;
        }
        let next = kept.events.next().now_or_never();
        assert!(matches!(next, Some(Some(Event::Message(_)))), "{next:?}");
        assert!(
            kept.verdicts.try_recv().is_err(),
            "the application is first"
        );
        assert!(step.await);
        break;
    }
    assert_eq!(kept.verdicts(), 1);
}

#[tokio::test]
async fn of_several_messages_the_neighbours_wait_for_none() {
    let mut kept = Kept::new(own(PeerId::random()));
    kept.hand_on(&Identity::generate(), 1..=3);
    let log = kept.keeper.writer.clone();
    // A log in memory reads on the thread that stores: this holds it up.
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    log.read(move |_| wait.recv().unwrap());
    assert!(kept.keeper.step().await);
    assert_eq!((kept.verdicts(), kept.told().len()), (3, 0));
    go_on.send(()).unwrap();
    let mut told = 0;
    while told < 3 {
        assert!(kept.keeper.step().await);
        told += kept.told().len();
    }
}

#[tokio::test]
async fn what_has_come_when_the_node_stops_is_stored_and_told() {
    let mut kept = Kept::new(own(PeerId::random()));
    kept.hand_on(&Identity::generate(), 1..=40);
    kept.keeper.finish().await;
    assert_eq!(kept.told().len(), 40);
}

fn own(peer_id: PeerId) -> Own {
    Own {
        peer_id,
        instance_id: [1; 16],
        network: NetworkId::OPEN,
        heads: Arc::new(Heads::new(peer_id, [1; 16])),
        unix: Clock::start().into(),
    }
}

#[tokio::test]
async fn what_a_neighbour_hands_back_is_stored_and_told_unless_this_run_has_said_it() {
    let (me, another) = (Identity::generate(), Identity::generate());
    let mut kept = Kept::new(own(me.peer_id()));
    let keeper = &mut kept.keeper;
    keeper.on_note(Note::Join(ROOM.parse().unwrap())).await;
    let loaded = keeper.back_in.recv().await.unwrap();
    keeper.on_back(loaded).await;
    let envelopes = vec![
        sealed(&me, [1; 16], 1, "said by this run"),
        sealed(&me, [2; 16], 1, "said by an earlier run"),
        sealed(&another, [3; 16], 1, "said by another"),
    ];
    keeper.verify(PeerId::random(), 1, ROOM.to_owned(), envelopes, None);
    let stored = keeper.back_in.recv().await.unwrap();
    keeper.on_back(stored).await;

    assert_eq!(keeper.status()[0].batches, 3);
    let mut told = kept.told();
    told.sort();
    assert_eq!(told, ["said by an earlier run", "said by another"]);
}

#[tokio::test]
async fn what_comes_live_and_is_too_old_for_the_log_is_told_once_and_not_kept() {
    let mut kept = Kept::new(own(PeerId::random()));
    let author = Identity::generate();
    let old = |n, text| {
        let age = RetentionPolicy::default().age + std::time::Duration::from_secs(3600);
        let sent_at_ms = Clock::start().unix_millis() - age.as_millis() as u64;
        sealed_at(&author, [7; 16], n, Said::new("chat", text), sent_at_ms)
    };
    kept.keeper.on_note(Note::Join(ROOM.parse().unwrap())).await;
    for envelope in [old(1, "old"), old(1, "old"), old(2, "older")] {
        kept.hand_on_one(envelope);
    }
    kept.keeper.finish().await;
    assert_eq!(kept.told(), ["old", "older"]);
    // What a neighbour holds is asked for, and not told: it need not be new at all.
    let envelopes = vec![old(3, "asked for")];
    let keeper = &mut kept.keeper;
    keeper.verify(PeerId::random(), 1, ROOM.to_owned(), envelopes, None);
    keeper.finish().await;
    assert_eq!((kept.told(), kept.keeper.status()[0].batches), (vec![], 0));
}
