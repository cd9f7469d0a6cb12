//! Strict reader of protocol buffers: the edge cases of the encoding on which libraries disagree are errors.
//!
//! Entry points: [`Fields`] iterates over the fields of a message; [`check`] validates a message and the messages in it
//! against a [`Schema`]. The rule it keeps: every library decodes an accepted message alike, and the check allocates
//! nothing (`proto/README.md`, chapter 4).

use std::fmt;

use unsigned_varint::decode;

/// Maximum value of a field's key: 32 bits.
const MAX_KEY: u64 = u32::MAX as u64;

/// Maximum size of a varint in bytes, for 64 bits.
const MAX_VARINT_BYTES: usize = 10;

/// A violation of the strict encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end within a varint.
    #[error("a varint is cut short")]
    CutVarint,
    /// A varint has more bytes than it needs.
    #[error("a varint has more bytes than it needs")]
    LongVarint,
    /// A varint has more than 64 bits.
    #[error("a varint has more than 64 bits")]
    LargeVarint,
    /// A key has more than 32 bits.
    #[error("the key of a field has more than 32 bits")]
    LargeKey,
    /// A field has the number 0.
    #[error("a field has the number 0")]
    FieldZero,
    /// A field is a group, or has a wire type that does not exist.
    #[error("field {field} has wire type {wire_type}, which is not allowed")]
    WireType {
        /// The number of the field.
        field: u32,
        /// The wire type: 3, 4, 6 or 7.
        wire_type: u8,
    },
    /// A value is longer than the rest of the message.
    #[error("field {0} goes past the end")]
    PastTheEnd(u32),
    /// A known field has another wire type than its schema says.
    #[error("field {0} has another wire type than its own")]
    OtherType(u32),
    /// A text is not UTF-8.
    #[error("field {0} is not UTF-8")]
    NotUtf8(u32),
}

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Number of the field, 1 to 2^29 − 1.
    pub number: u32,
    /// Value of the field.
    pub value: Value<'a>,
}

/// The value of a field, by wire type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

impl<'a> Field<'a> {
    /// Returns the number in a field that must be a varint.
    ///
    /// # Errors
    ///
    /// Returns [`Malformed::OtherType`] when the field has another wire type.
    pub fn varint(&self) -> Result<u64, Malformed> {
        match self.value {
            Value::Varint(value) => Ok(value),
            _ => Err(Malformed::OtherType(self.number)),
        }
    }

    /// Returns the bytes in a field that must hold bytes.
    ///
    /// # Errors
    ///
    /// Returns [`Malformed::OtherType`] when the field has another wire type.
    pub fn bytes(&self) -> Result<&'a [u8], Malformed> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed::OtherType(self.number)),
        }
    }

    /// Returns the text in a field that must hold text.
    ///
    /// # Errors
    ///
    /// Returns [`Malformed::OtherType`] when the field has another wire type, and [`Malformed::NotUtf8`] when its bytes are
    /// not UTF-8.
    pub fn text(&self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::NotUtf8(self.number))
    }
}

/// Iterator over the fields of a message. It ends after the first error.
///
/// # Examples
///
/// ```
/// use diatribe::wire::strict::{Fields, Value};
///
/// let mut fields = Fields::of(&[0x08, 0x2a]);
/// let field = fields.next().expect("one field")?;
/// assert_eq!((field.number, field.value), (1, Value::Varint(42)));
/// assert!(fields.next().is_none());
/// # Ok::<(), diatribe::wire::strict::Malformed>(())
/// ```
#[derive(Clone, Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Returns the fields of `message`.
    pub fn of(message: &'a [u8]) -> Fields<'a> {
        Fields(message)
    }

    fn read(&mut self) -> Result<Field<'a>, Malformed> {
        let key = varint(&mut self.0)?;
        if key > MAX_KEY {
            return Err(Malformed::LargeKey);
        }
        let (number, wire_type) = ((key >> 3) as u32, (key & 7) as u8);
        if number == 0 {
            return Err(Malformed::FieldZero);
        }
        let past_the_end = Malformed::PastTheEnd(number);
        let value = match wire_type {
            0 => Value::Varint(varint(&mut self.0)?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array().ok_or(past_the_end)?)),
            2 => {
                let len = varint(&mut self.0)?;
                let len = usize::try_from(len).ok().filter(|len| *len <= self.0.len());
                let (value, rest) = self.0.split_at(len.ok_or(past_the_end)?);
                self.0 = rest;
                Value::Bytes(value)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array().ok_or(past_the_end)?)),
            wire_type => {
                return Err(Malformed::WireType {
                    field: number,
                    wire_type,
                });
            }
        };
        Ok(Field { number, value })
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (value, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*value)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Reads the varint at the beginning of `bytes` and removes it from them.
///
/// # Errors
///
/// Returns an error when the varint is cut short, is longer than it needs to be, or has more than 64 bits.
pub fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let (value, rest) = decode::u64(bytes).map_err(|error| match error {
        decode::Error::Insufficient => Malformed::CutVarint,
        decode::Error::NotMinimal => Malformed::LongVarint,
        _ => Malformed::LargeVarint,
    })?;
    let len = bytes.len() - rest.len();
    // The decoder drops the bits of the tenth byte for which 64 bits have no room.
    if len == MAX_VARINT_BYTES && bytes[len - 1] > 1 {
        return Err(Malformed::LargeVarint);
    }
    *bytes = rest;
    Ok(value)
}

