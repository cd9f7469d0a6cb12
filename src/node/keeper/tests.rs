//! What the keeper tells, and of what it says nothing.

use super::*;
use crate::gossip;
use crate::history::{Keep, Log};
use crate::identity::Identity;

const ROOM: &str = "lobby";

fn sealed(identity: &Identity, instance_id: [u8; 16], text: &'static str) -> Bytes {
    let event = gossip::Event {
        name: "chat".to_owned(),
        data: Bytes::from_static(text.as_bytes()),
    };
    let room = ROOM.parse().unwrap();
    let now = Clock::start().unix_millis();
    let sealed = gossip::seal(identity, instance_id, &room, 1, now, vec![event]).unwrap();
    VerifiedBatch::from(sealed).bytes().clone()
}

#[tokio::test]
async fn what_a_neighbour_hands_back_is_stored_and_told_unless_this_run_has_said_it() {
    let (clock, bus) = (Clock::start(), EventBus::default());
    let (me, another) = (Identity::generate(), Identity::generate());
    let log = Log::ephemeral(Keep::default()).unwrap();
    let (on_pruned, pruned) = pruned_channel();
    let writer = Writer::start(log, clock, on_pruned).unwrap();
    let (_verified, verified) = mpsc::channel(1);
    let (_notes, notes) = mpsc::unbounded_channel();
    let (wishes, _wishes) = mpsc::channel(MAX_WAITING);
    let ends = Ends {
        verified,
        notes,
        wishes,
        pruned,
        pressure: Pressure::default(),
        copies: Arc::default(),
    };
    let own = Own {
        peer_id: me.peer_id(),
        instance_id: [1; 16],
    };
    let (store, keep) = (Store::new(writer), Keep::default());
    let mut keeper = Keeper::new(own, clock, bus.clone(), store, keep, ends).unwrap();
    let mut events = bus.subscribe();

    keeper.on_note(Note::Join(ROOM.parse().unwrap())).await;
    let loaded = keeper.back_in.recv().await.unwrap();
    keeper.on_back(loaded).await;
    let envelopes = vec![
        sealed(&me, [1; 16], "said by this run"),
        sealed(&me, [2; 16], "said by an earlier run"),
        sealed(&another, [3; 16], "said by another"),
    ];
    keeper.verify(1, ROOM.to_owned(), envelopes, None);
    let stored = keeper.back_in.recv().await.unwrap();
    keeper.on_back(stored).await;

    assert_eq!(keeper.status()[0].batches, 3);
    let mut told = Vec::new();
    while let Some(Some(event)) = futures::FutureExt::now_or_never(events.next()) {
        if let Event::Message(message) = event {
            told.push(message.data);
        }
    }
    told.sort();
    assert_eq!(told, ["said by an earlier run", "said by another"]);
}
