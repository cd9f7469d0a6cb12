//! Parts of SQLite's file format: pages, records and numbers (<https://sqlite.org/fileformat2.html>, sections 1.5, 1.6, 2 and 4).
//!
//! Entry points: [`is_tree_page`], [`columns`], [`varint`]. The rule it keeps: any bytes are parsed without a panic.

/// Size in bytes of the file header on the first page.
pub(super) const FILE_HEADER: usize = 100;

/// Size in bytes of the WAL's header, and of the header of each frame.
pub(super) const WAL_HEADER: usize = 32;

pub(super) const FRAME_HEADER: usize = 24;

/// First byte of a page: leaf and inner pages of a table and of an index. Inner pages of an index have entries too.
pub(super) const TABLE_LEAF: u8 = 0x0d;

pub(super) const TABLE_INNER: u8 = 0x05;

pub(super) const INDEX_LEAF: u8 = 0x0a;

pub(super) const INDEX_INNER: u8 = 0x02;

/// Returns whether the page's cells are where its header says.
pub(super) fn is_tree_page(page: &[u8], start: usize) -> bool {
    let cells = match page.get(start) {
        Some(&(TABLE_LEAF | INDEX_LEAF)) => start + 8,
        Some(&(TABLE_INNER | INDEX_INNER)) => start + 12,
        _ => return false,
    };
    let count = usize::from(u16_at(page, start + 3).unwrap_or(u16::MAX));
    let first = cells + 2 * count;
    let is_cell = |cell| {
        let at = u16_at(page, cells + 2 * cell).map(usize::from);
        at.is_some_and(|at| at >= first && at < page.len())
    };
    first <= page.len() && (0..count).all(is_cell)
}

/// A value of a record: its type and its bytes.
#[derive(Clone, Copy)]
pub(super) struct Column<'a> {
    kind: u64,
    bytes: &'a [u8],
}

impl<'a> Column<'a> {
    pub(super) fn blob(self) -> Option<&'a [u8]> {
        (self.kind >= 12 && self.kind.is_multiple_of(2)).then_some(self.bytes)
    }

    /// Returns an integer; none for other types and NULL.
    pub(super) fn number(self) -> Option<i64> {
        match self.kind {
            1..=6 => {
                let first = i64::from(*self.bytes.first()? as i8);
                let rest = self.bytes[1..].iter();
                Some(rest.fold(first, |value, byte| value << 8 | i64::from(*byte)))
            }
            8 => Some(0),
            9 => Some(1),
            _ => None,
        }
    }
}

/// Returns the values of a record.
pub(super) fn columns(record: &[u8]) -> Option<Vec<Column<'_>>> {
    let (length, mut at) = varint(record, 0)?;
    let header = usize::try_from(length)
        .ok()
        .filter(|length| *length <= record.len())?;
    let mut body = header;
    let mut columns = Vec::new();
    while at < header {
        let (kind, next) = varint(record, at)?;
        let bytes = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind as usize,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            text_or_blob => usize::try_from((text_or_blob - 12) / 2).ok()?,
        };
        let end = body.checked_add(bytes)?;
        columns.push(Column {
            kind,
            bytes: record.get(body..end)?,
        });
        (at, body) = (next, end);
    }
    Some(columns)
}

/// Reads a number of at most nine bytes. Returns it and the offset behind it.
pub(super) fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for (place, byte) in bytes.get(at..)?.iter().take(9).enumerate() {
        if place == 8 {
            return Some((value << 8 | u64::from(*byte), at + 9));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, at + place + 1));
        }
    }
    None
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(two.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}
