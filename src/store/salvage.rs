//! Reads a damaged SQLite file page by page, without SQLite, which gives up a whole table if its root page is damaged.
//!
//! Entry point: [`Salvage::open`]. The rules it keeps: each page is parsed alone, so that a damaged one affects only
//! its own content; the result is untrusted, and its caller verifies every signature. The format is that of
//! <https://sqlite.org/fileformat2.html>, sections 1.5, 1.6, 2 and 4.

mod envelopes;
mod format;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

pub(super) use self::envelopes::envelopes;
use self::format::{
    FILE_HEADER, FRAME_HEADER, INDEX_INNER, INDEX_LEAF, TABLE_LEAF, WAL_HEADER, columns,
    is_tree_page, u16_at, u32_at, varint,
};
use super::blob_store::BlobRef;
use super::paths;
use crate::model::Id;

/// Maximum size of a row in bytes: an inline envelope and the other columns.
const MAX_PAYLOAD: usize = 128 << 10;
/// Number of columns of the table `batch`, and the positions of two of them.
const BATCH_COLUMNS: usize = 16;
const ID_COLUMN: usize = 1;
const ENVELOPE_COLUMN: usize = 12;
/// Page size of a log with a damaged header.
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
            wal: File::open(paths::beside(path, "-wal")).ok(),
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
