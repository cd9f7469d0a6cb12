//! An application that does not read its events for a while: it gets all of them from the log, and memory stays bounded.

use diatribe::store::RetentionPolicy;
use diatribe::{Event, Events};

use crate::cluster::{EVENT_TIMEOUT, Member, builder, member, start};

/// More bytes than wait for a reader in memory.
const MESSAGES: usize = 100;
const BYTES: usize = 1 << 20;

async fn next_message(events: &mut Events) -> diatribe::Message {
    let next = async {
        loop {
            match events.next().await.expect("the node runs") {
                Event::Message(message) => return message,
                Event::Missed { events, .. } => panic!("{events} are missing"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(EVENT_TIMEOUT, next)
        .await
        .expect("a message")
}

async fn flood(from: &Member) {
    for n in 0..MESSAGES {
        let data = vec![n as u8; BYTES];
        let sent = from.node.broadcast("lobby", "file", data).await;
        sent.expect("it is sent");
    }
}

/// A reader that is stopped, while another one of the same node reads all that another node says.
async fn stopped(reader: &mut Member) -> Member {
    let mut speaker = member().await;
    reader.link(&mut speaker).await;
    let mut quick = reader.node.events();
    let (_, ()) = futures::join!(flood(&speaker), async {
        for _ in 0..MESSAGES {
            next_message(&mut quick).await;
        }
    });
    speaker
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_goes_on_gets_every_message_once_and_in_order_then_what_comes() {
    let keep = RetentionPolicy {
        bytes: 1 << 30,
        ..RetentionPolicy::default()
    };
    let mut reader = start(builder().retention(keep)).await;
    let speaker = stopped(&mut reader).await;
    for n in 0..MESSAGES {
        let message = next_message(&mut reader.events).await;
        assert_eq!(message.seq, 1 + n as u64);
        assert!(message.data.len() == BYTES && message.data[0] == n as u8);
    }
    speaker.say("and on it goes").await;
    assert_eq!(reader.texts(1).await, ["and on it goes"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_is_told_how_many_messages_the_log_has_removed_before_it_read_them() {
    let keep = RetentionPolicy {
        bytes: 16 << 20,
        ..RetentionPolicy::default()
    };
    let mut reader = start(builder().retention(keep)).await;
    let speaker = stopped(&mut reader).await;
    speaker.say("the last").await;
    let (mut messages, mut missed) = (0, 0);
    let read = async {
        while let Some(event) = reader.events.next().await {
            match event {
                Event::Message(message) if message.data == "the last" => break,
                Event::Message(_) => messages += 1,
                Event::Missed { author, events } => {
                    assert_eq!(author, Some(speaker.id()));
                    missed += events;
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(EVENT_TIMEOUT, read)
        .await
        .expect("the last");
    assert!(
        missed > 0 && messages >= 60,
        "{messages} and {missed} missing"
    );
    assert_eq!(messages + missed, MESSAGES as u64);
}
