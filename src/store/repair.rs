//! Repairs a damaged log: saves its readable batches into a new one.
//!
//! Entry points: [`repair`], [`network_in`]. The rules they keep: the damaged files are kept in any case; every saved
//! batch is verified again; lost batches are counted.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::blob_store::{self, BlobRef};
use super::error::LogError;
use super::journal;
use super::lock::Lock;
use super::log::Log;
use super::paths::{self, FILE_NAME};
use super::retention_policy::RetentionPolicy;
use super::salvage::{Found, Salvage, envelopes};
use super::schema;
use crate::identity::NetworkId;
use crate::model::{Id, Verified};

/// Number of batches stored in one transaction.
const MAX_BATCHES_AT_ONCE: usize = 1000;

/// Maximum number of lost ids that are searched for in the blob files; further ones are only counted.
const MAX_SOUGHT: usize = 1 << 20;

/// Report of [`repair`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// Number of batches saved.
    pub saved: u64,
    /// Number of batches that were readable and did not verify.
    pub refused: u64,
    /// Number of batches that the log is known to have held and that could not be saved.
    pub lost: u64,
    /// Whether `lost` is complete: false if so much is damaged that more may have been there.
    pub is_lost_known: bool,
    /// New path of the damaged file.
    pub kept: PathBuf,
}

impl Repaired {
    /// Returns whether nothing was lost.
    pub fn is_whole(&self) -> bool {
        self.lost == 0 && self.refused == 0 && self.is_lost_known
    }
}

/// Returns the network that the log in `dir` belongs to, of any schema; none if it has none or is unreadable.
pub fn network_in(dir: &Path) -> Option<NetworkId> {
    let path = dir.join(FILE_NAME);
    let said = schema::open_to_salvage(&path)
        .ok()
        .and_then(|(conn, _)| schema::network_of(&conn).ok());
    if let Some(said) = said {
        return said;
    }
    let mut network = None;
    let looked = Salvage::open(&path).ok()?.scan(|found| match found {
        Found::Network(id) => {
            network = Some(NetworkId::from_bytes(id));
            Err(())
        }
        _ => Ok(()),
    });
    // The scan stops early once the network is found.
    let _ = looked;
    network
}

/// Saves the readable batches of the log in `dir` into a new log, which takes its place; the old file is renamed to a
/// name with `now_ms`. `verify` returns the batch of an envelope, or an error.
///
/// # Errors
///
/// [`LogError::Newer`] and [`LogError::Foreign`] for a file of another version or program, and any failure to write
/// the new log.
pub fn repair<C: Verified, E>(
    dir: &Path,
    policy: RetentionPolicy,
    now_ms: u64,
    mut verify: impl FnMut(&[u8]) -> Result<C, E>,
) -> Result<Repaired, LogError> {
    let path = dir.join(FILE_NAME);
    let _lock = Lock::take(&path)?;
    fs::metadata(&path).map_err(|error| LogError::from_io(&path, error))?;
    let fresh = paths::beside(&path, ".repaired");
    for suffix in ["", "-wal", "-shm", "-tail"] {
        let _ = fs::remove_file(paths::beside(&fresh, suffix));
    }
    blob_store::remove_all(&fresh).map_err(|error| LogError::from_io(&fresh, error))?;
    let kept = paths::beside(&path, &format!(".damaged-{now_ms}"));
    let repaired = {
        let mut log = Log::open_file(&fresh, policy)?;
        if let Some(network) = network_in(dir) {
            log = log.of_network(network)?;
        }
        let mut repair = Repair {
            path: &path,
            log,
            now_ms,
            verify: Box::new(move |envelope| verify(envelope).ok()),
            group: Vec::new(),
            places: BTreeMap::new(),
            read: BTreeMap::new(),
            too_old: 0,
            repaired: Repaired {
                saved: 0,
                refused: 0,
                lost: 0,
                is_lost_known: false,
                kept,
            },
        };
        repair.save()?;
        repair.log.close()?;
        repair.repaired
    };
    put_in_place(&path, &fresh, &repaired.kept)?;
    Ok(repaired)
}

