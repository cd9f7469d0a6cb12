//! Serializes ids and names as the text that people read.
//!
//! Entry functions: [`text`], [`optional_text`], for `serde(serialize_with)`.

use std::fmt::Display;

use serde::{Serialize, Serializer};

use super::{BatchId, RoomName};

/// Serializes `value` as its text.
pub(crate) fn text<S: Serializer>(value: &impl Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// Serializes `value` as its text, or as null.
pub(crate) fn optional_text<S: Serializer>(
    value: &Option<impl Display>,
    to: S,
) -> Result<S::Ok, S::Error> {
    value.as_ref().map(ToString::to_string).serialize(to)
}

impl Serialize for BatchId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        text(self, to)
    }
}

impl Serialize for RoomName {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        text(self, to)
    }
}
