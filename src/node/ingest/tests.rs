//! Order and content of deliveries and verdicts of the ingest task.

use futures::FutureExt;
use libp2p::gossipsub;

use super::verify::Fetch;
use super::*;
use crate::gossip::{Author, Event as Said};
use crate::identity::{Identity, NetworkId};
use crate::net::backpressure::SendWindows;
use crate::node::event::Events;
use crate::node::heads::Heads;
use crate::node::inbox::{self, Incoming, Verdict};
use crate::store::{Log, RetentionPolicy, Writer};
use bytes::Bytes;
use libp2p::PeerId;
use std::sync::Arc;

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

/// An ingest task, and the other ends of its channels.
struct Kept {
    task: IngestTask,
    events: Events,
    incoming: mpsc::Sender<Incoming>,
    verdicts: mpsc::Receiver<Verdict>,
    _commands: mpsc::UnboundedSender<SyncCommand>,
    _network_requests: mpsc::Receiver<NetworkRequest>,
}

impl Kept {
    fn new(own: LocalAuthor) -> Kept {
        let clock = Clock::start();
        let bus = EventBus::new(clock);
        let log = Log::ephemeral(RetentionPolicy::default()).unwrap();
        let (notify, notices) = notice_channel();
        let writer = Writer::start(log, clock, notify).unwrap();
        let (incoming, incoming_in) = mpsc::channel(inbox::MAX_QUEUED_MESSAGES);
        let (verdicts_out, verdicts) = mpsc::channel(inbox::MAX_QUEUED_MESSAGES);
        let (_commands, commands) = mpsc::unbounded_channel();
        let (network_requests, _network_requests) = mpsc::channel(MAX_NETWORK_REQUESTS);
        let channels = TaskChannels {
            inbox: Inbox::new(clock.into(), own.network, incoming_in, verdicts_out),
            commands,
            notices,
            sync: SyncChannels {
                network_requests,
                send_windows: SendWindows::default(),
                ids: Arc::default(),
                confirmed_by: 0,
            },
        };
        let (store, keep) = (Store::new(writer, clock), RetentionPolicy::default());
        let events = bus.subscribe();
        Kept {
            task: IngestTask::new(own, clock, bus, store, keep, channels).unwrap(),
            events,
            incoming,
            verdicts,
            _commands,
            _network_requests,
        }
    }

    /// Returns the delivered messages that were not read yet.
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
        assert!(kept.task.step().await);
    }
    assert_eq!(kept.verdicts(), 1);
    // It tells of the first a little before it has done with it.
    while kept.task.log.writer().is_busy() {
        tokio::task::yield_now().await;
    }
    kept.hand_on(&author, [2]);
    loop {
        let mut step = Box::pin(kept.task.step());
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
    let log = kept.task.log.writer().clone();
    // A log in memory reads on the thread that stores: this holds it up.
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    log.read(move |_| wait.recv().unwrap());
    assert!(kept.task.step().await);
    assert_eq!((kept.verdicts(), kept.told().len()), (3, 0));
    go_on.send(()).unwrap();
    let mut told = 0;
    while told < 3 {
        assert!(kept.task.step().await);
        told += kept.told().len();
    }
}

#[tokio::test]
async fn what_has_come_when_the_node_stops_is_stored_and_told() {
    let mut kept = Kept::new(own(PeerId::random()));
    kept.hand_on(&Identity::generate(), 1..=40);
    kept.task.finish().await;
    assert_eq!(kept.told().len(), 40);
}

async fn join(task: &mut IngestTask) {
    let join = SyncCommand::Join(ROOM.parse().unwrap());
    task.sync.on_command(join, &mut task.log).await;
}

/// A neighbour has answered a fetch with these envelopes.
fn fetched(task: &mut IngestTask, envelopes: Vec<Bytes>) {
    task.log.verify_and_append(Fetch {
        peer_id: PeerId::random(),
        ticket: 1,
        room: ROOM.to_owned(),
        envelopes,
        announced: None,
        network: task.local.network,
        now_ms: task.local.unix.now_ms(),
        bus: task.bus.clone(),
    });
}

fn own(peer_id: PeerId) -> LocalAuthor {
    LocalAuthor {
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
    let task = &mut kept.task;
    join(task).await;
    let loaded = task.store_events.recv().await.unwrap();
    task.on_store_event(loaded).await;
    let envelopes = vec![
        sealed(&me, [1; 16], 1, "said by this run"),
        sealed(&me, [2; 16], 1, "said by an earlier run"),
        sealed(&another, [3; 16], 1, "said by another"),
    ];
    fetched(task, envelopes);
    let stored = task.store_events.recv().await.unwrap();
    task.on_store_event(stored).await;

    assert_eq!(task.sync.status()[0].batches, 3);
    let mut told = kept.told();
    told.sort();
    assert_eq!(told, ["said by an earlier run", "said by another"]);
}

#[tokio::test]
async fn what_comes_live_and_is_too_old_for_the_log_is_told_once_and_not_kept() {
    let mut kept = Kept::new(own(PeerId::random()));
    let author = Identity::generate();
    // Read once: a repeated batch has the same date.
    let now_ms = Clock::start().unix_millis();
    let old = |n, text| {
        let age = RetentionPolicy::default().age + std::time::Duration::from_secs(3600);
        let sent_at_ms = now_ms - age.as_millis() as u64;
        sealed_at(&author, [7; 16], n, Said::new("chat", text), sent_at_ms)
    };
    join(&mut kept.task).await;
    for envelope in [old(1, "old"), old(1, "old"), old(2, "older")] {
        kept.hand_on_one(envelope);
    }
    kept.task.finish().await;
    assert_eq!(kept.told(), ["old", "older"]);
    // A fetched batch may be older than the log's memory, and is not delivered.
    let envelopes = vec![old(3, "asked for")];
    let task = &mut kept.task;
    fetched(task, envelopes);
    task.finish().await;
    assert_eq!(
        (kept.told(), kept.task.sync.status()[0].batches),
        (vec![], 0)
    );
}
