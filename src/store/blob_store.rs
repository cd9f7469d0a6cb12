//! Blob store: envelopes over 64 KiB, in append-only files beside the log, because SQLite would write each of them
//! twice (WAL and file).
//!
//! Entry types: [`BlobStore`], the files open for writing, and [`BlobRef`], the position of an envelope. The rules it
//! keeps: an envelope is written before the row that refers to it; a file is only appended to, by one process, and
//! removed when no row refers to it; after a power cut the rows are removed whose envelope did not reach the disk.

mod blob_ref;
mod files;
mod rows;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, params};

pub(super) use self::blob_ref::{BlobRef, MAX_INLINE_BYTES, envelope, failure, whole_envelope};
use self::files::{MAX_FILE_BYTES, files_of, path_of, sync_names};
pub(super) use self::files::{gaps, remove_all, rename_all};
pub(super) use self::rows::used_bytes;
use self::rows::{HOLES_DIVISOR, live_by_file, referenced, rows_of};
use super::paths;

/// Returns the maximum size of a blob file in a log with this bound.
pub(super) fn max_file_bytes(keep_bytes: u64) -> u64 {
    MAX_FILE_BYTES.min(keep_bytes / 8)
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
            let aside = paths::beside(log, ".orphaned");
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
