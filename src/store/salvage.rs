//! Reads a damaged SQLite file page by page, without SQLite, which gives up a whole table if its root page is damaged.
//!
//! Entry point: [`Salvage::open`]. The rules it keeps: each page is parsed alone, so that a damaged one affects only
//! its own content; the result is untrusted, and its caller verifies every signature. The format is that of
//! <https://sqlite.org/fileformat2.html>, sections 1.5, 1.6, 2 and 4.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::blob_store::BlobRef;
use super::schema;
use crate::model::Id;
use crate::wire::envelope::{BODY_TAG, SIGNATURE_BYTES, SIGNATURE_HEADER};
use crate::wire::strict;

/// Bytes before the first page's own content.
const FILE_HEADER: usize = 100;
/// Bytes of the WAL's header, and of each frame's.
const WAL_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The first byte of a page with rows, and of one above those; with entries of an index, and of one above those, which has
/// entries as well.
const TABLE_LEAF: u8 = 0x0d;
const TABLE_INNER: u8 = 0x05;
const INDEX_LEAF: u8 = 0x0a;
const INDEX_INNER: u8 = 0x02;
/// The most that a row may have: an envelope that is not large, and the rest.
const MAX_PAYLOAD: usize = 128 << 10;
/// Columns of the table `batch`, and where in them what is looked for is.
const BATCH_COLUMNS: usize = 16;
const ID_COLUMN: usize = 1;
const ENVELOPE_COLUMN: usize = 12;
/// The page size of a log whose header does not say it.
const USUAL_PAGE_SIZE: usize = 32768;

/// Content found on a page.
#[derive(Debug)]
pub(super) enum Found {
    /// A batch: row number, id, envelope, and the position of a large envelope.
    Row {
        n: i64,
        id: Id,
        envelope: Vec<u8>,
        place: Option<BlobRef>,
    },
    /// An id from the index of ids.
    Known(Id),
    /// The network that the log belongs to.
    Network([u8; 32]),
}

/// Pages of a damaged log and its WAL.
pub(super) struct Salvage {
    file: File,
    wal: Option<File>,
    page_size: usize,
    usable: usize,
    pages: u32,
    /// Offset in the WAL of the newest version of a page.
    newest: HashMap<u32, u64>,
    /// Free pages, which hold only removed content.
    free: HashSet<u32>,
    /// Pages that hold the rest of a row.
    overflow: HashSet<u32>,
    /// Pages that are no valid page of a log.
    strange: Vec<u32>,
}

impl Salvage {
    /// Opens the log at `path`.
    pub(super) fn open(path: &Path) -> io::Result<Salvage> {
        let mut file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let mut header = [0; FILE_HEADER];
        let header = match file.read_exact(&mut header) {
            Ok(()) => header,
            Err(_) => [0; FILE_HEADER],
        };
        let page_size = match u16_at(&header, 16) {
            Some(1) => 65536,
            Some(size) if size >= 512 && size.is_power_of_two() => usize::from(size),
            _ => USUAL_PAGE_SIZE,
        };
        let mut salvage = Salvage {
            file,
            wal: File::open(schema::beside(path, "-wal")).ok(),
            page_size,
            usable: page_size - usize::from(header[20]).min(page_size / 2),
            pages: u32::try_from(bytes.div_ceil(page_size as u64)).unwrap_or(u32::MAX),
            newest: HashMap::new(),
            free: HashSet::new(),
            overflow: HashSet::new(),
            strange: Vec::new(),
        };
        salvage.read_wal();
        salvage.find_free();
        Ok(salvage)
    }

    /// Returns the maximum number of rows that fit into the file.
    pub(super) fn max_rows(&self) -> i64 {
        let bytes = i64::from(self.pages).saturating_mul(self.page_size as i64);
        // A row takes at least the 32 bytes of its id.
        bytes / 32
    }

    /// Calls `found` with all content of the pages, in their order, until it fails.
    pub(super) fn scan<E>(
        &mut self,
        mut found: impl FnMut(Found) -> Result<(), E>,
    ) -> Result<(), E> {
        for number in 1..=self.pages {
            if self.free.contains(&number) {
                continue;
            }
            let start = if number == 1 { FILE_HEADER } else { 0 };
            let page = self.page(number);
            let Some(page) = page.filter(|page| is_tree_page(page, start)) else {
                self.strange.push(number);
                continue;
            };
            for one in self.on_page(&page, start) {
                found(one)?;
            }
        }
        Ok(())
    }

