//! Invites as lines of text.

use proptest::prelude::*;

use super::super::{InviteLine, LineError};
use super::*;

fn line() -> InviteLine {
    InviteLine {
        network: FoundedId([3; 32]),
        seed: [4; 16],
        key_id: KeyId([5; 8]),
        expires: 1_800_000_000,
        entries: vec![(
            *person(1).public_key(),
            "/ip6/2001:db8::1/tcp/9000/ws".parse().expect("a multiaddr"),
        )],
        room: "kitchen".to_owned(),
    }
}

#[test]
fn a_line_with_an_address_is_short_and_is_read_back() {
    let text = line().to_line().expect("a line");
    assert!(text.len() <= 320, "{} characters", text.len());
    assert_eq!(InviteLine::parse(&text), Ok(line()));
    assert_eq!(
        InviteLine::parse(&format!("  {}\n", text.to_uppercase())),
        Ok(line())
    );
    let broken = [&text[..40], "\n", &text[40..]].concat();
    assert_eq!(InviteLine::parse(&broken), Ok(line()));
}

#[test]
fn each_fault_of_a_line_is_named() {
    let text = line().to_line().expect("a line");
    assert_eq!(InviteLine::parse("hello"), Err(LineError::NoInvite));
    assert_eq!(InviteLine::parse(""), Err(LineError::NoInvite));
    let wrong = text.replace(&text[60..61], "1");
    assert_eq!(InviteLine::parse(&wrong), Err(LineError::Character('1')));
    for cut in 10..text.len() {
        assert_eq!(
            InviteLine::parse(&text[..cut]),
            Err(LineError::Cut),
            "cut at {cut}"
        );
    }
    let newer = text.replacen("diatribe:a", "diatribe:b", 1);
    assert!(matches!(
        InviteLine::parse(&newer),
        Err(LineError::Version(_))
    ));
}

#[test]
fn a_secret_is_not_printed() {
    assert!(!format!("{:?}", line()).contains("4, 4, 4"));
}

proptest! {
    #[test]
    fn one_wrong_character_is_found(at in 11_usize..200, to in 0_usize..32) {
        let text = line().to_line().expect("a line");
        let at = at.min(text.len() - 1);
        let to = "abcdefghijklmnopqrstuvwxyz234567".as_bytes()[to] as char;
        let mut changed: Vec<char> = text.chars().collect();
        prop_assume!(changed[at] != to);
        changed[at] = to;
        let changed: String = changed.into_iter().collect();
        prop_assert!(InviteLine::parse(&changed).is_err());
    }

    #[test]
    fn no_text_is_read_with_a_panic(text in "diatribe:[a-z2-7]{0,300}") {
        let _ = InviteLine::parse(&text);
    }
}
