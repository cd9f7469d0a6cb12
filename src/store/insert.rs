//! Inserts a batch into the log's tables.
//!
//! Entry point: [`Tables::insert`]. The rules it keeps (dedup): a batch is stored once, and not again after retention
//! evicted it; two batches of an author with the same sequence numbers are both stored, and the later one is marked as
//! a conflict.

use rusqlite::{Connection, OptionalExtension, params};

use super::blob_store::{BlobRef, MAX_INLINE_BYTES};
use super::names::Instance;
use super::quota::Owner;
use super::tables::Tables;
use super::tombstones;
use crate::model::{Id, Outcome, Record};

impl Tables {
    /// Inserts `record` in the open transaction, unless it is held, has a tombstone, or was sent before `oldest_ms` or the
    /// low watermark. A large envelope goes into the blob store if there is one.
    pub(super) fn insert(
        &mut self,
        now_ms: u64,
        oldest_ms: u64,
        record: &Record,
    ) -> rusqlite::Result<Outcome> {
        if !record.fits() {
            return Ok(Outcome::OutOfRange);
        }
        let room = self.names.room(&self.conn, &record.room)?;
        if record.sent_at_ms < oldest_ms.max(room.low_watermark_at(now_ms)) {
            return Ok(Outcome::TooOld);
        }
        if room.removed > 0 && tombstones::exists(&self.conn, &record.id)? {
            return Ok(Outcome::Held);
        }
        let instance = self.names.instance(&self.conn, now_ms, record)?;
        let link = self.names.link(&self.conn, &record.brought_by)?;
        let before = batch_before(&self.conn, room.n, instance.n, record)?;
        if before.as_ref().is_some_and(|before| before.id == record.id) {
            return Ok(Outcome::Held);
        }
        let conflict = before
            .as_ref()
            .filter(|before| before.end_seq > record.first_seq)
            .map(|before| before.id);
        let is_large = self.blobs.is_some() && record.bytes.len() > MAX_INLINE_BYTES;
        if is_large && holds(&self.conn, &record.id)? {
            return Ok(Outcome::Held);
        }
        let row = Row {
            room: room.n,
            instance,
            link,
            now_ms,
            is_conflict: conflict.is_some(),
            place: match self.blobs.as_mut().filter(|_| is_large) {
                Some(blobs) => Some(blobs.add(&record.bytes)?),
                None => None,
            },
        };
        if !row.insert(&self.conn, record)? {
            return Ok(Outcome::Held);
        }
        if let Some(usage) = &mut self.usage {
            let author = instance.author;
            usage.add(Owner { author, link }, record.cost(), instance.since_ms);
        }
        Ok(match conflict {
            Some(with) => Outcome::Conflict { with },
            None => Outcome::New {
                follows: record.first_seq == 1
                    || before.is_some_and(|before| before.end_seq == record.first_seq),
            },
        })
    }

    /// Returns the sequence number after the last stored event of the stream of `record`, which is stored.
    pub(super) fn head_of(&self, record: &Record) -> rusqlite::Result<Option<u64>> {
        let Some((room, instance)) = self.names.known(record) else {
            return Ok(None);
        };
        self.conn
            .prepare_cached(
                "SELECT first_seq + count FROM batch WHERE instance = ?1 AND room = ?2 AND conflict = 0
                 ORDER BY first_seq DESC LIMIT 1",
            )?
            .query_row(params![instance, room], |row| row.get::<_, i64>(0))
            .optional()
            .map(|head| head.map(|head| head as u64))
    }
}

/// Columns of a batch's row that are not in its [`Record`].
struct Row {
    room: i64,
    instance: Instance,
    link: i64,
    now_ms: u64,
    is_conflict: bool,
    place: Option<BlobRef>,
}

impl Row {
    /// Inserts the row. Returns false if the table has one with this id.
    fn insert(&self, conn: &Connection, record: &Record) -> rusqlite::Result<bool> {
        let inline = match self.place {
            Some(_) => &[],
            None => &record.bytes[..],
        };
        let inserted = conn
            .prepare_cached(
                "INSERT INTO batch (id, room, instance, first_seq, count, sent_at_ms, stored_at_ms, conflict, author, link,
                 bytes, envelope, large_file, large_at, large_bytes)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15) ON CONFLICT (id) DO NOTHING",
            )?
            .execute(params![
                record.id,
                self.room,
                self.instance.n,
                record.first_seq as i64,
                record.count as i64,
                record.sent_at_ms as i64,
                self.now_ms as i64,
                self.is_conflict,
                self.instance.author,
                self.link,
                record.cost() as i64,
                inline,
                self.place.map(|place| place.file),
                self.place.map(|place| place.at),
                self.place.map(|place| place.bytes),
            ])?;
        Ok(inserted > 0)
    }
}

fn holds(conn: &Connection, id: &Id) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM batch WHERE id = ?1")?
        .exists([id])
}

/// The stored batch with the highest numbers below the end of `record`. Stored batches without conflict do not
/// overlap, so that any overlap is with this one.
struct Before {
    id: Id,
    end_seq: u64,
}

fn batch_before(
    conn: &Connection,
    room: i64,
    instance: i64,
    record: &Record,
) -> rusqlite::Result<Option<Before>> {
    conn.prepare_cached(
        "SELECT id, first_seq + count FROM batch
         WHERE instance = ?1 AND room = ?2 AND first_seq < ?3 AND conflict = 0
         ORDER BY first_seq DESC LIMIT 1",
    )?
    .query_row(params![instance, room, record.end_seq() as i64], |row| {
        Ok(Before {
            id: row.get(0)?,
            end_seq: row.get::<_, i64>(1)? as u64,
        })
    })
    .optional()
}
