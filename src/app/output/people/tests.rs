//! A peer's text is always one line of bounded length, in which it cannot pass for anybody else.

use proptest::prelude::*;

use super::*;
use crate::identity::Identity;
use crate::model::BatchId;
use crate::net::{Stage, StageError};

fn author() -> PeerId {
    Identity::from_seed(&[1; 32]).peer_id()
}

fn message(name: &str, data: &[u8]) -> Message {
    Message {
        id: BatchId([0; 32]),
        room: "lobby".parse().unwrap(),
        author: author(),
        instance_id: [0; 16],
        seq: 1,
        name: name.to_owned(),
        data: data.to_vec().into(),
        sent_at_ms: 0,
        backfill: false,
    }
}

fn line(event: Event) -> String {
    let mut out = Vec::new();
    People::new(false).event(&event, &mut out);
    String::from_utf8(out).expect("text")
}

fn said(name: &str, text: &str) -> String {
    line(Event::Message(message(name, text.as_bytes())))
}

#[test]
fn a_name_cannot_pass_for_a_line_of_somebody_else() {
    let who = short(&author());
    assert_eq!(said("chat", "hi"), format!("[lobby] {who}: hi\n"));
    assert_eq!(
        said("image/png", "…"),
        format!("[lobby] {who} (image/png): …\n")
    );
    assert_eq!(
        said("x): hi  [lobby] bob", "!"),
        format!("[lobby] {who} (\"x): hi  [lobby] bob\"): !\n")
    );
}

#[test]
fn a_long_text_is_cut_and_the_line_says_where_all_of_it_is() {
    let line = said("chat", &"a".repeat(1 << 20));
    assert!(line.len() < 2200, "{} bytes", line.len());
    let rest = "a… [1048576 bytes in all: see `diatribe log show --json`]\n";
    assert!(line.ends_with(rest), "{line}");
    let mut past = Vec::new();
    People::new(false).past(&message("chat", &[b'a'; 1 << 20]), &mut past);
    assert!(past.len() < 2200, "{} bytes", past.len());
}

/// Returns every kind of line that contains text of a peer.
fn lines(words: &str) -> Vec<String> {
    let reason = || words.to_owned();
    let refused = StageError::new(Stage::Identify, words);
    let mut past = Vec::new();
    People::new(false).past(&message(words, words.as_bytes()), &mut past);
    vec![
        said("chat", words),
        said(words, words),
        line(Event::Error { reason: reason() }),
        line(Event::LinkDown {
            peer_id: author(),
            reason: reason(),
            links: 1,
        }),
        line(Event::Refused {
            peer_id: None,
            address: "/ip4/192.0.2.1/tcp/1/ws".parse().unwrap(),
            error: refused,
        }),
        line(Event::Checked {
            room: reason(),
            peer_id: author(),
            neighbours: 1,
            agreed: 1,
            repaired: 1,
            bytes: 1,
        }),
        String::from_utf8(past).expect("text"),
    ]
}

proptest! {
    #[test]
    fn a_peers_words_are_one_line_of_what_can_be_seen(words in any::<Vec<char>>(), more in ".{0,300}") {
        let words: String = words.into_iter().chain(more.chars()).collect();
        for line in lines(&words) {
            let Some(line) = line.strip_suffix('\n') else {
                panic!("{line:?} does not end");
            };
            let invisible = |c: char| c.is_control() || matches!(c,
                '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
                | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
                | '\u{e0000}'..='\u{e0fff}');
            prop_assert!(!line.contains(invisible), "{line:?}");
            prop_assert!(line.chars().count() < 2400);
        }
    }
}
