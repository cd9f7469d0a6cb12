//! Nothing is lost: a node that was away catches up, nothing arrives twice, and neighbours end with equal logs.

use std::collections::BTreeSet;

use diatribe::{Event, HistoryQuery, Identity, Message, NodeBuilder};

use crate::cluster::{Member, builder, member, start};

/// The events that the node's log holds of the lobby, oldest first.
async fn kept(member: &Member, last: Option<usize>) -> Vec<Message> {
    let query = HistoryQuery {
        room: Some("lobby".parse().expect("a room")),
        last,
        ..HistoryQuery::default()
    };
    let mut history = member.node.history(query);
    let mut messages = Vec::new();
    while let Some(message) = history.next().await {
        messages.push(message.expect("the log can be read"));
    }
    messages
}

fn texts(messages: &[Message]) -> BTreeSet<String> {
    messages
        .iter()
        .map(|m| String::from_utf8_lossy(&m.data).into_owned())
        .collect()
}

fn in_folder(identity: &Identity, folder: &tempfile::TempDir) -> NodeBuilder {
    builder().identity(identity.clone()).data_dir(folder.path())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_for_a_thousand_messages_has_them_all_after_its_first_link() {
    let (mut a, mut b) = (member().await, member().await);
    a.link(&mut b).await;
    let sent: BTreeSet<String> = (0..1000).map(|n| format!("message {n}")).collect();
    for text in &sent {
        a.say(text).await;
    }
    let mut late = member().await;
    let begun = std::time::Instant::now();
    late.node
        .connect(a.address())
        .await
        .expect("the link comes up");
    let mut got = BTreeSet::new();
    for _ in 0..1000 {
        let message = late.message().await;
        assert!(message.backfill);
        assert!(
            got.insert(String::from_utf8_lossy(&message.data).into_owned()),
            "twice"
        );
    }
    assert_eq!(got, sent);
    println!("1,000 messages caught up in {:?}", begun.elapsed());
}

#[tokio::test]
async fn what_was_sent_and_heard_is_in_the_log_also_after_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let identity = Identity::generate();
    let mut a = start(in_folder(&identity, &folder)).await;
    let mut b = member().await;
    a.link(&mut b).await;
    a.say("from a").await;
    b.say("from b").await;
    a.message().await;
    a.node.shutdown().await;
    drop(a);

    let mut a = start(in_folder(&identity, &folder)).await;
    assert_eq!(
        texts(&kept(&a, None).await),
        BTreeSet::from(["from a".into(), "from b".into()])
    );
    assert_eq!(kept(&a, Some(1)).await.len(), 1);
    // Compared with its neighbour it finds nothing new, and delivers nothing again.
    a.link(&mut b).await;
    let (repaired, agreed) = a
        .next("checked", |event| match event {
            Event::Checked {
                repaired, agreed, ..
            } => Some((*repaired, *agreed)),
            Event::Message(message) => panic!("delivered again: {message:?}"),
            _ => None,
        })
        .await;
    assert_eq!((repaired, agreed), (0, 1));
}

#[tokio::test]
async fn a_second_node_on_one_log_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let identity = Identity::generate();
    let _first = start(in_folder(&identity, &folder)).await;
    let error = in_folder(&identity, &folder)
        .start()
        .await
        .expect_err("the log is in use");
    assert!(error.to_string().contains("in use"), "{error}");
}

#[tokio::test]
async fn two_halves_that_spoke_apart_end_equal() {
    let (mut a, mut b) = (member().await, member().await);
    let (mut c, mut d) = (member().await, member().await);
    a.link(&mut b).await;
    c.link(&mut d).await;
    for n in 0..50 {
        a.say(&format!("left {n}")).await;
        d.say(&format!("right {n}")).await;
    }
    b.texts(50).await;
    c.texts(50).await;
    b.link(&mut c).await;
    for member in [&mut a, &mut b, &mut c, &mut d] {
        member.texts(50).await;
    }
    let all = texts(&kept(&a, None).await);
    assert_eq!(all.len(), 100);
    for member in [&b, &c, &d] {
        assert_eq!(texts(&kept(member, None).await), all);
    }
}