    /// Returns whether [`Salvage::scan`] understood every page, so that its result is complete. Reads the first page,
    /// which holds only the schema.
    pub(super) fn check_all_read(&mut self) -> bool {
        let has_map = self.page(1).and_then(|page| u32_at(&page, 52)) != Some(0);
        // Interval of the pointer map's pages in a file with `auto_vacuum`.
        let interval = (self.usable / 5 + 1) as u32;
        let is_map = |number: u32| has_map && number >= 2 && (number - 2).is_multiple_of(interval);
        let mut strange = self.strange.iter();
        strange.all(|number| *number == 1 || is_map(*number) || self.overflow.contains(number))
    }

    fn page(&mut self, number: u32) -> Option<Vec<u8>> {
        let mut page = vec![0; self.page_size];
        let (file, at) = match (self.newest.get(&number), &mut self.wal) {
            (Some(at), Some(wal)) => (wal, *at),
            _ => (
                &mut self.file,
                u64::from(number.checked_sub(1)?) * self.page_size as u64,
            ),
        };
        file.seek(SeekFrom::Start(at)).ok()?;
        // The last page of a truncated file is incomplete.
        let mut read = 0;
        while read < page.len() {
            match file.read(&mut page[read..]) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(_) => return None,
            }
        }
        (read > 0).then_some(page)
    }

    /// Finds the newest version of each page in the WAL, up to the last commit. Damaged frames are not detected here:
    /// their content fails the verification.
    fn read_wal(&mut self) {
        let Some(wal) = &mut self.wal else { return };
        let mut header = [0; WAL_HEADER];
        if wal.read_exact(&mut header).is_err() || u32_at(&header, 8) != Some(self.page_size as u32)
        {
            return;
        }
        let (mut at, mut open) = (WAL_HEADER as u64, Vec::new());
        let mut frame = [0; FRAME_HEADER];
        loop {
            let read = wal
                .seek(SeekFrom::Start(at))
                .and_then(|_| wal.read_exact(&mut frame));
            // Frames of an earlier round of the WAL have other salts.
            if read.is_err() || frame[8..16] != header[16..24] {
                return;
            }
            let (number, pages) = (u32_at(&frame, 0), u32_at(&frame, 4));
            open.extend(number.map(|number| (number, at + FRAME_HEADER as u64)));
            if let Some(pages @ 1..) = pages {
                self.pages = self.pages.max(pages);
                self.newest.extend(open.drain(..));
            }
            at += (FRAME_HEADER + self.page_size) as u64;
        }
    }

    /// Follows the list of free pages as far as it is readable.
    fn find_free(&mut self) {
        let mut next = self.page(1).and_then(|page| u32_at(&page, 32)).unwrap_or(0);
        while next > 0 && next <= self.pages && self.free.insert(next) {
            let Some(page) = self.page(next) else { return };
            let count = u32_at(&page, 4).unwrap_or(0) as usize;
            for entry in 0..count.min(self.usable / 4) {
                self.free.extend(u32_at(&page, 8 + 4 * entry));
            }
            next = u32_at(&page, 0).unwrap_or(0);
        }
        self.free.remove(&1);
    }

    fn on_page(&mut self, page: &[u8], start: usize) -> Vec<Found> {
        let kind = page.get(start).copied().unwrap_or(0);
        let cells = match kind {
            TABLE_LEAF | INDEX_LEAF => start + 8,
            INDEX_INNER => start + 12,
            _ => return Vec::new(),
        };
        let count = usize::from(u16_at(page, start + 3).unwrap_or(0)).min(page.len() / 2);
        let mut found = Vec::new();
        for cell in 0..count {
            let Some(at) = u16_at(page, cells + 2 * cell).map(usize::from) else {
                break;
            };
            let one = match kind {
                TABLE_LEAF => self.row(page, at),
                INDEX_LEAF => entry(page, at),
                _ => entry(page, at + 4),
            };
            found.extend(one);
        }
        found
    }

    /// Parses the row of the cell at `at`, if it is of a table that a repair needs.
    fn row(&mut self, page: &[u8], at: usize) -> Option<Found> {
        let (length, at) = varint(page, at)?;
        let (n, at) = varint(page, at)?;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= MAX_PAYLOAD)?;
        let payload = self.payload(page, at, length)?;
        let columns = columns(&payload)?;
        if let [network] = columns[..] {
            return Some(Found::Network(network.blob()?.try_into().ok()?));
        }
        if columns.len() != BATCH_COLUMNS {
            return None;
        }
        let place = match columns[ENVELOPE_COLUMN + 1].number() {
            Some(file) => Some(BlobRef {
                file,
                at: columns[ENVELOPE_COLUMN + 2].number()?,
                bytes: columns[ENVELOPE_COLUMN + 3].number()?,
            }),
            None => None,
        };
        Some(Found::Row {
            n: n as i64,
            id: columns[ID_COLUMN].blob()?.try_into().ok()?,
            envelope: columns[ENVELOPE_COLUMN].blob()?.to_vec(),
            place,
        })
    }

    /// Returns `length` bytes: the first ones at `at`, the rest on overflow pages.
    fn payload(&mut self, page: &[u8], at: usize, length: usize) -> Option<Vec<u8>> {
        let usable = self.usable;
        let most = usable.checked_sub(35)?;
        if length <= most {
            return page.get(at..at.checked_add(length)?).map(<[u8]>::to_vec);
        }
        let least = (usable - 12) * 32 / 255 - 23;
        let here = least + (length - least) % (usable - 4);
        let here = if here <= most { here } else { least };
        let mut payload = page.get(at..at.checked_add(here)?)?.to_vec();
        let mut next = u32_at(page, at + here)?;
        while payload.len() < length {
            // Each page adds bytes, so that the loop ends.
            let more = self.page(next).filter(|_| next > 0)?;
            self.overflow.insert(next);
            let rest = (length - payload.len()).min(usable - 4);
            payload.extend_from_slice(more.get(4..4 + rest)?);
            next = u32_at(&more, 0)?;
        }
        Some(payload)
    }
}

