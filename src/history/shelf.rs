//! Large envelopes, in plain files beside the log: SQLite would write each of them twice.
//!
//! Entry types: [`Shelf`], with which the log writes, and [`Place`], where an envelope lies. The rules it keeps: an
//! envelope is there before the row that names it; a file is only ever added to, by one process, and goes when no
//! row names it any more; after a power cut a row whose envelope did not reach the disk goes as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Row, ffi, params};
use sha2::{Digest, Sha256};

use super::record::Id;
use super::schema;

/// Envelopes of more bytes than this lie here.
pub(super) const LARGE: usize = 64 << 10;

/// A file that has so many bytes is not added to any more: it is the least that pruning can give back, and what is
/// looked at after a power cut. Of a log that keeps little, an eighth of that.
const FILE_BYTES: u64 = 32 << 20;

/// An envelope that claims more than this is none of ours.
const ENVELOPE_MOST: u64 = 16 << 20;

/// What the names of the files end with, before their number.
const SUFFIX: &str = "-large-";

/// Where an envelope lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: i64,
    pub(super) at: i64,
    pub(super) bytes: i64,
}

/// A file that is not added to any more and did not reach the disk yet.
pub(super) type Unsynced = Arc<Mutex<Option<File>>>;

/// The files, open for writing.
#[derive(Debug)]
pub(super) struct Shelf {
    log: PathBuf,
    file_bytes: u64,
    /// The bytes of each.
    files: BTreeMap<i64, u64>,
    /// That which is added to.
    current: Option<(i64, File)>,
    /// Whether something was added that did not reach the disk.
    is_dirty: bool,
    /// Whether a file was made whose name did not.
    is_new: bool,
    unsynced: Unsynced,
    /// Nothing more fits on the disk.
    #[cfg(test)]
    pub(super) is_full: bool,
}

impl Place {
    /// Out of the three columns from `column` on; none when the envelope is in the row.
    pub(super) fn of(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Place>> {
        let Some(file) = row.get::<_, Option<i64>>(column)? else {
            return Ok(None);
        };
        Ok(Some(Place {
            file,
            at: row.get(column + 1)?,
            bytes: row.get(column + 2)?,
        }))
    }

    /// How long the envelope is.
    pub(super) fn len(self) -> usize {
        usize::try_from(self.bytes).unwrap_or(0)
    }
}

/// The envelope of a row: `inline`, or what lies at its place beside the log `log`; empty when that is not there.
pub(super) fn envelope(
    log: &Path,
    inline: Vec<u8>,
    place: Option<Place>,
) -> rusqlite::Result<Vec<u8>> {
    let Some(place) = place else {
        return Ok(inline);
    };
    match read(log, place) {
        Ok(envelope) => Ok(envelope),
        // Pruned a moment ago, or lost.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Vec::new()),
        Err(error) => Err(failure(&error)),
    }
}

/// The same, if it is what `id` says.
pub(super) fn whole_envelope(
    log: &Path,
    inline: Vec<u8>,
    place: Option<Place>,
    id: &Id,
) -> rusqlite::Result<Option<Vec<u8>>> {
    let envelope = envelope(log, inline, place)?;
    let is_whole = place.is_none() || Sha256::digest(&envelope)[..] == *id;
    Ok(is_whole.then_some(envelope))
}

fn read(log: &Path, place: Place) -> io::Result<Vec<u8>> {
    let bytes = u64::try_from(place.bytes).unwrap_or(u64::MAX);
    let at = u64::try_from(place.at).unwrap_or(u64::MAX);
    if bytes > ENVELOPE_MOST {
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

/// The directory in which they lie.
fn dir_of(log: &Path) -> &Path {
    let dir = log.parent().filter(|dir| !dir.as_os_str().is_empty());
    dir.unwrap_or(Path::new("."))
}

/// Brings their names to the disk.
fn sync_names(log: &Path) -> io::Result<()> {
    // Elsewhere a directory cannot be opened, and need not be.
    match cfg!(unix) {
        true => File::open(dir_of(log))?.sync_all(),
        false => Ok(()),
    }
}

/// The files beside the log `log`, by number.
fn files_of(log: &Path) -> io::Result<BTreeMap<i64, u64>> {
    let name = log.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!("{name}{SUFFIX}");
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir_of(log))? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_string_lossy().strip_prefix(&prefix).map(str::parse);
        if let Some(Ok(number @ 1..)) = number {
            files.insert(number, entry.metadata()?.len());
        }
    }
    Ok(files)
}

/// The files of the log `from` become those of the log `to`.
pub(super) fn rename_all(from: &Path, to: &Path) -> io::Result<()> {
    for file in files_of(from)?.into_keys() {
        fs::rename(path_of(from, file), path_of(to, file))?;
    }
    Ok(())
}

/// Removes the files of the log `log`.
pub(super) fn remove_all(log: &Path) -> io::Result<()> {
    for file in files_of(log)?.into_keys() {
        fs::remove_file(path_of(log, file))?;
    }
    Ok(())
}

impl Shelf {
    /// The files of the log `log`, which keeps so many bytes. What a power cut took is no more in the rows of
    /// `conn`, and what no row names is removed.
    pub(super) fn open(log: &Path, keep_bytes: u64, conn: &Connection) -> rusqlite::Result<Shelf> {
        let files = files_of(log).map_err(|error| failure(&error))?;
        let mut shelf = Shelf {
            log: log.to_owned(),
            file_bytes: FILE_BYTES.min(keep_bytes / 8),
            files,
            current: None,
            is_dirty: false,
            is_new: false,
            unsynced: Unsynced::default(),
            #[cfg(test)]
            is_full: false,
        };
        let lost = shelf.forget_lost(conn)?;
        if lost > 0 {
            tracing::warn!(
                lost,
                "large messages had not reached the disk: neighbours bring them again"
            );
        }
        shelf.clear_out(conn)?;
        Ok(shelf)
    }

