//! Names of rooms.
//!
//! Entry type: [`RoomName`]. The rule it keeps: a name has one spelling and no invisible characters, so that two
//! people who read the same name are in the same room, and a stranger cannot make a node subscribe to topics of
//! arbitrary bytes.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use unicode_normalization::{UnicodeNormalization, is_nfc};

/// Prefix of a room's name in its gossipsub topic.
pub const TOPIC_PREFIX: &str = "/diatribe/1/";

/// Maximum length of a name in bytes: enough for a short sentence, and small enough to be part of every message.
pub const MAX_ROOM_NAME_BYTES: usize = 64;

/// The name of a room: UTF-8 in NFC, of 1 to 64 bytes, without control characters, `/`, whitespace other than U+0020
/// within, and the invisible characters that reorder or hide text. Cloning it is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomName(Arc<str>);

/// Reason for which a text is not the name of a room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoomNameError {
    /// The text is empty.
    #[error("a room's name is not empty")]
    Empty,
    /// The text is longer than [`MAX_ROOM_NAME_BYTES`].
    #[error("a room's name has at most 64 bytes, this one has {0}")]
    TooLong(usize),
    /// The text has a character that is not allowed in a name.
    #[error("a room's name has no {0:?}")]
    Character(char),
    /// The text begins or ends with a space.
    #[error("a room's name neither begins nor ends with a space")]
    OuterSpace,
}

impl RoomName {
    /// Brings `name` into NFC and returns the room with this name.
    ///
    /// # Errors
    ///
    /// [`RoomNameError`] if the normalized text is no valid name.
    pub fn new(name: &str) -> Result<RoomName, RoomNameError> {
        let name: String = name.nfc().collect();
        check(&name)?;
        Ok(RoomName(name.into()))
    }

    /// Returns the room of a gossipsub topic; none if the topic is not spelt as [`RoomName::topic`] spells it.
    pub fn from_topic(topic: &str) -> Option<RoomName> {
        let name = topic.strip_prefix(TOPIC_PREFIX)?;
        (check(name).is_ok() && is_nfc(name)).then(|| RoomName(name.into()))
    }

    /// Returns the room's gossipsub topic.
    pub fn topic(&self) -> String {
        format!("{TOPIC_PREFIX}{}", self.0)
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check(name: &str) -> Result<(), RoomNameError> {
    if name.is_empty() {
        return Err(RoomNameError::Empty);
    }
    if name.len() > MAX_ROOM_NAME_BYTES {
        return Err(RoomNameError::TooLong(name.len()));
    }
    if let Some(character) = name.chars().find(|character| is_forbidden(*character)) {
        return Err(RoomNameError::Character(character));
    }
    if name.starts_with(' ') || name.ends_with(' ') {
        return Err(RoomNameError::OuterSpace);
    }
    Ok(())
}

fn is_forbidden(character: char) -> bool {
    match character {
        ' ' => false,
        '/' => true,
        // These have no width or change the direction of text: two names would look alike. The joiners U+200C and
        // U+200D are allowed, because scripts and emoji need them.
        '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' => true,
        '\u{2060}'..='\u{2069}' | '\u{feff}' => true,
        _ => character.is_control() || character.is_whitespace(),
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for RoomName {
    type Err = RoomNameError;

    fn from_str(name: &str) -> Result<RoomName, RoomNameError> {
        RoomName::new(name)
    }
}

/// A map with rooms as keys can be searched by text: both hash and sort alike.
impl Borrow<str> for RoomName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for RoomName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn vectors(part: &str) -> Vec<Value> {
        let all: Value =
            serde_json::from_str(include_str!("../../proto/vectors/batch.json")).unwrap();
        all[part].as_array().unwrap().clone()
    }

    #[test]
    fn the_published_topics_name_their_rooms() {
        for case in vectors("rooms") {
            let (room, topic) = (
                case["room"].as_str().unwrap(),
                case["topic"].as_str().unwrap(),
            );
            assert_eq!(RoomName::from_topic(topic).unwrap().as_str(), room);
            assert_eq!(RoomName::new(room).unwrap().topic(), topic);
        }
    }

    #[test]
    fn topics_of_malformed_names_are_refused() {
        for case in vectors("refused_topics") {
            let topic = case["topic"].as_str().unwrap();
            assert_eq!(RoomName::from_topic(topic), None, "{case}");
        }
    }

    #[test]
    fn a_name_typed_with_decomposed_accents_is_the_same_room() {
        assert_eq!(RoomName::new("cafe\u{301}"), RoomName::new("caf\u{e9}"));
        assert!("lobby".parse::<RoomName>().is_ok());
    }

    #[test]
    fn a_refused_name_is_told_why() {
        assert_eq!(RoomName::new(""), Err(RoomNameError::Empty));
        assert_eq!(RoomName::new("a/b"), Err(RoomNameError::Character('/')));
        assert_eq!(RoomName::new("a\tb"), Err(RoomNameError::Character('\t')));
        assert_eq!(RoomName::new("a "), Err(RoomNameError::OuterSpace));
        assert_eq!(
            RoomName::new(&"a".repeat(65)),
            Err(RoomNameError::TooLong(65))
        );
    }
}
