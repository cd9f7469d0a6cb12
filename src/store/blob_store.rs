//! Blob store: envelopes over 64 KiB, in append-only files beside the log, because SQLite would write each of them
//! twice (WAL and file).
//!
//! Entry types: [`BlobStore`], the files open for writing, and [`BlobRef`], the position of an envelope. The rules it
//! keeps: an envelope is written before the row that refers to it; a file is only appended to, by one process, and
//! removed when no row refers to it; after a power cut the rows are removed whose envelope did not reach the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Row, ffi, params};

use super::schema;
use crate::model::Id;
use crate::wire::envelope::id_in_room;

/// Maximum size of an envelope that is stored in its row; larger ones go into the blob store.
pub(super) const MAX_INLINE_BYTES: usize = 64 << 10;

/// Maximum size of a blob file in bytes. It is the unit in which retention frees space, and the amount that is
/// verified after a power cut. Smaller logs use an eighth of their bound.
const MAX_FILE_BYTES: u64 = 32 << 20;

/// Returns the maximum size of a blob file in a log with this bound.
pub(super) fn max_file_bytes(keep_bytes: u64) -> u64 {
    MAX_FILE_BYTES.min(keep_bytes / 8)
}

/// Maximum size of an envelope in bytes; a reference to more is damaged.
const MAX_ENVELOPE_BYTES: u64 = 16 << 20;

/// Suffix of the names of blob files, before their number.
const SUFFIX: &str = "-large-";

/// Position of an envelope in the blob files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlobRef {
    pub(super) file: i64,
    pub(super) at: i64,
    pub(super) bytes: i64,
}

/// A finished blob file that is to be synced to the disk in the background.
pub(super) type Unsynced = Arc<Mutex<Option<File>>>;

/// The blob files of an open log.
#[derive(Debug)]
pub(super) struct BlobStore {
    log: PathBuf,
    max_file_bytes: u64,
    /// Size of each file in bytes.
    files: BTreeMap<i64, u64>,
    /// Number of the next file. Numbers are never reused: a reader may look for the file of a row that has just been
    /// removed.
    next: i64,
    /// File that envelopes are appended to.
    current: Option<(i64, File)>,
    /// Whether an envelope was appended and not synced.
    is_dirty: bool,
    /// Whether a file was created and its name not synced.
    is_new: bool,
    unsynced: Unsynced,
    /// State at the last commit: the number of the next file, and number and size of the current one.
    committed: (i64, Option<(i64, u64)>),
    /// Acts like a full disk.
    #[cfg(test)]
    pub(super) is_full: bool,
}

