//! Nothing is lost: who was away catches up, nothing arrives twice, neighbours end equal.

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
