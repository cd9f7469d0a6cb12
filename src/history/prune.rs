//! The oldest batches make room: what is too old goes, and what the log has no room for.
//!
//! Entry point: [`Log::prune`]. The rules it keeps: one call takes a bounded time; what was removed does not come
//! back; no space is kept for what is gone.

use rusqlite::{Connection, params};

use super::error::LogError;
use super::front::Front;
use super::log::Log;
use super::schema::{self, Sync};
use super::shelf;

/// Batches removed in one transaction: some ten milliseconds, so that no append waits long.
pub(super) const PRUNED_AT_ONCE: usize = 256;

/// Bytes of batches past which no more are removed in one transaction: of large ones as many as that would
/// be a quarter of a log of the default size, which neighbours may still be about to fetch.
pub(super) const PRUNED_BYTES_AT_ONCE: usize = 4 << 20;

/// A room's batches sent before this were removed; a row of what [`Log::prune`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// The room.
    pub room: String,
    /// Nothing sent before this, in Unix milliseconds, is held or taken any more.
    pub horizon_ms: u64,
    /// How many batches went.
    pub batches: u64,
}

impl Log {
    /// Removes a bounded number of the oldest batches when the log is over its bounds; an empty
    /// answer says that it is within them.
    pub fn prune(&mut self, now_ms: u64) -> Result<Vec<Pruned>, LogError> {
        self.flush()?;
        let shared = self.front.clone();
        let mut front = shared.lock();
        self.make_room(&mut front, now_ms)
            .map_err(|error| self.undo(&mut front, error))
    }

    /// With the front at hand: what is acknowledged meanwhile would be lost behind the room's new horizon.
    fn make_room(&mut self, front: &mut Front, now_ms: u64) -> rusqlite::Result<Vec<Pruned>> {
        if !front.kept().is_empty() {
            self.begin(front)?;
            self.commit(front)?;
        }
        let pruned = self.prune_some(front, now_ms)?;
        if pruned.is_empty() {
            self.close_holes(front)?;
        }
        Ok(pruned)
    }

    /// Gives space back that removed envelopes took in files which others are in.
    fn close_holes(&mut self, front: &mut Front) -> rusqlite::Result<()> {
        let Some(shelf) = &self.shelf else {
            return Ok(());
        };
        let Some(file) = shelf.sparse(&self.conn, self.keep.bytes / 4)? else {
            return Ok(());
        };
        // What had reached the disk must be there again before its old place goes, envelopes and rows.
        schema::set_sync(&self.conn, Sync::Full)?;
        let moved = self.move_on(front, file);
        if moved.is_err() {
            self.roll_back(front)?;
        }
        schema::set_sync(&self.conn, self.keep.sync)?;
        moved?;
        match &mut self.shelf {
            Some(shelf) => shelf.clear_out(&self.conn),
            None => Ok(()),
        }
    }

    fn move_on(&mut self, front: &mut Front, file: i64) -> rusqlite::Result<()> {
        self.conn.execute_batch("BEGIN")?;
        if let Some(shelf) = &mut self.shelf {
            shelf.move_on(&self.conn, file)?;
            shelf.sync().map_err(|error| shelf::failure(&error))?;
        }
        self.commit(front)
    }

    fn prune_some(&mut self, front: &mut Front, now_ms: u64) -> rusqlite::Result<Vec<Pruned>> {
        let before_ms = self.keep.oldest_ms(now_ms);
        let mut pruned = Vec::new();
        let over = self.used()? > self.keep.bytes;
        let Some((name, oldest_ms)) = self.oldest_room()? else {
            return Ok(pruned);
        };
        if oldest_ms >= before_ms && !over {
            return Ok(pruned);
        }
        let tx = self.conn.transaction()?;
        if let Some(room) = self.names.rooms.get_mut(&name) {
            // The horizon is a time, so all of one millisecond go together.
            let last_ms = last_to_go(&tx, room.n)?;
            let bound_ms = if over {
                last_ms + 1
            } else {
                (last_ms + 1).min(before_ms)
            };
            let batches = tx
                .prepare_cached("DELETE FROM batch WHERE room = ?1 AND sent_at_ms < ?2")?
                .execute(params![room.n, bound_ms as i64])? as u64;
            let horizon_ms = room.horizon_ms.max(bound_ms);
            tx.prepare_cached("UPDATE room SET horizon_ms = ?2 WHERE n = ?1")?
                .execute(params![room.n, horizon_ms as i64])?;
            tx.commit()?;
            room.horizon_ms = horizon_ms;
            front.set_horizon(&name, horizon_ms);
            if let Some(shelf) = &mut self.shelf {
                shelf.clear_out(&self.conn)?;
            }
            pruned.push(Pruned {
                room: name,
                horizon_ms,
                batches,
            });
        }
        Ok(pruned)
    }

    /// The room that holds the oldest batch, and when that was sent.
    fn oldest_room(&self) -> rusqlite::Result<Option<(String, u64)>> {
        let mut oldest: Option<(String, u64)> = None;
        let mut query = self
            .conn
            .prepare_cached("SELECT min(sent_at_ms) FROM batch WHERE room = ?1")?;
        for (name, room) in &self.names.rooms {
            let first: Option<i64> = query.query_row([room.n], |row| row.get(0))?;
            if let Some(first) = first.map(|ms| ms as u64)
                && oldest.as_ref().is_none_or(|(_, ms)| first < *ms)
            {
                oldest = Some((name.clone(), first));
            }
        }
        Ok(oldest)
    }
}

/// When the last of a room's oldest batches was sent that one transaction removes.
fn last_to_go(conn: &Connection, room: i64) -> rusqlite::Result<u64> {
    let mut query = conn.prepare_cached(
        "SELECT sent_at_ms, coalesce(large_bytes, length(envelope)) FROM batch WHERE room = ?1
         ORDER BY sent_at_ms, id LIMIT ?2",
    )?;
    let mut oldest = query.query(params![room, PRUNED_AT_ONCE as i64])?;
    let (mut last_ms, mut bytes) = (0, 0);
    while bytes < PRUNED_BYTES_AT_ONCE
        && let Some(row) = oldest.next()?
    {
        last_ms = row.get::<_, i64>(0)? as u64;
        bytes += row.get::<_, i64>(1)? as usize;
    }
    Ok(last_ms)
}