impl BlobRef {
    /// Reads a reference from three columns of a row, from `column` on; none if the envelope is in the row.
    pub(super) fn of(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<BlobRef>> {
        let Some(file) = row.get::<_, Option<i64>>(column)? else {
            return Ok(None);
        };
        Ok(Some(BlobRef {
            file,
            at: row.get(column + 1)?,
            bytes: row.get(column + 2)?,
        }))
    }

    /// Returns the length of the envelope.
    pub(super) fn len(self) -> usize {
        usize::try_from(self.bytes).unwrap_or(0)
    }
}

/// Returns the envelope of a row of the log `log`: `inline`, or the one at `place`; empty if its blob is missing.
pub(super) fn envelope(
    log: &Path,
    inline: Vec<u8>,
    place: Option<BlobRef>,
) -> rusqlite::Result<Vec<u8>> {
    let Some(place) = place else {
        return Ok(inline);
    };
    match read(log, place) {
        Ok(envelope) => Ok(envelope),
        // Retention has just removed it, or it is lost.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Vec::new()),
        Err(error) => Err(failure(&error)),
    }
}

/// Returns the envelope of a row as [`envelope`] does; none if it does not match its id in the room.
pub(super) fn whole_envelope(
    log: &Path,
    inline: Vec<u8>,
    place: Option<BlobRef>,
    room: &str,
    id: &Id,
) -> rusqlite::Result<Option<Vec<u8>>> {
    let envelope = envelope(log, inline, place)?;
    let is_whole = place.is_none() || id_in_room(room, &envelope) == *id;
    Ok(is_whole.then_some(envelope))
}

fn read(log: &Path, place: BlobRef) -> io::Result<Vec<u8>> {
    let bytes = u64::try_from(place.bytes).unwrap_or(u64::MAX);
    let at = u64::try_from(place.at).unwrap_or(u64::MAX);
    if bytes > MAX_ENVELOPE_BYTES {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut file = File::open(path_of(log, place.file))?;
    file.seek(SeekFrom::Start(at))?;
    let mut envelope = Vec::with_capacity(bytes as usize);
    file.take(bytes).read_to_end(&mut envelope)?;
    match envelope.len() as u64 == bytes {
        true => Ok(envelope),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn path_of(log: &Path, file: i64) -> PathBuf {
    schema::beside(log, &format!("{SUFFIX}{file}"))
}

/// Syncs the names of the blob files to the disk.
fn sync_names(log: &Path) -> io::Result<()> {
    // Other systems neither open a directory nor need this.
    match cfg!(unix) {
        true => File::open(schema::directory_of(log))?.sync_all(),
        false => Ok(()),
    }
}

/// Lists the blob files of the log `log`: number and size.
fn files_of(log: &Path) -> io::Result<BTreeMap<i64, u64>> {
    let name = log.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!("{name}{SUFFIX}");
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(schema::directory_of(log))? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_string_lossy().strip_prefix(&prefix).map(str::parse);
        if let Some(Ok(number @ 1..)) = number {
            files.insert(number, entry.metadata()?.len());
        }
    }
    Ok(files)
}

/// A range of a blob file that no readable row refers to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    file: i64,
    at: u64,
    bytes: u64,
}

impl Gap {
    /// Reads the range; of a file that is larger than a blob file can be, at most that size.
    pub(super) fn read(self, log: &Path) -> io::Result<Vec<u8>> {
        let mut file = File::open(path_of(log, self.file))?;
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        file.take(self.bytes.min(MAX_FILE_BYTES + MAX_ENVELOPE_BYTES))
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Returns the ranges in the blob files of the log `log` between these references: for each file, offset and length.
pub(super) fn gaps(log: &Path, places: &BTreeMap<i64, BTreeMap<i64, i64>>) -> io::Result<Vec<Gap>> {
    let mut gaps = Vec::new();
    for (file, length) in files_of(log)? {
        let mut at = 0;
        for (begin, bytes) in places.get(&file).into_iter().flatten() {
            let begin = u64::try_from(*begin).unwrap_or(0);
            if begin > at {
                let bytes = begin - at;
                gaps.push(Gap { file, at, bytes });
            }
            at = at.max(begin.saturating_add(u64::try_from(*bytes).unwrap_or(0)));
        }
        if length > at {
            let bytes = length - at;
            gaps.push(Gap { file, at, bytes });
        }
    }
    Ok(gaps)
}

/// Renames the blob files of the log `from` to those of the log `to`.
pub(super) fn rename_all(from: &Path, to: &Path) -> io::Result<()> {
    for file in files_of(from)?.into_keys() {
        fs::rename(path_of(from, file), path_of(to, file))?;
    }
    Ok(())
}

/// Removes the blob files of the log `log`.
pub(super) fn remove_all(log: &Path) -> io::Result<()> {
    for file in files_of(log)?.into_keys() {
        fs::remove_file(path_of(log, file))?;
    }
    Ok(())
}

impl BlobStore {
    /// Opens the blob files of the log `log`, whose bound is `keep_bytes`. Recovery after a power cut: removes the
    /// rows in `conn` whose envelope is lost, and the files that no row refers to.
    pub(super) fn open(
        log: &Path,
        keep_bytes: u64,
        conn: &Connection,
    ) -> rusqlite::Result<BlobStore> {
        let mut files = files_of(log).map_err(|error| failure(&error))?;
        let is_fresh = !conn.prepare("SELECT 1 FROM room")?.exists([])?;
        if is_fresh && !files.is_empty() {
            // They belong to another log, which was taken away: this one removes only its own files.
            let aside = schema::beside(log, ".orphaned");
            tracing::warn!(files = files.len(), to = %aside.display(), "large messages without their log are set aside");
            rename_all(log, &aside).map_err(|error| failure(&error))?;
            files.clear();
        }
        let referenced = referenced(conn)?;
        let last = files.keys().chain(&referenced).max();
        let mut blobs = BlobStore {
            log: log.to_owned(),
            max_file_bytes: max_file_bytes(keep_bytes),
            next: last.copied().unwrap_or(0).max(0) + 1,
            files,
            current: None,
            is_dirty: false,
            is_new: false,
            unsynced: Unsynced::default(),
            committed: (0, None),
            #[cfg(test)]
            is_full: false,
        };
        let lost = blobs.remove_lost_rows(conn)?;
        if lost > 0 {
            tracing::warn!(
                lost,
                "large messages had not reached the disk: neighbours bring them again"
            );
        }
        blobs.remove_unreferenced(conn)?;
        blobs.commit();
        Ok(blobs)
    }

    /// Takes over from `old` after the log was recreated: keeps its file numbers unused and its background sync
    /// running.
    pub(super) fn replacing(mut self, old: &BlobStore) -> BlobStore {
        self.next = self.next.max(old.next);
        self.unsynced = old.unsynced();
        self.commit();
        self
    }

    /// Records that the appended envelopes are committed.
    pub(super) fn commit(&mut self) {
        let current = self.current.as_ref().map(|(number, _)| *number);
        let bytes = |number| self.files.get(&number).copied().unwrap_or(0);
        self.committed = (self.next, current.map(|number| (number, bytes(number))));
    }

    /// Removes the envelopes appended since the last commit.
    pub(super) fn roll_back(&mut self) {
        let (next, added_to) = self.committed;
        for (number, _) in self.files.split_off(&next) {
            self.current.take_if(|(current, _)| *current == number);
            if let Err(error) = fs::remove_file(path_of(&self.log, number)) {
                tracing::debug!(%error, number, "a file of the log stays until the next start");
            }
        }
        let Some((number, bytes)) = added_to else {
            return;
        };
        // A file that is no longer appended to may stay longer than needed.
        let cut = match &mut self.current {
            Some((current, file)) if *current == number => file
                .set_len(bytes)
                .and_then(|()| file.seek(SeekFrom::Start(bytes)).map(|_| ())),
            _ => OpenOptions::new()
                .write(true)
                .open(path_of(&self.log, number))
                .and_then(|file| file.set_len(bytes)),
        };
        match cut {
            Ok(()) => {
                self.files.insert(number, bytes);
            }
            Err(error) => {
                tracing::debug!(%error, number, "a file of the log is longer than it need be");
                self.current.take_if(|(current, _)| *current == number);
            }
        }
    }

    /// Returns the file with the most unreferenced bytes, if all files together have more of them than [`HOLES_DIVISOR`]
    /// and two files allow.
    pub(super) fn sparsest_file(&self, conn: &Connection) -> rusqlite::Result<Option<i64>> {
        let live = live_by_file(conn)?;
        let most = live.values().sum::<u64>() / HOLES_DIVISOR;
        let holes = |(file, bytes): (&i64, &u64)| {
            bytes.saturating_sub(live.get(file).copied().unwrap_or(0))
        };
        if self.files.iter().map(holes).sum::<u64>() <= most + 2 * self.max_file_bytes {
            return Ok(None);
        }
        let current = self.current.as_ref().map(|(number, _)| *number);
        let others = self
            .files
            .iter()
            .filter(|(file, bytes)| Some(**file) != current && holes((*file, *bytes)) > 0);
        Ok(others
            .max_by_key(|file| holes(*file))
            .map(|(file, _)| *file))
    }

    /// Compacts `file`: copies the envelopes that rows refer to to the current file, in the open transaction.
    pub(super) fn compact(&mut self, conn: &Connection, file: i64) -> rusqlite::Result<()> {
        for (n, id, room, place) in rows_of(conn, file)? {
            let Some(envelope) = whole_envelope(&self.log, Vec::new(), place, &room, &id)? else {
                // The envelope is damaged: neighbours deliver it again.
                conn.execute("DELETE FROM batch WHERE n = ?1", [n])?;
                continue;
            };
            let place = self.add(&envelope)?;
            conn.prepare_cached("UPDATE batch SET large_file = ?2, large_at = ?3 WHERE n = ?1")?
                .execute(params![n, place.file, place.at])?;
        }
        Ok(())
    }

    /// Returns the file that is to be synced in the background.
    pub(super) fn unsynced(&self) -> Unsynced {
        self.unsynced.clone()
    }

    /// Returns whether a file is to be synced in the background.
    pub(super) fn has_unsynced(&self) -> bool {
        // If it is locked, the background is syncing it.
        self.unsynced.try_lock().is_ok_and(|file| file.is_some())
    }

    fn finished(&self) -> std::sync::MutexGuard<'_, Option<File>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an envelope and returns its position.
    pub(super) fn add(&mut self, envelope: &[u8]) -> rusqlite::Result<BlobRef> {
        self.add_to_a_file(envelope)
            .map_err(|error| failure(&error))
    }

    fn add_to_a_file(&mut self, envelope: &[u8]) -> io::Result<BlobRef> {
        let current = self.current.take_if(|(number, _)| {
            let bytes = self.files.get(number).copied().unwrap_or(0);
            bytes + envelope.len() as u64 > self.max_file_bytes
        });
        if let Some((_, file)) = current {
            // At most two files may be unsynced: sync the one before.
            let mut finished = self.finished();
            let before = finished.as_ref().map_or(Ok(()), File::sync_data);
            *finished = Some(file);
            drop(finished);
            before?;
        }
        let (number, file) = match &mut self.current {
            Some(current) => current,
            None => {
                let number = self.next;
                let mut options = OpenOptions::new();
                options.write(true).create_new(true);
                #[cfg(unix)]
                std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
                let file = options.open(path_of(&self.log, number))?;
                self.files.insert(number, 0);
                self.next += 1;
                self.is_new = true;
                self.current.insert((number, file))
            }
        };
        let end = self.files.entry(*number).or_insert(0);
        let place = BlobRef {
            file: *number,
            at: *end as i64,
            bytes: envelope.len() as i64,
        };
        let written = file.write_all(envelope);
        #[cfg(test)]
        let written = match self.is_full {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => written,
        };
        if let Err(error) = written {
            // Cuts off the part that was written.
            let back = file
                .set_len(*end)
                .and_then(|()| file.seek(SeekFrom::Start(*end)));
            if back.is_err() {
                self.current = None;
            }
            return Err(error);
        }
        *end += envelope.len() as u64;
        self.is_dirty = true;
        Ok(place)
    }

    /// Syncs the appended envelopes to the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.is_dirty {
            let mut finished = self.finished();
            let current = self.current.as_ref().map(|(_, file)| file);
            for file in finished.iter().chain(current) {
                file.sync_data()?;
            }
            *finished = None;
            drop(finished);
            self.is_dirty = false;
        }
        if self.is_new {
            sync_names(&self.log)?;
            self.is_new = false;
        }
        Ok(())
    }

    /// Removes the files that no row refers to, except the current one.
    pub(super) fn remove_unreferenced(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let referenced = referenced(conn)?;
        let current = self.current.as_ref().map(|(number, _)| *number);
        let unreferenced =
            |number: &i64, _: &mut u64| !referenced.contains(number) && Some(*number) != current;
        for (number, _) in self.files.extract_if(.., unreferenced) {
            // The next start tries again.
            if let Err(error) = fs::remove_file(path_of(&self.log, number)) {
                tracing::warn!(%error, number, "a file of the log that is not needed any more stays");
            }
        }
        Ok(())
    }

    /// Removes the rows whose blob is lost, and verifies the last two files, which a power cut may have damaged.
    /// Returns the number of rows removed.
    fn remove_lost_rows(&self, conn: &Connection) -> rusqlite::Result<usize> {
        let referenced = referenced(conn)?;
        let mut lost = 0;
        for gone in referenced
            .iter()
            .filter(|file| !self.files.contains_key(file))
        {
            lost += conn.execute("DELETE FROM batch WHERE large_file = ?1", [gone])?;
        }
        for file in self.files.keys().rev().take(2) {
            for (n, id, room, place) in rows_of(conn, *file)? {
                if whole_envelope(&self.log, Vec::new(), place, &room, &id)?.is_none() {
                    lost += conn.execute("DELETE FROM batch WHERE n = ?1", params![n])?;
                }
            }
            // These files are complete but perhaps not synced yet.
            let path = path_of(&self.log, *file);
            let synced = OpenOptions::new().write(true).open(path);
            let synced = synced.and_then(|file| file.sync_data());
            synced.map_err(|error| failure(&error))?;
        }
        Ok(lost)
    }
}

/// Returns the numbers of the files that rows refer to.
fn referenced(conn: &Connection) -> rusqlite::Result<BTreeSet<i64>> {
    Ok(live_by_file(conn)?.into_keys().collect())
}

/// Returns the referenced bytes of each file.
fn live_by_file(conn: &Connection) -> rusqlite::Result<BTreeMap<i64, u64>> {
    conn.prepare_cached(
        "SELECT large_file, sum(large_bytes) FROM batch WHERE large_file IS NOT NULL GROUP BY large_file",
    )?
    .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?
    .collect()
}

/// Divisor of the referenced bytes that gives the maximum of unreferenced ones.
const HOLES_DIVISOR: u64 = 4;

/// Returns the bytes charged for blob files, except for two incomplete ones: the referenced bytes and the unreferenced
/// ones that compaction leaves.
pub(super) fn used_bytes(conn: &Connection) -> rusqlite::Result<u64> {
    let live: u64 = live_by_file(conn)?.values().sum();
    Ok(live + live / HOLES_DIVISOR)
}

/// A row that refers to a file: row number, id, room and position.
type Reference = (i64, Id, String, Option<BlobRef>);

/// Returns the rows that refer to `file`.
fn rows_of(conn: &Connection, file: i64) -> rusqlite::Result<Vec<Reference>> {
    conn.prepare_cached(
        "SELECT batch.n, id, room.name, large_file, large_at, large_bytes
         FROM batch JOIN room ON room.n = batch.room WHERE large_file = ?1",
    )?
    .query_map([file], |row| {
        let place = BlobRef::of(row, 3)?;
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, place))
    })?
    .collect()
}

/// Converts an I/O error into the corresponding error of SQLite.
pub(super) fn failure(error: &io::Error) -> rusqlite::Error {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ffi::SQLITE_FULL,
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => ffi::SQLITE_READONLY,
        _ => ffi::SQLITE_IOERR,
    };
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(error.to_string()))
}
