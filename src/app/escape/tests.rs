//! Text of strangers is shown as it is.

use proptest::prelude::*;

use super::*;

fn shown(text: &str) -> String {
    Escaped(text).to_string()
}

fn quoted(text: &str) -> String {
    Quoted(text).to_string()
}

/// Ranges of Default_Ignorable_Code_Point, from Unicode's DerivedCoreProperties.txt.
const IGNORABLE: [(u32, u32); 17] = [
    (0xad, 0xad),
    (0x34f, 0x34f),
    (0x61c, 0x61c),
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x200b, 0x200f),
    (0x202a, 0x202e),
    (0x2060, 0x206f),
    (0x3164, 0x3164),
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfff8),
    (0x1bca0, 0x1bca3),
    (0x1d173, 0x1d17a),
    (0xe0000, 0xe0fff),
];

fn is_ignorable(character: char) -> bool {
    let within = |(first, last): &(u32, u32)| (*first..=*last).contains(&u32::from(character));
    IGNORABLE.iter().any(within)
}

/// Returns whether a character may never be printed raw, in any context.
fn is_never_raw(character: char) -> bool {
    let may_belong = matches!(character, ZWNJ | ZWJ | TEXT_STYLE | EMOJI_STYLE)
        || ('\u{180b}'..='\u{180f}').contains(&character);
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..)
        || is_ignorable(character) && !may_belong
}

#[test]
fn a_stranger_cannot_move_the_cursor_nor_forge_a_line() {
    assert_eq!(
        shown("\u{1b}[2Jhi\r\n[lobby] alice: \u{9b}31m\u{202e}"),
        "\\u{1b}[2Jhi\\u{d}\\n[lobby] alice: \\u{9b}31m\\u{202e}"
    );
}

#[test]
fn no_character_alone_is_invisible() {
    for character in '\0'..=char::MAX {
        let text = format!("a{character}b");
        let shown = shown(&text);
        assert!(
            !shown.chars().any(|c| is_ignorable(c) || is_never_raw(c)),
            "{shown:?}"
        );
    }
}

#[test]
fn what_scripts_and_emoji_need_stays() {
    for text in [
        "grüße 👩‍🚀",
        "👩🏽‍🚀 ❤️‍🔥 🏳️‍🌈 1️⃣ ☺︎",
        "می‌خواهم",
        "क्‍ष र्‍य",
        "ශ්‍රී ලංකා",
        "ᠨ᠋ᠣᠮ",
        "שָׁל֨וֹם",
        "tiếng Việt",
        "日本語　한국어",
    ] {
        assert_eq!(shown(text), text);
        assert!(Escaped(text).is_whole());
    }
}

#[test]
fn joiners_and_selectors_elsewhere_are_shown_as_numbers() {
    assert_eq!(shown("a\u{200d}b\u{200c}c"), "a\\u{200d}b\\u{200c}c");
    assert_eq!(shown("a\u{fe0f}"), "a\\u{fe0f}");
    assert_eq!(shown("☺\u{fe0f}\u{fe0f}"), "☺\u{fe0f}\\u{fe0f}");
    assert_eq!(shown("👩\u{200d}\u{200d}🚀"), "👩\\u{200d}\\u{200d}🚀");
    assert_eq!(shown("漢\u{e0100}"), "漢\\u{e0100}");
    assert_eq!(shown("🏴\u{e0067}\u{e007f}"), "🏴\\u{e0067}\\u{e007f}");
}

#[test]
fn marks_and_blanks_are_bounded() {
    let zalgo = format!("z{}!", "\u{301}".repeat(1000));
    assert_eq!(
        shown(&zalgo),
        format!("z{}[994 more marks]!", "\u{301}".repeat(6))
    );
    // A combining mark needs a base character of its own text.
    assert_eq!(shown("\u{301}a"), "\\u{301}a");
    let pushed = format!("hi{}[lobby] bob: hello", " \u{3000}\t".repeat(40));
    assert_eq!(shown(&pushed), "hi [120 blanks] [lobby] bob: hello");
    assert_eq!(shown("a\tb  c"), "a b  c");
}

#[test]
fn a_long_text_is_cut_and_says_so() {
    let long = "a".repeat(1 << 20);
    assert_eq!(shown(&long).chars().count(), MAX_SHOWN + 1);
    assert!(!Escaped(&long).is_whole());
    let short = "a".repeat(MAX_SHOWN);
    assert_eq!(shown(&short), short);
    assert!(Escaped(&short).is_whole());
    // Escapes count towards the maximum length.
    assert!(shown(&"\u{e0001}".repeat(1000)).chars().count() <= MAX_SHOWN + 12);
}

#[test]
fn a_name_cannot_be_taken_for_what_stands_around_it() {
    assert_eq!(quoted("x): hi  [lobby] bob"), "\"x): hi  [lobby] bob\"");
    assert_eq!(quoted("a\"b\\"), "\"a\\\"b\\\\\"");
    assert_eq!(quoted(""), "\"\"");
    assert_eq!(quoted(" x"), "\" x\"");
    assert_eq!(quoted("\u{3164}"), "\"\\u{3164}\"");
    assert_eq!(
        quoted(&"x".repeat(256)),
        format!("\"{}…\"", "x".repeat(MAX_NAME))
    );
    for plain in ["image/png", "the kitchen", "küche", "部屋", "v1.2-rc_3+x"] {
        assert_eq!(quoted(plain), plain);
    }
}

fn nasty() -> impl Strategy<Value = String> {
    let ranges = prop::sample::select(IGNORABLE.to_vec());
    let ignorable = ranges.prop_map(|(first, _)| char::from_u32(first).unwrap());
    let piece = prop_oneof![
        any::<char>(),
        ignorable,
        prop::sample::select(vec![
            '\n', '\r', '\u{1b}', '"', '\\', 'a', ' ', '👩', '❤', 'ی', 'क', '\u{94d}'
        ]),
        prop::sample::select(vec![
            ZWJ,
            ZWNJ,
            EMOJI_STYLE,
            '\u{301}',
            '\u{2028}',
            '\u{202e}'
        ]),
    ];
    prop::collection::vec(piece, 0..200).prop_map(|chars| chars.into_iter().collect())
}

proptest! {
    #[test]
    fn nothing_harmful_is_ever_shown(text in nasty()) {
        for shown in [shown(&text), quoted(&text)] {
            prop_assert!(!shown.chars().any(is_never_raw), "{shown:?}");
            prop_assert!(shown.chars().count() <= MAX_SHOWN + 16);
        }
    }
}
