//! References of rows to envelopes in the blob files.
//!
//! Entry type: [`BlobRef`]. The rule it keeps: an envelope that is missing or damaged is never returned as whole.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use rusqlite::{Row, ffi};

use super::files::{MAX_ENVELOPE_BYTES, path_of};
use crate::model::Id;
use crate::wire::envelope::id_in_room;

/// Maximum size of an envelope that is stored in its row; larger ones go into the blob store.
pub(in crate::store) const MAX_INLINE_BYTES: usize = 64 << 10;

/// Position of an envelope in the blob files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct BlobRef {
    pub(in crate::store) file: i64,
    pub(in crate::store) at: i64,
    pub(in crate::store) bytes: i64,
}

impl BlobRef {
    /// Reads a reference from three columns of a row, from `column` on; none if the envelope is in the row.
    pub(in crate::store) fn of(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<BlobRef>> {
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
    pub(in crate::store) fn len(self) -> usize {
        usize::try_from(self.bytes).unwrap_or(0)
    }
}

/// Returns the envelope of a row of the log `log`: `inline`, or the one at `place`; empty if its blob is missing.
pub(in crate::store) fn envelope(
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
pub(in crate::store) fn whole_envelope(
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

/// Converts an I/O error into the corresponding error of SQLite.
pub(in crate::store) fn failure(error: &io::Error) -> rusqlite::Error {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ffi::SQLITE_FULL,
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => ffi::SQLITE_READONLY,
        _ => ffi::SQLITE_IOERR,
    };
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(error.to_string()))
}