/// Renames the files of the log `path` to those of `kept`, and those of `fresh` to those of `path`.
fn put_in_place(path: &Path, fresh: &Path, kept: &Path) -> Result<(), LogError> {
    let moved = |from: &Path, to: &Path| match fs::rename(from, to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LogError::from_io(from, error))
        }
        _ => Ok(()),
    };
    let large_moved = |from: &Path, to: &Path| {
        blob_store::rename_all(from, to).map_err(|error| LogError::from_io(from, error))
    };
    for suffix in ["-tail", "-wal", "-shm", ""] {
        moved(&paths::beside(path, suffix), &paths::beside(kept, suffix))?;
    }
    large_moved(path, kept)?;
    large_moved(fresh, path)?;
    for suffix in ["-wal", "-shm", ""] {
        moved(&paths::beside(fresh, suffix), &paths::beside(path, suffix))?;
    }
    let _ = fs::remove_file(paths::beside(fresh, ".lock"));
    Ok(())
}

/// Returns the batch of an envelope if it verifies.
type Verify<'a, C> = Box<dyn FnMut(&[u8]) -> Option<C> + 'a>;

/// State of a repair: the new log, and the damaged one at `path`.
struct Repair<'a, C> {
    path: &'a Path,
    log: Log,
    now_ms: u64,
    verify: Verify<'a, C>,
    /// Verified batches that are not stored yet.
    group: Vec<C>,
    /// Known ranges of the blob files: for each file, offset and length.
    places: BTreeMap<i64, BTreeMap<i64, i64>>,
    /// Numbers of the rows that were read, as a bit set: 64 rows in each value.
    read: BTreeMap<i64, u64>,
    /// Number of batches over the maximum age.
    too_old: u64,
    repaired: Repaired,
}