/// Whether a page has cells where it says, or none.
fn is_tree_page(page: &[u8], start: usize) -> bool {
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

/// The entry of the index by id at `at`, if it is one: an id and a number.
fn entry(page: &[u8], at: usize) -> Option<Found> {
    let (length, at) = varint(page, at)?;
    let length = usize::try_from(length).ok().filter(|length| *length < 64)?;
    let columns = columns(page.get(at..at.checked_add(length)?)?)?;
    match columns[..] {
        [id, n] if n.number().is_some() => Some(Found::Known(id.blob()?.try_into().ok()?)),
        _ => None,
    }
}

/// A value of a record: its type and its bytes.
#[derive(Clone, Copy)]
struct Column<'a> {
    kind: u64,
    bytes: &'a [u8],
}

impl<'a> Column<'a> {
    fn blob(self) -> Option<&'a [u8]> {
        (self.kind >= 12 && self.kind.is_multiple_of(2)).then_some(self.bytes)
    }

    /// None of what is no integer, NULL included.
    fn number(self) -> Option<i64> {
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

/// The values of a record.
fn columns(record: &[u8]) -> Option<Vec<Column<'_>>> {
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

/// A number in at most nine bytes, and where it ends.
fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
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

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(two.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

/// The envelopes in bytes of which it is not known where one begins: each is a body and a signature of 64 bytes, one after
/// the other. Bytes that are neither end the search.
pub(super) fn envelopes(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut envelopes = Vec::new();
    while bytes.first() == Some(&BODY_TAG)
        && let Some((length, at)) = length_prefix(bytes, 1)
        && let Some(end) = at.checked_add(length)
        && bytes.get(end..end.saturating_add(2)) == Some(&SIGNATURE_HEADER[..])
        && let Some((envelope, rest)) = bytes.split_at_checked(end + 2 + SIGNATURE_BYTES)
    {
        envelopes.push(envelope);
        bytes = rest;
    }
    envelopes
}

/// A length as protobuf writes it, and where it ends.
fn length_prefix(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut rest = bytes.get(at..)?;
    let length = strict::varint(&mut rest).ok()?;
    Some((usize::try_from(length).ok()?, bytes.len() - rest.len()))
}