    /// The bytes of the files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.values().sum()
    }

    /// What is to be brought to the disk in the background.
    pub(super) fn unsynced(&self) -> Unsynced {
        self.unsynced.clone()
    }

    /// Whether there is something for the background.
    pub(super) fn has_unsynced(&self) -> bool {
        self.finished().is_some()
    }

    fn finished(&self) -> std::sync::MutexGuard<'_, Option<File>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an envelope.
    pub(super) fn add(&mut self, envelope: &[u8]) -> rusqlite::Result<Place> {
        self.add_to_a_file(envelope)
            .map_err(|error| failure(&error))
    }

    fn add_to_a_file(&mut self, envelope: &[u8]) -> io::Result<Place> {
        let current = self.current.take_if(|(number, _)| {
            let bytes = self.files.get(number).copied().unwrap_or(0);
            bytes + envelope.len() as u64 > self.file_bytes
        });
        if let Some((_, file)) = current {
            // Only two files may be on their way to the disk.
            let before = self.finished().replace(file);
            before.map_or(Ok(()), |before| before.sync_data())?;
        }
        let (number, file) = match &mut self.current {
            Some(current) => current,
            None => {
                let number = self.files.keys().next_back().map_or(1, |last| last + 1);
                let mut options = OpenOptions::new();
                options.write(true).create_new(true);
                #[cfg(unix)]
                std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
                let file = options.open(path_of(&self.log, number))?;
                self.files.insert(number, 0);
                self.is_new = true;
                self.current.insert((number, file))
            }
        };
        let end = self.files.entry(*number).or_insert(0);
        let place = Place {
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
            // What of it was written belongs to nobody.
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

    /// Brings what was added to the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.is_dirty {
            let finished = self.finished().take();
            let current = self.current.as_ref().map(|(_, file)| file);
            for file in finished.iter().chain(current) {
                file.sync_data()?;
            }
            self.is_dirty = false;
        }
        if self.is_new {
            sync_names(&self.log)?;
            self.is_new = false;
        }
        Ok(())
    }

    /// Removes the files that no row names, other than that which is added to.
    pub(super) fn clear_out(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let named = named(conn)?;
        let current = self.current.as_ref().map(|(number, _)| *number);
        let unnamed =
            |number: &i64, _: &mut u64| !named.contains(number) && Some(*number) != current;
        for (number, _) in self.files.extract_if(.., unnamed) {
            // What cannot be removed is tried again at the next start.
            if let Err(error) = fs::remove_file(path_of(&self.log, number)) {
                tracing::warn!(%error, number, "a file of the log that is not needed any more stays");
            }
        }
        Ok(())
    }

    /// Removes the rows whose envelopes are not there: of the last two files, what did not reach the disk.
    fn forget_lost(&self, conn: &Connection) -> rusqlite::Result<usize> {
        let named = named(conn)?;
        let mut lost = 0;
        for gone in named.iter().filter(|file| !self.files.contains_key(file)) {
            lost += conn.execute("DELETE FROM batch WHERE large_file = ?1", [gone])?;
        }
        for file in self.files.keys().rev().take(2) {
            let mut rows = conn.prepare(
                "SELECT n, id, large_file, large_at, large_bytes FROM batch WHERE large_file = ?1",
            )?;
            let rows = rows.query_map([file], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, Id>(1)?,
                    Place::of(row, 2)?,
                ))
            })?;
            for row in rows.collect::<rusqlite::Result<Vec<_>>>()? {
                let (n, id, place) = row;
                if whole_envelope(&self.log, Vec::new(), place, &id)?.is_none() {
                    lost += conn.execute("DELETE FROM batch WHERE n = ?1", params![n])?;
                }
            }
            // Of these it is not known whether they have reached the disk, only that they are there.
            let synced = File::open(path_of(&self.log, *file)).and_then(|file| file.sync_data());
            synced.map_err(|error| failure(&error))?;
        }
        Ok(lost)
    }
}

/// The files that rows name.
fn named(conn: &Connection) -> rusqlite::Result<BTreeSet<i64>> {
    conn.prepare_cached("SELECT DISTINCT large_file FROM batch WHERE large_file IS NOT NULL")?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// As SQLite would say it.
pub(super) fn failure(error: &io::Error) -> rusqlite::Error {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ffi::SQLITE_FULL,
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => ffi::SQLITE_READONLY,
        _ => ffi::SQLITE_IOERR,
    };
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(error.to_string()))
}
