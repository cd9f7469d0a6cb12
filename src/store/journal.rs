//! Write-ahead journal: acknowledged batches that are not committed to the log's file yet, in a plain file beside it.
//!
//! Entry type: [`Journal`]. The rule it keeps: a batch that [`Journal::append`] accepted can be recovered after the
//! end of the process, however it ends, until [`Journal::clear`] is called because the log's file has it.
//!
//! A small batch alone costs SQLite four pages; here it costs one write of its own length, and a flush writes the
//! pages once for many. Each frame is a length, a round number that all frames since the last clearing share, a
//! checksum, and the batch. Recovery stops at the first frame that does not match, which is the end of the last write
//! or the beginning of older frames.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};

use super::paths;
use crate::model::Record;
use crate::wire::envelope::id_in_room;

/// Maximum size of the journal in bytes. It also bounds the work of recovery after a crash.
pub(super) const MAX_JOURNAL_BYTES: usize = 256 << 10;

/// Bytes of a frame's header: length, round, checksum.
const HEAD: usize = 4 + 8 + 8;

/// The journal of an open log.
#[derive(Debug)]
pub(super) struct Journal {
    /// The open file and its path; none for a log in memory.
    file: Option<(File, PathBuf)>,
    round: u64,
    bytes: usize,
    /// Whether the last write may be incomplete: recovery would not reach frames after it.
    is_torn: bool,
}

/// A batch and the time at which it was stored, in Unix milliseconds.
pub(super) type JournalEntry = (u64, Record);

/// Encoding of a [`Record`] in a frame. Recovery recomputes the id from the envelope.
#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    #[prost(uint64, tag = "1")]
    stored_at_ms: u64,
    #[prost(string, tag = "2")]
    room: String,
    #[prost(bytes = "bytes", tag = "3")]
    author: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    instance: Bytes,
    #[prost(uint64, tag = "5")]
    first_seq: u64,
    #[prost(uint64, tag = "6")]
    count: u64,
    #[prost(uint64, tag = "7")]
    sent_at_ms: u64,
    #[prost(bytes = "bytes", tag = "8")]
    envelope: Bytes,
    #[prost(bytes = "bytes", tag = "9")]
    brought_by: Bytes,
}

/// Returns the path of the journal of the log at `log`.
pub(super) fn path_of(log: &Path) -> PathBuf {
    paths::beside(log, "-tail")
}

/// Reads the entries that an earlier process left at `path`.
pub(super) fn read(path: &Path) -> io::Result<Vec<JournalEntry>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file
            .take(MAX_JOURNAL_BYTES as u64)
            .read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    Ok(parse(&bytes))
}

fn parse(mut rest: &[u8]) -> Vec<JournalEntry> {
    let mut entries = Vec::new();
    let mut first = None;
    while let Some((round, entry, after)) = split(rest) {
        if *first.get_or_insert(round) != round {
            break;
        }
        let Some(one) = Entry::decode(entry)
            .ok()
            .and_then(Entry::into_journal_entry)
        else {
            break;
        };
        entries.push(one);
        rest = after;
    }
    entries
}

/// Splits off the first frame if it is complete. Returns its round, its entry, and the bytes after it.
fn split(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (round, rest) = rest.split_first_chunk::<8>()?;
    let (sum, rest) = rest.split_first_chunk::<8>()?;
    let (entry, after) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let round = u64::from_le_bytes(*round);
    (*sum == checksum(round, entry)).then_some((round, entry, after))
}

fn checksum(round: u64, entry: &[u8]) -> [u8; 8] {
    let sum = Sha256::new()
        .chain_update(round.to_le_bytes())
        .chain_update(entry)
        .finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&sum[..8]);
    first
}

impl Entry {
    fn into_journal_entry(self) -> Option<JournalEntry> {
        let record = Record {
            id: id_in_room(&self.room, &self.envelope),
            room: self.room.parse().ok()?,
            author: self.author,
            instance: self.instance[..].try_into().ok()?,
            first_seq: self.first_seq,
            count: self.count,
            sent_at_ms: self.sent_at_ms,
            bytes: self.envelope,
            brought_by: self.brought_by,
        };
        Some((self.stored_at_ms, record))
    }
}

impl Journal {
    /// Creates an empty journal at `path` that only its owner may read, and replaces the file that is there.
    pub(super) fn create(path: PathBuf) -> io::Result<Journal> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Journal {
            file: Some((options.open(&path)?, path)),
            ..Journal::in_memory()
        })
    }

    /// Creates a journal without a file, which only counts bytes.
    pub(super) fn in_memory() -> Journal {
        Journal {
            file: None,
            round: rand::random(),
            bytes: 0,
            is_torn: false,
        }
    }

    /// Appends `records`, all or none. Returns false if they do not fit. After an error it accepts nothing until it is
    /// cleared.
    pub(super) fn append(&mut self, now_ms: u64, records: &[Record]) -> io::Result<bool> {
        if self.is_torn {
            return Ok(false);
        }
        let mut frames = Vec::with_capacity(HEAD + 1024);
        for record in records {
            let entry = Entry {
                stored_at_ms: now_ms,
                room: record.room.as_str().to_owned(),
                author: record.author.clone(),
                instance: Bytes::copy_from_slice(&record.instance),
                first_seq: record.first_seq,
                count: record.count,
                sent_at_ms: record.sent_at_ms,
                envelope: record.bytes.clone(),
                brought_by: record.brought_by.clone(),
            };
            let entry = entry.encode_to_vec();
            if self.bytes + frames.len() + HEAD + entry.len() > MAX_JOURNAL_BYTES {
                return Ok(false);
            }
            frames.extend_from_slice(&(entry.len() as u32).to_le_bytes());
            frames.extend_from_slice(&self.round.to_le_bytes());
            frames.extend_from_slice(&checksum(self.round, &entry));
            frames.extend_from_slice(&entry);
        }
        if let Some((file, _)) = &mut self.file {
            self.is_torn = true;
            if is_removed(file)? {
                return Err(io::Error::new(io::ErrorKind::NotFound, "it was removed"));
            }
            file.write_all(&frames)?;
            self.is_torn = false;
        }
        self.bytes += frames.len();
        Ok(true)
    }

    /// Starts a new round, because the log's file has all entries. The next frames overwrite the old ones: truncating
    /// would make the file system allocate space again for each round. Until then a crash replays the old frames,
    /// whose batches the log already holds.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        if self.bytes > 0 || self.is_torn {
            if let Some((file, _)) = &mut self.file {
                file.seek(SeekFrom::Start(0))?;
            }
            self.round = rand::random();
            self.bytes = 0;
            self.is_torn = false;
        }
        Ok(())
    }

    /// Removes the file, because the log is closed and holds all entries.
    pub(super) fn remove(self) {
        // If removing fails, the next start replays it once more.
        let _ = self.file.map(|(_, path)| fs::remove_file(path));
    }
}

/// Returns whether the file has lost its name, so that nobody could read what is written to it.
#[cfg(unix)]
fn is_removed(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(file.metadata()?.nlink() == 0)
}

#[cfg(not(unix))]
fn is_removed(_: &File) -> io::Result<bool> {
    Ok(false)
}