impl<C: Verified> Repair<'_, C> {
    fn save(&mut self) -> Result<(), LogError> {
        let mut pages =
            Salvage::open(self.path).map_err(|error| LogError::from_io(self.path, error))?;
        // A newer or foreign file is not repaired.
        let is_walked = match schema::open_to_salvage(self.path) {
            Ok((conn, _)) => {
                self.save_by_number(&conn, pages.max_rows())?;
                is_walked(&conn)
            }
            Err(error @ (LogError::Newer { .. } | LogError::Foreign { .. })) => return Err(error),
            Err(_) => false,
        };
        pages.scan(|found| match found {
            Found::Row {
                n, envelope, place, ..
            } if !self.is_read(n) => {
                self.note(n, place);
                match blob_store::envelope(self.path, envelope, place) {
                    Ok(envelope) => self.take(&envelope),
                    Err(_) => Ok(()),
                }
            }
            _ => Ok(()),
        })?;
        for (_, record) in journal::read(&journal::path_of(self.path)).unwrap_or_default() {
            self.take(&record.bytes)?;
        }
        self.store()?;
        let mut lost = HashSet::new();
        let mut more = 0;
        pages.scan(|found| {
            match found {
                Found::Known(id) | Found::Row { id, .. } if !self.log.reader().holds(&id)? => {
                    match lost.len() < MAX_SOUGHT {
                        true => drop(lost.insert(id)),
                        false => more += 1,
                    }
                }
                _ => {}
            }
            Ok::<_, LogError>(())
        })?;
        self.save_large(&mut lost)?;
        self.repaired.lost = (lost.len() as u64 + more).saturating_sub(self.too_old);
        self.repaired.is_lost_known = is_walked || pages.check_all_read();
        Ok(())
    }

    /// Saves every row that SQLite finds by its number, and skips the others.
    fn save_by_number(&mut self, conn: &Connection, max_rows: i64) -> Result<(), LogError> {
        // The first schema had no blob files.
        let columns = ["large_file, large_at, large_bytes", "NULL, NULL, NULL"];
        let mut queries = columns.into_iter().map(|columns| {
            conn.prepare(&format!(
                "SELECT envelope, {columns} FROM batch WHERE n = ?1"
            ))
        });
        let Some(Ok(mut query)) = queries.find(Result::is_ok) else {
            return Ok(());
        };
        // If the highest number is unreadable, an index may still have it.
        let last = [
            "SELECT max(n) FROM batch",
            "SELECT max(n) FROM (SELECT n FROM batch INDEXED BY batch_by_time)",
        ]
        .into_iter()
        .filter_map(|sql| {
            conn.query_row(sql, [], |row| row.get::<_, Option<i64>>(0))
                .ok()
                .flatten()
        })
        .max()
        .unwrap_or(0);
        // A damaged number may be huge: do not count up to it.
        for n in 1..=last.min(max_rows.saturating_mul(1 << 10)) {
            // There is no row with this number, or it is unreadable.
            let row = query.query_row([n], |row| Ok((row.get(0)?, BlobRef::of(row, 1)?)));
            let Ok((inline, place)) = row else {
                continue;
            };
            self.note(n, place);
            if let Ok(envelope) = blob_store::envelope(self.path, inline, place) {
                self.take(&envelope)?;
            }
        }
        self.store()
    }

    /// Searches the unreferenced ranges of the blob files for lost envelopes.
    fn save_large(&mut self, lost: &mut HashSet<Id>) -> Result<(), LogError> {
        if lost.is_empty() {
            return Ok(());
        }
        let gaps = blob_store::gaps(self.path, &self.places)
            .map_err(|error| LogError::from_io(self.path, error))?;
        for gap in gaps {
            let bytes = gap.read(self.path);
            // A damaged range has no complete envelope.
            for envelope in envelopes(&bytes.unwrap_or_default()) {
                // Removed envelopes are also there, and stay removed.
                if let Some(batch) = (self.verify)(envelope)
                    && lost.remove(&batch.record().id)
                {
                    self.group.push(batch);
                    self.store()?;
                }
            }
        }
        Ok(())
    }

    fn is_read(&self, n: i64) -> bool {
        let bits = self.read.get(&(n >> 6)).copied().unwrap_or(0);
        bits >> (n & 63) & 1 == 1
    }

    fn note(&mut self, n: i64, place: Option<BlobRef>) {
        *self.read.entry(n >> 6).or_default() |= 1 << (n & 63);
        if let Some(place) = place {
            let file = self.places.entry(place.file).or_default();
            file.insert(place.at, place.bytes);
        }
    }

    fn take(&mut self, envelope: &[u8]) -> Result<(), LogError> {
        match (self.verify)(envelope) {
            Some(batch) => self.group.push(batch),
            None => self.repaired.refused += 1,
        }
        match self.group.len() >= MAX_BATCHES_AT_ONCE {
            true => self.store(),
            false => Ok(()),
        }
    }

    fn store(&mut self) -> Result<(), LogError> {
        for outcome in self.log.append(self.now_ms, &self.group)? {
            self.repaired.saved += u64::from(outcome.is_stored());
            self.too_old += u64::from(!outcome.is_held());
        }
        self.group.clear();
        Ok(())
    }
}

/// Returns whether SQLite can read all entries of an index with all ids, or all rows: then the number of batches is
/// known.
fn is_walked(conn: &Connection) -> bool {
    // Counting rows instead of values would use another index than the named one.
    [
        "SELECT count(id) FROM batch INDEXED BY batch_by_id",
        "SELECT count(id) FROM batch INDEXED BY batch_by_time",
        "SELECT count(id) FROM batch NOT INDEXED",
    ]
    .into_iter()
    .any(|sql| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).is_ok())
}