#[tokio::test]
async fn two_nodes_of_one_identity_neither_hide_nor_overwrite_each_other() {
    let identity = Identity::generate();
    let twin = || start(builder().identity(identity.clone()));
    let (mut one, mut two) = (twin().await, twin().await);
    let (mut near, mut far) = (member().await, member().await);
    one.link(&mut near).await;
    near.link(&mut far).await;
    far.link(&mut two).await;
    // Both number their events from 1.
    for n in 0..3 {
        assert_eq!(one.say(&format!("one {n}")).await.seq, n + 1);
        assert_eq!(two.say(&format!("two {n}")).await.seq, n + 1);
    }
    let all: BTreeSet<String> = ["one", "two"]
        .iter()
        .flat_map(|who| (0..3).map(move |n| format!("{who} {n}")))
        .collect();
    for member in [&mut near, &mut far] {
        assert_eq!(
            member.texts(6).await.into_iter().collect::<BTreeSet<_>>(),
            all
        );
    }
    assert_eq!(one.texts(3).await, ["two 0", "two 1", "two 2"]);
    assert_eq!(two.texts(3).await, ["one 0", "one 1", "one 2"]);
    for member in [&one, &two, &near, &far] {
        assert_eq!(texts(&kept(member, None).await), all);
    }
}

#[tokio::test]
async fn the_last_events_are_counted_across_batches_and_pages() {
    let (mut a, mut b) = (member().await, member().await);
    a.link(&mut b).await;
    // Those that queue up travel several in a batch.
    let mut sending = Vec::new();
    for n in 0..2000 {
        let queued = a.node.enqueue("lobby", "chat", n.to_string()).await;
        sending.push(queued.expect("a place in the queue"));
    }
    let mut batches = BTreeSet::new();
    for sending in sending {
        batches.insert(sending.sent().await.expect("it is sent").id.0);
    }
    assert!(batches.len() < 2000, "several travelled together");
    for n in 0..300 {
        a.say(&(2000 + n).to_string()).await;
    }
    for last in [0, 1, 3, 299, 301, 700, 2299, 2300, 9999] {
        let numbers: Vec<usize> = kept(&a, Some(last))
            .await
            .iter()
            .map(|message| {
                String::from_utf8_lossy(&message.data)
                    .parse()
                    .expect("a number")
            })
            .collect();
        assert_eq!(numbers.len(), last.min(2300));
        assert_eq!(
            numbers.iter().copied().collect::<BTreeSet<_>>(),
            (2300 - numbers.len()..2300).collect(),
            "the last {last}"
        );
    }
}

#[tokio::test]
async fn history_is_asked_by_author_and_time() {
    let (mut a, mut b) = (member().await, member().await);
    a.link(&mut b).await;
    a.say("from a").await;
    b.message().await;
    b.say("from b").await;
    a.message().await;
    let ask = async |query: HistoryQuery| {
        let mut history = a.node.history(query);
        let mut found = Vec::new();
        while let Some(message) = history.next().await {
            found.push(message.expect("the log can be read"));
        }
        found
    };
    for member in [&a, &b] {
        let found = ask(HistoryQuery {
            author: Some(member.id()),
            ..HistoryQuery::default()
        });
        let found = found.await;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].author, member.id());
    }
    let all = ask(HistoryQuery::default()).await;
    let since = ask(HistoryQuery {
        since_ms: Some(all[1].sent_at_ms + 1),
        ..HistoryQuery::default()
    });
    assert_eq!(since.await.len(), 0);
    let nobody = ask(HistoryQuery {
        author: Some(Identity::generate().peer_id()),
        ..HistoryQuery::default()
    });
    assert_eq!(nobody.await.len(), 0);
}
