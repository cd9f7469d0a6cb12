//! Parses one line of a program's input.
//!
//! Entry function: [`parse`]. The rule it keeps: an unknown field is refused by name, because ignoring it would send a
//! message that the program did not mean.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::app::output::CHAT;
use crate::model::RoomName;

/// An event that a program wants to send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The room; none: the node's first room.
    pub(crate) room: Option<RoomName>,
    pub(crate) name: String,
    pub(crate) data: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    room: Option<String>,
    name: Option<String>,
    text: Option<String>,
    data: Option<String>,
}

/// Reads a line: `{"room"?, "name"?, "text" | "data"}`.
pub(crate) fn parse(line: &[u8]) -> Result<Request, String> {
    let fields: Fields = serde_json::from_slice(line).map_err(|e| {
        format!(r#"not a line of input ({e}): expected is {{"room"?, "name"?, "text" or "data"}}"#)
    })?;
    let data = match (fields.text, fields.data) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(data)) => STANDARD
            .decode(data)
            .map_err(|e| format!("`data` is not base64 ({e}): text goes into `text`"))?,
        (None, None) => return Err("neither `text` nor `data`: one of them must be there".into()),
        (Some(_), Some(_)) => return Err("both `text` and `data`: give one of them".into()),
    };
    let room = match fields.room {
        Some(room) => Some(room.parse().map_err(|e| format!("`room`: {e}"))?),
        None => None,
    };
    Ok(Request {
        room,
        name: fields.name.unwrap_or_else(|| CHAT.to_owned()),
        data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(line: &str) -> String {
        parse(line.as_bytes())
            .expect_err("a wrong line")
            .to_string()
    }

    #[test]
    fn text_and_base64_are_data() {
        let request = parse(br#"{"room": "kitchen", "name": "n", "data": "AP8="}"#).unwrap();
        assert_eq!((&*request.data, &*request.name), (&[0, 255][..], "n"));
        assert_eq!(request.room.unwrap().as_str(), "kitchen");
        let request = parse(r#"{"text": "grüße"}"#.as_bytes()).unwrap();
        assert_eq!(
            (&*request.data, &*request.name),
            ("grüße".as_bytes(), "chat")
        );
        assert_eq!(request.room, None);
    }

    #[test]
    fn a_wrong_line_says_what_is_wrong() {
        assert!(reason(r#"{"text": "a", "too": 1}"#).contains("`too`"));
        assert!(reason(r#"{"text": "a", "data": ""}"#).contains("both"));
        assert!(reason("{}").contains("neither"));
        assert!(reason(r#"{"data": "a b"}"#).contains("base64"));
        assert!(reason(r#"{"text": "a", "room": "a/b"}"#).contains("room"));
        assert!(reason("hello").contains("not a line of input"));
        assert!(parse(b"\xff").is_err());
    }
}