/// The known fields of a message, by number.
#[derive(Debug)]
pub struct Schema(pub &'static [(u32, Kind)]);

/// Type of a known field.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A number, truth value or enumeration, as a varint.
    Varint,
    /// Repeated varints, one by one or packed.
    Varints,
    /// A number of 8 bytes.
    Fixed64,
    /// A number of 4 bytes.
    Fixed32,
    /// Any bytes.
    Bytes,
    /// Text in UTF-8.
    Text,
    /// Another message, which is checked too.
    Message(&'static Schema),
}

/// Checks `message` and the messages in it. The depth is bounded by the schemas, because no schema contains itself. The
/// contents of unknown fields are not checked.
///
/// # Errors
///
/// Returns the first violation of the strict encoding.
pub fn check(message: &[u8], schema: &Schema) -> Result<(), Malformed> {
    for field in Fields::of(message) {
        let field = field?;
        let known = schema.0.iter().find(|(number, _)| *number == field.number);
        let Some((_, kind)) = known else { continue };
        match (kind, field.value) {
            (Kind::Varint | Kind::Varints, Value::Varint(_))
            | (Kind::Fixed64, Value::Fixed64(_))
            | (Kind::Fixed32, Value::Fixed32(_))
            | (Kind::Bytes, Value::Bytes(_)) => {}
            (Kind::Varints, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    varint(&mut packed)?;
                }
            }
            (Kind::Text, Value::Bytes(_)) => drop(field.text()?),
            (Kind::Message(schema), Value::Bytes(message)) => check(message, schema)?,
            _ => return Err(Malformed::OtherType(field.number)),
        }
    }
    Ok(())
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Varint(value) => write!(f, "Varint({value})"),
            Value::Fixed64(value) => write!(f, "Fixed64({value})"),
            Value::Fixed32(value) => write!(f, "Fixed32({value})"),
            Value::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::wire::proto::{gossip, overlay};

    static INNER: Schema = Schema(&[(1, Kind::Text)]);
    static OUTER: Schema = Schema(&[
        (1, Kind::Varint),
        (2, Kind::Text),
        (3, Kind::Bytes),
        (4, Kind::Fixed64),
        (5, Kind::Fixed32),
        (6, Kind::Message(&INNER)),
        (7, Kind::Varints),
    ]);

    #[test]
    fn messages_that_every_library_reads_alike_pass() {
        for message in [
            &[][..],
            // Zero values that are present, out of order, and a scalar twice.
            &[0x08, 0x00],
            &[0x12, 0x00, 0x08, 0x01, 0x08, 0x02],
            &[0x1a, 0x01, 0xff],
            &[0x21, 1, 2, 3, 4, 5, 6, 7, 8, 0x2d, 1, 2, 3, 4],
            &[0x32, 0x03, 0x0a, 0x01, b'x', 0x32, 0x00],
            // Packed and not.
            &[0x3a, 0x03, 0x01, 0x80, 0x01, 0x38, 0x07],
            // Unknown fields of the four wire types; the contents of bytes are not checked.
            &[0x50, 0x01],
            &[0x51, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x52, 0x03, 0x0b, 0x00, 0xff],
            &[0x55, 1, 2, 3, 4],
            // The largest field number and the largest value.
            &[0xf8, 0xff, 0xff, 0xff, 0x0f, 0x01],
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
        ] {
            assert_eq!(check(message, &OUTER), Ok(()), "{message:02x?}");
        }
    }

    #[test]
    fn each_edge_is_an_error_with_a_name() {
        use Malformed::*;
        let wire_type = |field, wire_type| WireType { field, wire_type };
        for (message, error) in [
            (&[0x80][..], CutVarint),
            (&[0x08], CutVarint),
            (&[0x08, 0x80], CutVarint),
            (&[0x88, 0x00, 0x01], LongVarint),
            (&[0x08, 0x80, 0x00], LongVarint),
            (&[0x12, 0x81, 0x00, b'x'], LongVarint),
            (&[0x50, 0x81, 0x80, 0x00], LongVarint),
            (&[0x3a, 0x02, 0x81, 0x00], LongVarint),
            (
                &[
                    0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02,
                ],
                LargeVarint,
            ),
            (
                &[
                    0x08, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00,
                ],
                LargeVarint,
            ),
            // A key of 33 bits, which is field 2^29; and of 35.
            (&[0x80, 0x80, 0x80, 0x80, 0x10, 0x01], LargeKey),
            (&[0x88, 0x80, 0x80, 0x80, 0x40, 0x01], LargeKey),
            (&[0x00, 0x01], FieldZero),
            (&[0x02, 0x00], FieldZero),
            (&[0x0b, 0x0c], wire_type(1, 3)),
            (&[0x53, 0x54], wire_type(10, 3)),
            (&[0x54], wire_type(10, 4)),
            (&[0x56, 0x00], wire_type(10, 6)),
            (&[0x57, 0x00], wire_type(10, 7)),
            (&[0x32, 0x02, 0x0b, 0x0c], wire_type(1, 3)),
            (&[0x12, 0x02, b'x'], PastTheEnd(2)),
            (
                &[
                    0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
                ],
                PastTheEnd(2),
            ),
            (&[0x51, 1, 2, 3, 4, 5, 6, 7], PastTheEnd(10)),
            (&[0x55, 1, 2, 3], PastTheEnd(10)),
            (&[0x0a, 0x00], OtherType(1)),
            (&[0x10, 0x00], OtherType(2)),
            (&[0x35, 0, 0, 0, 0], OtherType(6)),
            (&[0x25, 0, 0, 0, 0], OtherType(4)),
            (&[0x29, 0, 0, 0, 0, 0, 0, 0, 0], OtherType(5)),
            (&[0x12, 0x01, 0xff], NotUtf8(2)),
            (&[0x32, 0x03, 0x0a, 0x01, 0xff], NotUtf8(1)),
            // UTF-8 has neither surrogates nor overlong encodings.
            (&[0x12, 0x03, 0xed, 0xa0, 0x80], NotUtf8(2)),
            (&[0x12, 0x02, 0xc0, 0x80], NotUtf8(2)),
        ] {
            assert_eq!(check(message, &OUTER), Err(error), "{message:02x?}");
        }
    }

    #[test]
    fn however_deep_groups_are_nested_the_first_is_refused() {
        let deep = [vec![0x53; 100_000], vec![0x54; 100_000]].concat();
        assert!(matches!(
            check(&deep, &OUTER),
            Err(Malformed::WireType {
                field: 10,
                wire_type: 3
            })
        ));
    }

    #[test]
    fn after_an_error_there_are_no_fields() {
        let mut fields = Fields::of(&[0x08, 0x01, 0x00, 0x00, 0x08, 0x02]);
        assert!(fields.next().unwrap().is_ok());
        assert_eq!(fields.next(), Some(Err(Malformed::FieldZero)));
        assert_eq!(fields.next(), None);
    }

    proptest! {
        /// Messages that prost encodes pass, and prost decodes the messages that pass.
        #[test]
        fn messages_that_prost_writes_pass(name in ".{0,20}", data in prop::collection::vec(any::<u8>(), 0..40)) {
            let event = gossip::Event { name, data: data.into() };
            let schema = Schema(&[(1, Kind::Text), (2, Kind::Bytes)]);
            prop_assert_eq!(check(&event.encode_to_vec(), &schema), Ok(()));
        }

        #[test]
        fn messages_that_pass_are_read_by_prost(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if check(&bytes, &crate::wire::schemas::overlay::REQUEST).is_ok() {
                prop_assert!(overlay::Request::decode(&bytes[..]).is_ok());
            }
        }
    }
}
